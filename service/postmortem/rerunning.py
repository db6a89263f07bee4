"""Recorded rows once more through a version, with their inputs put back or as they were: which of them are bad now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.errors import ConfigError
from hoverboard.offline.rows import RowPosition
from hoverboard.offline.run import OfflineVersion, RunOptions, prepare
from hoverboard.offline.workspace import Workspace
from hoverboard.postmortem.export_columns import answers_table, inputs_table
from hoverboard.postmortem.question import About
from hoverboard.postmortem.recorded import RecordedVersion, SampleBlock
from hoverboard.postmortem.repairs import InputRepair
from hoverboard.postmortem.replay_answers import AnswerReader

__all__ = ["Rerun", "RerunRows"]


@dataclass(frozen=True, slots=True, eq=False)
class RerunRows:
    """Samples, with the version that had answered them, or that would have."""

    version: RecordedVersion
    blocks: list[SampleBlock] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(int(block.usable.sum()) for block in self.blocks)

    def truths(self, reader: AnswerReader) -> Sequence[Any]:
        """What is true of each, as a replay compares it."""
        versions = {self.version.id: self.version}
        parts = [answers_table(*each, self.version.signature, versions) for each in self._usable()]
        return [truth for part in parts for truth in reader.truths(part)]

    def inputs(self, repair: InputRepair | None) -> pa.Table:
        """As `predict --input` takes them."""
        tables = []
        for block, rows in self._usable():
            columns = block.columns if repair is None else repair.applied(block.columns)
            tables.append(inputs_table(replace(block, columns=columns), rows, self.version.signature, labels=False))
        return pa.concat_tables(tables)

    def _usable(self) -> list[tuple[SampleBlock, Array]]:
        return [(block, np.flatnonzero(block.usable)) for block in self.blocks]


@dataclass(slots=True)
class Rerun:
    """Runs rows in a folder, and tells which of them are bad.

    Attributes:
        about: which rows are.
        folder: for its files.
        models: the models directory.
    """

    about: About
    folder: Path
    models: Path
    _runs: int = 0

    async def flags(
        self, live: OfflineVersion, by: RecordedVersion, rows: RerunRows, repair: InputRepair | None = None
    ) -> NDArray[np.bool_]:
        """Which of the rows are bad, bool `(rows,)`; where errors are not what is asked about, only of rows with an answer.

        Raises:
            ConfigError: the version does not take these rows, or cannot tell what is bad.
        """
        if not len(rows):
            return np.zeros(0, np.bool_)
        self._runs += 1
        source, output = (self.folder / f"{self._runs}-{name}.parquet" for name in ("inputs", "answers"))
        pq.write_table(rows.inputs(repair), source)
        workspace = Workspace(output)
        with workspace.locked():
            plan = prepare(RunOptions(live.model, source, output, self.models, live.version), workspace)
            await live.run(plan, _quiet)
        answers = pq.read_table(output)
        failed = np.asarray(answers.column("error").is_valid().to_numpy(), np.bool_)
        if self.about.kind == "errors":
            return failed
        return self._bad(answers, AnswerReader(by.signature), rows, by.version)[~failed]

    def _bad(self, answers: pa.Table, reader: AnswerReader, rows: RerunRows, version: int) -> NDArray[np.bool_]:
        if self.about.kind == "outliers":
            flags = answers.column("outlier").to_pylist()
            if None in flags and not any(flags):
                raise ConfigError(f"version {version} has no calibration, and tells no outliers")
            return np.array([bool(flag) for flag in flags], np.bool_)
        if self.about.kind == "label":
            held = reader.held(answers) or [None] * answers.num_rows
            return np.array([one is not None and self.about.label in one for one in held], np.bool_)
        truths, said = rows.truths(reader), reader.labels(answers)
        if said is not None:
            pairs = zip(said, truths, strict=True)
            return np.array([truth is not None and label != truth for label, truth in pairs], np.bool_)
        limit = self.about.above or 0.0
        values = zip(reader.numbers(answers), truths, strict=True)
        return np.array([_apart(value, truth) > limit for value, truth in values], np.bool_)


def _apart(value: Array | None, truth: float | None) -> float:
    return abs(float(value[0]) - truth) if value is not None and truth is not None else 0.0


def _quiet(_: RowPosition) -> None:
    """Of some hundred rows nobody needs to see how many are done."""
