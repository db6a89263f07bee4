"""What a chunk of frames holds: decoded, and sorted into what is inserted, what is expired and what nobody can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

import msgspec
import numpy as np
from asyncpg.pgproto import pgproto

from hoverboard.contract.signature import Array
from hoverboard.contract.times import nearest_time, times_ms
from hoverboard.database.known import NewVersion, VersionKey, version_key
from hoverboard.database.partitions import judge
from hoverboard.journal.chunk import Frame
from hoverboard.journal.records import (
    AlarmResetRecord,
    BatchRecord,
    DeploymentRecord,
    FeatureRecord,
    LabelRecord,
    Record,
    RejectionRecord,
    VersionRecord,
    WithdrawalRecord,
    decode,
    encode,
)
from hoverboard.recorder.erasure.late_rows import Drained
from hoverboard.recorder.gaps import EXPIRED, Gap
from hoverboard.recorder.rows.split import split, split_features

__all__ = ["Piece", "Sorted", "Unreadable", "sort_out"]

# What `integer` holds, in Postgres and in Arrow.
_MOST_ROWS: Final = 2**31 - 1
_MOST_NUMBER: Final = 2**63 - 1
_NUMBER_BYTES: Final = 2  # of a float16
# What decoding and looking at forged or damaged bytes can raise; anything else is a defect of ours.
_UNREADABLE: Final = (msgspec.DecodeError, ArithmeticError, LookupError, TypeError, ValueError)


class Piece(msgspec.Struct, frozen=True):
    """What a frame holds, or some rows of it.

    Attributes:
        frame: where it is from.
        record: the whole record, or a part.
        row: of the frame's rows the first of this part; None for the whole.
    """

    frame: Frame
    record: Record
    row: int | None = None

    @property
    def rows(self) -> int:
        """What it counts as: kept samples, or one label or rejection."""
        return self.record.rows if isinstance(self.record, BatchRecord) else self.frame.count

    @property
    def sample_ids(self) -> bytes:
        """Of its rows, 16 bytes each; empty for a record that is no batch, nor features."""
        return self.record.sample_ids if isinstance(self.record, (BatchRecord, FeatureRecord)) else b""

    @property
    def payload(self) -> bytes:
        """As it was journaled, or would have been."""
        return self.frame.payload if self.row is None else encode(self.record)

    def halves(self) -> tuple[Piece, Piece] | None:
        """Two pieces with half of the rows each; None where there is nothing to halve."""
        record = self.record
        if not isinstance(record, (BatchRecord, FeatureRecord)) or len(record.sample_ids) < 32:
            return None
        first, second = split(record) if isinstance(record, BatchRecord) else split_features(record)
        start = self.row or 0
        return Piece(self.frame, first, start), Piece(self.frame, second, start + len(first.sample_ids) // 16)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that is whole and yet holds no record: of a newer writer, or of a broken one.

    Attributes:
        frame: where it is from.
        problem: in words, without values.
    """

    frame: Frame
    problem: str


@dataclass(slots=True)
class Sorted:
    """A chunk, ready to be inserted.

    Attributes:
        pieces: what to insert; version frames are not among them.
        unreadable: what to put aside.
        expired: what is past retention, counted.
        versions: every version that the pieces speak of.
        days: that need partitions.
        implausible: rows whose time cannot be.
        executed: rows that its batches ran.
        drained: what tombstones look at; None where nothing could be erased.
        batches: every batch once, whatever becomes of its rows.
    """

    pieces: list[Piece] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    expired: list[Gap] = field(default_factory=list)
    versions: list[NewVersion] = field(default_factory=list)
    days: set[date] = field(default_factory=set)
    implausible: int = 0
    executed: int = 0
    drained: Drained | None = None
    batches: list[BatchRecord] = field(default_factory=list)


def sort_out(frames: Iterable[Frame], *, now: datetime, retention_days: int) -> Sorted:
    """Decode and sort frames.

    Args:
        frames: of one journal, in order.
        now: the recorder's clock.
        retention_days: rows older than that are not inserted any more.
    """
    contents = Sorted()
    records: dict[VersionKey, VersionRecord] = {}
    pieces: list[Piece] = []
    for frame in frames:
        try:
            record = decode(frame.payload)
            _check(record)
        except _UNREADABLE as error:
            contents.unreadable.append(Unreadable(frame, type(error).__name__))
            continue
        if isinstance(record, VersionRecord):
            # Not a row by itself: it is inserted with the first record that speaks of it.
            records[version_key(record)] = record
        else:
            pieces.append(Piece(frame, record))
    _take(contents, pieces, now, retention_days)
    contents.versions = list(_versions(contents.pieces, records, now))
    contents.drained = _drained(contents.pieces)
    return contents


