from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from hoverboard.errors import Overloaded
from hoverboard.rpc.call import CallLimits
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.methods import admin_methods, table
from tests.unit.rpc.conftest import Ledger, Records, arrived, asked
from tests.unit.rpc.linear import DIGITS, LinearEngine, live, model

Ask = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def ask(engine: LinearEngine, records: Records) -> Ask:
    """Calls `alarms.reset` of an admin face; version 2 of digits is calibrated, version 1 is not."""
    calibrated = replace(live(2, DIGITS), manifest={"outliers": {"alpha": 0.01, "bound": 0.0157}})
    engine.publish(model("digits", live(1, DIGITS), calibrated))
    book = CodecBook()
    engine.subscribe(book.update)
    face = Dispatcher(table(admin_methods(engine, book, records)), CallLimits(), Ledger())

    async def one(params: Any) -> Any:
        reply = await face.handle(asked("alarms.reset", params), arrived())
        assert reply.body is not None
        return json.loads(reply.body)

    return one


@pytest.mark.parametrize("reason", [None, "a new camera"])
async def test_a_reset_is_written_down_and_accepted(ask: Ask, records: Records, reason: str | None) -> None:
    params = {"model": "digits", "version": 2} | ({} if reason is None else {"reason": reason})
    assert (await ask(params))["result"] == {"model": "digits", "version": 2, "accepted": True}
    assert records.resets == [("digits", 2, reason)]


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"model": "nothing", "version": 1}, -32001, "nothing"),
        ({"model": "digits", "version": 9}, -32001, "9"),
        ({"model": "digits", "version": 1}, -32602, "/version: expected a version with a calibrated detector"),
        ({"model": "digits", "version": 2, "reason": "a\0b"}, -32602, "/reason"),
        ({"model": "digits", "version": 2, "reason": "a" * 501}, -32602, "/reason"),
        ({"model": "digits"}, -32602, "/version"),
    ],
)
async def test_what_has_no_alarm_is_not_reset(
    ask: Ask, records: Records, params: dict[str, Any], code: int, words: str
) -> None:
    error = (await ask(params))["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert records.resets == []


async def test_a_reset_that_cannot_be_written_down_is_refused(ask: Ask, records: Records) -> None:
    records.failure = Overloaded()
    assert (await ask({"model": "digits", "version": 2}))["error"]["code"] == -32005


async def test_without_a_recording_there_are_no_alarms(engine: LinearEngine) -> None:
    assert "alarms.reset" not in {method.name for method in admin_methods(engine, CodecBook())}
