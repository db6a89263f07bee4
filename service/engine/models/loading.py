"""From a directory to a version that may answer: checksums, safe load, signature, warm-up, timings, golden samples.

Runs on the loader's own thread. Tracing and compiling happen there; every timed or golden run is one job of its own on
the execution thread, between the batches of what serves meanwhile.
"""

from __future__ import annotations

import hashlib
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import structlog

from hoverboard.backends.tensorflow import artifact, runtime
from hoverboard.engine.models.company import Company, Shared
from hoverboard.engine.costs import CostModel, ladder, useful_buckets
from hoverboard.backends.executor import Executor, GraphError, OutOfMemory
from hoverboard.engine.models.lengths import with_least
from hoverboard.engine.live import GraphDetector, LiveVersion, pad
from hoverboard.engine.models.proofs import Proofs
from hoverboard.errors import VersionRefused
from hoverboard.files import put_file
from hoverboard.machine import check_of
from hoverboard.outliers import OUTLIERS_FILE, OutlierPackage, load_package
from hoverboard.contract.catalog import BucketTiming
from hoverboard.contract.signature import STRING, Array, Signature
from hoverboard.versions import GoldenSet, Manifest, VersionOnDisk, read_version, verify_checksums
from hoverboard.versions.store import read_golden

__all__ = ["Loader", "RunJob"]

T = TypeVar("T")
_log = structlog.get_logger(__name__)
RunJob = Callable[[Callable[[], T]], T]

_RUNS: Final = 12  # timed runs a bucket
_BUDGET_S: Final = 0.5  # and as many seconds at most, once two runs are in
_DIRECT: Final = "tf-direct"
_XLA: Final = "tf-xla"
_WAYS: Final = f"tf {_DIRECT} {_XLA}"  # what a measurement chose from
# TensorFlow never frees what XLA compiled (about 1 MB a bucket and load, measured), so XLA has to earn it: it is taken
# where it needs at most half the time, and only two buckets are compiled to find out.
_MARGIN: Final = 0.5
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
_GPU_TOLERANCE: Final = 100.0  # golden tolerance on a GPU, as a multiple


class _Measured(msgspec.Struct, frozen=True):
    """What is remembered of a version's timings on this machine."""

    executor: str
    buckets: list[BucketTiming]


@dataclass(frozen=True, slots=True)
class _Candidate:
    executor: Executor
    timings: tuple[BucketTiming, ...]


class _Trial(NamedTuple):
    """What every way to run a graph is held against."""

    signature: Signature
    golden: GoldenSet
    company: Company


