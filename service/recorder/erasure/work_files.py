"""Unfinished replays in the data directory: their work files hold samples, and must not outlive those."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from hoverboard.database.connect import Connection
from hoverboard.database.on_record import gone
from hoverboard.errors import ConfigError
from hoverboard.offline.workspace import Workspace

__all__ = ["REPLAYS", "WorkFiles", "replay_workspace"]

REPLAYS: Final = "replays"
"""Below the data directory: a folder each replay."""
_ANSWERS: Final = "answers.parquet"
_INPUTS: Final = "inputs.parquet"
_SAMPLE: Final = "sample_id"


def replay_workspace(folder: Path) -> Workspace:
    """What a replay that runs in a folder holds the lock of."""
    return Workspace(folder / "replay.json", "replaying")


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """Folders of replays that hold what is no longer on record, or what nobody can read.

    Attributes:
        removable: of replays that do not run.
        running: of replays that run: these leave it out themselves before they say anything, and remove their files at the end.
        left: those that nobody could look into, or remove.
    """

    removable: list[Path] = field(default_factory=list)
    running: list[Path] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)

    @classmethod
    async def find(cls, connection: Connection, data_dir: Path, *, remove: bool) -> WorkFiles:
        """Look into every folder.

        Args:
            connection: says what is on record.
            data_dir: of the service.
            remove: remove what can be removed.
        """
        found = cls()
        try:
            folders = _folders(data_dir / REPLAYS)
        except OSError:
            return cls(left=[data_dir / REPLAYS])
        for folder in folders:
            try:
                with replay_workspace(folder).locked():
                    if await _outlives(connection, folder):
                        found.removable.append(folder)
                        if remove:
                            shutil.rmtree(folder)
            except ConfigError:  # somebody has the lock
                if await _outlives(connection, folder):
                    found.running.append(folder)
            except FileNotFoundError:  # it has just ended
                continue
            except OSError:
                found.left.append(folder)
        return found


def _folders(replays: Path) -> list[Path]:
    return sorted(path for path in replays.iterdir() if path.is_dir()) if replays.is_dir() else []


async def _outlives(connection: Connection, folder: Path) -> bool:
    """Whether a folder holds a sample that is not on record, or may hold one."""
    answers, alone = _files(folder)
    for path in answers:
        for ids in _samples(path):
            if ids is None or await gone(connection, ids):
                return True
    return alone


def _files(folder: Path) -> tuple[list[Path], bool]:
    """Files of answers, and whether there are inputs without: after a kill between the two nobody can say whose they are."""
    inputs = [path.with_name(path.name.removesuffix(_INPUTS) + _ANSWERS) for path in folder.rglob(f"*{_INPUTS}")]
    answers = sorted(folder.rglob(f"*{_ANSWERS}"))
    return answers, not set(inputs) <= set(answers)


def _samples(answers: Path) -> Iterator[list[UUID] | None]:
    """The samples of a file, some at a time; None for what cannot be read."""
    import pyarrow as pa  # late: nearly always there is no such file
    import pyarrow.parquet as pq

    with suppress(FileNotFoundError):  # a replay that runs has just put it elsewhere
        try:
            with pq.ParquetFile(answers, pre_buffer=False) as file:  # else Arrow keeps all that it has read
                for batch in file.iter_batches(columns=[_SAMPLE]):
                    yield [UUID(id_) for id_ in batch.column(_SAMPLE).to_pylist()]
        except (pa.ArrowException, KeyError, ValueError):
            yield None
