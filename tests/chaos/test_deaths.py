"""Processes killed and stopped under load: what else runs goes on, and every request gets a valid answer.

CHAOS_ROUNDS repeats each of them; once is enough for every day.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import psutil
import pytest

from hoverboard.errors import DeadlineExceeded, NotReady
from tests.integration.running import Service
from tests.load import Answer, Load, call, report, until, wrong

pytestmark = pytest.mark.timeout(300)

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
CONNECTIONS = 32
ANSWERS = 500  # asked for before and after each blow
BACK_WITHIN_S = 30.0
DEADLINE_MS = 1000
IN_TIME_S = 1.75  # the deadline, the grace in which the engine may still say so itself, and a busy machine
STOPPED_S = 3.0

Expected = Mapping[int, Any]
Questions = Sequence[Mapping[str, Any]]


@pytest.fixture(params=range(ROUNDS))
async def service(request: pytest.FixtureRequest, shared_service: Service) -> Service:
    """All of the service's processes are there, and it is ready."""
    await ready(shared_service)
    assert len(shared_service.children("_api")) == 2
    return shared_service


async def ready(service: Service) -> None:
    async with aiohttp.ClientSession() as session:
        end = time.monotonic() + BACK_WITHIN_S
        while time.monotonic() < end:
            try:
                async with session.get(f"{service.url}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError("not ready in time: " + service.log.read_text()[-2000:])


def after(answers: Sequence[Answer], moment: float) -> list[Answer]:
    return [answer for answer in answers if answer.arrived >= moment]


async def test_a_killed_engine_is_answered_for_until_it_is_back(
    service: Service, questions: Questions, expected: Expected, capsys: pytest.CaptureFixture[str]
) -> None:
    (engine,) = service.children("_engine")
    apis = service.children("_api")
    async with Load(service.url, questions, connections=CONNECTIONS) as load:
        await load.more(ANSWERS)
        killed = time.perf_counter()
        engine.kill()
        await until(lambda: NotReady.code in load.codes(), 5, "a refusal")
        refused_at = time.perf_counter()

        def back() -> list[Answer]:
            return [answer for answer in load.results() if answer.sent > refused_at]

        await until(back, BACK_WITHIN_S, "the engine's return")
        took = back()[0].arrived - killed
        await load.more(ANSWERS)
    codes = load.codes()
    report(
        capsys,
        f"engine killed under {CONNECTIONS} connections: {codes[0]} results, {codes[NotReady.code]} times not ready, "
        f"back after {took:.1f} s, slowest answer {max(a.ms for a in load.answers):.0f} ms",
    )
    assert set(codes) == {0, NotReady.code}
    assert wrong(load.results(), expected) == []
    refusals = [answer for answer in load.answers if answer.code == NotReady.code]
    assert {answer.status for answer in refusals} == {503}
    assert all(int(answer.retry_after or 0) >= 1 for answer in refusals)
    assert took < BACK_WITHIN_S
    assert load.opened == CONNECTIONS, "the api kept every connection"
    assert [child.pid for child in service.children("_api")] == [child.pid for child in apis]
    assert service.children("_engine")[0].pid != engine.pid


async def test_a_killed_api_process_takes_only_its_own_connections_along(
    service: Service, questions: Questions, expected: Expected, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = service.children("_engine")[0].pid
    victim, survivor = service.children("_api")
    async with Load(service.url, questions, connections=CONNECTIONS) as load:
        await load.more(ANSWERS)
        before, killed = load.opened, time.perf_counter()
        held = clients_of(victim)
        victim.kill()
        await load.more(ANSWERS)
        survived = longest_gap(after(load.results(), killed))
        await until(lambda: len(service.children("_api")) == 2, BACK_WITHIN_S, "another api process")
        successor = next(child for child in service.children("_api") if child.pid != survivor.pid)
        await until(lambda: listens(successor), BACK_WITHIN_S, "its listener")
        back = time.perf_counter() - killed
    async with Load(service.url, questions, connections=CONNECTIONS) as fresh:
        await until(lambda: clients_of(successor), BACK_WITHIN_S, "a client of the new process")
        await fresh.more(ANSWERS)
    codes = load.codes()
    report(
        capsys,
        f"one of two api processes killed under {CONNECTIONS} connections: {codes[0]} results, {codes['broken']} broken "
        f"of {held} that were its own, longest pause {survived * 1e3:.0f} ms, listening again after {back:.1f} s",
    )
    assert 0 < held < CONNECTIONS
    assert set(codes) <= {0, "broken", "refused"}
    assert 0 < codes["broken"] + codes["refused"] <= held
    assert load.opened - before <= held
    assert wrong(load.results(), expected) == []
    assert fresh.codes() == {0: len(fresh.answers)}
    assert wrong(fresh.results(), expected) == []
    assert survived < 5
    assert service.children("_engine")[0].pid == engine
    assert "models" in await call(service.admin_url, "models.list", {}, token=service.token), "it was the admin's, too"


def listens(process: psutil.Process) -> bool:
    return any(c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp"))


def clients_of(process: psutil.Process) -> int:
    return sum(c.status == psutil.CONN_ESTABLISHED for c in process.net_connections("tcp"))


def longest_gap(answers: Sequence[Answer]) -> float:
    arrivals = sorted(answer.arrived for answer in answers)
    return max(b - a for a, b in itertools.pairwise(arrivals))


async def test_deadlines_hold_while_the_engine_hangs(
    service: Service, questions: Questions, expected: Expected, capsys: pytest.CaptureFixture[str]
) -> None:
    (engine,) = service.children("_engine")
    hurried = [{**params, "deadline_ms": DEADLINE_MS} for params in questions]
    async with Load(service.url, hurried, connections=CONNECTIONS) as load:
        await load.more(ANSWERS)
        stopped = time.perf_counter()
        engine.suspend()
        try:
            patient = asyncio.create_task(call(service.url, "predict", questions[0]))
            await asyncio.sleep(STOPPED_S)
        finally:
            engine.resume()
        resumed = time.perf_counter()
        answer = await patient
        await load.more(ANSWERS)
    during = [a for a in load.answers if a.sent < resumed and a.arrived > stopped + 0.1]
    late = [a for a in during if a.code == DeadlineExceeded.code]
    codes = load.codes()
    report(
        capsys,
        f"engine stopped for {STOPPED_S:g} s under {CONNECTIONS} connections: {codes[0]} results, "
        f"{len(late)} deadlines of {DEADLINE_MS} ms exceeded, the slowest answered after {max(a.ms for a in late):.0f} ms",
    )
    assert set(codes) == {0, DeadlineExceeded.code}
    assert len(late) >= CONNECTIONS
    assert {a.status for a in late} == {200}
    assert max(a.ms for a in load.answers) < IN_TIME_S * 1e3
    assert wrong(load.results(), expected) == []
    assert answer["version"] == 1, "a call with time to spare is answered once the engine goes on"
    assert service.children("_engine")[0].pid == engine.pid
