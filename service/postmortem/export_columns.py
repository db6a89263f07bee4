"""Recorded samples as Arrow: inputs in the types that `predict --input` and `publish --calibration` read, and answers beside them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.offline.schema import prediction_fields
from hoverboard.postmortem.recorded import RecordedAnswer, RecordedVersion, SampleBlock, Truth

__all__ = ["LABEL", "answers_table", "inputs_table", "unified"]

LABEL: Final = "label"
"""The column of labels that a calibration file has."""
_TIME: Final = pa.timestamp("us", "UTC")


def inputs_table(block: SampleBlock, rows: Array, signature: Signature, *, labels: bool) -> pa.Table:
    """The inputs of some rows of a block: a column an input, null where it is missing.

    Args:
        rows: their indexes.
        labels: whether a last column says what each sample truly is; not where an input has its name.
    """
    columns: dict[str, Any] = {}
    for spec in signature.inputs:
        there = ~block.missing[spec.name][rows] & np.array([block.why_not[row] != "hashed" for row in rows], np.bool_)
        columns[spec.name] = _input(block.columns[spec.name][rows], there, spec)
    if labels and LABEL not in columns:
        columns[LABEL] = _labels([block.truths[row] for row in rows], signature)
    return pa.table(columns)


def answers_table(
    block: SampleBlock, rows: Array, signature: Signature, versions: Mapping[int, RecordedVersion]
) -> pa.Table:
    """What was answered to the same rows, what is true of them, and how each stands for others (`incl_prob`).

    Args:
        rows: their indexes; all of them were answered.
        signature: of the versions, by whose task a prediction has its columns.
        versions: by `RecordedVersion.id`.
    """
    answers = [answer for row in rows if (answer := block.answers[row]) is not None]
    truths = [block.truths[row] for row in rows]
    tags = [block.tags[row] for row in rows]
    columns: dict[str, Any] = {
        "at": pa.array(block.at_us[rows], _TIME),
        "model_version": pa.array([versions[answer.version_id].version for answer in answers], pa.int64()),
        "role": pa.array([answer.role for answer in answers], pa.string()),
        "process": pa.array([answer.process for answer in answers], pa.string()),
        "caller": pa.array([block.callers[row] for row in rows], pa.string()),
        "tags": pa.array([each and msgspec.json.encode(each, order="sorted").decode() for each in tags], pa.string()),
        "incl_prob": pa.array(block.incl_prob[rows], pa.float64()),
    }
    ids = [str(uuid.UUID(bytes=bytes(each))) for each in block.ids[rows].tolist()]
    predictions = [_prediction(id_, answer, signature) for id_, answer in zip(ids, answers, strict=True)]
    for field in prediction_fields(signature, outputs=False):
        if field.name != "top":  # of the other classes nothing is recorded
            columns[field.name] = pa.array([one.get(field.name) for one in predictions], field.type)
    columns["issue"] = pa.array([answer.issue for answer in answers], pa.int64())
    columns["true_label"] = pa.array([truth and truth.label for truth in truths], pa.string())
    columns["true_labels"] = pa.array([truth and truth.labels for truth in truths], pa.list_(pa.string()))
    columns["true_value"] = pa.array([truth and truth.value for truth in truths], pa.float64())
    columns["label_source"] = pa.array([truth and truth.source for truth in truths], pa.string())
    columns["why_not"] = pa.array([block.why_not[row] or None for row in rows], pa.string())
    return pa.table(columns)


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The one schema of all parts: a column that holds bytes that are no text in one of them is bytes in all."""
    first = schemas[0]
    for schema in schemas[1:]:
        for place, (one, other) in enumerate(zip(first, schema, strict=True)):
            if one.type != other.type:
                first = first.set(place, one if _has_bytes(one.type) else other)
    return first


def _has_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or (pa.types.is_list(kind) and _has_bytes(kind.value_type)))


def _input(column: Array, there: Array, spec: TensorSpec) -> Any:
    """One input as Arrow: lists in lists for its dimensions; a shape of [1] is the bare value, as calls may have it too."""
    kept = column[there]
    if spec.shape in ((), (1,)):
        shapes, rank = np.zeros((len(kept), 0), np.int64), 0
    else:
        rank = len(spec.shape)
        shapes = np.array([np.shape(sample) for sample in kept], np.int64).reshape(len(kept), rank)
    if spec.variable:
        parts = [np.asarray(sample).ravel() for sample in kept]
        flat = np.concatenate(parts) if parts else np.zeros(0, object if spec.dtype == STRING else spec.dtype)
    else:
        flat = kept.reshape(-1)
    found = _values(flat, spec)
    for place in reversed(range(rank)):
        lengths = np.repeat(shapes[:, place], shapes[:, :place].prod(axis=1))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        found = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), found)
    if there.all():
        return found
    places = np.where(there, np.cumsum(there) - 1, -1)
    return found.take(pa.array([place if place >= 0 else None for place in places.tolist()], pa.int64()))


def _values(flat: Array, spec: TensorSpec) -> Any:
    if spec.dtype != STRING:
        return pa.array(flat)
    column = pa.array(flat.tolist(), pa.binary())
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:  # some are no UTF-8: `predict --input` and `publish` take bytes as well
        return column


def _labels(truths: Sequence[Truth | None], signature: Signature) -> Any:
    if signature.task == "regression":
        return pa.array([truth and truth.value for truth in truths], pa.float64())
    if signature.task == "multi-label":
        given = [truth and (truth.labels if truth.label is None else [truth.label]) for truth in truths]
        return pa.array(given, pa.list_(pa.string()))
    return pa.array([truth and truth.label for truth in truths], pa.string())


def _prediction(sample_id: str, answer: RecordedAnswer, signature: Signature) -> dict[str, Any]:
    """The fields of a prediction, as far as they are recorded."""
    held = None
    if answer.labels is not None and answer.confidences is not None:
        pairs = zip(answer.labels, answer.confidences, strict=True)
        held = [{"label": label, "confidence": confidence} for label, confidence in pairs]
    outputs = {
        spec.name: _nested(answer.outputs[spec.name]) for spec in signature.outputs if spec.name in answer.outputs
    }
    return {
        "sample_id": sample_id,
        "label": answer.label,
        "confidence": answer.confidence,
        "labels": held,
        "value": answer.value,
        "p_value": answer.p_value,
        "outlier": None if answer.p_value is None else answer.outlier,
        "outputs": outputs or None,
    }


def _nested(output: Array) -> Any:
    return _decoded(output.tolist()) if output.dtype == object else output.tolist()


def _decoded(value: Any) -> Any:
    """A model's texts; None for bytes that are none."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
