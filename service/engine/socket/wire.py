"""What travels between api and engine over the unix socket: frames of messages.

A frame is a 4-byte little-endian length and a MessagePack array of messages: the calls, or the answers, of one tick of
the event loop, or the first `FLUSH_AT` of them. Arrays travel as `(dtype, shape, raw little-endian bytes)`, strings as
lists of bytes. Both ends are of the same release and the socket is private to its user, so there is no version
negotiation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec
import numpy as np
from msgspec import Raw

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.contract.signature import Array
from hoverboard.errors import BY_KIND, Cause, HoverboardError, InternalError, RpcError, StaleSignature
from hoverboard.journal.columns import Column, column_array, pack_column

__all__ = [
    "FLUSH_AT",
    "AdminMessage",
    "AnswerMessage",
    "CallMessage",
    "CancelMessage",
    "CatalogMessage",
    "DoneMessage",
    "FailureMessage",
    "FrameReader",
    "ToClient",
    "ToEngine",
    "decode_answers",
    "decode_calls",
    "frame",
    "frame_of_fit",
]

FLUSH_AT: Final = 32
"""Messages after which a frame may leave before its tick ends, so that the other side works meanwhile. Half of what 64
connections send in a tick: a frame of 16 makes a batch of its own, and its fixed costs are 2 to 5% of a call's CPU time."""
_LENGTH: Final = struct.Struct("<I")
_STALE: Final = "stale_signature"
_UNTOLD: Final = "its manifest or serving.toml holds a value that cannot be passed on, such as an integer past 64 bits"


class _SocketMessage(msgspec.Struct, array_like=True, gc=False):
    """Told apart by `tag` among those that travel in its direction."""


class CallMessage(_SocketMessage, tag=0):
    """A predict call under a number of its connection; its numeric columns are read-only views when it arrives."""

    id: int
    call: PredictCall

    @classmethod
    def pack(cls, number: int, call: PredictCall) -> CallMessage:
        """A call that may leave."""
        if call.packed is not None:  # the decoder process has made them what they are on the socket
            call = msgspec.structs.replace(call, columns=cast(Any, Raw(call.packed)), packed=None)
        return cls(number, call)

    def unpack(self, first_source: int = 0) -> PredictCall:
        """The call, once.

        Args:
            first_source: added to its source, which is of its own process only.
        """
        # It was made by the decoder and is nobody else's yet: a copy of it would cost as much as decoding it.
        msgspec.structs.force_setattr(self.call, "source", first_source + self.call.source)
        return self.call


class CancelMessage(_SocketMessage, tag=1):
    """Take back a call."""

    id: int


class AdminMessage(_SocketMessage, tag=2):
    """An admin action; `params` is JSON."""

    id: int
    action: str
    params: bytes


class AnswerMessage(_SocketMessage, tag=0):
    """A call's answer; fields as in `PredictAnswer`, `label_index` as raw int32, `confidence` and `p_value` float32.

    Packed by hand, unlike a call: a hook is called for each array, of which a small answer has three, and would take 4.4 us
    there and back in place of 1.6. And an array that cannot be read costs its own call here, not the frame.
    """

    id: int
    version: int
    role: str | None
    sample_ids: bytes
    label_index: bytes | None
    confidence: bytes | None
    value: Column | None
    p_value: bytes | None
    outputs: list[Column] | None
    queue_ms: float
    infer_ms: float
    batch: int

    @classmethod
    def pack(cls, number: int, answer: PredictAnswer) -> AnswerMessage:
        """An answer under its call's number."""
        return cls(
            number,
            answer.version,
            answer.role,
            answer.sample_ids,
            None if answer.label_index is None else answer.label_index.tobytes(),
            None if answer.confidence is None else answer.confidence.tobytes(),
            None if answer.value is None else pack_column(answer.value),
            None if answer.p_value is None else answer.p_value.tobytes(),
            None if answer.outputs is None else [pack_column(column) for column in answer.outputs],
            answer.queue_ms,
            answer.infer_ms,
            answer.batch,
        )

    def unpack(self) -> PredictAnswer:
        """The answer again."""
        return PredictAnswer(
            self.version,
            self.role,
            self.sample_ids,
            None if self.label_index is None else np.frombuffer(self.label_index, np.int32),
            None if self.confidence is None else np.frombuffer(self.confidence, np.float32),
            None if self.value is None else column_array(self.value),
            None if self.outputs is None else tuple([column_array(column) for column in self.outputs]),
            None if self.p_value is None else np.frombuffer(self.p_value, np.float32),
            self.queue_ms,
            self.infer_ms,
            self.batch,
        )


