"""An erasure wherever records are: the database, what was put aside, and how much journals still hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hoverboard.database.connect import Connection, connected, place
from hoverboard.database.failures import sentence, transient
from hoverboard.database.migrate import require_current
from hoverboard.errors import DatabaseUnavailable, HoverboardError
from hoverboard.journal.finding import JOURNALS, journals
from hoverboard.recorder.erasure.erase import SQL, Erased, ErasureRequest, erase, tombstones_since
from hoverboard.recorder.erasure.put_aside import erased_files, purge, sample_ids
from hoverboard.recorder.erasure.work_files import REPLAYS, WorkFiles
from hoverboard.recorder.quarantine import Quarantine

__all__ = ["ErasureReport", "erase_everywhere"]


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure did, or would do, and what is left.

    Attributes:
        place: of the database.
        erased: in it.
        quarantined: files removed.
        journal_files: that may hold copies until the recorder deletes them.
        journal_bytes: of these files.
        work: folders of unfinished replays that held what was erased; those that do not run are removed.
    """

    place: str
    erased: Erased
    quarantined: int
    journal_files: int
    journal_bytes: int
    work: WorkFiles


async def erase_everywhere(
    url: str, data_dir: Path, request: ErasureRequest, *, dry_run: bool = False
) -> ErasureReport:
    """Erase, and remove what was put aside of it.

    Args:
        url: of the database.
        data_dir: of the service; where it is on another machine, its recorder removes what was put aside there.
        request: what.
        dry_run: only say what would go: the rows are deleted, counted, and given back.

    Raises:
        HoverboardError: nothing was erased.
    """
    quarantine = Quarantine(data_dir)
    try:
        async with connected(url, application="hoverboard erase") as connection:
            await require_current(connection)
            transaction = connection.transaction()
            await transaction.start()
            erased = await erase(connection, request, now=datetime.now(UTC))
            await _require_known(connection, request, erased)
            # Within the transaction: of a dry run the tombstone is gone afterwards.
            tombstones = await tombstones_since(connection, erased.id - 1, sample_ids(quarantine))
            if dry_run:
                work = await WorkFiles.find(connection, data_dir, remove=False)
                await transaction.rollback()
            else:
                await transaction.commit()
                # After the commit: a file cannot be given back, and an erasure that failed must not have begun.
                work = await _cleared(connection, data_dir)
    except Exception as error:
        if isinstance(error, HoverboardError) or not transient(error):
            raise
        raise DatabaseUnavailable(f"{place(url)}: {sentence(error)}") from error
    quarantined = (erased_files if dry_run else purge)(quarantine, tombstones)
    segments = [segment for each in journals(data_dir / JOURNALS) for segment in each.segments]
    return ErasureReport(
        place(url), erased, len(quarantined), len(segments), sum(segment.bytes for segment in segments), work
    )


async def _cleared(connection: Connection, data_dir: Path) -> WorkFiles:
    """Remove unfinished replays; what was erased is erased, even where nobody can tell any more what these hold."""
    try:
        return await WorkFiles.find(connection, data_dir, remove=True)
    except Exception as error:
        if not transient(error):
            raise
        return WorkFiles(left=[data_dir / REPLAYS])


async def _require_known(connection: Connection, request: ErasureRequest, erased: Erased) -> None:
    """Refuse a model that nothing was recorded of: a misspelt name would be told that all of it is gone.

    Raises:
        HoverboardError: it is none.
    """
    if request.model is None or any(erased.rows.values()):
        return
    models = await connection.fetchval(SQL["recorded_models"])
    if request.model not in models:
        recorded = ", ".join(models) or "none"
        raise HoverboardError(f"nothing was recorded of a model {request.model!r}; models recorded: {recorded}")
