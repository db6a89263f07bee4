"""Whether undoing a likely cause takes the badness away: some of its rows once more, through models on disk.

Statistics say where bad rows came; only a run can say what they come of. The rows of a version's cause go through the version that
answered before it, those of a process's cause through the same version here, and those of inputs that were written wrongly (by one caller
or by all) through the same version with the inputs put back. The same code answers that serves.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.times import time_of
from hoverboard.errors import HoverboardError
from hoverboard.offline.run import OfflineVersion, live_version
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.counting import Progress, RecordedShare
from hoverboard.postmortem.question import About
from hoverboard.postmortem.recorded import RecordedVersion, read_samples
from hoverboard.postmortem.repairs import InputRepair, repair_of
from hoverboard.postmortem.rerunning import Rerun, RerunRows
from hoverboard.postmortem.slices import rows_of
from hoverboard.postmortem.table import Table
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.versions import read_version

__all__ = ["Confirmer"]

_KINDS: Final = ("version", "machine", "schema", "caller")
_ABOUT: Final = ("outliers", "wrong", "label", "errors")
"""How long an answer took is no matter of the version alone, and a refused call has no sample."""
_MOST_CAUSES: Final = 2
_LEAST_WEIGHT: Final = 0.1
_MOST_BAD: Final = 300
_MOST_OTHERS: Final = 600
_FEWEST: Final = 10
_SECONDS: Final = 20.0
_MOST_SECONDS: Final = 40.0
_LEFT: Final = 0.1
"""The share of the excess that may be left where a cause is confirmed; as of causes that are undone by leaving rows out."""
_REPRODUCED: Final = 0.8
"""Of the bad rows, how many must be bad here, too, for a run here to say anything."""
_Z: Final = 1.96


@dataclass(frozen=True, slots=True, eq=False)
class _Undone:
    """How a cause is undone.

    Attributes:
        current: the version that answered the rows, or would have.
        by: the one that they go through then.
        how: in words, the end of "replayed".
        repair: what is done to a column before; None for nothing.
    """

    current: RecordedVersion
    by: RecordedVersion
    how: str
    repair: InputRepair | None = None


@dataclass(slots=True)
class Confirmer:
    """Runs what `causes` found likely.

    Attributes:
        models: the models directory.
        load: makes the framework ready; called only where something is run.
        told: of progress.
        seconds: that rows of a cause may run for, once the versions that they go through are loaded.
        most_seconds: that all of it may take, the loading of the framework and of versions among it.
    """

    models: Path
    load: Callable[[], None]
    told: Progress
    seconds: float = _SECONDS
    most_seconds: float = _MOST_SECONDS
    _live: dict[int, OfflineVersion] = field(default_factory=dict, init=False)

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
        if about.kind not in _ABOUT:
            return answers
        ends: float | None = None
        async with AsyncExitStack() as stack:
            stack.callback(self._live.clear)
            for place, cause in enumerate(answers[:_MOST_CAUSES]):
                if cause.kind not in _KINDS or cause.weight < _LEAST_WEIGHT:
                    continue
                case = _Case(recording, about, table, cause, self.models)
                undone = case.undone()
                if undone is None:
                    continue
                if ends is None:
                    ends = time.monotonic() + self.most_seconds
                    self.told("loading TensorFlow", 0.0)
                    self.load()
                self.told("replaying", place / _MOST_CAUSES)
                verdict, words = await self._told(stack, case, undone, ends - time.monotonic())
                answers[place] = _with(cause, verdict, words, undone)
        return answers

    async def _told(self, stack: AsyncExitStack, case: _Case, undone: _Undone, left: float) -> tuple[bool | None, str]:
        """What came of undoing a cause, and that in words."""
        loaded = False
        try:
            async with asyncio.timeout(left) as limit:
                for version in {undone.by.version, undone.current.version} - set(self._live):
                    self._live[version] = await stack.enter_async_context(
                        live_version(self.models, case.recording.model, version)
                    )
                loaded = True
                limit.reschedule(min(limit.when() or 0.0, asyncio.get_running_loop().time() + self.seconds))
                return await case.tried(undone, self._live)
        except TimeoutError:
            if loaded:
                return None, f"a replay was stopped after {min(left, self.seconds):.0f} s"
            return (
                None,
                f"its versions were not loaded within {self.most_seconds:.0f} s, so that nothing could be replayed",
            )
        except HoverboardError as error:
            return None, f"it could not be replayed: {error}"


def _with(cause: LikelyCause, verdict: bool | None, words: str, undone: _Undone) -> LikelyCause:
    """A cause with what came of undoing it.

    Of a caller its rows tell whether they are the cause, which leaving them out shows; a replay tells what is wrong with them.
    """
    confirmed = cause.confirmed or verdict if cause.kind == "caller" else verdict
    undo = cause.undo
    if verdict is not None:
        undo += f"; tried here: its rows replayed {undone.how}, which {'undid it' if verdict else 'did not undo it'}"
    return replace(cause, confirmed=confirmed, evidence=f"{cause.evidence}; {words}", undo=undo)


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
        # What failed has no version: those of the time are its.
        where = () if self.about.kind == "errors" and self.cause.kind in ("version", "machine") else self.cause.where
        return rows_of(self.table, where) & ~self.table.base

    def undone(self) -> _Undone | None:
        """How it would be undone; None where no run here can do that."""
        bad = self.inside & self.table.bad
        current = self._current()
        if current is None or not self._on_disk(current):
            return None
        if self.cause.kind == "machine":
            return _Undone(current, current, f"here through version {current.version}")
        if self.cause.kind == "version":
            before = self._answered(self.table.base, other_than=current)
            if before is None or not self._on_disk(before):
                return None
            return _Undone(current, before, f"through version {before.version}, which answered before")
        repair = repair_of(self.table, bad, current.signature)
        return None if repair is None else _Undone(current, current, f"with {repair}", repair)

    def _current(self) -> RecordedVersion | None:
        """The version that answered its bad rows, or that should have."""
        if self.about.kind != "errors":
            return self._answered(self.inside & self.table.bad)
        blamed = [
            each
            for each in self.recording.versions
            if self.cause.kind == "version" and str(each.version) == self.cause.subject
        ]
        good = ~self.table.bad & ~self.table.base
        return blamed[-1] if blamed else self._answered(self.inside & good) or self._answered(good)

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

    async def tried(self, undone: _Undone, live: Mapping[int, OfflineVersion]) -> tuple[bool | None, str]:
        """What came of it, and that in words.

        Args:
            undone: how.
            live: the versions that it takes, by number.
        """
        current, by = undone.current, undone.by
        bad = await self._read(current, self.inside & self.table.bad, _MOST_BAD)
        others = await self._read(current, self.inside & ~self.table.bad, _MOST_OTHERS)
        if len(bad) < _FEWEST:
            return None, f"only {len(bad)} of its bad rows could be replayed"
        with tempfile.TemporaryDirectory(prefix="hoverboard-") as folder:
            rerun = Rerun(self.about, Path(folder), self.models)
            # Of a process, that here it comes out differently is the very point.
            if self.cause.kind != "machine":
                again = await rerun.flags(live[current.version], current, bad)
                share = float(again.mean()) if len(again) else 0.0
                if share < _REPRODUCED:
                    return None, (
                        f"replayed here, only {share:.0%} of {len(again):,} {self.about.words} are that again, so that a "
                        "replay cannot tell"
                    )
            still = await rerun.flags(live[by.version], by, bad, undone.repair)
            new = await rerun.flags(live[by.version], by, others, undone.repair)
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

    async def _read(self, current: RecordedVersion, rows: NDArray[np.bool_], most: int) -> RerunRows:
        """Some of the rows, spread over all of the time, as far as they are what was sent."""
        places = np.flatnonzero(rows & (self.table.ids != np.void(bytes(16))))
        if len(places) > most:
            places = places[np.linspace(0, len(places) - 1, most).astype(np.intp)]
        read = RerunRows(current)
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
            answered=self.about.kind != "errors",
        )
        async for block in blocks:
            read.blocks.append(block)
        return read
