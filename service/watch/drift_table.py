"""The tables `baselines`, `drift_state` and `drift_windows`: the window that is being filled is locked, moved on and written back."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec
import numpy as np

from hoverboard.contract.times import micros, nearest_time
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.journal.records import BatchRecord
from hoverboard.versions.baseline import Baseline, Feature
from hoverboard.watch.drift import Finding, Reference, Window, count

__all__ = ["expire_windows", "find_baseline", "follow", "insert_baseline", "latest_findings"]

_SQL: Final = statements(__file__)


async def find_baseline(connection: Connection, version_id: int) -> Baseline | None:
    """A version's baseline as it was when the recorder first saw the version; None for a version without."""
    rows = await connection.fetch(_SQL["find_baseline"], version_id)
    features = tuple(Feature.of(dict(row)) for row in rows)
    return Baseline(features, max(sum(feature.counts) for feature in features)) if features else None


async def insert_baseline(connection: Connection, version_id: int, baseline: Baseline) -> None:
    """Keep a version's baseline, unless it has one."""
    # A feature's fields stand in the order of the table's columns.
    rows = [
        (version_id, position, *astuple(feature), feature.labels())
        for position, feature in enumerate(baseline.features)
    ]
    await connection.executemany(_SQL["insert_baseline"], rows)


async def follow(
    connection: Connection, version_id: int, reference: Reference, records: Sequence[BatchRecord], size: int
) -> list[list[Finding]]:
    """Count batches of one version, in the connection's transaction.

    Args:
        size: rows of a window.

    Returns:
        What each window says that is full now.
    """
    before = await _locked(connection, version_id, reference)
    # Milliseconds of NumPy; the event loop has to tell the supervisor meanwhile that it turns.
    counted = await asyncio.to_thread(count, reference, before, records, size)
    await _write(connection, version_id, counted.after)
    # All of them with one statement: a recorder that catches up closes hundreds of windows in a chunk.
    if counted.full:
        windows = [
            (window.number, nearest_time(window.first_us or 0), nearest_time(window.last_us or 0), window.rows)
            for window, _ in counted.full
        ]
        rows = [
            (window.number, each.feature, each.n, each.p_value, each.q_value, each.js, each.drifted, _numbers(each))
            for window, findings in counted.full
            for each in findings
        ]
        await connection.execute(
            _SQL["insert_findings"], version_id, datetime.now(UTC), *_columns(windows), *_columns(rows)
        )
    return [findings for _, findings in counted.full]


async def latest_findings(connection: Connection) -> list[asyncpg.Record]:
    """The last window of every version: `model`, `version`, `feature`, `js`, `drifted`."""
    return await connection.fetch(_SQL["latest_findings"])


async def expire_windows(connection: Connection, older_than: datetime) -> None:
    """Delete windows that were full before a time."""
    await connection.execute(_SQL["expire_windows"], older_than)


async def _locked(connection: Connection, version_id: int, reference: Reference) -> Window:
    """The window that a version fills, which is this transaction's own from now on."""
    row = await connection.fetchrow(_SQL["lock_window"], version_id)
    if row is None:
        await connection.execute(_SQL["begin_window"], version_id, _packed(reference.empty))
        # Once more: it may be another recorder's, whose rows this then waits for.
        row = await connection.fetchrow(_SQL["lock_window"], version_id)
    if row is None:
        raise LookupError(f"version {version_id} has no window")
    return Window(
        row["number"],
        np.frombuffer(zlib.decompress(row["counts"]), "<f8"),
        row["rows"],
        row["weight"],
        row["weight_squared"],
        None if row["first_at"] is None else micros(row["first_at"]),
        None if row["last_at"] is None else micros(row["last_at"]),
    )


async def _write(connection: Connection, version_id: int, window: Window) -> None:
    await connection.execute(
        _SQL["write_window"],
        version_id,
        window.number,
        window.rows,
        window.weight,
        window.weight_squared,
        None if window.first_us is None else nearest_time(window.first_us),
        None if window.last_us is None else nearest_time(window.last_us),
        _packed(window),
    )


def _packed(window: Window) -> bytes:
    # Most bytes of small whole numbers are 0: a tenth of the size, in some 50 us.
    return zlib.compress(window.counts.astype("<f8").tobytes(), 1)


def _columns(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[Any]]:
    return map(list, zip(*rows, strict=True))


def _numbers(finding: Finding) -> str:
    # Weights of one policy repeat to many digits, which nobody reads and every row would store.
    numbers = [int(each) if each.is_integer() else round(each, 3) for each in finding.counts.tolist()]
    return msgspec.json.encode(numbers).decode()
