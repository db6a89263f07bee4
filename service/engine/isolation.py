"""Keeps one row's failure its own: a batch that fails is halved until the offender stands alone, and NaN is an error of its row.

In: a batch's columns and an executor. Out: outputs for every row, with the error of each that has none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoverboard.backends.executor import Executor, GraphError, OutOfMemory
from hoverboard.backends.reasons import about_input
from hoverboard.contract.signature import STRING, Array, TensorSpec
from hoverboard.engine.buckets import CostModel
from hoverboard.errors import Cause, ModelFailed, NonFiniteOutput, Overloaded, RpcError
from hoverboard.versions import Manifest

__all__ = ["Failure", "RowIsolation", "pad"]


@dataclass(frozen=True, slots=True)
class Failure:
    """The last sample that a version could not answer.

    Attributes:
        at: seconds since the epoch.
        reason: the graph's own; may quote the sample.
    """

    at: float
    reason: str


class RowIsolation:
    """Runs batches of one version.

    Args:
        manifest: of the version.
        executor: runs its graph.
        costs: its buckets; running out of memory takes the larger ones away.
        scored: whether the graph gives a score after the outputs.

    Attributes:
        failure: the last sample that failed.
    """

    def __init__(self, manifest: Manifest, executor: Executor, costs: CostModel, *, scored: bool) -> None:
        self._version = manifest.version
        self._signature = manifest.signature
        self._executor = executor
        self._costs = costs
        self._scored = scored
        self.failure: Failure | None = None

    def run(
        self, columns: Sequence[Array], rows: int, bucket: int, errors: dict[int, RpcError]
    ) -> tuple[list[Array], bool]:
        """Run one batch, blocking; never raises for what a sample did.

        Args:
            columns: one array per input with at least `rows` rows, unpadded.
            rows: of the batch.
            bucket: to pad to, at least `rows`.
            errors: row -> why it failed; added to.

        Returns:
            One array per output, then the score; and whether the batch ran in one piece.
        """
        pieces = self._attempt(columns, 0, rows, bucket, errors)
        whole = len(pieces) == 1
        return [parts[0] if whole else _joined(parts) for parts in zip(*pieces, strict=True)], whole

    def _attempt(
        self, columns: Sequence[Array], start: int, stop: int, bucket: int, errors: dict[int, RpcError]
    ) -> list[tuple[Array, ...]]:
        """Run rows `start:stop`; halve them where the graph fails, until the offender stands alone."""
        rows = stop - start
        try:
            outputs = self._executor.run([pad(column[start:stop], bucket) for column in columns])
            self._check_shapes(outputs, bucket)
            return [tuple(output[:rows] for output in outputs)]
        except OutOfMemory:
            # Nobody's fault: use smaller buckets from now on, and try again with them.
            if not self._costs.lower_to(bucket):
                return self._failed(start, stop, Overloaded("Out of memory on the accelerator"), errors)
        except GraphError as error:
            if rows == 1:
                return self._failed(start, stop, self._model_failed(str(error)), errors)
        return self._halves(columns, start, stop, errors)

    def _halves(
        self, columns: Sequence[Array], start: int, stop: int, errors: dict[int, RpcError]
    ) -> list[tuple[Array, ...]]:
        size = max(1, min((stop - start + 1) // 2, self._costs.largest))
        pieces = []
        for first in range(start, stop, size):
            last = min(first + size, stop)
            pieces += self._attempt(columns, first, last, self._costs.bucket_for(last - first), errors)
        return pieces

    def _model_failed(self, reason: str) -> ModelFailed:
        """The error a caller gets: of the graph's own reason only what is about the input. All of it is for the operator."""
        cause, public = self._cause(reason), about_input(reason)
        if public is None:
            return ModelFailed(cause=cause)
        return ModelFailed(f"{ModelFailed.default}: {public}", details={"reason": public}, cause=cause)

    def _cause(self, reason: str) -> Cause:
        self.failure = Failure(time.time(), reason)
        return Cause(self._version, reason)

    def _failed(self, start: int, stop: int, error: RpcError, errors: dict[int, RpcError]) -> list[tuple[Array, ...]]:
        errors.update(dict.fromkeys(range(start, stop), error))
        blank = [_blank(_stored(s), (stop - start, *(d or 0 for d in s.shape))) for s in self._signature.outputs]
        if self._scored:
            blank.append(np.zeros(stop - start, np.float32))
        return [tuple(blank)]

    def _check_shapes(self, outputs: Sequence[Array], bucket: int) -> None:
        """What has another shape than declared is no answer: some operations give unset memory where nothing can be computed."""
        for spec, output in zip(self._signature.outputs, outputs, strict=not self._scored):
            declared = (bucket, *spec.shape)
            if output.shape != declared and not _suits(output.shape, declared):
                raise GraphError(
                    f"output {spec.name} has shape {_words(output.shape)} where {_words(declared)} is declared"
                )

    def refuse_non_finite(self, outputs: Sequence[Array], errors: dict[int, RpcError]) -> None:
        for spec, output in zip(self._signature.outputs, outputs, strict=True):
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
