import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hoverboard.rpc.call import Call, CallLimits, RpcRequest
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.examples import Example, Shown
from hoverboard.rpc.methods import Method, table
from tests.unit.rpc.conftest import Ledger

Exchange = Callable[[bytes], Awaitable[Any]]


class Subtract(msgspec.Struct, forbid_unknown_fields=True):
    minuend: int
    subtrahend: int


class UpToFive(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


async def _subtract(_: Call, params: Subtract) -> bytes:
    return msgspec.json.encode(params.minuend - params.subtrahend)


async def _sum(_: Call, params: UpToFive) -> bytes:
    return msgspec.json.encode(params.a + params.b + params.c + params.d + params.e)


async def _get_data(_: Call, __: Nothing) -> bytes:
    return msgspec.json.encode(["hello", 5])


def _example(_: Shown) -> Example:
    return Example({}, {})


def specification_methods() -> list[Method[Any]]:
    """The methods that the JSON-RPC 2.0 specification's examples call; `foobar` must not be among them."""
    return [
        Method("subtract", Subtract, _subtract, "", int, _example),
        Method("update", UpToFive, _sum, "", int, _example),
        Method("sum", UpToFive, _sum, "", int, _example),
        Method("notify_hello", UpToFive, _sum, "", int, _example),
        Method("notify_sum", UpToFive, _sum, "", int, _example),
        Method("get_data", Nothing, _get_data, "", list[Any], _example),
    ]


@pytest.fixture
def exchange() -> Exchange:
    """Sends one message to the specification's methods; answers the parsed response, None for no response."""
    dispatcher = Dispatcher(table(specification_methods()), CallLimits(), Ledger())

    async def one(body: bytes) -> Any:
        reply = await dispatcher.handle(body, RpcRequest("r", time.monotonic()))
        return None if reply.body is None else json.loads(reply.body)

    return one
