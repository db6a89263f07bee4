"""A version in memory: run a batch, and keep one caller's failure its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from hoverboard.backends.executor import Executor, GraphError, OutOfMemory
from hoverboard.backends.reasons import about_input
from hoverboard.contract.calls import Source
from hoverboard.contract.catalog import BucketTiming
from hoverboard.contract.heads import HeadReading, read_head
from hoverboard.contract.outlier import is_outlier
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.engine.costs import CostModel
from hoverboard.errors import Cause, ModelFailed, NonFiniteOutput, Overloaded, RpcError
from hoverboard.outliers import Features, Looked, OutlierPackage, p_values
from hoverboard.versions import Manifest

__all__ = ["HIDDEN", "Executed", "Failure", "LiveVersion"]

HIDDEN: Final = "not shown, since serving.toml hides what callers send"
"""In place of a failure's reason."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last sample that a version could not answer.

    Attributes:
        at: seconds since the epoch.
        reason: the graph's own; may quote the sample.
    """

    at: float
    reason: str


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
        failure: the last sample that failed.
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
    failure: Failure | None = None
    failing: bool = False
    sized_by_caller: bool = field(init=False)
    signature: Signature = field(init=False)
    fingerprint: str = field(init=False)
    source: Source = field(init=False)
    _calibration: Array | None = field(init=False)

    def __post_init__(self) -> None:
        self.signature = self.manifest.signature
        self.fingerprint = self.signature.fingerprint
        self.sized_by_caller = any(spec.variable or spec.dtype == STRING for spec in self.signature.inputs)
        # In float64 once, which every batch would make a copy in otherwise.
        self._calibration = None if self.outliers is None else self.outliers.calibration.astype(np.float64)
        self.source = Source(*self.key, self.manifest.weights_sha256, self.signature, self.manifest.public())

    @property
    def key(self) -> tuple[str, int]:
        """Model name and version number."""
        return self.manifest.name, self.manifest.version

    def execute(self, columns: Sequence[Array], rows: int, bucket: int) -> Executed:
        """Run one batch, blocking; never raises for what a sample did.

        Args:
            columns: one array per input with at least `rows` rows, unpadded.
            rows: of the batch.
            bucket: to pad to, at least `rows`.
        """
        started = time.perf_counter()
        errors: dict[int, RpcError] = {}
        pieces = self._attempt(columns, 0, rows, bucket, errors)
        columns_out = [_joined(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)]
        scores = columns_out.pop() if self.outliers is not None else None
        outputs = tuple(columns_out)
        self._refuse_non_finite(outputs, errors)
        reading = read_head(self.signature, outputs[0])
        p_value, outlier = self._judge(scores, errors)
        seconds = time.perf_counter() - started
        self.failing = len(pieces) > 1 or bool(errors)
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

    def _attempt(
        self, columns: Sequence[Array], start: int, stop: int, bucket: int, errors: dict[int, RpcError]
    ) -> list[tuple[Array, ...]]:
        """Run rows `start:stop`; halve them where the graph fails, until the offender stands alone."""
        rows = stop - start
        try:
            outputs = self.executor.run([pad(column[start:stop], bucket) for column in columns])
            self._check_shapes(outputs, bucket)
            return [tuple(output[:rows] for output in outputs)]
        except OutOfMemory:
            # Nobody's fault: use smaller buckets from now on, and try again with them.
            if not self.costs.lower_to(bucket):
                return self._failed(start, stop, Overloaded("Out of memory on the accelerator"), errors)
        except GraphError as error:
            if rows == 1:
                return self._failed(start, stop, self._model_failed(str(error)), errors)
        return self._halves(columns, start, stop, errors)

    def _halves(
        self, columns: Sequence[Array], start: int, stop: int, errors: dict[int, RpcError]
    ) -> list[tuple[Array, ...]]:
        size = max(1, min((stop - start + 1) // 2, self.costs.largest))
        pieces = []
        for first in range(start, stop, size):
            last = min(first + size, stop)
            pieces += self._attempt(columns, first, last, self.costs.bucket_for(last - first), errors)
        return pieces

    def _model_failed(self, reason: str) -> ModelFailed:
        """The error a caller gets: of the graph's own reason only what is about the input. All of it is for the operator."""
        cause, public = self._cause(reason), about_input(reason)
        if public is None:
            return ModelFailed(cause=cause)
        return ModelFailed(f"{ModelFailed.default}: {public}", details={"reason": public}, cause=cause)

    def _cause(self, reason: str) -> Cause:
        self.failure = Failure(time.time(), reason)
        return Cause(self.key[1], reason)

    def _failed(self, start: int, stop: int, error: RpcError, errors: dict[int, RpcError]) -> list[tuple[Array, ...]]:
        errors.update(dict.fromkeys(range(start, stop), error))
        blank = [_blank(_stored(s), (stop - start, *(d or 0 for d in s.shape))) for s in self.signature.outputs]
        if self.outliers is not None:
            blank.append(np.zeros(stop - start, np.float32))
        return [tuple(blank)]

    def _check_shapes(self, outputs: Sequence[Array], bucket: int) -> None:
        """What has another shape than declared is no answer: some operations give unset memory where nothing can be computed."""
        for spec, output in zip(self.signature.outputs, outputs, strict=self.outliers is None):
            declared = (bucket, *spec.shape)
            if output.shape != declared and not _suits(output.shape, declared):
                raise GraphError(
                    f"output {spec.name} has shape {_words(output.shape)} where {_words(declared)} is declared"
                )

    def _refuse_non_finite(self, outputs: Sequence[Array], errors: dict[int, RpcError]) -> None:
        for spec, output in zip(self.signature.outputs, outputs, strict=True):
            if not spec.finite or output.dtype.kind != "f":
                continue
            finite = np.isfinite(output)
            if finite.all():  # mostly so: the look row by row is for the others
                continue
            for row in np.flatnonzero(~finite.reshape(len(output), -1).all(axis=1)).tolist():
                if row not in errors:
                    cause = self._cause(f"output {spec.name} is NaN or infinite")
                    errors[row] = NonFiniteOutput(details={"output": spec.name}, cause=cause)


def _joined(parts: Sequence[Array]) -> Array:
    """Pieces of one output as a whole; what failed had no size along free dimensions and takes that of what was answered."""
    shape = max((part.shape[1:] for part in parts), key=math.prod)
    return np.concatenate([part if part.size else _blank(part.dtype, (len(part), *shape)) for part in parts])


def _suits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    if len(shape) != len(declared):
        return False
    return all(dim in (None, size) for size, dim in zip(shape, declared, strict=True))


def _words(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if dim is None else str(dim) for dim in shape)}]"


def pad(column: Array, bucket: int) -> Array:
    """Grow a column to `bucket` rows by repeating its last one, which the graph is known to be asked for anyway."""
    missing = bucket - len(column)
    if missing <= 0:
        return column
    return np.concatenate([column, np.repeat(column[-1:], missing, axis=0)])


def _stored(spec: TensorSpec) -> np.dtype[Any]:
    return np.dtype(object if spec.dtype == STRING else spec.dtype)


def _blank(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    return np.full(shape, b"" if dtype.kind == "O" else 0, dtype)
