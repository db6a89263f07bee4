"""Counts and logs every finished call, without payloads."""

from __future__ import annotations

import structlog

from hoverboard.codec.error_words import excerpt
from hoverboard.errors import InvalidParams, RpcError
from hoverboard.rpc.call import OK, Call
from hoverboard.telemetry.calls import calls
from hoverboard.telemetry.sampling import Sampler

__all__ = ["CallObserver"]

log = structlog.get_logger(__name__)

_REFUSED_LINES_PER_S = 20


class CallObserver:
    """An observer of dispatchers.

    Args:
        level: the least severe level that is logged; answered calls are `debug`, refused ones `info`.
    """

    def __init__(self, level: str) -> None:
        self._lines = Sampler(_REFUSED_LINES_PER_S)
        # Asked once: structlog would build each line's facts only to drop them.
        self._log_answered = level == "debug"
        self._log_refused = level in ("debug", "info")

    def finished(self, call: Call, error: RpcError | None, seconds: float) -> None:
        """Count one call, and log it where the level asks for it."""
        code = OK if error is None else error.code
        calls.observe(call.method, call.model, call.version, call.role, code, seconds)
        if error is None:
            if self._log_answered:
                log.debug("call_answered", **_facts(call, seconds))
            return
        if isinstance(error, InvalidParams) and error.violation is not None:
            calls.violated(call.model, error.input_name, error.violation)
        if self._log_refused:
            left_out = self._lines.next()
            if left_out is not None:
                more = {"left_out": left_out} if left_out else {}
                log.info("call_refused", **_facts(call, seconds), code=error.code, type=error.kind, **more)


def _facts(call: Call, seconds: float) -> dict[str, object]:
    return {
        "request_id": call.request.request_id,
        "method": excerpt(call.method),
        "model": None if call.model is None else excerpt(call.model),
        "version": call.version,
        "role": call.role,
        "ms": round(seconds * 1000, 3),
    }
