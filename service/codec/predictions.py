"""From the engine's answer to the predictions a client reads."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from hoverboard.contract.calls import PredictAnswer
from hoverboard.contract.heads import probabilities, thresholds
from hoverboard.contract.outlier import is_outlier
from hoverboard.contract.signature import STRING, Array, Signature
from hoverboard.errors import InternalError, NonFiniteOutput

__all__ = ["UNCATEGORIZED", "PredictionEncoder"]

UNCATEGORIZED = "Uncategorized"
"""The label of a sample that is too strange for any other, where the model abstains."""

# Below it, Python's own loop over floats is quicker than a call of NumPy.
_FEW = 32


class PredictionEncoder:
    """Builds the predictions of one signature's answers.

    Args:
        alpha: of the version's outliers; see `is_outlier`.
        uncategorized_below: at a p-value of at most this the label is `UNCATEGORIZED`; None never abstains.
    """

    def __init__(self, signature: Signature, alpha: float, uncategorized_below: float | None = None) -> None:
        self._signature = signature
        self._alpha = alpha
        self._below = uncategorized_below
        self._task = signature.task
        self._always_outputs = signature.task in ("embedding", "raw")
        self._reads_outputs = self._always_outputs or signature.task == "multi-label"
        self._thresholds = thresholds(signature)
        self._names = tuple(spec.name for spec in signature.outputs)
        self._label_texts = [orjson.dumps(label).decode() for label in signature.labels or ()]

    def wants_outputs(self, *, top_k: int, outputs: bool) -> bool:
        """Whether these options need whole output columns."""
        return outputs or self._reads_outputs or (top_k > 1 and self._task == "classification")

    def of(self, answer: PredictAnswer, *, top_k: int, outputs: bool) -> list[dict[str, Any]]:
        """See `Codec.encode`."""
        predictions = [{"sample_id": sample_id} for sample_id in _uuids(answer.sample_ids)]
        if self._task == "classification":
            self._add_classes(predictions, answer, top_k)
        elif self._task == "multi-label":
            self._add_labels(predictions, answer, top_k)
        elif self._task == "regression":
            self._add_values(predictions, answer)
        self._add_p_values(predictions, answer)
        if outputs or self._always_outputs:
            self._add_outputs(predictions, answer)
        return predictions

    def text_of(self, answer: PredictAnswer, *, top_k: int, outputs: bool) -> bytes:
        """See `Codec.encode_text`."""
        one = None
        if not outputs and top_k == 1 and len(answer.sample_ids) == 16:
            one = self._one_class(answer) if self._task == "classification" else None
        if one is not None:
            return one
        # orjson writes NumPy's numbers with as many digits as their type needs: 0.1 of a float32 is `0.1`.
        return orjson.dumps(self.of(answer, top_k=top_k, outputs=outputs), option=orjson.OPT_SERIALIZE_NUMPY)

    def _one_class(self, answer: PredictAnswer) -> bytes | None:
        """The commonest answer, one sample's class, written straight away: half the time of the general way."""
        if answer.label_index is None or answer.confidence is None or not self._label_texts:
            return None
        label, confidence = self._label_texts[answer.label_index[0]], _number(answer.confidence[0])
        p_value, outlier = "null", "null"
        shown, nearest = label, ""
        if answer.p_value is not None:
            usual = answer.p_value[0]
            p_value = _number(usual)
            outlier = "true" if is_outlier(usual, self._alpha) else "false"
            if self._abstains(usual):
                shown, nearest = f'"{UNCATEGORIZED}"', f',"nearest":{label}'
        (sample_id,) = _uuids(answer.sample_ids)
        return (
            f'[{{"sample_id":"{sample_id}","label":{shown},"confidence":{confidence},'
            f'"top":[{{"label":{label},"confidence":{confidence}}}],"p_value":{p_value},"outlier":{outlier}{nearest}}}]'
        ).encode()

    def _abstains(self, p_value: np.float32) -> bool:
        return self._below is not None and bool(p_value <= self._below)

    def _add_classes(self, predictions: list[dict[str, Any]], answer: PredictAnswer, top_k: int) -> None:
        if answer.label_index is None or answer.confidence is None:
            raise InternalError
        indexes, confidences = answer.label_index.tolist(), _finite(answer.confidence)
        tops = self._tops(answer, top_k) if top_k > 1 else None
        for row, prediction in enumerate(predictions):
            label, confidence = self._label(indexes[row]), confidences[row]
            prediction["label"] = label
            prediction["confidence"] = confidence
            prediction["top"] = [{"label": label, "confidence": confidence}] if tops is None else tops[row]

    def _tops(self, answer: PredictAnswer, top_k: int) -> list[list[dict[str, Any]]]:
        """The `top_k` most probable classes of each sample, most probable first."""
        confidences = _finite(probabilities(self._signature, _columns(answer)[0]))
        # Stable: of equally probable classes the first is named first, as argmax has it.
        order = np.argsort(-confidences, axis=1, kind="stable")[:, :top_k]
        return [self._named(row, indexes) for row, indexes in zip(confidences, order, strict=True)]

    def _add_labels(self, predictions: list[dict[str, Any]], answer: PredictAnswer, top_k: int) -> None:
        """Every label at or above its threshold, most probable first; `top` whatever the thresholds."""
        confidences = _finite(probabilities(self._signature, _columns(answer)[0]))
        order = np.argsort(-confidences, axis=1, kind="stable")
        for prediction, row, indexes in zip(predictions, confidences, order, strict=True):
            prediction["labels"] = self._named(row, indexes[row[indexes] >= self._thresholds[indexes]])
            prediction["top"] = self._named(row, indexes[:top_k])

    def _named(self, confidences: Array, indexes: Array) -> list[dict[str, Any]]:
        return [{"label": self._label(index), "confidence": confidences[index]} for index in indexes.tolist()]

    def _label(self, index: int) -> str:
        return str(index) if self._signature.labels is None else self._signature.labels[index]

    def _add_values(self, predictions: list[dict[str, Any]], answer: PredictAnswer) -> None:
        if answer.value is None:
            raise InternalError
        for prediction, value in zip(predictions, _finite(answer.value), strict=True):
            prediction["value"] = value

    def _add_p_values(self, predictions: list[dict[str, Any]], answer: PredictAnswer) -> None:
        if answer.p_value is None:
            for prediction in predictions:
                prediction["p_value"] = prediction["outlier"] = None
            return
        may_abstain = self._below is not None
        for prediction, p_value in zip(predictions, _finite(answer.p_value), strict=True):
            prediction["p_value"] = p_value
            prediction["outlier"] = bool(is_outlier(p_value, self._alpha))
            if may_abstain and self._abstains(p_value):
                _abstain(prediction)

    def _add_outputs(self, predictions: list[dict[str, Any]], answer: PredictAnswer) -> None:
        columns = [
            _strings(column) if spec.dtype == STRING else _finite(np.ascontiguousarray(column))
            for spec, column in zip(self._signature.outputs, _columns(answer), strict=True)
        ]
        for row, prediction in enumerate(predictions):
            prediction["outputs"] = {name: column[row] for name, column in zip(self._names, columns, strict=True)}


