"""Pieces of a chunk into the tables, within the transaction that moves the cursor; what is refused is put aside."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import structlog

from hoverboard.database.failures import doubtful, refused, sqlstate
from hoverboard.database.statements import statements
from hoverboard.database.text import storable
from hoverboard.journal.chunk import Frame
from hoverboard.journal.records import GapRecord, Record
from hoverboard.recorder.gaps import QUARANTINED, Gap
from hoverboard.recorder.insert import UNFIT, Inserts, RecordsByType, Unfit
from hoverboard.recorder.quarantine import Quarantine
from hoverboard.recorder.rows.layout import Unencodable
from hoverboard.recorder.sorting import Piece

__all__ = ["ChunkLoad", "Stuck"]

_SQL: Final = statements(__file__)
_MOST_SUSPECTS: Final = 8
"""Records that fail for no reason of their own, before it is believed that it is the server."""
_log = structlog.get_logger(__name__)


class Stuck(Exception):
    """Nothing of a journal moves, and nobody can say whether its next record is at fault or the server.

    Args:
        error: what the server said.
    """

    def __init__(self, error: asyncpg.PostgresError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class ChunkLoad:
    """Inserts one chunk of one journal.

    Attributes:
        inserts: what its records are inserted with.
        quarantine: for what is refused.
        proven: types of records that Postgres takes from other journals, though not from this one.
        rows: inserted so far, by table.
        gaps: of what was put aside.
        shed: records that journals counted as missing, by reason.
        passed: the types of records that Postgres took.
    """

    inserts: Inserts
    quarantine: Quarantine
    proven: Collection[type[Record]] = ()
    rows: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    shed: Counter[str] = field(default_factory=Counter)
    passed: set[type[Record]] = field(default_factory=set)
    _suspects: list[tuple[Piece, asyncpg.PostgresError]] = field(default_factory=list)
    """Pieces that stand alone and fail, and what Postgres said."""

    async def run(self, pieces: Sequence[Piece]) -> None:
        """Insert pieces; those that are refused are halved until the offender stands alone, and put aside.

        Raises:
            Stuck: records fail for no reason of their own, and none of their kind passes.
            asyncpg.PostgresError, OSError: it is not the data's fault; nothing of the transaction holds.
        """
        # The whole chunk at once first: nearly always nothing is refused, and a savepoint costs two round trips.
        await self._load(pieces)
        self._give_up_on_server(least=1)
        # Others of their kind passed, so it is these records after all.
        for piece, error in self._suspects:
            await self._refuse(piece, error)

    async def _load(self, pieces: Sequence[Piece]) -> None:
        if not pieces:
            return
        records = RecordsByType(piece.record for piece in pieces)
        try:
            async with self.inserts.connection.transaction():
                rows = await self.inserts.insert(records)
        except Exception as error:
            # Anything else is the server's fault or the connection's, and no record's: the whole chunk comes again.
            if not (isinstance(error, UNFIT) or refused(error) or doubtful(error)):
                raise
            cause = error
        else:
            self.rows += rows
            self.shed += _shed(records.of(GapRecord))
            self.passed |= records.types
            return
        # The savepoint has taken back all of them. Halving finds one bad record among n in about 2 log2(n) attempts.
        halves = _halves(pieces)
        if halves is not None:
            for half in halves:
                await self._load(half)
        elif isinstance(cause, asyncpg.PostgresError) and doubtful(cause):
            # Judged at the end: records of its kind that pass later show that the server was not at fault.
            self._suspects.append((pieces[0], cause))
            self._give_up_on_server(least=_MOST_SUSPECTS)
        else:
            await self._refuse(pieces[0], cause)

    def _give_up_on_server(self, *, least: int) -> None:
        """Believe that it is the server, where so many records fail and none of their kind passes.

        Raises:
            Stuck: so it is.
        """
        # By the type of record: a column that is broken on the server breaks all records of that type.
        proven = {*self.passed, *self.proven}
        errors = [error for piece, error in self._suspects if type(piece.record) not in proven]
        if len(errors) >= least:
            raise Stuck(errors[0])

    async def _refuse(self, piece: Piece, error: BaseException) -> None:
        await self.put_aside(piece.frame, _words(error), piece, sqlstate(error))

    async def put_aside(self, frame: Frame, problem: str, piece: Piece | None = None, code: str | None = None) -> None:
        """Keep a frame that holds no record, or a piece that was refused.

        Args:
            frame: where it is from.
            problem: in words, without values.
            piece: of the frame; None where nobody can read it.
            code: Postgres' own, where it was Postgres that refused it.
        """
        row, payload, records = None, frame.payload, frame.count
        if piece is not None:
            row, payload, records = piece.row, piece.payload, piece.rows
        record = None if piece is None else piece.record
        version = getattr(record, "version", None)
        problem = storable(problem)
        # The file first, durably: were the commit first, a crash between the two would lose the record.
        file = await asyncio.to_thread(self.quarantine.put, self.inserts.journal, frame.seq, row, payload)
        await self.inserts.connection.execute(
            _SQL["insert_quarantine"],
            self.inserts.journal,
            frame.segment,
            frame.offset,
            frame.seq,
            records,
            file,
            code,
            problem,
        )
        self.gaps.append(
            Gap(
                reason=QUARANTINED,
                model=getattr(record, "model", None),
                version=version if isinstance(version, int) else None,
                frames=1 if row is None else None,
                records=records,
                segment=frame.segment,
                position=frame.offset,
                detail=f"{file}: {problem}" + (f" ({code})" if code else ""),
            )
        )
        _log.error("record_quarantined", journal=str(self.inserts.journal), file=file, records=records, reason=problem)


def _halves(pieces: Sequence[Piece]) -> tuple[Sequence[Piece], Sequence[Piece]] | None:
    if len(pieces) > 1:
        middle = len(pieces) // 2
        return pieces[:middle], pieces[middle:]
    halves = pieces[0].halves()
    return None if halves is None else (halves[:1], halves[1:])


def _words(error: BaseException) -> str:
    """What was refused, and where; never a value, which an error's own text may quote."""
    if isinstance(error, Unfit):
        cause = error.__cause__
        return f"it cannot be encoded: {cause if isinstance(cause, Unencodable) else type(cause).__name__}"
    places = {name: getattr(error, f"{name}_name", None) for name in ("table", "column", "constraint")}
    where = ", ".join(f"{name} {place}" for name, place in places.items() if place)
    if isinstance(error, (ArithmeticError, TypeError, ValueError)):
        return "a value does not fit its column"
    what = type(error).__name__
    return what + (f": {where}" if where else "")


def _shed(records: Iterable[GapRecord]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in records:
        for entry in record.entries:
            counts[entry.reason] += entry.records
    return counts