def _check(record: Record) -> None:
    """Raise ValueError for what no writer writes."""
    if isinstance(record, BatchRecord):
        if len(record.sample_ids) != 16 * record.rows:
            raise ValueError("sample ids and rows disagree")
        counts = record.executed, record.flagged, record.repeats
        if min(counts) < 0 or max(counts) > _MOST_ROWS:
            raise ValueError("counts that cannot be")
    elif isinstance(record, FeatureRecord):
        samples, rest = divmod(len(record.sample_ids), 16)
        if rest or not samples or not record.z or len(record.z) % (_NUMBER_BYTES * samples):
            raise ValueError("features are not as many for each sample")
    elif isinstance(record, AlarmResetRecord) and not 0 <= record.version <= _MOST_NUMBER:
        raise ValueError("a version number that cannot be")


def _take(contents: Sorted, pieces: Sequence[Piece], now: datetime, retention_days: int) -> None:
    batches = [piece.record for piece in pieces if isinstance(piece.record, BatchRecord)]
    rejections = [piece.record.at_us // 1000 for piece in pieces if isinstance(piece.record, RejectionRecord)]
    # All at once: NumPy's cost is by the call, and most batches are small.
    ids = b"".join([piece.sample_ids for piece in pieces])
    judged = judge(
        np.concatenate([times_ms(ids), np.array(rejections, np.int64)]), now=now, retention_days=retention_days
    )
    if not (judged.implausible | judged.expired).any():  # nearly always, and much faster all at once
        contents.pieces, contents.batches, contents.days = list(pieces), batches, set(judged.days)
        contents.executed = sum(record.executed for record in batches)
        return
    for piece in pieces:
        try:
            _take_some(contents, piece, now, retention_days)
        except _UNREADABLE as error:
            contents.unreadable.append(Unreadable(piece.frame, type(error).__name__))


def _take_some(contents: Sorted, piece: Piece, now: datetime, retention_days: int) -> None:
    """Those rows of a piece that are not expired."""
    record = piece.record
    if isinstance(record, (BatchRecord, FeatureRecord)):
        times = times_ms(record.sample_ids)
    elif isinstance(record, RejectionRecord):
        times = np.array([record.at_us // 1000])
    else:
        contents.pieces.append(piece)
        return
    judged = judge(times, now=now, retention_days=retention_days)
    # A time that is too early to be true is also past retention: it would not outlive the hour.
    late = judged.implausible & (times > now.timestamp() * 1000)
    expired = judged.expired | (judged.implausible & ~late)
    kept = list(_current(piece, expired))
    lost = _expired(record, times[expired])
    # Nothing in here can fail any more: a frame is taken as a whole or not at all.
    contents.days |= judged.days
    contents.implausible += int(late.sum())
    contents.pieces += kept
    contents.expired += lost
    if isinstance(record, BatchRecord):
        contents.executed += record.executed
        contents.batches.append(record)


def _current(piece: Piece, expired: Array) -> Iterator[Piece]:
    """The rows that are not expired, in as few pieces as halving gives."""
    if not expired.any():
        yield piece
    elif not expired.all():
        # By halving, as for what Postgres refuses: so a part is always named by its first row.
        halves = piece.halves()
        if halves is not None:
            middle = len(halves[0].sample_ids) // 16
            yield from _current(halves[0], expired[:middle])
            yield from _current(halves[1], expired[middle:])


def _expired(record: BatchRecord | FeatureRecord | RejectionRecord, times: Array) -> list[Gap]:
    if not len(times) or isinstance(record, FeatureRecord):  # the samples whose features they are count
        return []
    version = record.version if isinstance(record, BatchRecord) else None
    first, last = _time(times.min()), _time(times.max())
    return [Gap(reason=EXPIRED, model=record.model, version=version, records=len(times), first_at=first, last_at=last)]


def _versions(pieces: Sequence[Piece], records: dict[VersionKey, VersionRecord], now: datetime) -> Iterator[NewVersion]:
    """What the pieces speak of; when it first served, as far as these pieces know."""
    latest = int(now.timestamp() * 1e6)
    seen: dict[VersionKey, int] = {}
    for piece in pieces:
        record = piece.record
        if isinstance(record, BatchRecord):
            key, at_us = version_key(record), record.started_us
        elif isinstance(record, (FeatureRecord, WithdrawalRecord)):
            key, at_us = version_key(record), latest
        elif isinstance(record, DeploymentRecord) and record.version is not None:
            key, at_us = (record.model, record.version, record.weights_sha256), record.at_us
        else:
            continue
        seen[key] = min(seen.get(key, latest), at_us)
    for key, first_us in seen.items():
        yield NewVersion(key, records[key].manifest if key in records else None, _time(first_us // 1000))


def _drained(pieces: Sequence[Piece]) -> Drained | None:
    ids = b"".join([piece.sample_ids for piece in pieces])
    others = [piece.record for piece in pieces if isinstance(piece.record, (LabelRecord, RejectionRecord))]
    times = np.concatenate([times_ms(ids), np.array([record.at_us // 1000 for record in others], np.int64)])
    if not len(times):
        return None
    labelled = [record.sample_id for record in others if isinstance(record, LabelRecord)]
    return Drained(
        _time(times.min()),
        _time(times.max() + 1),
        ids,
        [pgproto.UUID(sample) for sample in labelled if len(sample) == 16],
    )


def _time(milliseconds: int) -> datetime:
    return nearest_time(int(milliseconds) * 1000)