class FailureMessage(_SocketMessage, tag=1):
    """A call's or admin action's error; `details` is JSON, `cause` what is not for callers."""

    id: int
    kind: str
    message: str
    details: bytes | None
    retry_after_ms: int | None
    cause: Cause | None = None

    @classmethod
    def pack(cls, number: int, error: HoverboardError) -> FailureMessage:
        """An error under its call's number."""
        if isinstance(error, StaleSignature):
            return cls(number, _STALE, "", None, None)
        if not isinstance(error, RpcError):
            error = InternalError()
        return cls(number, error.kind, error.message, _details(error), error.retry_after_ms, error.cause)

    def unpack(self) -> HoverboardError:
        """The error again, of its own class."""
        if self.kind == _STALE:
            return StaleSignature()
        details = None if self.details is None else msgspec.json.decode(self.details)
        return BY_KIND[self.kind].restored(
            self.message, details=details, retry_after_ms=self.retry_after_ms, cause=self.cause
        )


class CatalogMessage(_SocketMessage, tag=2):
    """The engine's state: first on every connection, then with each change."""

    catalog: Catalog

    @classmethod
    def pack(cls, catalog: Catalog) -> CatalogMessage:
        """A catalog that can be encoded: a model that cannot is told of by its name and that problem alone."""
        message = cls(catalog)
        if _fits(message):
            return message
        models = {
            name: model if _fits(model) else ModelStatus(name, {}, (), _UNTOLD)
            for name, model in catalog.models.items()
        }
        return cls(Catalog(models, catalog.generation, catalog.ready, catalog.problem))


class DoneMessage(_SocketMessage, tag=3):
    """An admin action's result, as JSON."""

    id: int
    result: bytes


def _details(error: RpcError) -> bytes | None:
    try:
        return None if error.details is None else msgspec.json.encode(error.details)
    except (TypeError, ValueError, OverflowError):
        return None  # an error that cannot be told in full must still be told


ToEngine = CallMessage | CancelMessage | AdminMessage
ToClient = AnswerMessage | FailureMessage | CatalogMessage | DoneMessage


def _from_array(value: Any) -> Column:
    if isinstance(value, np.ndarray):
        return pack_column(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _to_array(_: type, column: Any) -> Array:
    return column_array(column)


_encode = msgspec.msgpack.Encoder(enc_hook=_from_array).encode
decode_calls: Final = msgspec.msgpack.Decoder(list[ToEngine], dec_hook=_to_array).decode
decode_answers: Final = msgspec.msgpack.Decoder(list[ToClient]).decode


def frame(messages: Sequence[ToEngine] | Sequence[ToClient]) -> bytes:
    """Messages as one frame."""
    body = _encode(messages)
    return _LENGTH.pack(len(body)) + body


_M = TypeVar("_M", ToEngine, ToClient)


def frame_of_fit(messages: Sequence[_M]) -> tuple[bytes, list[_M]]:
    """Messages as one frame, those left out that cannot be encoded; and which these are.

    One bad message must not cost those that happen to leave in the same tick.
    """
    try:
        return frame(messages), []
    except (TypeError, ValueError, OverflowError, MemoryError):
        fit = [message for message in messages if _fits(message)]
        return frame(fit), [message for message in messages if not any(message is other for other in fit)]


def _fits(value: Any) -> bool:
    try:
        _encode(value)
    except (TypeError, ValueError, OverflowError, MemoryError):
        return False
    return True


class FrameReader:
    """Cuts a byte stream into frames.

    Args:
        decode: of one frame's body, which it may keep nothing of.
    """

    __slots__ = ("_buffer", "_decode")

    def __init__(self, decode: Callable[[bytes | memoryview], list[Any]]) -> None:
        self._buffer = bytearray()
        self._decode = decode

    def feed(self, data: bytes) -> list[Any]:
        """Take bytes; returns the messages that are complete with them."""
        buffer = self._buffer
        # The usual case, a frame that came whole, without a copy into the buffer.
        if not buffer and len(data) >= 4 and len(data) == _LENGTH.unpack_from(data)[0] + 4:
            return self._decode(data[4:])
        buffer += data
        messages: list[Any] = []
        while len(buffer) >= 4 and len(buffer) >= (size := _LENGTH.unpack_from(buffer)[0] + 4):
            with memoryview(buffer) as view, view[4:size] as body:
                messages += self._decode(body)  # it copies what it keeps
            del buffer[:size]
        return messages
