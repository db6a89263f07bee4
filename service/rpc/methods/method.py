"""What a method is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from hoverboard.errors import RpcError
from hoverboard.rpc.binder import Binder
from hoverboard.rpc.call import Call
from hoverboard.rpc.examples import Example, Shown

__all__ = ["Method", "Methods", "table"]

P = TypeVar("P", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Method(Generic[P]):
    """One JSON-RPC method.

    Attributes:
        name: as clients call it.
        params: its params, in the order they have as positional ones.
        run: carries it out; returns the result as JSON text, or raises RpcError.
        summary: one sentence for the OpenRPC document.
        result: what JSON the result is, as a type.
        example: a call and what it answers, made from a model that is shown.
        errors: what it may be refused with, beyond what every method may.
    """

    name: str
    params: type[P]
    run: Callable[[Call, P], Awaitable[bytes]]
    summary: str
    result: Any
    example: Callable[[Shown], Example]
    errors: tuple[type[RpcError], ...] = ()
    binder: Binder[P] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "binder", Binder(self.params))


Methods = Mapping[str, Method[Any]]


def table(methods: Sequence[Method[Any]]) -> Methods:
    """The methods by name."""
    return {method.name: method for method in methods}
