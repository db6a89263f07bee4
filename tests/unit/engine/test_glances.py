"""Rows are looked at later, together, and never for more than a small share of the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from hoverboard.engine import glances
from hoverboard.engine.answers import Picked
from hoverboard.engine.glances import Glances
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.worker import Worker
from tests.unit.engine.fakes import version


def picked(start: int, rows: int, width: int = 2) -> Picked:
    ids = b"".join([bytes([0] * 15 + [each]) for each in range(start, start + rows)])
    return Picked(ids, [np.tile(np.arange(start, start + rows, dtype=np.float32)[:, None], (1, width))])


class Looks:
    """What was looked at, and when; each look takes as long as it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[LiveVersion, Picked]] = []
        self.began: list[float] = []
        self.seconds = 0.0
        self.broken = False

    def __call__(self, live: LiveVersion, rows: Picked) -> None:
        self.began.append(time.monotonic())
        if self.broken:
            raise ValueError("broken")
        time.sleep(self.seconds)
        self.seen.append((live, rows))


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    with Worker("looks") as made:
        yield made


async def until(looks: Looks, count: int) -> None:
    async with asyncio.timeout(10):
        while len(looks.began) < count:
            await asyncio.sleep(0.01)


async def test_rows_of_one_version_and_shape_are_looked_at_together_in_order(worker: Worker) -> None:
    looks, one, other = Looks(), version(), version(number=2)
    many = Glances(looks, worker)
    for start in (0, 3):
        many.add(one, picked(start, 3))
    many.add(other, picked(100, 1))
    many.add(one, picked(50, 2, width=5))
    await until(looks, 3)
    await asyncio.sleep(0.05)
    found = [(live.key[1], list(rows.ids[15::16]), rows.columns[0][:, 0].tolist()) for live, rows in looks.seen]
    assert found == [(1, [*range(6)], [*range(6)]), (2, [100], [100]), (1, [50, 51], [50, 51])]
    assert [column.shape for _, rows in looks.seen for column in rows.columns] == [(6, 2), (1, 2), (2, 5)]


async def test_a_look_takes_no_more_rows_than_run_in_a_moment_and_the_rest_has_its_turn(worker: Worker) -> None:
    looks, slow = Looks(), version(timings={1: 0.006, 4: 0.015, 16: 0.05})
    many = Glances(looks, worker)
    many.add(slow, picked(0, 6))
    await until(looks, 2)
    await asyncio.sleep(0.05)
    assert [rows.rows for _, rows in looks.seen] == [4, 2]
    assert b"".join(rows.ids for _, rows in looks.seen) == picked(0, 6).ids
    very_slow = version(timings={1: 0.5})
    many.add(very_slow, picked(0, 2))
    await until(looks, 3)
    assert looks.seen[-1][1].rows == 1


async def test_after_a_long_look_the_next_one_waits_for_its_share_of_the_time(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glances, "_EVERY_S", 0.01)
    looks = Looks()
    looks.seconds = 0.01
    many = Glances(looks, worker)
    many.add(version(), picked(0, 1))
    many.add(version(number=2), picked(0, 1))
    await until(looks, 2)
    assert looks.began[1] - looks.began[0] >= 0.01 / glances._SHARE


async def test_what_is_too_much_is_left_out_and_a_failure_costs_its_rows_alone(worker: Worker) -> None:
    looks, fast = Looks(), version(timings={64: 0.0001})
    many = Glances(looks, worker)
    for start in range(0, 4096, 128):
        many.add(fast, picked(start % 128, 128))
    many.add(fast, Picked(bytes(16), [np.zeros((1, 1 << 23), np.float32)]))
    looks.broken = True
    await until(looks, 1)
    looks.broken = False
    many.add(fast, picked(0, 2))
    await until(looks, 2)
    await asyncio.sleep(0.05)
    assert [rows.rows for _, rows in looks.seen] == [2]
    assert many._rows == many._bytes == 0


async def test_at_the_end_what_waits_is_looked_at_as_far_as_that_is_quick(worker: Worker) -> None:
    looks, slow = Looks(), version(number=2, timings={1: 0.15})
    many = Glances(looks, worker)
    many.add(version(), picked(0, 3))
    many.add(slow, picked(0, 5))
    many.finish()
    await until(looks, 3)
    await asyncio.sleep(0.3)
    assert [(live.key[1], rows.rows) for live, rows in looks.seen] == [(1, 3), (2, 1), (2, 1)]
