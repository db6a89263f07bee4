"""Pieces of a chunk into the tables, within the transaction that moves the cursor; what is refused is put aside."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import numpy as np
import structlog
from asyncpg.pgproto import pgproto

from hoverboard.database.failures import doubtful, refused, sqlstate
from hoverboard.database.known import KnownVersion, VersionKey, version_key
from hoverboard.database.statements import statements
from hoverboard.database.text import storable
from hoverboard.journal.chunk import Frame
from hoverboard.journal.records import (
    BatchRecord,
    DeploymentRecord,
    GapRecord,
    LabelRecord,
    Record,
    RejectionRecord,
    SupplementRecord,
    WithdrawalRecord,
)
from hoverboard.recorder.gaps import QUARANTINED, Gap
from hoverboard.recorder.quarantine import Quarantine
from hoverboard.recorder.rows.encode import (
    DEPLOYMENT_COLUMNS,
    GAP_COLUMNS,
    LABEL_COLUMNS,
    Copy,
    deployment_rows,
    encode_batches,
    encode_rejections,
    gap_rows,
    label_rows,
)
from hoverboard.recorder.rows.layout import Unencodable
from hoverboard.recorder.sorting import Piece, Unreadable

__all__ = ["Loader", "Outcome", "Stuck"]

_SQL: Final = statements(__file__)
_COPY_TIMEOUT_S: Final = 120.0
_MOST_SUSPECTS: Final = 8
"""Records that fail for no reason of their own, before it is believed that it is the server."""
_OneRecord = TypeVar("_OneRecord", bound=Record)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of pieces.

    Attributes:
        rows: inserted, by table.
        gaps: of what was put aside.
        shed: records that journals counted as missing, by reason.
        passed: the types of records that Postgres took.
    """

    rows: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    shed: Counter[str] = field(default_factory=Counter)
    passed: set[type[Record]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows for `copy_records_to_table`."""

    table: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]


class _Records:
    """The records of pieces, by their type; of each in order."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._by_type: defaultdict[Any, list[Any]] = defaultdict(list)
        for piece in pieces:
            self._by_type[type(piece.record)].append(piece.record)

    @property
    def types(self) -> set[type[Record]]:
        """That are among them."""
        return set(self._by_type)

    def of(self, kind: type[_OneRecord]) -> list[_OneRecord]:
        """Those of one type."""
        return self._by_type.get(kind, [])


class _Unfit(Exception):
    """No rows can be made of some pieces."""


class Stuck(Exception):
    """Nothing of a journal moves, and nobody can say whether its next record is at fault or the server.

    Args:
        error: what the server said.
        kinds: of the records that it said it of.
    """

    def __init__(self, error: asyncpg.PostgresError, kinds: frozenset[type[Record]] = frozenset()) -> None:
        super().__init__(str(error))
        self.error = error
        self.kinds = kinds


_UNFIT: Final = (_Unfit, ArithmeticError, TypeError, ValueError)
"""What is raised where no rows can be made, here or by asyncpg as it encodes a value."""


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A piece that stands alone and fails, and what Postgres said."""

    piece: Piece
    error: asyncpg.PostgresError


@dataclass(slots=True)
class Loader:
    """Inserts one chunk of one journal.

    Attributes:
        connection: in a transaction.
        journal: whose chunk.
        process: that wrote it.
        versions: every version that could be found.
        quarantine: for what is refused.
        proven: types of records that Postgres takes from other journals, though not from this one.
        outcome: so far.
    """

    connection: asyncpg.Connection[asyncpg.Record]
    journal: UUID
    process: str
    versions: Mapping[VersionKey, KnownVersion]
    quarantine: Quarantine
    proven: Collection[type[Record]] = ()
    outcome: Outcome = field(default_factory=Outcome)
    _suspects: list[_Suspect] = field(default_factory=list)

    async def load(self, pieces: Sequence[Piece]) -> None:
        """Insert pieces; those that are refused are halved until the offender stands alone, and put aside.

        Raises:
            Stuck: records fail for no reason of their own, and none of their kind passes.
            asyncpg.PostgresError, OSError: it is not the data's fault; nothing of the transaction holds.
        """
        await self._load(pieces)
        self._give_up_on_server(least=1)
        for suspect in self._suspects:
            await self._refuse(suspect.piece, suspect.error)

    async def _load(self, pieces: Sequence[Piece]) -> None:
        if not pieces:
            return
        records = _Records(pieces)
        try:
            async with self.connection.transaction():
                copies, plain = await asyncio.to_thread(self._encode, records)
                rows = await self._copy(copies, plain)
                await self._amend(records)
        except Exception as error:
            if not (isinstance(error, _UNFIT) or refused(error) or doubtful(error)):
                raise
            cause = error
        else:
            self.outcome.rows += rows
            self.outcome.shed += _shed(records.of(GapRecord))
            self.outcome.passed |= records.types
            return
        halves = _halves(pieces)
        if halves is not None:
            for half in halves:
                await self._load(half)
        elif isinstance(cause, asyncpg.PostgresError) and doubtful(cause):
            self._suspects.append(_Suspect(pieces[0], cause))
            self._give_up_on_server(least=_MOST_SUSPECTS)
        else:
            await self._refuse(pieces[0], cause)

    def _give_up_on_server(self, *, least: int) -> None:
        """Believe that it is the server, where so many records fail and none of their kind passes.

        Raises:
            Stuck: so it is.
        """
        proven = {*self.outcome.passed, *self.proven}
        suspects = [each for each in self._suspects if type(each.piece.record) not in proven]
        if len(suspects) >= least:
            raise Stuck(suspects[0].error, frozenset(type(each.piece.record) for each in suspects))

    async def _refuse(self, piece: Piece, error: BaseException) -> None:
        await self._put_aside(
            piece.frame,
            piece.row,
            piece.payload,
            records=piece.rows,
            problem=_words(error),
            code=sqlstate(error),
            model=getattr(piece.record, "model", None),
            version=getattr(piece.record, "version", None),
        )

    async def put_aside(self, unreadable: Unreadable) -> None:
        """Keep a frame that holds no record."""
        frame = unreadable.frame
        await self._put_aside(frame, None, frame.payload, records=frame.count, problem=unreadable.problem, code=None)

    def _encode(self, records: _Records) -> tuple[list[Copy], list[_Rows]]:
        """All rows of some records, by table. In a thread: it takes a while."""
        try:
            copies = encode_batches(records.of(BatchRecord), self.versions)
            copies += encode_rejections(records.of(RejectionRecord))
            deployments = deployment_rows(records.of(DeploymentRecord), self.versions, self.process)
            plain = [
                _Rows("labels", LABEL_COLUMNS, label_rows(records.of(LabelRecord))),
                _Rows("deployments", DEPLOYMENT_COLUMNS, deployments),
                _Rows("gaps", GAP_COLUMNS, self._gaps(records.of(GapRecord))),
            ]
        except MemoryError:
            raise
        except Exception as error:
            raise _Unfit from error
        return copies, [each for each in plain if each.rows]

    def _gaps(self, records: Sequence[GapRecord]) -> list[tuple[object, ...]]:
        now = datetime.now(UTC)
        return [
            row for record in records for row in gap_rows(record, at=now, journal=self.journal, process=self.process)
        ]

    async def _copy(self, copies: Sequence[Copy], plain: Sequence[_Rows]) -> Counter[str]:
        rows: Counter[str] = Counter()
        for copy in copies:
            await self.connection.copy_to_table(
                copy.table,
                source=_stream(copy),
                columns=copy.columns,
                format="binary",
                timeout=_COPY_TIMEOUT_S,
            )
            rows[copy.table] += copy.rows
        for each in plain:
            rows[each.table] += await self._insert(each)
        return rows

    async def _amend(self, records: _Records) -> None:
        """Carry out what changes rows that are in their tables already."""
        for supplement in records.of(SupplementRecord):
            await self._supplement(supplement)
        for withdrawal in records.of(WithdrawalRecord):
            await self._withdraw(withdrawal)

    async def _supplement(self, record: SupplementRecord) -> None:
        """What the other detectors say of outliers that are in their table already, or were erased."""
        try:
            scores = {name: np.frombuffer(data, "<f4").tolist() for name, data in record.scores.items()}
            ids = [pgproto.UUID(record.sample_ids[at : at + 16]) for at in range(0, len(record.sample_ids), 16)]
            texts = [
                msgspec.json.encode({name: values[row] for name, values in scores.items()}) for row in range(len(ids))
            ]
        except (ValueError, IndexError) as error:
            raise _Unfit from error
        await self.connection.execute(
            _SQL["supplement_outliers"], record.detector, ids, [text.decode() for text in texts]
        )

    async def _withdraw(self, record: WithdrawalRecord) -> None:
        """Predictions that no caller got; they are in their table already, or were not kept."""
        known = self.versions.get(version_key(record))
        if known is None or len(record.sample_ids) % 16:
            raise _Unfit from Unencodable(f"withdrawal of {record.model} version {record.version}")
        ids = [pgproto.UUID(record.sample_ids[at : at + 16]) for at in range(0, len(record.sample_ids), 16)]
        await self.connection.execute(_SQL["withdraw_predictions"], known.id, ids, timeout=_COPY_TIMEOUT_S)

    async def _insert(self, given: _Rows) -> int:
        """Insert rows; returns how many there were to insert."""
        if given.columns is LABEL_COLUMNS:
            columns = [list(column) for column in zip(*given.rows, strict=True)]
            done = await self.connection.execute(_SQL["insert_labels"], *columns, timeout=_COPY_TIMEOUT_S)
            return int(done.rpartition(" ")[2])
        await self.connection.copy_records_to_table(
            given.table, records=given.rows, columns=given.columns, timeout=_COPY_TIMEOUT_S
        )
        return len(given.rows)

    async def _put_aside(
        self,
        frame: Frame,
        row: int | None,
        payload: bytes,
        *,
        records: int,
        problem: str,
        code: str | None,
        model: str | None = None,
        version: int | str | None = None,
    ) -> None:
        problem = storable(problem)
        file = await asyncio.to_thread(self.quarantine.put, self.journal, frame.seq, row, payload)
        await self.connection.execute(
            _SQL["insert_quarantine"],
            self.journal,
            frame.segment,
            frame.offset,
            frame.seq,
            records,
            file,
            code,
            problem,
        )
        self.outcome.gaps.append(
            Gap(
                reason=QUARANTINED,
                model=model,
                version=version if isinstance(version, int) else None,
                frames=1 if row is None else None,
                records=records,
                segment=frame.segment,
                position=frame.offset,
                detail=f"{file}: {problem}" + (f" ({code})" if code else ""),
            )
        )
        _log.error("record_quarantined", journal=str(self.journal), file=file, records=records, reason=problem)


async def _stream(copy: Copy) -> AsyncIterator[bytes]:
    try:
        async for piece in copy.stream():
            yield piece
    except MemoryError:
        raise
    except Exception as error:
        raise _Unfit from error


def _halves(pieces: Sequence[Piece]) -> tuple[Sequence[Piece], Sequence[Piece]] | None:
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return pieces[:middle], pieces[middle:]
    halves = pieces[0].halves()
    return None if halves is None else (halves[:1], halves[1:])


def _words(error: BaseException) -> str:
    """What was refused, and where; never a value, which an error's own text may quote."""
    if isinstance(error, _Unfit):
        cause = error.__cause__
        return f"it cannot be encoded: {cause if isinstance(cause, Unencodable) else type(cause).__name__}"
    places = {name: getattr(error, f"{name}_name", None) for name in ("table", "column", "constraint")}
    found = ", ".join(f"{name} {place}" for name, place in places.items() if place)
    if isinstance(error, (ArithmeticError, TypeError, ValueError)):
        return "a value does not fit its column"
    what = type(error).__name__
    return what + (f": {found}" if found else "")


def _shed(records: Iterable[GapRecord]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in records:
        for entry in record.entries:
            counts[entry.reason] += entry.records
    return counts
