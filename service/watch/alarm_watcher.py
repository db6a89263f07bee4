"""Watches whether versions find more samples strange than their calibration allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

import structlog

from hoverboard.config import Settings
from hoverboard.contract.times import nearest_time
from hoverboard.database.connect import Connection
from hoverboard.database.known import bound_of
from hoverboard.journal.records import AlarmResetRecord, BatchRecord, GapRecord, Record
from hoverboard.telemetry import families
from hoverboard.watch import alarm_table
from hoverboard.watch.alarm import Alarm, Block, blocks_of
from hoverboard.watch.watcher import News, Ran

__all__ = ["Alarms"]

_Name = tuple[str, int]
"""A version as metrics and logs name it."""

_log = structlog.get_logger(__name__)


class Alarms:
    """Counts outliers for the alarms of versions with a calibration.

    Args:
        settings: the service's.
    """

    kinds: Collection[type[Record]] = (GapRecord, AlarmResetRecord)

    def __init__(self, settings: Settings) -> None:
        self._run_length = settings.alarm_run_length

    async def show(self, connection: Connection) -> None:
        for row in await alarm_table.list_alarms(connection):
            _tell((row.model, row.version), row.alarm, raised=False)

    async def follow(self, connection: Connection, ran: Sequence[Ran], others: Sequence[Record]) -> Sequence[News]:
        versions = {each.known.id: (each.known.key[:2], each.known.bound) for each in ran}
        counts = defaultdict(list, {each.known.id: _counts(each.batches) for each in ran})
        # Rows that no journal had room for were looked at by the detector nevertheless, and count as the others do.
        unwritten = await _unwritten(connection, others)
        for version_id, (name, manifest, blocks) in unwritten.items():
            versions.setdefault(version_id, (name, bound_of(manifest)))
            counts[version_id] += blocks
        news: dict[_Name, News] = {}
        # The order in which other recorders lock the same rows: in another one, two could wait for each other for ever.
        for version_id in sorted(counts):
            name, bound = versions[version_id]
            # Joined before they are counted: the evidence of one sample each would cost as much as that of a hundred.
            blocks = blocks_of(counts[version_id])
            if bound is not None and blocks:
                alarm, raised = await alarm_table.follow(connection, version_id, bound, blocks, self._run_length)
                news[name] = partial(_tell, name, alarm, raised=raised)
        for record in others:
            if isinstance(record, AlarmResetRecord):
                name = (record.model, record.version)
                # What was raised and reset in one chunk is not told: somebody has looked at it already.
                for alarm in await alarm_table.reset(connection, record):
                    news[name] = partial(_tell, name, alarm, raised=False)
        return list(news.values())

    async def expire(self, connection: Connection, before: datetime) -> None:
        """Nothing: a version has one row, and its events are for good."""


def _tell(name: _Name, alarm: Alarm, *, raised: bool) -> None:
    """Show an alarm; and log it where it was `raised` just now."""
    families.flag_rate.labels(*name).set(alarm.rate or 0.0)
    families.flag_rate_bound.labels(*name).set(alarm.bound)
    families.alarm_log10_e_value.labels(*name).set(alarm.evidence.log10_e)
    families.alarm_raised.labels(*name).set(int(alarm.raised is not None))
    if raised and alarm.raised is not None:
        _log.warning(
            "alarm_raised",
            model=name[0],
            version=name[1],
            onset=nearest_time(alarm.raised.onset_us).isoformat(timespec="seconds"),
            flagged=alarm.raised.flagged,
            rows=alarm.raised.rows,
            bound=alarm.bound,
            next=alarm_table.question_of(name[0], alarm.raised),
        )


def _counts(batches: Iterable[BatchRecord]) -> list[Block]:
    """What batches count: only those that a detector looked at."""
    return [
        Block(batch.executed - batch.repeats, batch.flagged, batch.started_us, batch.repeats)
        for batch in batches
        if batch.outlier is not None
    ]


async def _unwritten(
    connection: Connection, records: Iterable[Record]
) -> Mapping[int, tuple[_Name, str, Sequence[Block]]]:
    """What ran and was not journaled: of each version its name, its manifest and the counts.

    How many of these rows were repeats is not known: all count. Versions that Postgres does not know are left out.
    """
    blocks: defaultdict[_Name, list[Block]] = defaultdict(list)
    for record in records:
        for entry in record.entries if isinstance(record, GapRecord) else ():
            if entry.executed and entry.model is not None and entry.version is not None:
                blocks[entry.model, entry.version].append(Block(entry.executed, entry.flagged, entry.first_us))
    if not blocks:
        return {}
    found = await alarm_table.find_numbered(connection, list(blocks))
    return {version_id: (name, manifest, blocks[name]) for version_id, name, manifest in found}
