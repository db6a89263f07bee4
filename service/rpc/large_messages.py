"""Large messages: taken apart and decoded where that keeps no small call waiting.

A decoder of JSON keeps Python's lock for as long as it runs: 100 to 400 ms for 10 MB, on whatever thread. So it runs in
another process (`hoverboard.api.decoder`), in two steps. First a message is taken apart: every call with its params but
for the samples, or what is wrong with it. Then, once it is known which version answers, the samples become columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from hoverboard.codec.arrays import Codec
from hoverboard.contract.signature import Signature
from hoverboard.errors import BY_KIND, InvalidParams, RpcError, Violation
from hoverboard.journal.columns import pack_column
from hoverboard.rpc.binder import Binder
from hoverboard.rpc.envelope import CallBatch, Incoming, is_utf8, parse, parse_item
from hoverboard.rpc.explain import no_utf8
from hoverboard.rpc.fields import ABSENT
from hoverboard.rpc.inflate import inflate

__all__ = [
    "RECORDED_PARAMS",
    "SMALL_BYTES",
    "Decoder",
    "Fault",
    "Message",
    "RemoteSamples",
    "Samples",
    "Taken",
    "TakenCall",
    "columns_of",
    "take_apart",
]

SMALL_BYTES: Final = 64 * 1024
"""Messages up to this are taken apart on the event loop: a millisecond or two."""

RECORDED_PARAMS: Final = ("model", "version", "tags")
"""What is recorded of a refused call."""

_SAMPLES: Final = ("instances", "inputs")
# What is recorded of a method or a version that does not exist is cut there anyway.
_LONGEST_TEXT: Final = 200

Samples = Mapping[str, Raw]
"""The params of one call that hold samples, still raw JSON."""


class Fault(msgspec.Struct, array_like=True, frozen=True):
    """An error on its way between processes."""

    kind: str
    message: str
    details: dict[str, Any] | None = None
    violation: Violation | None = None
    input_name: str | None = None

    @classmethod
    def of(cls, error: RpcError) -> Fault:
        """An error, packed."""
        if isinstance(error, InvalidParams):
            return cls(error.kind, error.message, error.details, error.violation, error.input_name)
        return cls(error.kind, error.message, error.details)

    @property
    def error(self) -> RpcError:
        """The error again, of its own class."""
        error = BY_KIND[self.kind].restored(self.message, details=self.details)
        if isinstance(error, InvalidParams):
            error.violation, error.input_name = self.violation, self.input_name
        return error


class TakenCall(msgspec.Struct, array_like=True, frozen=True):
    """One call of a large message.

    Attributes:
        id: raw JSON; None for a notification.
        method: as the client wrote it.
        params: of the method, but for the samples; None where there is a fault, or no such method.
        samples: which of `instances` and `inputs` it has.
        positional: whether its params came by position.
        readable: of what is recorded of refused calls, as much as can be read, where there is a fault.
        fault: why it is refused.
    """

    id: bytes | None
    method: str
    params: dict[str, Any] | None = None
    samples: list[str] = []
    positional: bool = False
    readable: dict[str, Any] = {}
    fault: Fault | None = None


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """A large message, taken apart.

    Attributes:
        size: bytes of its JSON.
        batch: whether it is an array.
        count: calls in it; `parts` holds the first only where they are too many.
        parts: its calls.
    """

    size: int
    batch: bool
    count: int
    parts: list[TakenCall]


class Message(Protocol):
    """A large message that the decoder keeps until it is closed."""

    @property
    def taken(self) -> Taken:
        """What it holds."""

    async def columns(self, index: int, signature: Signature, name: str) -> tuple[bytes, int]:
        """The samples of one call as the engine's socket takes them (`PredictCall.packed`), and how many they are.

        Args:
            index: of the part.
            signature: to decode for.
            name: `instances` or `inputs`.

        Raises:
            InvalidParams: as `Codec.decode_instances`.
            Overloaded: the decoder has lost the message.
        """

    def close(self) -> None:
        """Let go of it."""


class RemoteSamples(msgspec.Struct, frozen=True, eq=False):
    """The samples of one call, which are elsewhere."""

    message: Message
    index: int


class Decoder(Protocol):
    """Decodes in another process, one thing at a time."""

    async def take(self, body: bytes, methods: Mapping[str, str], *, packed: bool, most: int) -> Message:
        """Take a message apart.

        Args:
            methods: where their params' classes are, `module:class`.
            packed: whether it is compressed with gzip.
            most: calls in a batch.

        Raises:
            ParseError, RequestTooLarge: it is no JSON; it is too large once it is unpacked.
            Overloaded: too much waits already, or the decoder died.
        """

    async def columns(self, raw: bytes, signature: Signature, name: str) -> tuple[bytes, int]:
        """As `Message.columns`, of samples that are at hand."""


def take_apart(
    body: bytes, methods: Mapping[str, str], *, packed: bool, limit: int, most: int
) -> tuple[Taken, list[Samples]]:
    """See `Decoder.take`; with the samples of each part.

    Args:
        limit: most bytes of JSON.
    """
    # Here and not in the api process: unpacking 25 MB would hold up every other call there.
    if packed:
        body = inflate(body, limit)
    if not is_utf8(body):
        raise no_utf8(body)
    incoming = parse(body)
    if isinstance(incoming, CallBatch):
        count = len(incoming.items)
        items: Sequence[Incoming] = [parse_item(raw) for raw in incoming.items[: 1 if count > most else count]]
    else:
        count, items = 1, [incoming]
    parts = [_part(item, methods) for item in items]
    taken = Taken(len(body), isinstance(incoming, CallBatch), count, [part for part, _ in parts])
    return taken, [samples for _, samples in parts]


def columns_of(raw: bytes | Raw, codec: Codec, name: str) -> tuple[bytes, int]:
    """See `Decoder.columns`."""
    columns, n = codec.decode_instances_json(raw) if name == "instances" else codec.decode_inputs_json(raw)
    # As the engine's socket takes them: the api only passes them on, and never has the arrays.
    return msgspec.msgpack.encode([pack_column(column) for column in columns]), n


# Built once: each makes a decoder for every param.
@lru_cache
def _binder(params: str) -> Binder[Any]:
    module, _, name = params.partition(":")
    return Binder(getattr(import_module(module), name))


def _part(item: Incoming, methods: Mapping[str, str]) -> tuple[TakenCall, Samples]:
    if item.fault is not None:
        return TakenCall(item.id, "", fault=Fault.of(item.fault)), {}
    if item.method not in methods:
        return TakenCall(item.id, item.method[:_LONGEST_TEXT]), {}
    binder = _binder(methods[item.method])
    positional = item.params if isinstance(item.params, list) else []
    named = item.params if isinstance(item.params, Mapping) else {}
    try:
        bound = msgspec.structs.asdict(binder.bind(positional, named))
    except InvalidParams as error:
        readable = {
            name: value for name, value in binder.understood(item.params, RECORDED_PARAMS).items() if _is_short(value)
        }
        fault = Fault.of(binder.repoint(error) if positional else error)
        return TakenCall(item.id, item.method, readable=readable, fault=fault), {}
    samples = [(name, bound.pop(name)) for name in _SAMPLES if name in bound]
    given: Samples = {name: raw for name, raw in samples if raw is not ABSENT}
    return TakenCall(item.id, item.method, msgspec.to_builtins(bound), list(given), bool(positional)), given


def _is_short(value: Any) -> bool:
    return not isinstance(value, str) or len(value) <= _LONGEST_TEXT
