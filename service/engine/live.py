"""A version in memory: run a batch, read its answers, judge what is an outlier."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from hoverboard.backends.executor import Executor
from hoverboard.contract.calls import Source
from hoverboard.contract.catalog import BucketTiming
from hoverboard.contract.heads import HeadReading, read_head
from hoverboard.contract.outlier import is_outlier
from hoverboard.contract.signature import STRING, Array, Signature
from hoverboard.engine.buckets import CostModel
from hoverboard.engine.isolation import Failure, RowIsolation
from hoverboard.errors import RpcError
from hoverboard.outliers import Features, Looked, OutlierPackage, p_values
from hoverboard.versions import Manifest

__all__ = ["HIDDEN", "Executed", "Failure", "LiveVersion"]

HIDDEN: Final = "not shown, since serving.toml hides what callers send"
"""In place of a failure's reason."""


@dataclass(frozen=True, slots=True)
class Executed:
    """The outcome of one batch.

    Attributes:
        outputs: one array per output, padding cut off; rows in `errors` hold zeros.
        errors: row -> why it failed.
        reading: labels, confidences, values.
        p_value: float32 conformal p-values, or None.
        outlier: bool, whether it is at most alpha, or None.
        seconds: execution time, all attempts.
        bucket: the bucket of the first attempt.
    """

    outputs: tuple[Array, ...]
    errors: dict[int, RpcError]
    reading: HeadReading
    p_value: Array | None
    outlier: Array | None
    seconds: float
    bucket: int


@dataclass(slots=True, eq=False)
class LiveVersion:
    """One version that answers.

    Attributes:
        manifest: as read from disk.
        signature: of the manifest.
        fingerprint: of the signature's inputs.
        executor: the chosen way to run it.
        costs: its cost model.
        timings: what was measured at load.
        memory_bytes: of its weights.
        load_ms: what loading took.
        source: how records name it.
        outliers: what it knows about outliers; its graph gives a score after the outputs then. None without calibration.
        extract: gives the features that the other detectors look at.
        sandbox: what held while it was tried in a process of its own; None where it was not.
        used_at: when it last ran, seconds on the monotonic clock.
        run_s: what a batch took of late, with its record; a moving average.
        logged_at: when a failing sample was last logged, likewise; others may be as many as there are calls.
        failing: whether samples of the last batch failed, so that it was run in pieces.
        sized_by_caller: whether a sample can be larger than those that were timed.
    """

    manifest: Manifest
    executor: Executor
    costs: CostModel
    timings: tuple[BucketTiming, ...]
    memory_bytes: int
    load_ms: float
    outliers: OutlierPackage | None = None
    extract: Callable[[Sequence[Array]], Features] | None = None
    sandbox: str | None = None
    used_at: float = 0.0
    run_s: float = 0.0
    logged_at: float = -math.inf
    failing: bool = False
    sized_by_caller: bool = field(init=False)
    signature: Signature = field(init=False)
    fingerprint: str = field(init=False)
    source: Source = field(init=False)
    _calibration: Array | None = field(init=False)
    _isolation: RowIsolation = field(init=False)

    def __post_init__(self) -> None:
        self.signature = self.manifest.signature
        self.fingerprint = self.signature.fingerprint
        self.sized_by_caller = any(spec.variable or spec.dtype == STRING for spec in self.signature.inputs)
        # In float64 once, which every batch would make a copy in otherwise.
        self._calibration = None if self.outliers is None else self.outliers.calibration.astype(np.float64)
        self._isolation = RowIsolation(self.manifest, self.executor, self.costs, scored=self.outliers is not None)
        self.source = Source(*self.key, self.manifest.weights_sha256, self.signature, self.manifest.public())

    @property
    def key(self) -> tuple[str, int]:
        """Model name and version number."""
        return self.manifest.name, self.manifest.version

    @property
    def failure(self) -> Failure | None:
        """The last sample that failed."""
        return self._isolation.failure

    def execute(self, columns: Sequence[Array], rows: int, bucket: int) -> Executed:
        """Run one batch, blocking; never raises for what a sample did.

        Args:
            columns: one array per input with at least `rows` rows, unpadded.
            rows: of the batch.
            bucket: to pad to, at least `rows`.
        """
        started = time.perf_counter()
        errors: dict[int, RpcError] = {}
        columns_out, whole = self._isolation.run(columns, rows, bucket, errors)
        scores = columns_out.pop() if self.outliers is not None else None
        outputs = tuple(columns_out)
        self._isolation.refuse_non_finite(outputs, errors)
        reading = read_head(self.signature, outputs[0])
        p_value, outlier = self._judge(scores, errors)
        seconds = time.perf_counter() - started
        self.failing = not whole or bool(errors)
        if not self.failing:  # what ran in pieces says nothing about its bucket
            self.costs.observe(bucket, seconds)
        return Executed(outputs, errors, reading, p_value, outlier, seconds, bucket)

    def _judge(self, scores: Array | None, errors: Mapping[int, RpcError]) -> tuple[Array | None, Array | None]:
        """How usual each row is, and whether it is an outlier; a row without an answer is none."""
        if self.outliers is None or self._calibration is None or scores is None:
            return None, None
        p_value = p_values(scores, self._calibration)
        outlier: Array = is_outlier(p_value, self.outliers.alpha)
        outlier[list(errors)] = False  # the zeros in place of its answer may look strange
        return p_value, outlier

    def look(self, columns: Sequence[Array]) -> Looked | None:
        """What all calibrated detectors and the watch say, for a few rows, after the answer; None without a package.

        Raises:
            GraphError, OutOfMemory: as an executor does.
        """
        if self.outliers is None or self.extract is None:
            return None
        names = [spec.name for spec in self.signature.inputs]
        return self.outliers.looked_at(self.extract(columns), dict(zip(names, columns, strict=True)))
