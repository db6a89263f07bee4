"""Which way to run a version's graph: the quickest whose golden samples pass in every bucket, and the buckets worth having."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np

from hoverboard.backends.executor import Executor, GraphError, OutOfMemory
from hoverboard.backends.graph import Way
from hoverboard.contract.catalog import BucketTiming
from hoverboard.contract.signature import Array, Signature
from hoverboard.engine.buckets import ladder, useful_buckets
from hoverboard.engine.isolation import pad
from hoverboard.engine.models.golden_batches import Company, Shared
from hoverboard.engine.models.timings import Measured
from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of
from hoverboard.versions import GoldenSet

__all__ = ["Chooser", "ProvenWay", "RunJob"]

T = TypeVar("T")
RunJob = Callable[[Callable[[], T]], T]

_RUNS: Final = 12  # timed runs a bucket
_BUDGET_S: Final = 0.5  # and as many seconds at most, once two runs are in
_STEEP: Final = 1.9  # a bucket that takes this many times its half's time saves nothing: stop there
_MIXED: Final = (
    "Alone it gives what is expected: the graph mixes the rows of a batch, as batch statistics, a softmax over the batch or "
    "padding to the longest text of the batch do, and callers would change each other's answers. Mend the graph, or publish it "
    "with --max-batch 1, so that each sample runs alone"
)
_SHAPED: Final = (
    "Every row of this batch is the same, so the shape of an answer depends on the number of rows: the graph takes it for another "
    "dimension, as TimeDistributed over a free number of steps does, and what it answers to a single row may be wrong, too. Give "
    "that dimension its size in keras.Input, or replace the layer"
)


@dataclass(frozen=True, slots=True)
class ProvenWay:
    """A way that passed, with the buckets that are worth having."""

    executor: Executor
    timings: tuple[BucketTiming, ...]


def _timed(executor: Executor, columns: Sequence[Array]) -> float:
    started = time.perf_counter()
    executor.run(columns)
    return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Chooser:
    """Tries executors of one version.

    Attributes:
        signature, golden: of the version.
        company: rows for the golden samples to share a batch with.
        largest: bucket to try.
        run_job: runs a function on the execution thread and waits.
        tolerance: of golden samples, as a multiple of the usual.
        timed: seconds that one run of an executor takes.
    """

    signature: Signature
    golden: GoldenSet
    company: Company
    largest: int
    run_job: RunJob[Any]
    tolerance: float = 1.0
    timed: Callable[[Executor, Sequence[Array]], float] = _timed

    def choose(
        self, plain: Callable[[], Executor], ways: Mapping[str, Way], known: Measured | None = None
    ) -> ProvenWay:
        """The quickest way.

        Args:
            plain: makes the executor that the others are held against.
            ways: the others, by name.
            known: what was measured before. Its way is proved again, since golden samples must pass, but not timed.

        Raises:
            VersionRefused: the plain way does not pass.
        """
        if known is not None and known.executor in ways:
            again = self._accepted(ways[known.executor], known=known)
            if again is not None:
                return again
            known = None
        best = self._prove(plain(), known)
        if known is None:
            for way in ways.values():
                best = self._accepted(way, instead_of=best) or best
        return best

    def _accepted(
        self, way: Way, *, known: Measured | None = None, instead_of: ProvenWay | None = None
    ) -> ProvenWay | None:
        """The graph in another way, or None where it cannot be had, computes differently, or is not worth it.

        Whatever goes wrong with it, the graph runs without it.
        """
        try:
            executor = way.build()
            if instead_of is not None and not self._worthwhile(way, executor, instead_of):
                return None
            return self._prove(executor, known)
        except (VersionRefused, GraphError, OutOfMemory):
            return None

    def _worthwhile(self, way: Way, executor: Executor, best: ProvenWay) -> bool:
        """Whether it is quick enough in the smallest and the largest bucket: only two, since a way may compile each one for good."""
        ends = {timing.size: timing for timing in (best.timings[0], best.timings[-1])}
        offered = [self._prove_bucket(executor, size, timed=True).mean_ms for size in ends]
        return sum(offered) < way.margin * sum(timing.mean_ms for timing in ends.values())

    def _prove(self, executor: Executor, known: Measured | None) -> ProvenWay:
        """Warm every bucket, check the golden samples in it, time it."""
        sizes = ladder(self.largest) if known is None else [timing.size for timing in known.buckets]
        timings: dict[int, BucketTiming] = {}
        for size in sizes:
            try:
                timing = self._prove_bucket(executor, size, timed=known is None)
            except OutOfMemory as error:
                if not timings:
                    message = "out of memory with a single sample"
                    raise VersionRefused(message, check=check_of(error, "load")) from error
                break
            timings[size] = timing
            half = timings.get(size // 2)
            # Small buckets are all kept going: their times are mostly the call's own cost, and noise could end the ladder at 2.
            if known is None and half is not None and timing.mean_ms > _STEEP * half.mean_ms and size > 8:
                break
        if known is not None:
            return ProvenWay(executor, tuple(known.buckets))
        useful = useful_buckets({size: timing.mean_ms for size, timing in timings.items()})
        return ProvenWay(executor, tuple(timings[size] for size in useful))

    def _prove_bucket(self, executor: Executor, size: int, *, timed: bool) -> BucketTiming:
        # Padded with itself, as the engine pads: what is timed and proved is what will run.
        first = [pad(column, size) for column in self.golden.samples[0].inputs]
        try:
            executor.run(first)  # here, not on the execution thread: a first run may compile for long
        except GraphError as error:
            raise VersionRefused(f"golden sample 0 fails in bucket {size}: {error}", check="golden") from error
        for index, sample in enumerate(self.golden.samples):  # one batch at a time: all of them may be large
            batch = [
                pad(column, size) for column in sample.inputs
            ]  # the first and the last row tell: those between are the same
            self._check_rows(executor, Shared(batch, dict.fromkeys((0, size - 1), index)), size)
        for shared in self.company.batches(size, partial(self._runs, executor)):
            self._check_rows(executor, shared, size)
        if not timed:
            return BucketTiming(size, math.nan, math.nan)
        seconds: list[float] = []
        while len(seconds) < 2 or (len(seconds) < _RUNS and sum(seconds) < _BUDGET_S):
            seconds.append(self.run_job(partial(self.timed, executor, first)))
        steady = sorted(seconds)[: math.ceil(0.75 * len(seconds))]  # the slowest quarter met other work
        return BucketTiming(size, statistics.fmean(steady) * 1e3, float(np.percentile(seconds, 99)) * 1e3)

    def _check_rows(self, executor: Executor, batch: Shared, size: int) -> None:
        """Hold the golden samples of a batch against what they gave alone."""
        count = len(self.signature.outputs)  # a score may follow them
        try:
            outputs = self.run_job(partial(executor.run, batch.columns))
        except GraphError as error:
            index = next(iter(batch.golden.values()))
            raise VersionRefused(f"golden sample {index} fails in bucket {size}: {error}", check="golden") from error
        for row, index in batch.golden.items():
            answer = [output[row : row + 1] for output in outputs[:count]]
            problem = self.golden.mismatch(self.signature, index, answer, self.tolerance)
            if problem and size == 1:
                raise VersionRefused(f"{problem} ({executor.name})", check="golden")
            if problem:
                why = _SHAPED if _shaped_by_size(answer, self.golden.samples[index].outputs, batch.columns) else _MIXED
                raise VersionRefused(f"{problem} (bucket {size}, {executor.name}). {why}", check="rows")

    def _runs(self, executor: Executor, row: Sequence[Array]) -> bool:
        try:
            self.run_job(partial(executor.run, row))
        except GraphError:
            return False
        return True


def _shaped_by_size(answer: Sequence[Array], expected: Sequence[Array], columns: Sequence[Array]) -> bool:
    """Whether an answer has another shape than alone, in a batch whose rows are the same: no row can have mixed with another."""
    other = any(have.shape != want.shape for have, want in zip(answer, expected, strict=True))
    return other and all(np.array_equal(column[:1].repeat(len(column), axis=0), column) for column in columns)
