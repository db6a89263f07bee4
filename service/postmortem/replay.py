"""`hoverboard replay`: recorded samples through the version that answered them, again, and through another one.

What is replayed is first exported to a folder of its own, so that the database is read once and a killed run goes on with the same samples.
Then each version scores that file with the code that serves, in an engine of its own, and the files are compared.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.config import Settings
from hoverboard.contract.signature import Array, Signature
from hoverboard.database.connect import Connection
from hoverboard.errors import ConfigError, VersionRefused
from hoverboard.files import put_file
from hoverboard.offline.engine import resolve_version
from hoverboard.offline.run import RunOptions, prepare, run
from hoverboard.offline.workspace import Workspace
from hoverboard.postmortem.export import ChosenVersions, Exporter, ExportRequest, ExportSummary
from hoverboard.postmortem.recorded import RecordedVersion, recorded_versions, rows_by_version
from hoverboard.postmortem.replay_answers import AnswerReader, aligned
from hoverboard.postmortem.replay_compare import Compared, Comparison, Tolerance, compare
from hoverboard.postmortem.replay_result import KINDS, ReplayExample, ReplayResult, ReplaySide, Speed
from hoverboard.postmortem.replay_rows import ReplayRows
from hoverboard.postmortem.window import RecordedWindow, RowChoice
from hoverboard.versions import read_version
from hoverboard.versions.golden import ABSOLUTE, RELATIVE
from hoverboard.versions.store import read_golden

__all__ = ["Replay", "ReplayRequest"]

_STATE: Final = "replay.json"
_LONGEST: Final = 80  # characters of one input in an example
_SHOWN: Final = ("sample_id", "at", "role", "caller", "tags", "incl_prob", "true_label", "true_labels", "true_value")

_PREDICTED: Final = ("label", "confidence", "labels", "value", "p_value", "outlier", "outputs", "error")

Report = Callable[[str, float], None]
"""Told a step (`read`, `incumbent`, `candidate`, `compare`) and the share of it that is done."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is to be compared.

    Attributes:
        window: which samples.
        models: the models directory.
        candidate: number of the version that is in question.
        incumbent: number of the one whose answers it is compared with; None for the one that gave the most of them.
        choice: of the rows.
        noise_runs: how often the incumbent is run again; 0 compares with its record alone.
        blanked: see `ExportRequest`.
        job: what the person asked for, JSON-ready: equal for the same command.
    """

    window: RecordedWindow
    models: Path
    candidate: int
    incumbent: int | None = None
    choice: RowChoice = field(default_factory=RowChoice)
    noise_runs: int = 1
    blanked: frozenset[str] = frozenset()
    job: Mapping[str, Any] = field(default_factory=dict)


class _Progress(msgspec.Struct):
    """What of a replay is done, beside the files themselves."""

    job: dict[str, Any]
    incumbent: ReplaySide | None = None
    speeds: dict[str, float] = {}


class Replay:
    """One comparison, and the folder that it is made in.

    Args:
        settings: name the database.
        request: what is compared.
        folder: kept until the replay is done; holds recorded inputs, so that nobody else may look into it.
        report: see `Report`.
    """

    def __init__(
        self, settings: Settings, request: ReplayRequest, folder: Path, report: Report = lambda *_: None
    ) -> None:
        self._settings = settings
        self._request = request
        self._folder = folder
        self._report = report
        self._workspace = Workspace(folder / _STATE, "replaying")
        self._rows = ReplayRows(folder, frozenset({_STATE, self._workspace.folder.name}))
        self._done = _Progress(job=msgspec.json.decode(msgspec.json.encode(dict(request.job))))  # as it is read back

    async def run(self, output: Path | None = None, *, restart: bool = False) -> ReplayResult:
        """Compare, or go on where an earlier run of the same comparison was stopped.

        Args:
            output: a .parquet file for what became of each sample.
            restart: throw away what an unfinished run left.

        Raises:
            ConfigError: what was asked for makes no sense, or nothing is recorded of it.
            NotFound, VersionRefused: a version cannot be run here.
            DatabaseUnavailable: the database cannot be read.
        """
        began = time.monotonic()
        number, signature = resolve_version(self._request.models, self._request.window.model, self._request.candidate)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._workspace.locked():
            if restart:
                self._forget()
            self._resume()
            summary, incumbent = await self._recorded(signature)
            summary = await self._rows.still_there(self._settings, summary)
            again = [self._folder / f"again-{run_ + 1}.parquet" for run_ in range(self._request.noise_runs)]
            candidate = self._folder / "candidate.parquet"
            versions = {**dict.fromkeys(again, ("incumbent", incumbent.version)), candidate: ("candidate", number)}
            while missing := [each for each in versions if not each.exists()]:  # an earlier run has the others
                for path in missing:
                    await self._score(*versions[path], path, summary.rows)
                # What is erased while versions run is in no result, either.
                summary = await self._rows.still_there(self._settings, summary)
            self._report("compare", 0.0)
            compared, own = self._compared(incumbent, summary, again, candidate, signature)
            weights = read_version(self._request.models / summary.model / str(number)).weights_sha256
            sides = incumbent, ReplaySide(number, weights)
            result = self._result(summary, sides, compared, own, seconds=time.monotonic() - began)
            if output is not None:
                _write_rows(AnswerReader(own), self._rows.answers, candidate, compared, output)
        self._forget()
        return result

    def _forget(self) -> None:
        for path in self._folder.iterdir():
            if path.is_dir() and not path.name.endswith(".replaying"):
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _resume(self) -> None:
        path = self._folder / _STATE
        if not path.exists():
            return
        try:
            done = msgspec.json.decode(path.read_bytes(), type=_Progress)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path} is unreadable ({error}); use --restart") from error
        if done.job != self._done.job:
            raise ConfigError(f"{self._folder} holds an unfinished replay of something else; --restart throws it away")
        self._done = done

    def _save(self) -> None:
        put_file(self._folder / _STATE, msgspec.json.encode(self._done))

    async def _recorded(self, candidate: Signature) -> tuple[ExportSummary, ReplaySide]:
        """What is replayed, exported unless an earlier run has done that; and which version had answered it."""
        before = self._rows.resume()
        if before is not None and self._done.incumbent is not None:
            return before, self._done.incumbent
        request = self._request

        async def choose(connection: Connection, window: RecordedWindow) -> ChosenVersions:
            found = await self._chosen(connection, window)
            _check_contract(found.versions[-1], request.candidate, candidate)
            return found

        export = ExportRequest(request.window, request.choice, blanked=request.blanked, job=dict(request.job))
        exporter = Exporter(
            self._settings, export, self._rows.folder, choose, lambda share: self._report("read", share)
        )
        summary = await exporter.run(overwrite=True)
        answered = exporter.chosen.versions[-1]
        self._done.incumbent = ReplaySide(answered.version, answered.weights_sha256)
        self._save()
        return summary, self._done.incumbent

    async def _chosen(self, connection: Connection, window: RecordedWindow) -> ChosenVersions:
        """The incumbent, as it was recorded."""
        versions = await recorded_versions(connection, window.model)
        rows = await rows_by_version(connection, window, versions)
        there = [each for each in versions if each.id in rows]
        if not there:
            raise ConfigError(f"nothing is recorded of {window}")
        number = self._request.incumbent or window.version or _likeliest(there, rows, self._request.candidate)
        same = [each for each in there if each.version == number]
        if not same:
            answered = ", ".join(map(str, sorted({each.version for each in there})))
            raise ConfigError(f"version {number} answered nothing of {window}; {answered} did")
        chosen = self._runnable(window.model, same)
        return ChosenVersions([chosen], sorted({each.version for each in there} - {number}))

    def _runnable(self, model: str, recorded: Sequence[RecordedVersion]) -> RecordedVersion:
        """The one of several recorded versions of one number that has the weights on disk."""
        number = recorded[-1].version
        if not self._request.noise_runs:
            return recorded[-1]
        resolve_version(self._request.models, model, number)
        weights = read_version(self._request.models / model / str(number)).weights_sha256
        found = next((each for each in recorded if each.weights_sha256 == weights), None)
        if found is None:
            raise ConfigError(
                f"version {number} of {model} has other weights on disk than what answered; --noise-runs 0 compares with "
                "the record alone"
            )
        return found

    async def _score(self, side: str, version: int, output: Path, rows: int) -> None:
        """One version's answers to what was recorded, unless an earlier run has them."""
        options = RunOptions(self._request.window.model, self._rows.inputs, output, self._request.models, version)
        workspace = Workspace(output)
        self._report(side, 0.0)
        with workspace.locked():
            plan = prepare(options, workspace)
            summary = await run(plan, lambda position: self._report(side, position.rows / max(1, rows)))
        scored = summary.rows - summary.resumed_at
        if scored and summary.seconds:
            self._done.speeds[side] = scored / summary.seconds
            self._save()

    def _compared(
        self, incumbent: ReplaySide, summary: ExportSummary, again: Sequence[Path], candidate: Path, own: Signature
    ) -> tuple[Compared, Signature]:
        directory = self._request.models / summary.model / str(incumbent.version)
        try:
            manifest = read_version(directory)
            golden = read_golden(directory, manifest, 1)
            tolerance, signature = Tolerance(golden.absolute, golden.relative), manifest.signature
        except VersionRefused:
            # Compared with its record alone it need not be here any more; the candidate's task is the same.
            if again:
                raise
            tolerance, signature = Tolerance(ABSOLUTE, RELATIVE), own
        answers = self._rows.answers
        return compare(answers, again, candidate, signature, tolerance), signature

    def _result(
        self,
        summary: ExportSummary,
        sides: tuple[ReplaySide, ReplaySide],
        compared: Compared,
        signature: Signature,
        *,
        seconds: float,
    ) -> ReplayResult:
        speeds = {name: round(speed, 1) for name, speed in self._done.speeds.items()}
        return ReplayResult(
            model=summary.model,
            incumbent=sides[0],
            candidate=sides[1],
            start=summary.start,
            end=summary.end,
            where=summary.where,
            labelled_only=summary.labelled,
            issue=summary.issue,
            rows=summary.rows,
            left_out=summary.left_out,
            other_versions=summary.other_versions,
            noise_floor=compared.noise_floor,
            kinds=compared.kinds,
            sign_test=compared.sign_test,
            numbers_differing=compared.numbers_differing,
            labelled=compared.labelled,
            flags=compared.flags,
            moves=compared.moves,
            examples=self._examples(compared.found, signature),
            speed=Speed(speeds.get("incumbent"), speeds.get("candidate")),
            seconds=round(seconds, 3),
        )

    def _examples(self, found: Sequence[Comparison], signature: Signature) -> list[ReplayExample]:
        if not found:
            return []
        rows = [each.row for each in found]
        answers = _rows_of(self._rows.answers, ["sample_id", "at"], rows)
        inputs = _rows_of(self._rows.inputs, [spec.name for spec in signature.inputs], rows)
        return [
            ReplayExample(
                sample_id=str(uuid.UUID(answers[each.row]["sample_id"])),
                at=answers[each.row]["at"],
                kind=each.kind,
                recorded=each.recorded,
                again=each.again,
                candidate=each.candidate,
                truth=each.truth,
                inputs={name: _short(value) for name, value in inputs[each.row].items()},
            )
            for each in found
        ]


