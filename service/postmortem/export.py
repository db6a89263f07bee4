"""`hoverboard export`: recorded samples as Parquet files: `inputs.parquet`, and `answers.parquet` with the same rows.

Written part by part into a hidden folder, with a checkpoint after each, and put in their place when all is there: a killed run
goes on, and gives the same bytes as one that was not.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.config import Settings
from hoverboard.contract.signature import Array, Signature
from hoverboard.database.connect import Connection
from hoverboard.errors import ConfigError
from hoverboard.files import put_file, synchronise
from hoverboard.offline.workspace import Workspace
from hoverboard.postmortem.export_columns import answers_table, inputs_table, unified
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import (
    RecordedVersion,
    SampleBlock,
    SampleKey,
    open_issues,
    read_samples,
    recorded_versions,
    rows_by_version,
)
from hoverboard.postmortem.recorded_values import decode_inputs
from hoverboard.postmortem.window import RecordedWindow, RowChoice
from hoverboard.publishing.exported import EXPORT_KEY
from hoverboard.version import __version__
from hoverboard.versions import scan

__all__ = [
    "ABOUT",
    "ANSWERS_FILE",
    "INPUTS_FILE",
    "ChosenVersions",
    "ExportRequest",
    "ExportSummary",
    "Exporter",
    "blanked_inputs",
    "versions_with_the_same_inputs",
]

INPUTS_FILE: Final = "inputs.parquet"
ANSWERS_FILE: Final = "answers.parquet"
ABOUT: Final = "export.json"
_FILES: Final = (INPUTS_FILE, ANSWERS_FILE)
_STATE: Final = "state.json"
_PART_ROWS: Final = 50_000
_PART_BYTES: Final = 64 << 20
_PARTS_A_SNAPSHOT: Final = 8
"""Parts that are read in one transaction: Postgres cannot clean up behind one, so that none lasts for hours."""


@dataclass(frozen=True, slots=True)
class ChosenVersions:
    """Versions whose answers are meant: all with the same inputs, the last one by whose task answers have their columns.

    Attributes:
        versions: at least one.
        others: numbers of versions that answered in the same time, and whose inputs are others.
    """

    versions: Sequence[RecordedVersion]
    others: Sequence[int] = ()


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


class ExportSummary(msgspec.Struct, frozen=True):
    """What was exported; `export.json` holds it.

    Attributes:
        model: its name.
        start, end: of the time.
        where, unless: conditions that all hold, and of which none does.
        labelled, issue, without_issues, without_outliers: the choice of rows.
        versions: those whose answers they are.
        other_versions: those that answered in the same time, and take other inputs.
        rows: how many.
        left_out: why other samples of the window are not there -> how many.
        outliers: rows that were found strange when they came.
        open_issues: issues that nobody has resolved or archived -> rows of them.
        software: the Hoverboard that wrote it.
    """

    model: str
    start: datetime
    end: datetime
    where: dict[str, str]
    unless: dict[str, tuple[str, ...]]
    labelled: bool
    issue: int | None
    without_issues: tuple[int, ...]
    without_outliers: bool
    versions: list[int]
    other_versions: list[int]
    rows: int
    left_out: dict[str, int]
    outliers: int
    open_issues: dict[int, int]
    software: str = __version__


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
    outliers: int = 0
    issues: dict[int, int] = {}
    read: bool = False

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
    """

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
        self._workspace = Workspace(folder / INPUTS_FILE, "exporting")

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
            while True:
                async with reading(self._settings, application="hoverboard export") as connection:
                    chosen = await self._choose(connection, window)
                    if not state.read:
                        await self._read(connection, window, chosen.versions, state)
                    if state.read:
                        still_open = await open_issues(connection, list(state.issues))
                        return self._deliver(window, chosen, state, still_open)

    def _begun(self, *, overwrite: bool, restart: bool) -> _State:
        job = msgspec.json.decode(msgspec.json.encode(dict(self._request.job)))  # as it is read back
        path = self._workspace.folder / _STATE
        if restart:
            self._workspace.clear()
        if not path.exists():
            there = [name for name in (*_FILES, ABOUT) if (self._folder / name).exists()]
            if there and not overwrite:
                raise ConfigError(f"{self._folder / there[0]} is there already; --overwrite replaces it")
            return _State(job=job, start=self._request.window.start, end=self._request.window.end)
        try:
            state = msgspec.json.decode(path.read_bytes(), type=_State)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path} is unreadable ({error}); use --restart") from error
        differing = [name for name in {*job, *state.job} if job.get(name) != state.job.get(name)]
        if differing:
            raise ConfigError(
                f"{self._workspace.folder} holds an unfinished run with another {min(differing).replace('_', ' ')}; "
                "--restart throws it away"
            )
        return state

    async def _read(
        self, connection: Connection, window: RecordedWindow, versions: Sequence[RecordedVersion], state: _State
    ) -> None:
        """Read some parts in one snapshot."""
        signature, request = versions[-1].signature, self._request
        part = _ExportPart(signature, {version.id: version for version in versions}, request)
        parts = 0
        blocks = read_samples(
            connection,
            signature,
            window,
            [version.id for version in versions],
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
                part = _ExportPart(signature, part.versions, request)
                parts += 1
                if parts >= _PARTS_A_SNAPSHOT:
                    return
        state.read = True
        self._close(part, state.key or (bytes(16), -1), state)

    def _close(self, part: _ExportPart, last: SampleKey, state: _State) -> None:
        if part.rows:
            for name, table in zip(_FILES, part.tables(), strict=True):
                path = self._part(state.parts, name)
                pq.write_table(table, path)
                synchronise(path)  # before the checkpoint counts it
            state.parts += 1
            state.rows += part.rows
        state.left_out = dict(Counter(state.left_out) + part.left_out)
        state.outliers += part.outliers
        state.issues = dict(Counter(state.issues) + part.issues)
        state.sample, state.version_id = last[0].hex(), last[1]
        put_file(self._workspace.folder / _STATE, msgspec.json.encode(state))

    def _part(self, number: int, name: str) -> Path:
        return self._workspace.folder / f"part-{number:06d}-{name}"

    def _deliver(
        self, window: RecordedWindow, chosen: ChosenVersions, state: _State, still_open: Collection[int]
    ) -> ExportSummary:
        choice = self._request.choice
        summary = ExportSummary(
            model=window.model,
            start=window.start,
            end=window.end,
            where=dict(sorted(window.where.items())),
            unless=dict(sorted(window.unless.items())),
            labelled=choice.labelled,
            issue=choice.issue,
            without_issues=choice.without_issues,
            without_outliers=choice.without_outliers,
            versions=[version.version for version in chosen.versions],
            other_versions=list(chosen.others),
            rows=state.rows,
            left_out=dict(sorted(state.left_out.items())),
            outliers=state.outliers,
            open_issues={issue: rows for issue, rows in sorted(state.issues.items()) if issue in still_open},
        )
        about = {EXPORT_KEY: msgspec.json.encode(summary)}
        empty = _ExportPart(chosen.versions[-1].signature, {}, self._request).tables()
        for name, nothing in zip(_FILES, empty, strict=True):
            whole = self._workspace.folder / f"whole-{name}"
            _merge([self._part(number, name) for number in range(state.parts)], nothing, whole, about)
            synchronise(whole)
        for name in _FILES:
            (self._workspace.folder / f"whole-{name}").replace(self._folder / name)
        synchronise(self._folder)
        # Last: who finds it finds the others.
        put_file(self._folder / ABOUT, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n", mode=0o644)
        shutil.rmtree(self._workspace.folder)
        return summary


class _ExportPart:
    """Rows that are gathered for one part of both files."""

    def __init__(self, signature: Signature, versions: Mapping[int, RecordedVersion], request: ExportRequest) -> None:
        self._signature = signature
        self.versions = versions
        self._request = request
        self._inputs: list[pa.Table] = []
        self._answers: list[pa.Table] = []
        self._bytes = 0
        self.rows = 0
        self.left_out: Counter[str] = Counter()
        self.outliers = 0
        self.issues: Counter[int] = Counter()

    @property
    def full(self) -> bool:
        return self.rows + self.left_out.total() >= _PART_ROWS or self._bytes >= _PART_BYTES

    def add(self, block: SampleBlock, before: bytes | None) -> None:
        """Add a block's rows.

        Args:
            before: the sample of the last row before it.
        """
        ids = [bytes(each) for each in block.ids.tolist()]
        chosen = []
        for row, (id_, why) in enumerate(zip(ids, block.why_not, strict=True)):
            # Of a sample that several versions answered one row is enough: it would count twice in a training set.
            if id_ == (ids[row - 1] if row else before):
                self.left_out["answered by another version, too"] += 1
            elif block.unwanted[row]:
                self.left_out[block.unwanted[row]] += 1
            elif why and not (self._request.incomplete and why != "other inputs"):
                self.left_out[why] += 1
            else:
                chosen.append(row)
        if chosen:
            self._append(block, np.array(chosen))

    def _append(self, block: SampleBlock, rows: Array) -> None:
        inputs = inputs_table(block, rows, self._signature, labels=self._request.choice.labelled)
        answers = answers_table(block, rows, self._signature, self.versions)
        said = [answer for row in rows if (answer := block.answers[row]) is not None]
        self.outliers += sum(answer.outlier for answer in said)
        self.issues.update(answer.issue for answer in said if answer.issue is not None)
        self._inputs.append(inputs)
        self._answers.append(answers)
        self._bytes += inputs.nbytes + answers.nbytes
        self.rows += len(rows)

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """All rows, as the two files have them."""
        if not self.rows:
            block = _nothing(self._signature)
            none = np.zeros(0, np.intp)
            inputs = inputs_table(block, none, self._signature, labels=self._request.choice.labelled)
            return inputs, answers_table(block, none, self._signature, {})
        return _joined(self._inputs), _joined(self._answers)


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


def _nothing(signature: Signature) -> SampleBlock:
    decoded = decode_inputs(signature, ())
    none = np.zeros(0)
    at_us, ids = np.zeros(0, np.int64), np.zeros(0, "V16")
    return SampleBlock(ids, at_us, decoded.columns, decoded.missing, (), (), none, (), (), (), (), (b"", 0))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    schema = unified([table.schema for table in tables])
    return pa.concat_tables([table.cast(schema) for table in tables]).combine_chunks()


def _merge(parts: Sequence[Path], nothing: pa.Table, path: Path, about: Mapping[str, bytes]) -> None:
    schema = unified([pq.read_schema(part) for part in parts] or [nothing.schema]).with_metadata(about)
    with pq.ParquetWriter(path, schema) as writer:
        # Part by part: merging takes the memory of one.
        for part in parts:
            writer.write_table(pq.read_table(part).cast(schema))


def _share(window: RecordedWindow, at_us: int) -> float:
    span = (window.end - window.start).total_seconds()
    return min(max((at_us / 1e6 - window.start.timestamp()) / span, 0.0), 1.0)
