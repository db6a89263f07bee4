"""What the versions of a replay say to its rows, in files: each version loaded once, the one that answered most beside the candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.offline.run import OfflineVersion, Plan, RunOptions, live_version, prepare
from hoverboard.offline.workspace import Workspace
from hoverboard.postmortem.replay_answers import Woven, aligned
from hoverboard.postmortem.replay_result import Speed
from hoverboard.postmortem.replay_rows import ReplayRows
from hoverboard.postmortem.replay_speed import speeds
from hoverboard.postmortem.unfinished import unfit

__all__ = ["ReplayScoring"]

_ROWS: int = 8192


@dataclass(slots=True)
class ReplayScoring:
    """Scores rows with some versions, in the folder of a replay; what an earlier run has scored is not scored again.

    Attributes:
        models: the models directory.
        model: the model's name.
        rows: what is replayed.
        folder: where the files go.
        incumbents: number -> how many of the rows it had answered, the one with most first.
        noise_runs: how often each answers its rows again.
        report: told a step (`incumbent`, `candidate`) and the share of it that is done.
    """

    models: Path
    model: str
    rows: ReplayRows
    folder: Path
    incumbents: Mapping[int, int]
    noise_runs: int
    report: Callable[[str, float], None]
    _stays: dict[int, tuple[OfflineVersion, Plan]] = field(default_factory=dict, init=False)

    @property
    def candidate(self) -> Path:
        """The candidate's answers to all rows."""
        return self.folder / "candidate.parquet"

    @property
    def runs(self) -> list[Woven]:
        """What each row's incumbent says again, a run each."""
        return [
            Woven(self.rows.answers, {number: self._again(run, number) for number in self.incumbents})
            for run in range(self.noise_runs)
        ]

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to score."""
        return self.candidate.exists() and all(path.exists() for run in self.runs for path in run.by_version.values())

    def check(self, candidate: int) -> None:
        """Hold what was scored against what it should be: another version's answers, or those to other rows, compare with nothing.

        Raises:
            ConfigError: a file is not what this replay wrote.
        """
        all_ = sum(self.incumbents.values())
        expected = {
            path: (number, self.incumbents[number]) for run in self.runs for number, path in run.by_version.items()
        }
        for path, (number, rows) in (expected | {self.candidate: (candidate, all_)}).items():
            if path.exists():
                found = pq.read_metadata(path)
                about = found.metadata or {}
                whose = about.get(b"hoverboard.model"), about.get(b"hoverboard.version")
                if whose != (self.model.encode(), str(number).encode()):
                    raise unfit(self.folder, path, f"is not what version {number} answered")
                if found.num_rows != rows:
                    raise unfit(self.folder, path, f"has {found.num_rows:,} rows where {rows:,} were asked for")

    async def score(self, candidate: int) -> Speed:
        """Score what is missing.

        Args:
            candidate: the number of the version in question.

        Returns:
            How quick the candidate and the version that answered most are, of those that were loaded for this.

        Raises:
            VersionRefused: a version cannot go live, and why.
        """
        main = next(iter(self.incumbents))
        async with AsyncExitStack() as stack:
            # The main one last: it stays, to be timed beside the candidate.
            for number in [each for each in self.incumbents if each != main] + [main]:
                missing = [path for run in self.runs if not (path := run.by_version[number]).exists()]
                if missing:
                    await self._score(stack, "incumbent", number, self._turn(number), missing, stays=number == main)
            if not self.candidate.exists():
                await self._score(stack, "candidate", candidate, self.rows.inputs, [self.candidate], stays=True)
            return await self._timed(main, candidate)

    def _again(self, run: int, number: int) -> Path:
        return self.folder / f"again-{run + 1}-of-{number}.parquet"

    async def _score(
        self, stack: AsyncExitStack, side: str, number: int, source: Path, outputs: Sequence[Path], *, stays: bool
    ) -> None:
        self.report(side, 0.0)
        total = max(1, sum(self.incumbents.values()) if side == "candidate" else self.incumbents[number])
        async with AsyncExitStack() as own:
            if number in self._stays:
                live = self._stays[number][0]
            else:
                live = await own.enter_async_context(live_version(self.models, self.model, number))
            for output in outputs:
                workspace = Workspace(output)
                with workspace.locked():
                    plan = prepare(RunOptions(self.model, source, output, self.models, number), workspace)
                    await live.run(plan, lambda position: self.report(side, position.rows / total))
            if stays:
                self._stays[number] = live, plan
                stack.push_async_exit(own.pop_all())

    async def _timed(self, main: int, candidate: int) -> Speed:
        numbers = [number for number in dict.fromkeys((main, candidate)) if number in self._stays]
        sides = [(live.scorer(plan), plan.source) for live, plan in map(self._stays.__getitem__, numbers)]
        self._stays.clear()
        found = dict(zip(numbers, await speeds(sides, 64), strict=False)) if sides else {}
        return Speed(found.get(main), found.get(candidate))

    def _turn(self, number: int) -> Path:
        """The inputs of the rows that a version had answered."""
        if len(self.incumbents) == 1:
            return self.rows.inputs
        path = self.folder / f"inputs-of-{number}.parquet"
        if not path.exists():
            fresh = path.with_suffix(".part")
            with pq.ParquetWriter(fresh, pq.read_schema(self.rows.inputs)) as writer:
                for inputs, answers in aligned([self.rows.inputs, self.rows.answers], _ROWS):
                    its = answers.column("model_version").to_numpy() == number
                    writer.write_table(inputs.filter(pa.array(np.asarray(its))))
            fresh.replace(path)
        return path
