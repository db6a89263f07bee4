"""Whether undoing a likely cause takes the badness away: some of its rows once more, through models on disk.

Statistics say where bad rows came; only a run can say what they come of. The rows of a version's cause go through the version that
answered before it, those of a process's cause through the same version here, and those of a unit's cause through the same version with the
column divided by the factor. The same code answers that serves.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hoverboard.contract.signature import Signature
from hoverboard.contract.times import time_of
from hoverboard.errors import ConfigError, HoverboardError
from hoverboard.offline.rows import RowPosition
from hoverboard.offline.run import OfflineVersion, RunOptions, live_version, prepare
from hoverboard.offline.workspace import Workspace
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.counting import Progress, RecordedShare
from hoverboard.postmortem.export_columns import inputs_table
from hoverboard.postmortem.question import About
from hoverboard.postmortem.recorded import RecordedVersion, SampleBlock, Truth, read_samples
from hoverboard.postmortem.slices import rows_of
from hoverboard.postmortem.table import Table
from hoverboard.postmortem.units import UnitRepair, repair_of
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.versions import read_version

__all__ = ["Confirmer"]

_KINDS: Final = ("version", "machine", "schema")
_MOST_CAUSES: Final = 2
_LEAST_WEIGHT: Final = 0.1
_MOST_BAD: Final = 300
_MOST_OTHERS: Final = 600
_FEWEST: Final = 10
_SECONDS: Final = 20.0
_LEFT: Final = 0.1
"""The share of the excess that may be left where a cause is confirmed; as of causes that are undone by leaving rows out."""
_REPRODUCED: Final = 0.8
"""Of the bad rows, how many must be bad here, too, for a run here to say anything."""
_Z: Final = 1.96


@dataclass(frozen=True, slots=True, eq=False)
class _Undone:
    """How a cause is undone.

    Attributes:
        by: the version that the rows go through then.
        how: in words, the end of "replayed".
        repair: what is done to a column before; None for nothing.
    """

    by: RecordedVersion
    how: str
    repair: UnitRepair | None = None


@dataclass(slots=True)
class Confirmer:
    """Runs what `causes` found likely.

    Attributes:
        models: the models directory.
        load: makes the framework ready; called only where something is run.
        told: of progress.
        seconds: after which a run is given up, without the framework's loading.
    """

    models: Path
    load: Callable[[], None]
    told: Progress
    seconds: float = _SECONDS
    _loaded: bool = field(default=False, init=False)

    async def confirmed(
        self, recording: RecordedShare, about: About, table: Table, found: Sequence[LikelyCause]
    ) -> list[LikelyCause]:
        """The same causes; those that could be run say what came of it.

        Args:
            recording: of the model.
            about: which rows are bad.
            table: the rows that causes were found in, those outside of the incident counted to the usual time.
            found: the likeliest first.
        """
        answers = list(found)
        if about.kind not in ("outliers", "wrong", "label"):
            return answers  # how long an answer took, or whether it came, is no matter of the version alone
        ends = time.monotonic() + self.seconds
        for place, cause in enumerate(answers[:_MOST_CAUSES]):
            if cause.confirmed is not None or cause.kind not in _KINDS or cause.weight < _LEAST_WEIGHT:
                continue
            case = _Case(recording, about, table, cause, self.models)
            undone = case.undone()
            if undone is None:
                continue
            if not self._loaded:
                began = time.monotonic()
                self.told("loading TensorFlow", 0.0)
                self.load()
                ends += time.monotonic() - began
                self._loaded = True
            self.told("replaying", place / _MOST_CAUSES)
            try:
                async with asyncio.timeout(ends - time.monotonic()):
                    verdict, words = await case.tried(undone)
            except TimeoutError:
                verdict, words = None, f"a replay was stopped after {self.seconds:.0f} s"
            except HoverboardError as error:
                verdict, words = None, f"it could not be replayed: {error}"
            answers[place] = replace(cause, confirmed=verdict, evidence=f"{cause.evidence}; {words}")
        return answers


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """One cause, and the rows that it is about."""

    recording: RecordedShare
    about: About
    table: Table
    cause: LikelyCause
    models: Path

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Its rows in the incident."""
        return rows_of(self.table, self.cause.where) & ~self.table.base

    def undone(self) -> _Undone | None:
        """How it would be undone; None where no run here can do that."""
        current = self._answered(self.inside & self.table.bad)
        if current is None or not self._on_disk(current):
            return None
        if self.cause.kind == "machine":
            return _Undone(current, f"here through version {current.version}")
        if self.cause.kind == "version":
            before = self._answered(self.table.base, other_than=current)
            if before is None or not self._on_disk(before):
                return None
            return _Undone(before, f"through version {before.version}, which answered before")
        repair = repair_of(self.table, self.inside & self.table.bad, current.signature)
        return None if repair is None else _Undone(current, f"with {repair}", repair)

    def _answered(self, rows: NDArray[np.bool_], other_than: RecordedVersion | None = None) -> RecordedVersion | None:
        """The version that answered most of some rows."""
        field_ = self.table.field("version")
        if field_ is None:
            only = self.recording.versions
            return only[0] if len(only) == 1 and other_than is None else None
        counts = np.bincount(field_.codes[rows], minlength=len(field_.values))
        for code in np.argsort(-counts, kind="stable").tolist():
            named = [each for each in self.recording.versions if str(each.version) == field_.values[code]]
            if counts[code] and named and (other_than is None or named[-1].version != other_than.version):
                return named[-1]
        return None

    def _on_disk(self, recorded: RecordedVersion) -> bool:
        """Whether it is in the models directory as it was."""
        try:
            path = self.models / self.recording.model / str(recorded.version)
            return read_version(path).weights_sha256 == recorded.weights_sha256
        except (HoverboardError, OSError):
            return False

    async def tried(self, undone: _Undone) -> tuple[bool | None, str]:
        """What came of it, and that in words."""
        current = self._answered(self.inside & self.table.bad)
        if current is None:
            raise ConfigError("nobody knows which version answered")
        bad = await self._read(current, self.inside & self.table.bad, _MOST_BAD)
        others = await self._read(current, self.inside & ~self.table.bad, _MOST_OTHERS)
        if len(bad) < _FEWEST:
            return None, f"only {len(bad)} of its bad rows could be replayed"
        with tempfile.TemporaryDirectory(prefix="hoverboard-") as folder:
            async with AsyncExitStack() as stack:
                live = {}
                for version in {undone.by.version, current.version}:
                    # Of a process, that here it comes out differently is the very point.
                    live[version] = await stack.enter_async_context(
                        live_version(self.models, self.recording.model, version)
                    )
                trial = _Trial(self.about, Path(folder), self.models)
                if self.cause.kind != "machine":
                    again = await trial.flags(live[current.version], bad)
                    share = float(again.mean()) if len(again) else 0.0
                    if share < _REPRODUCED:
                        return None, (
                            f"replayed here, only {share:.0%} of {len(again):,} {self.about.words} are that again, so that a "
                            "replay cannot tell"
                        )
                by = live[undone.by.version]
                still = await trial.flags(by, bad, undone.repair)
                new = await trial.flags(by, others, undone.repair)
        if len(still) < _FEWEST:
            return None, f"replayed {undone.how}, only {len(still)} of its bad rows are answered"
        return self._verdict(undone, still, new)

    def _verdict(self, undone: _Undone, still: NDArray[np.bool_], new: NDArray[np.bool_]) -> tuple[bool | None, str]:
        weight, bad, inside = self.table.weight, self.table.bad, self.inside
        now = float(weight[inside & bad].sum() / weight[inside].sum())
        base = self.table.base
        usual = float(weight[base & bad].sum() / weight[base].sum()) if base.any() else 0.0
        kept, made = float(still.mean()), float(new.mean()) if len(new) else 0.0
        after = now * kept + (1 - now) * made
        excess = max(now - usual, 1e-9)
        left = (after - usual) / excess
        variance = now**2 * kept * (1 - kept) / len(still) + (1 - now) ** 2 * made * (1 - made) / max(len(new), 1)
        verdict = True if left <= _LEFT else False if left - _Z * variance**0.5 / excess > _LEFT else None
        words = (
            f"replayed {undone.how}, {int(still.sum()):,} of {len(still):,} {self.about.words} are that still and "
            f"{int(new.sum()):,} of {len(new):,} other rows become it: {after:.1%} of all where it is {now:.1%} and was "
            f"{usual:.1%}, so that undoing it {'takes the rise away' if verdict else 'leaves a part of the rise'}"
        )
        return verdict, words if verdict is not None else f"{words}, as far as so few rows can tell"

    async def _read(self, current: RecordedVersion, rows: NDArray[np.bool_], most: int) -> _ReplayedRows:
        """Some of the rows, spread over all of the time, as far as they are what was sent."""
        places = np.flatnonzero(rows & (self.table.ids != np.void(bytes(16))))
        if len(places) > most:
            places = places[np.linspace(0, len(places) - 1, most).astype(np.intp)]
        read = _ReplayedRows(current, [])
        if not len(places):
            return read
        at_us = self.table.at_us[places]
        window = RecordedWindow(
            self.recording.model, time_of(int(at_us.min()) - 1000), time_of(int(at_us.max()) + 1000)
        )
        ids = [UUID(bytes=bytes(each)) for each in self.table.ids[places].tolist()]
        blocks = read_samples(
            *(self.recording.connection, current.signature, window, [current.id]),
            blanked=self.recording.blanked,
            ids=ids,
        )
        async for block in blocks:
            read.blocks.append(block)
        return read


