"""What a model answers, as typed values: one prediction a sample, and all of a call's as NumPy arrays."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from hoverboard.client.described import TensorInfo

__all__ = ["CallTiming", "NamedConfidence", "Prediction", "Predictions"]


class NamedConfidence(msgspec.Struct, frozen=True):
    """A label and its probability, 0 to 1."""

    label: str
    confidence: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a model says of one sample; what its task does not have is None.

    Attributes:
        sample_id: UUIDv7 under which the sample is remembered; `label` wants it.
        label: classification: the most probable class; `Uncategorized` where the model abstains.
        confidence: classification: that class's probability, 0 to 1.
        labels: multi-label: every label at or above its threshold, most probable first.
        top: classification and multi-label: the `top_k` most probable ones, most probable first.
        value: regression: the predicted value, in the unit the model was trained on.
        p_value: conformal p-value, 0 to 1: how usual the sample is. None for a version without calibration.
        outlier: whether `p_value` is at most the version's alpha. None without calibration.
        nearest: the most probable label, where the model abstains.
        outputs: the model's outputs by name, nested lists: where they were asked for, and always for embeddings and raw
            models. `Predictions.outputs` has them as arrays.
    """

    sample_id: str
    label: str | None = None
    confidence: float | None = None
    labels: tuple[NamedConfidence, ...] | None = None
    top: tuple[NamedConfidence, ...] | None = None
    value: float | None = None
    p_value: float | None = None
    outlier: bool | None = None
    nearest: str | None = None
    outputs: dict[str, Any] | None = None


class CallTiming(msgspec.Struct, frozen=True):
    """Where a call's time went on the server.

    Attributes:
        queue_ms: longest wait of its samples for their turn, in milliseconds.
        infer_ms: execution time of its batches, in milliseconds.
        batch: samples that shared the (largest) batch.
    """

    queue_ms: float
    infer_ms: float
    batch: int


class _Result(msgspec.Struct, frozen=True):
    model: str
    version: int
    predictions: list[Prediction]
    timing: CallTiming


_decode = msgspec.json.Decoder(_Result).decode


class Predictions(Sequence[Prediction]):
    """The predictions of one call, in the order of its samples; arrays have one row a sample.

        answer = client.predict("digits", images)
        answer[0].label, answer.confidence.mean(), answer.version

    Attributes:
        model: that answered.
        version: its number.
        timing: what it took on the server; of several calls, the longest wait, all execution, the largest batch.
        specs: what the version says of its outputs, where whole ones came along.
    """

    def __init__(
        self,
        model: str,
        version: int,
        predictions: Sequence[Prediction],
        timing: CallTiming,
        *,
        outputs: Sequence[TensorInfo] = (),
    ) -> None:
        self.model = model
        self.version = version
        self.timing = timing
        self._rows = tuple(predictions)
        self.specs = tuple(outputs)

    @classmethod
    def read(cls, result: bytes | msgspec.Raw) -> Predictions:
        """The result of a `predict` call.

        Raises:
            msgspec.DecodeError: it is none.
        """
        answer = _decode(result)
        return cls(answer.model, answer.version, answer.predictions, answer.timing)

    def described(self, outputs: Sequence[TensorInfo]) -> Predictions:
        """The same, knowing the dtypes of its outputs."""
        return Predictions(self.model, self.version, self._rows, self.timing, outputs=outputs)

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Those of several calls that one version answered, as one."""
        first, timings = parts[0], [part.timing for part in parts]
        timing = CallTiming(
            max(each.queue_ms for each in timings),
            sum(each.infer_ms for each in timings),
            max(each.batch for each in timings),
        )
        rows = [row for part in parts for row in part]
        return cls(first.model, first.version, rows, timing, outputs=first.specs)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        if isinstance(index, slice):
            return Predictions(self.model, self.version, self._rows[index], self.timing, outputs=self.specs)
        return self._rows[index]

    def __repr__(self) -> str:
        return f"<{len(self)} predictions of {self.model} version {self.version}>"

    @property
    def has_outputs(self) -> bool:
        """Whether whole outputs came along."""
        return bool(self._rows) and self._rows[0].outputs is not None

    @property
    def sample_ids(self) -> list[str]:
        """UUIDv7s, by which samples are labelled later."""
        return [row.sample_id for row in self._rows]

    @cached_property
    def labels(self) -> NDArray[np.object_]:
        """Object `(n,)`: a classification's label each; a multi-label model's tuple of labels that hold; None otherwise."""
        found = np.empty(len(self), dtype=object)
        for at, row in enumerate(self._rows):
            found[at] = row.label if row.labels is None else tuple(each.label for each in row.labels)
        return found

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """Float32 `(n,)`: the probability of `labels`, classification only; NaN otherwise."""
        return np.array([row.confidence for row in self._rows], dtype=np.float32)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Float64 `(n,)`: predicted values, regression only; NaN otherwise."""
        return np.array([row.value for row in self._rows], dtype=np.float64)

    @cached_property
    def p_values(self) -> NDArray[np.float32]:
        """Float32 `(n,)` in (0, 1]: how usual each sample is; NaN for a version without calibration."""
        return np.array([row.p_value for row in self._rows], dtype=np.float32)

    @cached_property
    def outlier(self) -> NDArray[np.bool_] | None:
        """Bool `(n,)`: whether each sample is an outlier. None for a version without calibration, which cannot tell."""
        if all(row.outlier is None for row in self._rows):
            return None
        return np.array([row.outlier is True for row in self._rows], dtype=np.bool_)

    @cached_property
    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """Whole outputs by name, `(n, ...)` each in the version's dtype (object arrays of texts for strings); empty where
        none came along. Samples whose outputs differ in length make an object array of arrays.
        """
        if not self.has_outputs:
            return {}
        dtypes = {spec.name: spec.dtype for spec in self.specs}
        names = self._rows[0].outputs or {}
        return {name: _array([(row.outputs or {})[name] for row in self._rows], dtypes.get(name)) for name in names}


def _array(rows: list[Any], dtype: str | None) -> NDArray[Any]:
    kind = np.dtype(object) if dtype == "string" else None if dtype is None else np.dtype(dtype)
    if dtype == "string":
        rows = _texts(rows)
    try:
        return np.array(rows, dtype=kind)
    except ValueError:  # not all of one length
        ragged = np.empty(len(rows), dtype=object)
        ragged[:] = [np.array(row, dtype=kind) for row in rows]
        return ragged


def _texts(value: Any) -> Any:
    """Texts, and the bytes that `{"b64": ...}` stands for where a model answered no UTF-8."""
    if isinstance(value, list):
        return [_texts(each) for each in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value
