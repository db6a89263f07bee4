"""What a request says about itself: its id and its place in a trace."""

from __future__ import annotations

import itertools
import re
import secrets

from aiohttp import web

__all__ = ["new_request_id", "request_id_of", "traceparent_of"]

# It goes into every log line and record of the call.
_LONGEST_ID = 128
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,200})?")

_prefix = secrets.token_hex(6)
_numbers = itertools.count(1)


def new_request_id() -> str:
    """An id that no other request of any process has."""
    return f"{_prefix}-{next(_numbers):x}"


def request_id_of(request: web.BaseRequest) -> str:
    """The client's `X-Request-ID`, or a new one where it is absent or unfit to be echoed and logged."""
    header = request.headers.get("X-Request-ID")
    if header is None or not 1 <= len(header) <= _LONGEST_ID or not (header.isascii() and header.isprintable()):
        return new_request_id()
    return header


def traceparent_of(request: web.BaseRequest) -> str | None:
    """The W3C trace context; a malformed one counts as none."""
    header = request.headers.get("traceparent")
    return header if header is None or _TRACEPARENT.fullmatch(header) else None