def _abstain(prediction: dict[str, Any]) -> None:
    """Say of a sample that is too strange for any label; `nearest` is the most probable one."""
    if "label" in prediction:
        prediction["nearest"], prediction["label"] = prediction["label"], UNCATEGORIZED
    elif "labels" in prediction:
        prediction["nearest"], prediction["labels"] = prediction["top"][0]["label"], []


def _columns(answer: PredictAnswer) -> tuple[Array, ...]:
    if answer.outputs is None:
        raise InternalError
    return answer.outputs


def _finite(array: Array) -> Array:
    """The array itself, which JSON can hold."""
    if array.dtype.kind != "f":
        return array
    # NumPy's own way costs more than the rest of a small call put together.
    few = array.ndim == 1 and len(array) <= _FEW
    if not (all(map(math.isfinite, array.tolist())) if few else np.isfinite(array).all()):
        raise NonFiniteOutput
    return array


def _number(value: np.float32) -> str:
    """A number as JSON, with as many digits as its type needs."""
    if not math.isfinite(value):
        raise NonFiniteOutput
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _strings(column: Array) -> list[Any]:
    return [_strings(value) if isinstance(value, np.ndarray) else _text(value) for value in column]


def _text(data: bytes) -> Any:
    """A string of the model's; bytes that are not UTF-8 travel as `{"b64": ...}`, as they do on the way in."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(data).decode()}


def _uuids(data: bytes) -> Iterator[str]:
    digits = data.hex()
    for at in range(0, len(digits), 32):
        one = digits[at : at + 32]
        yield f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}"