class _Offer(NamedTuple):
    """Another way to run a graph: how to have it, and the share of the best time so far that it must stay below."""

    build: Callable[[], Executor]
    margin: float


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions.

    Attributes:
        run_job: runs a function on the execution thread and waits.
        max_batch: largest bucket unless the version or its model says otherwise.
        xla: whether XLA may be tried.
        timings_dir: where timings are remembered by weights and machine; None to measure each time.
        threads: within an operation and operations at once, as they are set; part of what makes a machine.
        proofs: tries versions in a process of their own before they are loaded here; None trusts them.
    """

    run_job: RunJob[Any]
    max_batch: int
    xla: bool = True
    timings_dir: Path | None = None
    threads: tuple[int, int] = (1, 1)
    proofs: Proofs | None = None

    def load(self, place: VersionOnDisk, max_batch: int | None = None) -> LiveVersion:
        """Do everything that stands between a directory and its first answer.

        Args:
            place: the directory.
            max_batch: the model's own limit from `serving.toml`.

        Raises:
            VersionRefused: at the first check that fails, with the reason.
        """
        try:
            return self._load(place, max_batch)
        except VersionRefused:
            raise
        except Exception as error:
            check = check_of(error, "load")
            if check == "load":
                _log.exception("load_failed", model=place.path.parent.name, version=place.number)
            message = f"loading failed: {type(error).__name__}: {str(error)[:200]}"
            raise VersionRefused(message, check=check) from error

    def _load(self, place: VersionOnDisk, max_batch: int | None) -> LiveVersion:
        manifest = read_version(place.path)
        verify_checksums(place.path, manifest)
        if self.proofs is None:
            return self.prove(place.path, manifest, max_batch)
        tried = self.proofs.require(place.path, manifest, runtime.software())
        live = self.prove(place.path, replace(manifest, inputs=tried.told(manifest.inputs)), max_batch)
        live.sandbox = tried.sandbox
        return live

    def prove(self, directory: Path, manifest: Manifest, max_batch: int | None = None) -> LiveVersion:
        """Load a version whose files are known to be whole: everything `load` does but the checksums.

        The least lengths of its inputs are looked for where the manifest does not say them.

        Raises:
            VersionRefused: at the first check that fails, with the reason.
        """
        started = time.perf_counter()
        golden = read_golden(directory, manifest)
        graph = artifact.load(directory, manifest.artifact, manifest.allowed_ops, manifest.saved_signature)
        graph = graph.named(manifest.graph_names)
        graph.compare(manifest.signature)
        manifest = replace(manifest, inputs=with_least(graph, manifest.signature, golden))
        outliers = _outliers(directory, manifest)
        graph = graph if outliers is None else graph.watched(outliers)
        largest = min(limit for limit in (max_batch or self.max_batch, manifest.max_batch) if limit)
        memory = self._memory_path(manifest, largest)
        known = _recall(memory)
        trial = _Trial(manifest.signature, golden, Company(manifest.signature, golden))
        chosen = self._choose(graph, trial, largest, known)
        if memory is not None and (known is None or known.executor != chosen.executor.name):
            _remember(memory, _Measured(chosen.executor.name, list(chosen.timings)))
        return LiveVersion(
            manifest=manifest,
            executor=chosen.executor,
            costs=CostModel({timing.size: timing.mean_ms / 1e3 for timing in chosen.timings}),
            timings=chosen.timings,
            memory_bytes=graph.memory_bytes,
            load_ms=(time.perf_counter() - started) * 1e3,
            detector=None if outliers is None else GraphDetector(outliers),
            outliers=outliers,
            extract=None if outliers is None else graph.extractor(manifest.signature, outliers.layer, outliers.space),
        )

    def _choose(self, graph: runtime.Graph, trial: _Trial, largest: int, known: _Measured | None) -> _Candidate:
        """The quickest way to run it whose golden samples pass in every bucket."""
        signature = trial.signature
        offers = self._offers(graph, signature)
        if known is not None and known.executor in offers:
            again = self._accepted(offers[known.executor], trial, largest, known=known)
            if again is not None:
                return again
            known = None
        best = self._prove(graph.executor(signature, jit=False), trial, largest, known)
        if known is None:
            for offer in offers.values():
                best = self._accepted(offer, trial, largest, instead_of=best) or best
        return best

    def _offers(self, graph: runtime.Graph, signature: Signature) -> dict[str, _Offer]:
        """Other ways to run a graph than the plain one, by the executor's name, in the order to try them."""
        offers = {}
        if self.threads[1] == 1:
            offers[_DIRECT] = _Offer(partial(graph.direct, signature, self.threads[0]), 1.0)
        # Strings have no XLA kernels, and a variable dimension would mean a compilation per length.
        specs = (*signature.inputs, *signature.outputs)
        if self.xla and not any(spec.dtype == STRING or spec.variable for spec in specs):
            offers[_XLA] = _Offer(partial(graph.executor, signature, jit=True), _MARGIN)
        return offers

    def _accepted(
        self,
        offer: _Offer,
        trial: _Trial,
        largest: int,
        *,
        known: _Measured | None = None,
        instead_of: _Candidate | None = None,
    ) -> _Candidate | None:
        """The graph in another way, or None where it cannot be had, computes differently, or is not worth it.

        Whatever goes wrong with it, the graph runs without it.
        """
        try:
            executor = offer.build()
            if instead_of is not None and not self._worthwhile(offer, executor, trial, instead_of):
                return None
            return self._prove(executor, trial, largest, known)
        except (VersionRefused, GraphError, OutOfMemory):
            return None

    def _worthwhile(self, offer: _Offer, executor: Executor, trial: _Trial, best: _Candidate) -> bool:
        """Whether it is quick enough in the smallest and the largest bucket."""
        ends = {timing.size: timing for timing in (best.timings[0], best.timings[-1])}
        offered = [self._prove_bucket(executor, trial, size, timed=True).mean_ms for size in ends]
        return sum(offered) < offer.margin * sum(timing.mean_ms for timing in ends.values())

    def _prove(self, executor: Executor, trial: _Trial, largest: int, known: _Measured | None) -> _Candidate:
        """Warm every bucket, check the golden samples in it, time it."""
        wanted = ladder(largest) if known is None else [timing.size for timing in known.buckets]
        timings: dict[int, BucketTiming] = {}
        for size in wanted:
            try:
                timing = self._prove_bucket(executor, trial, size, timed=known is None)
            except OutOfMemory as error:
                if not timings:
                    said = "out of memory with a single sample"
                    raise VersionRefused(said, check=check_of(error, "load")) from error
                break
            timings[size] = timing
            half = timings.get(size // 2)
            if known is None and half is not None and timing.mean_ms > _STEEP * half.mean_ms and size > 8:
                break
        if known is not None:
            return _Candidate(executor, tuple(known.buckets))
        kept = useful_buckets({size: timing.mean_ms for size, timing in timings.items()})
        return _Candidate(executor, tuple(timings[size] for size in kept))

    def _prove_bucket(self, executor: Executor, trial: _Trial, size: int, *, timed: bool) -> BucketTiming:
        first = [pad(column, size) for column in trial.golden.samples[0].inputs]
        try:
            executor.run(first)  # here, not on the execution thread: a first run may compile for long
        except GraphError as error:
            raise VersionRefused(f"golden sample 0 fails in bucket {size}: {error}", check="golden") from error
        for index, sample in enumerate(trial.golden.samples):  # one batch at a time: all of them may be large
            batch = [pad(column, size) for column in sample.inputs]
            self._check_rows(executor, trial, Shared(batch, dict.fromkeys((0, size - 1), index)), size)
        for shared in trial.company.batches(size, partial(self._runs, executor)):
            self._check_rows(executor, trial, shared, size)
        if not timed:
            return BucketTiming(size, math.nan, math.nan)
        seconds: list[float] = []
        while len(seconds) < 2 or (len(seconds) < _RUNS and sum(seconds) < _BUDGET_S):
            seconds.append(self.run_job(partial(_timed, executor, first)))
        steady = sorted(seconds)[: math.ceil(0.75 * len(seconds))]  # the slowest quarter met other work
        return BucketTiming(size, statistics.fmean(steady) * 1e3, float(np.percentile(seconds, 99)) * 1e3)

    def _check_rows(self, executor: Executor, trial: _Trial, batch: Shared, size: int) -> None:
        """Hold the golden samples of a batch against what they gave alone."""
        wanted = len(trial.signature.outputs)  # a score may follow them
        scale = _GPU_TOLERANCE if runtime.device_kind() == "gpu" else 1.0
        try:
            outputs = self.run_job(partial(executor.run, batch.columns))
        except GraphError as error:
            index = next(iter(batch.golden.values()))
            raise VersionRefused(f"golden sample {index} fails in bucket {size}: {error}", check="golden") from error
        for row, index in batch.golden.items():
            given = [output[row : row + 1] for output in outputs[:wanted]]
            problem = trial.golden.mismatch(trial.signature, index, given, scale)
            if problem and size == 1:
                raise VersionRefused(f"{problem} ({executor.name})", check="golden")
            if problem:
                why = _SHAPED if _shaped_by_size(given, trial.golden.samples[index].outputs, batch.columns) else _MIXED
                raise VersionRefused(f"{problem} (bucket {size}, {executor.name}). {why}", check="rows")

    def _runs(self, executor: Executor, row: Sequence[Array]) -> bool:
        try:
            self.run_job(partial(executor.run, row))
        except GraphError:
            return False
        return True

    def _memory_path(self, manifest: Manifest, largest: int) -> Path | None:
        if self.timings_dir is None:
            return None
        parts = (
            manifest.weights_sha256,
            manifest.sha256.get(OUTLIERS_FILE, ""),
            str(largest),
            _WAYS,
            str(self.xla),
            str(self.threads),
            runtime.device_kind(),
            platform.machine(),
            _processor(),
            *(f"{name}={version}" for name, version in runtime.software().items()),
        )
        return self.timings_dir / f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}.json"


