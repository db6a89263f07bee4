"""The tables `alarms` and `alarm_events`: each alarm's row is locked, moved on and written back in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from hoverboard.contract.times import micros, nearest_time
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.database.text import storable
from hoverboard.journal.records import AlarmResetRecord
from hoverboard.watch.alarm import Alarm, Block, Counts, Evidence, Raised

__all__ = ["AlarmRow", "find_numbered", "follow", "list_alarms", "question_of", "reset"]

_SQL: Final = statements(__file__)
_UNKNOWN: Final = (None, None, None)


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """A version's alarm.

    Attributes:
        model, version: whose.
        weights_sha256: tells apart versions of one number.
        alarm: as last committed.
        updated_at: when the recorder last counted.
    """

    model: str
    version: int
    weights_sha256: str
    alarm: Alarm
    updated_at: datetime


async def follow(
    connection: Connection, version_id: int, bound: float, blocks: Sequence[Block], run_length: int
) -> tuple[Alarm, bool]:
    """Count blocks of one version, in the connection's transaction.

    Returns:
        The alarm as it is now, and whether it was raised just now.
    """
    alarm = await _locked(connection, version_id, bound)
    before = alarm.raised
    for block in blocks:
        alarm = alarm.after(block, run_length)
    await _write(connection, version_id, alarm)
    # Told once, by whoever's transaction raised it: the row was locked since it was read.
    raised = alarm.raised if before is None else None
    # With the run length that was in force, so that its promise can be looked up later.
    if raised is not None:
        await connection.execute(
            _SQL["insert_alarm_event"],
            nearest_time(raised.at_us),
            version_id,
            "raised",
            nearest_time(raised.onset_us),
            raised.log10_e,
            raised.rows,
            raised.flagged,
            alarm.bound,
            run_length,
            None,
            None,
            *_three(raised.since_onset),
        )
    return alarm, raised is not None


async def reset(connection: Connection, record: AlarmResetRecord) -> list[Alarm]:
    """Reset the alarm of a version, of whatever weights, in the connection's transaction."""
    alarms = []
    # All of that number: whoever resets an alarm names no checksum.
    for row in await connection.fetch(_SQL["find_all_numbered"], record.model, record.version):
        alarm = (await _locked(connection, row["id"], None)).reset(record.at_us)
        await _write(connection, row["id"], alarm)
        await connection.execute(
            _SQL["insert_alarm_event"],
            nearest_time(record.at_us),
            row["id"],
            "reset",
            *(None,) * 6,
            storable(record.actor),
            storable(record.reason),
            *_UNKNOWN,
        )
        alarms.append(alarm)
    return alarms


async def find_numbered(
    connection: Connection, names: Sequence[tuple[str, int]]
) -> list[tuple[int, tuple[str, int], str]]:
    """Versions of these names and numbers, the latest of each: `(id, (name, number), manifest)`; unknown ones are left out."""
    rows = await connection.fetch(
        _SQL["find_numbered"], [model for model, _ in names], [version for _, version in names]
    )
    return [(row["id"], (row["name"], row["version"]), row["manifest"]) for row in rows]


def question_of(model: str, raised: Raised) -> str:
    """The command that asks what is behind an alarm: of its own time, since several may be raised.

    Not of its version alone: that the version is the cause shows beside others.
    """
    return f"hoverboard postmortem {model} --about outliers --from {nearest_time(raised.onset_us):%Y-%m-%dT%H:%M:%SZ}"


async def list_alarms(connection: Connection) -> list[AlarmRow]:
    """Every version's alarm, by model and number."""
    return [
        AlarmRow(row["model"], row["version"], row["weights_sha256"], _alarm(row), row["updated_at"])
        for row in await connection.fetch(_SQL["list_alarms"])
    ]


async def _locked(connection: Connection, version_id: int, bound: float | None) -> Alarm:
    """A version's alarm, which is this transaction's own from now on; made where there is none and a bound is given."""
    row = await connection.fetchrow(_SQL["lock_alarm"], version_id)
    if row is None and bound is not None:
        fresh = Evidence()
        since = [None for _ in fresh.since_us]
        await connection.execute(_SQL["begin_alarm"], version_id, bound, fresh.log_sums, fresh.log_products, since)
        # Once more and not by `returning`: where another recorder has just inserted it, this waits for its lock.
        row = await connection.fetchrow(_SQL["lock_alarm"], version_id)
    if row is None:
        raise LookupError(f"version {version_id} has no alarm")
    return _alarm(row)


async def _write(connection: Connection, version_id: int, alarm: Alarm) -> None:
    evidence, raised = alarm.evidence, alarm.raised
    when_raised: Sequence[Any] = (None,) * 5
    if raised is not None:
        times = nearest_time(raised.at_us), nearest_time(raised.onset_us)
        when_raised = *times, raised.log10_e, raised.rows, raised.flagged
    await connection.execute(
        _SQL["write_alarm"],
        version_id,
        "quiet" if raised is None else "raised",
        alarm.bound,
        evidence.rows,
        evidence.flagged,
        evidence.log10_e,
        alarm.recent_rows,
        alarm.recent_flagged,
        evidence.log_sums,
        evidence.log_products,
        [None if each is None else nearest_time(each) for each in evidence.since_us],
        *when_raised,
        None if alarm.reset_us is None else nearest_time(alarm.reset_us),
        evidence.repeats,
        [number for each in evidence.counts for number in _three(each)],
        *_three(None if raised is None else raised.since_onset),
    )


def _alarm(row: asyncpg.Record) -> Alarm:
    raised = None
    if row["state"] == "raised":
        raised = Raised(
            micros(row["raised_at"]),
            micros(row["onset_at"]),
            row["raised_log10_e"],
            row["raised_rows"],
            row["raised_flagged"],
            _counts((row["onset_rows"], row["onset_flagged"], row["onset_repeats"])),
        )
    evidence = Evidence(
        row["rows"],
        row["flagged"],
        tuple(row["log_sums"]),
        tuple(row["log_products"]),
        tuple(None if each is None else micros(each) for each in row["since"]),
        # Empty in a row from before they were kept.
        tuple(_counts(three) for three in _threes(row["counts_since"] or _UNKNOWN * len(row["since"]))),
        row["repeats"],
    )
    reset_us = None if row["reset_at"] is None else micros(row["reset_at"])
    return Alarm(row["bound"], evidence, row["recent_rows"], row["recent_flagged"], raised, reset_us)


def _threes(numbers: Sequence[int | None]) -> list[Sequence[int | None]]:
    return [numbers[place : place + 3] for place in range(0, len(numbers), 3)]


def _three(counts: Counts | None) -> tuple[int | None, ...]:
    return _UNKNOWN if counts is None else astuple(counts)


def _counts(three: Sequence[int | None]) -> Counts | None:
    rows, flagged, repeats = three
    return None if rows is None or flagged is None or repeats is None else Counts(rows, flagged, repeats)
