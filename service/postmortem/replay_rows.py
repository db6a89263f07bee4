"""The rows of an unfinished replay in its folder: exported once, and held against the database as long as it runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.config import Settings
from hoverboard.files import put_file, synchronise
from hoverboard.postmortem.export import ABOUT
from hoverboard.postmortem.export_files import FILES, RowsOnRecord, merge
from hoverboard.postmortem.export_summary import ExportSummary
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import open_and_resolved
from hoverboard.postmortem.unfinished import unfit
from hoverboard.publishing.exported import EXPORT_KEY

__all__ = ["ReplayRows"]

_FRESH: Final = "recorded.fresh"


class ReplayRows:
    """What is replayed: an export in a folder of its own.

    Args:
        folder: of the replay.
        state: names in it that say how far the replay is; all else was made of the rows.

    Attributes:
        folder: of the export.
        inputs, answers: its files.
    """

    def __init__(self, folder: Path, state: frozenset[str]) -> None:
        self.folder = folder / "recorded"
        self.inputs, self.answers = (self.folder / name for name in FILES)
        self._about = self.folder / ABOUT
        self._all = folder
        self._fresh = folder / _FRESH
        self._kept = state | {self.folder.name, _FRESH}

    def resume(self) -> ExportSummary | None:
        """What an earlier run has exported, if it was done with that.

        Raises:
            ConfigError: a file of it is damaged, or is of another export.
        """
        if (self._fresh / ABOUT).exists():
            self._take_fresh()
        elif self._fresh.exists():  # a kill left half of it
            shutil.rmtree(self._fresh)
        if not self._about.exists():
            return None
        try:
            summary = msgspec.json.decode(self._about.read_bytes(), type=ExportSummary)
        except msgspec.DecodeError as error:
            raise unfit(self._all, self._about, f"is damaged ({error})") from error
        for path in (self.inputs, self.answers):
            self._check(path, summary)
        return summary

    def _check(self, path: Path, summary: ExportSummary) -> None:
        try:
            about = pq.read_metadata(path)
            same = msgspec.json.decode((about.metadata or {}).get(EXPORT_KEY.encode(), b""), type=ExportSummary)
        except FileNotFoundError as error:
            raise unfit(self._all, path, "is missing") from error
        except pa.ArrowInvalid as error:
            raise unfit(self._all, path, f"is damaged ({str(error).partition(chr(10))[0].rstrip('.')})") from error
        except msgspec.DecodeError:
            same = None
        if same != summary or about.num_rows != summary.rows:
            raise unfit(self._all, path, "is of another export")

    async def still_there(self, settings: Settings, summary: ExportSummary) -> ExportSummary:
        """Leave out what was erased or has expired since it was exported.

        Where anything is left out, what versions said to the rows is removed as well, since answers are told apart by their place.

        Args:
            settings: name the database.
            summary: of the rows as they are.

        Returns:
            Of the rows as they are then.

        Raises:
            DatabaseUnavailable: nobody can say what is still on record.
        """
        async with reading(settings, application="hoverboard replay") as connection:
            there = await RowsOnRecord.of(connection, [self.answers])
            if not there.gone:
                return summary
            opened, resolved = await open_and_resolved(connection, there.issues)
        fresh = msgspec.structs.replace(
            summary,
            rows=there.rows,
            left_out=there.left_out(summary.left_out),
            outliers=there.outliers,
            open_issues=opened,
            resolved_issues=resolved,
        )
        self._fresh.mkdir(mode=0o700)
        about = {EXPORT_KEY: msgspec.json.encode(fresh)}
        merge([[self.inputs, self.answers]], there.gone, [], about, [self._fresh / name for name in FILES])
        put_file(self._fresh / ABOUT, msgspec.json.encode(fresh))
        self._take_fresh()
        return fresh

    def _take_fresh(self) -> None:
        """May be called again after a kill: the fresh rows take their place last."""
        for path in [path for path in self._all.iterdir() if path.name not in self._kept]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._fresh.rename(self.folder)
        synchronise(self._all)
