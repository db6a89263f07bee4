"""`hoverboard export`: recorded samples as Parquet files: `inputs.parquet`, and `answers.parquet` with the same rows.

Written part by part into a hidden folder, with a checkpoint after each, and put in their place when all is there: a killed run
goes on, and gives the same bytes as one that was not.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.parquet as pq

from hoverboard.config import Settings
from hoverboard.database.connect import Connection
from hoverboard.database.on_record import last_erasure
from hoverboard.errors import ConfigError
from hoverboard.files import put_file, synchronise
from hoverboard.offline.workspace import Workspace
from hoverboard.postmortem.bounds import clipped, recorded_days
from hoverboard.postmortem.export_files import FILES, RowsOnRecord, check_parts, merge
from hoverboard.postmortem.export_part import ExportPart
from hoverboard.postmortem.export_summary import ExportSummary
from hoverboard.postmortem.judging import JudgedAnswers, judged
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import (
    RecordedVersion,
    SampleKey,
    open_and_resolved,
    read_samples,
    recorded_versions,
    rows_by_version,
)
from hoverboard.postmortem.replay_answers import AnswerReader
from hoverboard.postmortem.unfinished import unfit
from hoverboard.postmortem.window import RecordedWindow, RowChoice
from hoverboard.publishing.exported import EXPORT_KEY
from hoverboard.versions import scan

__all__ = [
    "ABOUT",
    "ChosenVersions",
    "ExportRequest",
    "Exporter",
    "blanked_inputs",
    "versions_with_the_same_inputs",
]

ABOUT: Final = "export.json"
_STATE: Final = "state.json"
_PARTS_A_SNAPSHOT: Final = 8
"""Parts that are read in one transaction: Postgres cannot clean up behind one, so that none lasts for hours."""


@dataclass(frozen=True, slots=True)
class ChosenVersions:
    """Versions whose answers are meant: all with the same inputs, the last one by whose task answers have their columns.

    Attributes:
        versions: at least one.
        others: numbers of versions that answered in the same time, and whose inputs are others.
        skipped: versions whose rows are read only to be counted, by `RecordedVersion.id` -> the reason.
    """

    versions: Sequence[RecordedVersion]
    others: Sequence[int] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)


Choose = Callable[[Connection, RecordedWindow], Awaitable[ChosenVersions]]
"""Finds the versions; raises ConfigError where there are none."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        window: which samples.
        choice: of them; where only labelled ones are meant, their labels are among the inputs, as a calibration file has them.
        incomplete: also samples of which inputs were redacted or hashed; these are null.
        blanked: inputs of which the recording policy hides single elements.
        job: what the person asked for, JSON-ready: equal for the same command, whatever `window` became of it.
    """

    window: RecordedWindow
    choice: RowChoice = field(default_factory=RowChoice)
    incomplete: bool = False
    blanked: frozenset[str] = frozenset()
    job: Mapping[str, Any] = field(default_factory=dict)


class _State(msgspec.Struct, kw_only=True):
    """How far a run has come; the window as it was when the run began."""

    job: dict[str, Any]
    start: datetime
    end: datetime
    parts: int = 0
    rows: int = 0
    sample: str = ""
    version_id: int = -1
    left_out: dict[str, int] = {}
    read: bool = False
    version_ids: list[int] = []
    others: list[int] = []
    skipped: dict[int, str] = {}

    @property
    def key(self) -> SampleKey | None:
        return (bytes.fromhex(self.sample), self.version_id) if self.sample else None


class Exporter:
    """One export into one folder.

    Args:
        settings: name the database.
        request: what is meant.
        folder: where the files go.
        choose: finds the versions.
        progress: told how much of the window's time has been read, 0 to 1.

    Attributes:
        chosen: the versions, once `run` is done.
        work: the folder of an unfinished run.
    """

    chosen: ChosenVersions

    def __init__(
        self,
        settings: Settings,
        request: ExportRequest,
        folder: Path,
        choose: Choose,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._request = request
        self._folder = folder
        self._choose = choose
        self._progress = progress
        self._workspace = Workspace(folder / FILES[0], "exporting")
        self.work = self._workspace.folder

    async def run(self, *, overwrite: bool = False, restart: bool = False) -> ExportSummary:
        """Export, or go on where an earlier run of the same job was stopped.

        Args:
            overwrite: replace an export that is there already.
            restart: throw an unfinished run away.

        Raises:
            ConfigError: something else is there, or an unfinished run of another job.
            DatabaseUnavailable: the database cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._workspace.locked():
            state = self._begun(overwrite=overwrite, restart=restart)
            window = replace(self._request.window, start=state.start, end=state.end)
            while not state.read:
                async with self._reading() as connection:
                    if not state.version_ids:
                        there = clipped(window, await recorded_days(connection)) or window
                        # A last day stays a day, though it may be the first of which anything is recorded.
                        window = replace(there, start=max(window.start, there.start - timedelta(days=1)))
                        state.start, state.end = window.start, window.end
                    await self._find_versions(connection, window, state)
                    await self._read(connection, window, self.chosen, state)
            summary = await self._merge(window, state)
            self._deliver(summary)
        return summary

    def _reading(self) -> AbstractAsyncContextManager[Connection]:
        return reading(self._settings, application="hoverboard export")

    async def _find_versions(self, connection: Connection, window: RecordedWindow, state: _State) -> None:
        """Choose once: when the run goes on, what one of them answered may all be gone."""
        if state.version_ids:
            known = {version.id: version for version in await recorded_versions(connection, window.model)}
            there = [known[id_] for id_ in state.version_ids if id_ in known]
            if not there:
                raise unfit(self.work, self.work / _STATE, "is of versions that are no longer on record")
            self.chosen = ChosenVersions(there, state.others, state.skipped)
            return
        self.chosen = await self._choose(connection, window)
        state.version_ids, state.others = [version.id for version in self.chosen.versions], list(self.chosen.others)
        state.skipped = dict(self.chosen.skipped)

    def _begun(self, *, overwrite: bool, restart: bool) -> _State:
        job = msgspec.json.decode(msgspec.json.encode(dict(self._request.job)))  # as it is read back
        path = self._workspace.folder / _STATE
        if restart:
            self._workspace.clear()
        if not path.exists():
            there = [name for name in (*FILES, ABOUT) if (self._folder / name).exists()]
            if there and not overwrite:
                raise ConfigError(f"{self._folder / there[0]} is there already; --overwrite replaces it")
            return _State(job=job, start=self._request.window.start, end=self._request.window.end)
        try:
            state = msgspec.json.decode(path.read_bytes(), type=_State)
            _ = state.key
        except ValueError as error:
            raise unfit(self.work, path, f"is damaged ({error})") from error
        differing = [name for name in {*job, *state.job} if job.get(name) != state.job.get(name)]
        if differing:
            raise ConfigError(
                f"{self._workspace.folder} holds an unfinished run with another {min(differing).replace('_', ' ')}; "
                "--restart throws it away"
            )
        return state

    async def _read(
        self, connection: Connection, window: RecordedWindow, chosen: ChosenVersions, state: _State
    ) -> None:
        """Read some parts in one snapshot."""
        signature, request = chosen.versions[-1].signature, self._request
        by_id = {version.id: version for version in chosen.versions}

        def begun() -> ExportPart:
            labelled, incomplete = request.choice.labelled, request.incomplete
            return ExportPart(signature, by_id, chosen.skipped, labelled=labelled, incomplete=incomplete)

        part = begun()
        parts = 0
        blocks = read_samples(
            connection,
            signature,
            window,
            [*by_id, *chosen.skipped],
            after=state.key,
            choice=request.choice,
            outputs=signature.task in ("embedding", "raw"),
            blanked=request.blanked,
        )
        seen = state.key and state.key[0]
        async for block in blocks:
            part.add(block, seen)
            seen = block.last[0]
            self._progress(_share(window, int(block.at_us[-1])))
            if part.full:
                self._close(part, block.last, state)
                part = begun()
                parts += 1
                if parts >= _PARTS_A_SNAPSHOT:
                    return
        state.read = True
        self._close(part, state.key or (bytes(16), -1), state)

    def _close(self, part: ExportPart, last: SampleKey, state: _State) -> None:
        if part.rows:
            for name, table in zip(FILES, part.tables(), strict=True):
                path = self._part(state.parts, name)
                pq.write_table(table, path)
                synchronise(path)  # before the checkpoint counts it
            state.parts += 1
            state.rows += part.rows
        state.left_out = dict(Counter(state.left_out) + part.left_out)
        state.sample, state.version_id = last[0].hex(), last[1]
        put_file(self._workspace.folder / _STATE, msgspec.json.encode(state))

    def _part(self, number: int, name: str) -> Path:
        return self._workspace.folder / f"part-{number:06d}-{name}"

    async def _merge(self, window: RecordedWindow, state: _State) -> ExportSummary:
        """Merge the parts, without what was erased or has expired since they were read."""
        parts = [[self._part(number, name) for name in FILES] for number in range(state.parts)]
        check_parts(parts, self.work / _STATE, state.rows)
        merged_at = summary = None
        while True:
            async with self._reading() as connection:
                # Again until nothing was erased while files were written: that takes a while where they are large.
                last = await last_erasure(connection)
                if summary is not None and merged_at == last:
                    return summary
                merged_at = last
                await self._find_versions(connection, window, state)
                there = await RowsOnRecord.of(connection, [answers for _, answers in parts])
                decided = await open_and_resolved(connection, there.issues)
            answered = JudgedAnswers()
            if self._request.choice.labelled:
                reader = AnswerReader(self.chosen.versions[-1].signature)
                answered = judged(reader, [answers for _, answers in parts], there.gone)
            summary = self._summary(window, state, there, *decided, answered=answered)
            empty = ExportPart(self.chosen.versions[-1].signature, labelled=self._request.choice.labelled)
            nothing = [table.schema for table in empty.tables()]
            about = {EXPORT_KEY: msgspec.json.encode(summary)}
            merge(parts, there.gone, nothing, about, [self._whole(name) for name in FILES])

    def _whole(self, name: str) -> Path:
        return self._workspace.folder / f"whole-{name}"

    def _summary(
        self,
        window: RecordedWindow,
        state: _State,
        there: RowsOnRecord,
        opened: dict[int, int],
        resolved: dict[int, int],
        *,
        answered: JudgedAnswers,
    ) -> ExportSummary:
        choice = self._request.choice
        return ExportSummary(
            model=window.model,
            start=window.start,
            end=window.end,
            where=dict(sorted(window.where.items())),
            unless=dict(sorted(window.unless.items())),
            labelled=choice.labelled,
            issue=choice.issue,
            without_issues=choice.without_issues,
            without_outliers=choice.without_outliers,
            label_sources=choice.label_sources,
            without_label_sources=choice.without_label_sources,
            incomplete=self._request.incomplete,
            versions=[version.version for version in self.chosen.versions],
            other_versions=list(self.chosen.others),
            rows=there.rows,
            left_out=there.left_out(state.left_out),
            outliers=there.outliers,
            open_issues=opened,
            resolved_issues=resolved,
            judged=answered,
        )

    def _deliver(self, summary: ExportSummary) -> None:
        for name in FILES:
            self._whole(name).replace(self._folder / name)
        synchronise(self._folder)
        # Last: who finds it finds the others.
        put_file(self._folder / ABOUT, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n", mode=0o644)
        shutil.rmtree(self._workspace.folder)


async def versions_with_the_same_inputs(connection: Connection, window: RecordedWindow) -> ChosenVersions:
    """The newest version that answered in a window's time, and those others that take the same inputs and have its task.

    Raises:
        ConfigError: none answered then.
    """
    versions = await recorded_versions(connection, window.model)
    rows = await rows_by_version(connection, window, versions)
    there = [each for each in versions if each.id in rows and window.has_version(each.version)]
    if not there:
        raise ConfigError(f"nothing is recorded of {window}")
    newest = there[-1].signature
    same = [
        each for each in there if (each.signature.fingerprint, each.signature.task) == (newest.fingerprint, newest.task)
    ]
    return ChosenVersions(same, sorted({each.version for each in there} - {each.version for each in same}))


def blanked_inputs(models: Path, model: str) -> frozenset[str]:
    """Inputs of which the recording policy of `serving.toml` hides single elements; none where there is no such file here."""
    found = scan(models).get(model) if models.is_dir() else None
    pointers = found.serving.recording.redact if found is not None and found.serving is not None else ()
    paths = [pointer.removeprefix("/").split("/") for pointer in pointers]
    return frozenset(path[0].replace("~1", "/").replace("~0", "~") for path in paths if len(path) > 1)


def _share(window: RecordedWindow, at_us: int) -> float:
    span = (window.end - window.start).total_seconds()
    return min(max((at_us / 1e6 - window.start.timestamp()) / span, 0.0), 1.0)