@dataclass(frozen=True, slots=True, eq=False)
class _ReplayedRows:
    """Samples, with the version that had answered them."""

    version: RecordedVersion
    blocks: list[SampleBlock]

    def __len__(self) -> int:
        return sum(int(block.usable.sum()) for block in self.blocks)

    @property
    def truths(self) -> list[Truth | None]:
        return [truth for block in self.blocks for truth, use in zip(block.truths, block.usable, strict=True) if use]

    def inputs(self, repair: UnitRepair | None) -> pa.Table:
        """As `predict --input` takes them."""
        tables = []
        for block in self.blocks:
            columns = dict(block.columns)
            if repair is not None:
                columns[repair.tensor] = repair.applied(columns[repair.tensor])
            rows = np.flatnonzero(block.usable)
            tables.append(inputs_table(replace(block, columns=columns), rows, self.version.signature, labels=False))
        return pa.concat_tables(tables)


@dataclass(slots=True)
class _Trial:
    """Runs rows in a folder, and tells which of them are bad."""

    about: About
    folder: Path
    models: Path
    _runs: int = 0

    async def flags(
        self, live: OfflineVersion, rows: _ReplayedRows, repair: UnitRepair | None = None
    ) -> NDArray[np.bool_]:
        """Which of the rows that are answered are bad, bool `(answered,)`."""
        if not len(rows):
            return np.zeros(0, np.bool_)
        self._runs += 1
        source, output = (self.folder / f"{self._runs}-{name}.parquet" for name in ("inputs", "answers"))
        pq.write_table(rows.inputs(repair), source)
        workspace = Workspace(output)
        with workspace.locked():
            await live.run(
                prepare(RunOptions(live.model, source, output, self.models, live.version), workspace), _quiet
            )
        answers = pq.read_table(output)
        bad = self._bad(answers, rows, live.version)
        return np.asarray(bad[~answers.column("error").is_valid().to_numpy()])

    def _bad(self, answers: pa.Table, rows: _ReplayedRows, version: int) -> NDArray[np.bool_]:
        if self.about.kind == "outliers":
            flags = answers.column("outlier").to_pylist()
            if None in flags and not any(flags):
                raise ConfigError(f"version {version} has no calibration, and tells no outliers")
            return np.array([bool(flag) for flag in flags], np.bool_)
        signature, truths = rows.version.signature, rows.truths
        if signature.task == "regression":
            limit = self.about.above or 0.0
            values = zip(answers.column("value").to_pylist(), truths, strict=True)
            return np.array(
                [truth is not None and _apart(value, truth.value) > limit for value, truth in values], np.bool_
            )
        said = _said(answers, signature)
        if self.about.kind == "label":
            return np.array([self.about.label in labels for labels in said], np.bool_)
        return np.array(
            [truth is not None and not _right(labels, truth) for labels, truth in zip(said, truths, strict=True)],
            np.bool_,
        )


def _said(answers: pa.Table, signature: Signature) -> list[frozenset[str]]:
    """The labels of each answer."""
    if signature.task == "multi-label":
        return [frozenset(each["label"] for each in one or ()) for one in answers.column("labels").to_pylist()]
    return [frozenset({label} - {None}) for label in answers.column("label").to_pylist()]


def _right(said: frozenset[str], truth: Truth) -> bool:
    """As `is_right` in the database: all labels that hold and no other."""
    true = truth.labels if truth.labels is not None else [] if truth.label is None else [truth.label]
    return not true or said == frozenset(true)


def _apart(value: float | None, truth: float | None) -> float:
    return abs(value - truth) if value is not None and truth is not None else 0.0


def _quiet(_: RowPosition) -> None:
    """Of some hundred rows nobody needs to see how many are done."""