def _outliers(directory: Path, manifest: Manifest) -> OutlierPackage | None:
    if manifest.outliers is None:
        return None
    package = load_package(directory / OUTLIERS_FILE)
    if package.summary() != dict(manifest.outliers):
        raise VersionRefused(f"{OUTLIERS_FILE} is not what the manifest says of it", check="outliers")
    return package


def _shaped_by_size(given: Sequence[Array], expected: Sequence[Array], columns: Sequence[Array]) -> bool:
    """Whether an answer has another shape than alone, in a batch whose rows are the same: no row can have mixed with another."""
    other = any(have.shape != want.shape for have, want in zip(given, expected, strict=True))
    return other and all(np.array_equal(column[:1].repeat(len(column), axis=0), column) for column in columns)


def _timed(executor: Executor, columns: Sequence[Array]) -> float:
    started = time.perf_counter()
    executor.run(columns)
    return time.perf_counter() - started


def _recall(path: Path | None) -> _Measured | None:
    if path is None:
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Measured)
    except (OSError, msgspec.DecodeError):
        return None  # never measured here, or unreadable: measure
    return found if found.buckets and all(timing.size > 0 < timing.mean_ms for timing in found.buckets) else None


def _remember(path: Path, measured: _Measured) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_file(path, msgspec.json.encode(measured), durable=False)
    except OSError:
        return  # only a cache: it is measured again next time


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
