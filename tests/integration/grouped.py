"""Outliers of a few kinds in real journals, and what a recorder made of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import numpy as np
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.contract.signature import Array
from hoverboard.journal.records import BatchRecord, FeatureRecord
from hoverboard.journal.writer import JournalWriter
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from tests.journaled import MODEL, WEIGHTS, batch, open_journal, write

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
WIDTH = 32
START = datetime.now(UTC) - timedelta(hours=1)
DIRECTIONS = np.eye(WIDTH)
GROUPS = 4


async def drained(settings: Settings, database: str) -> None:
    """Drain with a recorder that has just started."""
    drain = Drain(settings, lambda: open_database(settings, database))
    try:
        await drain.empty(10)
    finally:
        drain.close()
        await asyncio.sleep(0)


def strange(
    kinds: Sequence[int], *, at: datetime | None = None, number: int = 1, usual: int = 0, seed: int = 0
) -> tuple[BatchRecord, FeatureRecord]:
    """A batch with an outlier of each of these kinds and some usual rows, and the features of all of its rows."""
    generator = np.random.default_rng([seed, *kinds])
    of = [*kinds, *[WIDTH - 1] * usual]
    z = 5 * DIRECTIONS[of] + generator.normal(scale=0.1, size=(len(of), WIDTH))
    one = batch(len(of), at=at, number=number, outlier=[True] * len(kinds) + [False] * usual)
    return one, features(one, z)


def features(one: BatchRecord, z: Array) -> FeatureRecord:
    return FeatureRecord(MODEL, one.version, WEIGHTS, one.sample_ids, z.astype("<f2").tobytes())


def rounds(count: int, **more: Any) -> list[BatchRecord | FeatureRecord]:
    """Outliers of each kind, a second apart."""
    return [
        record
        for seed in range(count)
        for record in strange(range(GROUPS), seed=seed, at=START + timedelta(seconds=seed), **more)
    ]


def wide(seed: int, *, rows: int = 4) -> tuple[BatchRecord, FeatureRecord]:
    """Outliers of one thing that is wider than the radius: anywhere between two directions."""
    generator = np.random.default_rng([7, seed])
    angles = generator.uniform(0, np.pi / 3, rows)
    z = 5 * (np.cos(angles)[:, None] * DIRECTIONS[8] + np.sin(angles)[:, None] * DIRECTIONS[9])
    one = batch(rows, at=START + timedelta(seconds=seed, milliseconds=500), outlier=[True] * rows)
    return one, features(one, z + generator.normal(scale=0.1, size=(rows, WIDTH)))


async def groups(sql: Connection) -> list[tuple[int, tuple[str, ...]]]:
    """Members of each issue, in the order in which they began."""
    rows = await sql.fetch(
        "select issue_id, array_agg(sample_id::text order by sample_id) as ids from outliers where issue_id is not null"
        " group by 1 order by 1"
    )
    return [(row["issue_id"], tuple(row["ids"])) for row in rows]


async def begun(sql: Connection, settings: Settings, database: str, *, members: int = 10) -> JournalWriter:
    """A journal of which that many outliers of each kind have been grouped."""
    journal = open_journal(settings.data_dir)
    write(journal, *rounds(members))
    await drained(settings, database)
    return journal


class Typed:
    """What somebody types."""

    def __init__(self, database: str) -> None:
        self._database = database

    async def __call__(self, *words: object, fails: bool = False) -> Any:
        result = await asyncio.to_thread(
            CliRunner().invoke, main, ["issues", *map(str, words), "--database-url", self._database]
        )
        assert (result.exit_code != 0) == fails, result.output
        return result.stderr if fails else json.loads(result.stdout)
