import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from hoverboard.errors import RpcError
from hoverboard.journal.records import LabelRecord
from hoverboard.rpc.call import Call, CallLimits, Reply, RpcRequest
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.fastlane import FastLane
from hoverboard.rpc.methods import UNRECORDED, public_methods, table
from hoverboard.rpc.recording import CallRecording, Rejection
from tests.unit.rpc.linear import LinearEngine

_numbers = itertools.count(1)


class Ledger:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.finished_calls: list[tuple[Call, RpcError | None, float]] = []

    def finished(self, call: Call, error: RpcError | None, seconds: float) -> None:
        self.finished_calls.append((call, error, seconds))


class Records:
    """A recording in memory, and resets of alarms; raises `failure` instead of taking labels or resets, when set."""

    def __init__(self) -> None:
        self.labels: list[LabelRecord] = []
        self.rejections: list[Rejection] = []
        self.resets: list[tuple[str, int, str | None]] = []
        self.failure: RpcError | None = None

    async def label(self, labels: Sequence[LabelRecord]) -> None:
        if self.failure is not None:
            raise self.failure
        self.labels += labels

    async def reset_alarm(self, model: str, version: int, reason: str | None, request: RpcRequest) -> None:
        if self.failure is not None:
            raise self.failure
        self.resets.append((model, version, reason))

    async def reject(self, rejection: Rejection) -> None:
        self.rejections.append(rejection)


def arrived(**changes: Any) -> RpcRequest:
    return RpcRequest(**{"request_id": f"r-{next(_numbers)}", "received_at": time.monotonic(), **changes})


def public_dispatcher(
    engine: LinearEngine,
    limits: CallLimits | None = None,
    *,
    lane: bool = True,
    ledger: Ledger | None = None,
    recording: CallRecording | None = None,
) -> Dispatcher:
    """The public face on an engine."""
    book = CodecBook()
    engine.subscribe(book.update)
    limits = limits or CallLimits()
    methods = public_methods(engine, book, limits, recording)
    fast = FastLane(methods[0]) if lane else None
    absent = UNRECORDED if recording is None else {}
    return Dispatcher(table(methods), limits, ledger or Ledger(), lane=fast, recording=recording, absent=absent)


def asked(method: str, params: Any = None, call_id: Any = 1) -> bytes:
    call = {"jsonrpc": "2.0", "method": method, "id": call_id}
    return json.dumps(call if params is None else {**call, "params": params}).encode()


@pytest.fixture
def engine() -> LinearEngine:
    return LinearEngine()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def dispatcher(engine: LinearEngine, ledger: Ledger) -> Dispatcher:
    return public_dispatcher(engine, ledger=ledger)


@pytest.fixture
def call(dispatcher: Dispatcher) -> Callable[..., Awaitable[Any]]:
    """Calls one method; answers the whole response object."""

    async def one(method: str, params: Any = None) -> Any:
        reply: Reply = await dispatcher.handle(asked(method, params), arrived())
        assert reply.body is not None
        return json.loads(reply.body)

    return one
