"""Executed batches as rows of `samples`, `predictions` and `outliers`: Arrow, many batches at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from hoverboard.contract.heads import held
from hoverboard.contract.signature import Array
from hoverboard.contract.times import times_ms
from hoverboard.database.known import KnownVersion, VersionKey, version_key
from hoverboard.journal.batch_forms import form
from hoverboard.journal.records import WHYS, BatchRecord
from hoverboard.recorder.rows.arrays import ARRAYS, real_arrays, text_arrays
from hoverboard.recorder.rows.columns import BYTES, TIME, uuid_column
from hoverboard.recorder.rows.group import BatchGroup, Side, alike
from hoverboard.recorder.rows.layout import Layout, Unencodable, is_vector
from hoverboard.recorder.rows.tensors import pack, pack_rows
from hoverboard.recorder.rows.text import json_objects, json_values, tags_column, text_column

__all__ = ["Rows", "rows_of"]

_TEXT: Final = pa.large_string()
_INT_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Rows:
    """Record batches of joined batches, one for each table; fields are named as the table's columns.

    Attributes:
        samples: every kept row.
        predictions: those that were answered.
        outliers: those that were found strange; None for none.
    """

    samples: Any
    predictions: Any
    outliers: Any


def rows_of(
    records: Iterable[BatchRecord], versions: Mapping[VersionKey, KnownVersion], process: str
) -> Iterator[Rows]:
    """The rows of many batches that `process` ran, joined where version, policy and shapes are the same.

    Raises:
        Unencodable: a version is not known, or a record contradicts itself or its version's signature.
    """
    # In two steps, since a form is quick to compare and a layout is not: `alike` is asked once for each form.
    forms: dict[Any, list[BatchRecord]] = {}
    groups: dict[Any, tuple[Layout, list[BatchRecord]]] = {}
    for record in records:
        if not record.rows:
            continue
        kind = form(record)
        group = forms.get(kind)
        if group is None:
            layout = _layout(record, versions)
            _, group = groups.setdefault(alike(record, layout), (layout, []))
            forms[kind] = group
        group.append(record)
    for layout, group in groups.values():
        first = group[0]
        try:
            yield _Tables(BatchGroup(group), versions[version_key(first)], layout, process).rows()
        except Unencodable as error:
            raise Unencodable(f"{_place(first)}: {error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, pa.ArrowException) as error:
            raise Unencodable(f"{_place(first)}: {type(error).__name__}") from error


def _layout(record: BatchRecord, versions: Mapping[VersionKey, KnownVersion]) -> Layout:
    known = versions.get(version_key(record))
    if known is None:
        raise Unencodable(f"{_place(record)}: this version is not known")
    try:
        return Layout.of(record, known.signature)
    except Unencodable as error:
        raise Unencodable(f"{_place(record)}: {error}") from error


def _place(record: BatchRecord) -> str:
    return f"batch {record.batch_id.hex()} of {record.model} version {record.version}"


class _Tables:
    """The rows of one group."""

    def __init__(self, group: BatchGroup, known: KnownVersion, layout: Layout, process: str) -> None:
        self._group = group
        self._process = process
        self._known = known
        self._layout = layout
        self._n = group.rows
        self._at = times_ms(group.ids) * 1000

    def rows(self) -> Rows:
        predictions = self._predictions()
        if self._group.answered is not None:
            # A row that ended in an error has a sample and no prediction: it was never answered.
            predictions = predictions.filter(pa.array(self._group.answered))
        return Rows(self._samples(), predictions, self._outliers())

    def _samples(self) -> Any:
        group, calls = self._group, self._group.calls
        vector, tensors = self._vector_and_tensors()
        incl_prob = group.numbers("incl_prob", np.float32)
        return pa.record_batch(
            {
                "at": pa.array(self._at, TIME),
                "id": uuid_column(group.ids),
                "model": _constant(group.first.model, self._n),
                "inputs": self._inputs(),
                "vector": vector,
                "tensors": tensors,
                "tags": group.each(tags_column([call.tags for call in calls])),
                "request_id": group.each(text_column([call.request_id for call in calls])),
                "traceparent": group.each(text_column([call.traceparent for call in calls])),
                "incl_prob": pa.array(np.ones(self._n, np.float32) if incl_prob is None else incl_prob),
                "why": self._whys(),
                "caller": group.each(text_column([call.caller for call in calls])),
            }
        )

    def _predictions(self) -> Any:
        group = self._group
        first_fits = is_vector(group.first.outputs[0])
        label, confidence = self._labels(), self._numbers("confidence", np.float32)
        labels = confidences = pa.nulls(self._n, ARRAYS)
        if self._known.signature.task == "multi-label":  # the most probable label may not hold, and others may, too
            label, confidence = pa.nulls(self._n, label.type), pa.nulls(self._n, confidence.type)
            labels, confidences = self._held()
        rest = {name: group.column("outputs", i) for i, name in enumerate(self._layout.outputs) if i or not first_fits}
        return pa.record_batch(
            {
                "at": pa.array(self._at, TIME),
                "sample_id": uuid_column(group.ids),
                "version_id": pa.array(np.full(self._n, self._known.id, np.int32)),
                "role": group.each(text_column([call.role for call in group.calls])),
                "predicted_at": pa.array(group.of_batches("started_us"), TIME),
                "label": label,
                "confidence": confidence,
                "value": self._numbers("value", np.float64),
                "outputs": self._vector("outputs", 0) if first_fits else pa.nulls(self._n, ARRAYS),
                "output_tensors": self._packed(rest),
                "p_value": self._numbers("p_value", np.float32),
                "batch_id": uuid_column(group.batch_ids),
                "batch_size": _int32(group.of_batches("executed")),
                "bucket": _int32(group.of_batches("bucket")),
                "queue_us": _int32(group.numbers("queue_us", np.uint32)),
                "infer_us": _int32(group.of_batches("infer_us")),
                "labels": labels,
                "confidences": confidences,
                "process": _constant(self._process, self._n),
            }
        )

    def _outliers(self) -> Any:
        flags = self._group.numbers("outlier", np.bool_)
        p_values = self._group.numbers("p_value", np.float32)
        if flags is None or p_values is None or not flags.any():
            return None
        rows = np.flatnonzero(flags)
        return pa.record_batch(
            {
                "at": pa.array(self._at[rows], TIME),
                "sample_id": uuid_column(self._group.ids[rows]),
                "version_id": pa.array(np.full(len(rows), self._known.id, np.int32)),
                "p_value": pa.array(p_values[rows]),
            }
        )

    def _inputs(self) -> Any:
        group = self._group
        if group.first.policy == "hashed":
            digits = [digest.tobytes().hex() for digest in group.column("columns", 0)]
            return json_objects(
                {name: pa.array([f'"{each}"' for each in digits], _TEXT) for name in self._layout.members}, self._n
            )
        members = {
            name: None if place is None else json_values(group.column("columns", place))
            for name, place in self._layout.members.items()
        }
        return json_objects(members, self._n)

    def _vector_and_tensors(self) -> tuple[Any, Any]:
        group, vector, places = self._group, pa.nulls(self._n, ARRAYS), dict(self._layout.tensors)
        if self._layout.vector is not None:
            name, place = self._layout.vector
            if is_vector(group.first.columns[place]):
                vector = self._vector("columns", place)
            else:
                places[name] = place
        return vector, self._packed({name: group.column("columns", place) for name, place in places.items()})

    def _vector(self, side: Side, place: int) -> Any:
        values, lengths = self._group.vector(side, place)
        return real_arrays(values, lengths)

    def _packed(self, columns: Mapping[str, Array]) -> Any:
        if not columns:
            return pa.nulls(self._n, BYTES)
        if any(column.dtype == object for column in columns.values()):
            return pa.array([pack({k: v[row, ...] for k, v in columns.items()}) for row in range(self._n)], BYTES)
        matrix = pack_rows(columns)
        # All rows have the same length: one buffer and computed offsets, without a Python object for each.
        offsets = np.arange(self._n + 1, dtype=np.int64) * matrix.shape[1]
        return pa.LargeBinaryArray.from_buffers(BYTES, self._n, [None, pa.py_buffer(offsets), pa.py_buffer(matrix)])

    def _labels(self) -> Any:
        indexes = self._group.numbers("label_index", np.int32)
        if indexes is None:
            return pa.nulls(self._n, _TEXT)
        labels = self._known.signature.labels
        return pa.array(indexes).cast(_TEXT) if labels is None else text_column(labels).take(pa.array(indexes))

    def _held(self) -> tuple[Any, Any]:
        """The labels that a multi-label version gave, and their probabilities."""
        signature = self._known.signature
        indexes, confidences, lengths = held(signature, self._group.column("outputs", 0))
        labels = text_column(signature.labels or ()).to_pylist()
        return text_arrays(labels, indexes, lengths), real_arrays(confidences, lengths)

    def _whys(self) -> Any:
        codes = self._group.numbers("why", np.uint8)
        return _constant(WHYS[0], self._n) if codes is None else text_column(WHYS).take(pa.array(codes))

    def _numbers(self, name: str, dtype: Any) -> Any:
        numbers = self._group.floats(name)
        if numbers is None:
            return pa.nulls(self._n, pa.from_numpy_dtype(dtype))
        return pa.array(numbers.astype(dtype, copy=False))


def _constant(text: str, rows: int) -> Any:
    return text_column([text]).take(pa.array(np.zeros(rows, np.int64)))


def _int32(values: Any) -> Any:
    """What does not fit is the largest number that does."""
    return pa.array(np.minimum(values, _INT_MAX).astype(np.int32))