def _likeliest(versions: Sequence[RecordedVersion], rows: Mapping[int, int], candidate: int) -> int:
    """The number of the version that answered most, other than the candidate where another one answered at all."""
    counts: dict[int, int] = {}
    for each in versions:
        counts[each.version] = counts.get(each.version, 0) + rows[each.id]
    others = {number: count for number, count in counts.items() if number != candidate} or counts
    return max(others, key=lambda number: (others[number], number))


def _check_contract(incumbent: RecordedVersion, number: int, candidate: Signature) -> None:
    """Refuse what cannot be compared. Limits and shapes are left to each sample: it fails, and that is told."""
    if incumbent.signature.task != candidate.task:
        raise ConfigError(
            f"version {number} is a {candidate.task}, and version {incumbent.version}, which answered, a "
            f"{incumbent.signature.task}: their answers cannot be compared"
        )
    given = {spec.name for spec in incumbent.signature.inputs}
    lacking = [spec.name for spec in candidate.inputs if spec.name not in given]
    if lacking:
        raise ConfigError(
            f"version {number} takes the input {lacking[0]!r}, which version {incumbent.version} was not given; it was "
            f"given {', '.join(sorted(given))}"
        )


def _rows_of(path: Path, columns: Sequence[str], rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Some rows of a file by their place, without the rest of it in memory."""
    wanted, found, first = sorted(rows), {}, 0
    with pq.ParquetFile(path, memory_map=True) as file:
        for batch in file.iter_batches(batch_size=1024, columns=list(columns)):
            while wanted and wanted[0] < first + batch.num_rows:
                row = wanted.pop(0)
                found[row] = batch.slice(row - first, 1).to_pylist()[0]
            first += batch.num_rows
            if not wanted:
                break
    return found


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else None
    if text is None:
        text = msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _write_rows(reader: AnswerReader, answers: Path, candidate: Path, compared: Compared, output: Path) -> None:
    """What became of each sample: its record, the candidate's answer (`candidate_...`) and its kind; whole or not at all."""
    fresh = output.with_name(f".{output.name}.part")
    first = 0
    try:
        with ExitStack() as stack:
            writer = None
            for one, other in aligned([answers, candidate], reader.rows):
                table = _outcomes(one, other, compared.codes[first : first + one.num_rows])
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(fresh, table.schema))
                writer.write_table(table)
                first += one.num_rows
            if writer is None:
                pq.write_table(
                    pa.table({"sample_id": pa.array([], pa.string()), "kind": pa.array([], pa.string())}), fresh
                )
        fresh.replace(output)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _outcomes(recorded: pa.Table, candidate: pa.Table, codes: Array) -> pa.Table:
    columns = {name: recorded.column(name) for name in _SHOWN}
    columns["kind"] = pa.array([KINDS[code] for code in codes.tolist()], pa.string())
    for prefix, table in (("recorded", recorded), ("candidate", candidate)):
        columns |= {f"{prefix}_{name}": table.column(name) for name in _PREDICTED if name in table.column_names}
    return pa.table(columns)
