"""A short way for one plain, well-formed call of the hot path; everything else takes the dispatcher's."""

from __future__ import annotations

from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from hoverboard.rpc.methods.method import Method

__all__ = ["FastCall", "FastLane"]

P = TypeVar("P", bound=msgspec.Struct)

_ID_STARTS = frozenset(b'"-0123456789n')


class FastCall(NamedTuple, Generic[P]):
    """A call that may take the lane; `id` is raw JSON, echoed as it came."""

    params: P
    id: bytes


class FastLane(Generic[P]):
    """Recognises calls of one method that need none of the dispatcher's care."""

    def __init__(self, method: Method[P]) -> None:
        self.method = method
        fields = [("jsonrpc", Literal["2.0"]), ("method", Literal[method.name]), ("params", method.params), ("id", Raw)]
        # One typed decode checks the envelope and the params; any member beyond them is for the dispatcher to judge.
        envelope: Any = msgspec.defstruct("FastEnvelope", fields, forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(envelope).decode

    def parse(self, body: bytes | Raw) -> FastCall[P] | None:
        """The call in valid UTF-8, or None when the dispatcher must look at it."""
        try:
            item = self._decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None
        call_id = bytes(item.id)
        # An id may be no object, array or boolean; the dispatcher has the words for that.
        return FastCall(item.params, call_id) if call_id[0] in _ID_STARTS else None
