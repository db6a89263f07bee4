"""`hoverboard replay`: recorded samples through the versions that answered them, again, and through another one.

What is replayed is first exported to a folder of its own, so that the database is read once and a killed run goes on with the same samples.
Then each version scores that file with the code that serves, in an engine of its own, and the files are compared.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.parquet as pq

from hoverboard.config import Settings
from hoverboard.contract.signature import Signature
from hoverboard.database.connect import Connection
from hoverboard.errors import ConfigError, VersionRefused
from hoverboard.files import put_file
from hoverboard.postmortem.export import ChosenVersions, Exporter, ExportRequest
from hoverboard.postmortem.export_summary import ExportSummary
from hoverboard.postmortem.recorded import recorded_versions, rows_by_version
from hoverboard.postmortem.replay_answers import AnswerReader
from hoverboard.postmortem.replay_compare import Compared, Tolerance, compare
from hoverboard.postmortem.replay_files import examples_of, write_outcomes
from hoverboard.postmortem.replay_incumbents import ReplayCandidate, choose_incumbents
from hoverboard.postmortem.replay_result import ReplayIncumbent, ReplayResult, ReplaySide, Speed
from hoverboard.postmortem.replay_rows import ReplayRows
from hoverboard.postmortem.replay_scoring import ReplayScoring
from hoverboard.postmortem.unfinished import unfit
from hoverboard.postmortem.window import RecordedWindow, RowChoice
from hoverboard.postmortem.written import room_for
from hoverboard.recorder.erasure.work_files import replay_workspace
from hoverboard.versions import read_version
from hoverboard.versions.golden import ABSOLUTE, RELATIVE
from hoverboard.versions.store import read_golden

__all__ = ["Replay", "ReplayRequest"]

_OURS: Final = re.compile(
    r"recorded(\.fresh)?|\.?replay\.json(\..+)?|\.?(candidate|(again-\d+|inputs)-of-\d+)\.(parquet(\.scoring)?|part)"
)
"""Names in the folder of a replay."""

Report = Callable[[str, float], None]
"""Told a step (`read`, `incumbent`, `candidate`, `compare`) and the share of it that is done."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is to be compared.

    Attributes:
        window: which samples.
        models: the models directory.
        candidate: number of the version that is in question.
        incumbent: number of the only one whose answers it is compared with; None for whichever had answered each row.
        choice: of the rows.
        noise_runs: how often each row's incumbent is run again; 0 compares with the record alone.
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
    incumbents: list[ReplaySide] = []
    speed: Speed = Speed(None, None)


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
        self._workspace = replay_workspace(folder)
        self._state = self._workspace.output
        self._rows = ReplayRows(folder, frozenset({self._state.name, self._workspace.folder.name}))
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
        request = self._request
        self._candidate = ReplayCandidate.on_disk(request.models, request.window.model, request.candidate)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if others := sorted(path for path in self._folder.iterdir() if not _OURS.fullmatch(path.name)):
            # All that is in it goes when the replay is done.
            raise ConfigError(f"{others[0]} is no replay's: name an empty folder with --workspace")
        begun = True
        try:
            with self._workspace.locked():
                if restart:
                    self._forget()
                self._resume()
                begun = self._rows.folder.exists()
                result = await self._compare(output)
        except ConfigError:
            if not begun:  # there is nothing that the same command could go on with
                self._forget()
            raise
        self._forget()
        return result

    async def _compare(self, output: Path | None) -> ReplayResult:
        began = time.monotonic()
        summary, sides = await self._recorded()
        summary = await self._rows.still_there(self._settings, summary)
        while not (scoring := self._scoring(summary)).complete and summary.rows:  # an earlier run has the others
            scoring.check(self._request.candidate)
            self._note_speed(await scoring.score(self._request.candidate))
            # What is erased while versions run is in no result, either.
            summary = await self._rows.still_there(self._settings, summary)
        scoring.check(self._request.candidate)
        self._report("compare", 0.0)
        compared, own = self._compared(summary, scoring, sides)
        result = self._result(summary, scoring, sides, compared, own, seconds=time.monotonic() - began)
        if output is not None and summary.rows:
            with room_for(output, "the same command goes on from there"):
                write_outcomes(AnswerReader(own), self._rows.answers, scoring.candidate, compared, output)
        return result

    def _forget(self) -> None:
        for path in self._folder.iterdir():
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif not path.name.endswith(".replaying"):
                shutil.rmtree(path)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _resume(self) -> None:
        path = self._state
        if not path.exists():
            return
        try:
            done = msgspec.json.decode(path.read_bytes(), type=_Progress)
        except msgspec.DecodeError as error:
            raise unfit(self._folder, path, f"is damaged ({error})") from error
        if done.job != self._done.job:
            raise ConfigError(f"{self._folder} holds an unfinished replay of something else; --restart throws it away")
        self._done = done

    def _save(self) -> None:
        put_file(self._state, msgspec.json.encode(self._done))

    async def _recorded(self) -> tuple[ExportSummary, list[ReplaySide]]:
        """What is replayed, exported unless an earlier run has done that; and which versions had answered it."""
        before = self._rows.resume()
        if before is not None and self._done.incumbents:
            return before, self._done.incumbents
        request = self._request
        export = ExportRequest(request.window, request.choice, blanked=request.blanked, job=dict(request.job))
        exporter = Exporter(
            self._settings, export, self._rows.folder, self._chosen, lambda share: self._report("read", share)
        )
        summary = await exporter.run(overwrite=True)
        # The one that answered most is the last of them.
        answered = exporter.chosen.versions[::-1]
        self._done.incumbents = [ReplaySide(each.version, each.weights_sha256) for each in answered]
        self._save()
        return summary, self._done.incumbents

    async def _chosen(self, connection: Connection, window: RecordedWindow) -> ChosenVersions:
        """The incumbents, as they were recorded."""
        versions = await recorded_versions(connection, window.model)
        rows = await rows_by_version(connection, window, versions)
        there = [each for each in versions if each.id in rows]
        named, again = self._request.incumbent, self._request.noise_runs > 0
        return choose_incumbents(self._candidate, window, there, rows, named=named, run_again=again)

    def _scoring(self, summary: ExportSummary) -> ReplayScoring:
        """Of the rows as they are: an erasure may have taken all that one version answered."""
        counts = Counter(pq.read_table(self._rows.answers, columns=["model_version"]).column(0).to_pylist())
        return ReplayScoring(
            models=self._request.models,
            model=summary.model,
            rows=self._rows,
            folder=self._folder,
            incumbents=dict(sorted(counts.items(), key=lambda each: (-each[1], each[0]))),
            noise_runs=self._request.noise_runs,
            report=self._report,
        )

    def _note_speed(self, speed: Speed) -> None:
        """Of this run or, where a version needed none any more, of an earlier one."""
        before = self._done.speed
        self._done.speed = Speed(speed.incumbent or before.incumbent, speed.candidate or before.candidate)
        self._save()

    def _compared(
        self, summary: ExportSummary, scoring: ReplayScoring, sides: Sequence[ReplaySide]
    ) -> tuple[Compared, Signature]:
        """The comparison, by the widest tolerance of the versions that had answered; and the contract that rows have."""
        absolute, relative, signature = [ABSOLUTE], [RELATIVE], self._candidate.signature
        for side in reversed(sides):
            directory = self._request.models / summary.model / str(side.version)
            try:
                manifest = read_version(directory)
                golden = read_golden(directory, manifest, 1)
            except VersionRefused:  # compared with its record alone it need not be here any more; its task is the same
                continue
            absolute, relative, signature = (
                [*absolute, golden.absolute],
                [*relative, golden.relative],
                manifest.signature,
            )
        tolerance, answers = Tolerance(max(absolute), max(relative)), self._rows.answers
        if not summary.rows:
            return compare(answers, (), answers, signature, tolerance), signature
        return compare(answers, scoring.runs, scoring.candidate, signature, tolerance), signature

    def _result(
        self,
        summary: ExportSummary,
        scoring: ReplayScoring,
        sides: Sequence[ReplaySide],
        compared: Compared,
        signature: Signature,
        *,
        seconds: float,
    ) -> ReplayResult:
        weights = {side.version: side.weights_sha256 for side in sides}
        incumbents = [ReplayIncumbent(number, weights[number], rows) for number, rows in scoring.incumbents.items()]
        main = ReplaySide(incumbents[0].version, incumbents[0].weights_sha256) if incumbents else sides[0]
        return ReplayResult(
            model=summary.model,
            incumbent=main,
            incumbents=incumbents,
            candidate=ReplaySide(self._candidate.version, self._candidate.weights_sha256),
            start=summary.start,
            end=summary.end,
            where=summary.where,
            unless=summary.unless,
            labelled_only=summary.labelled,
            issue=summary.issue,
            without_issues=summary.without_issues,
            without_outliers=summary.without_outliers,
            label_sources=summary.label_sources,
            without_label_sources=summary.without_label_sources,
            rows=summary.rows,
            left_out=summary.left_out,
            noise_floor=compared.noise_floor,
            kinds=compared.kinds,
            sign_test=compared.sign_test,
            numbers_differing=compared.numbers_differing,
            labelled=compared.labelled,
            flags=compared.flags,
            moves=compared.moves,
            examples=examples_of(
                compared.found, self._rows.inputs, self._rows.answers, [spec.name for spec in signature.inputs]
            ),
            speed=self._done.speed,
            seconds=round(seconds, 3),
        )
