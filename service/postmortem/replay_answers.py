"""Answers in files with the same rows, as they are compared: numbers, labels, truths, and words for a person."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.contract.signature import Array, Signature
from hoverboard.offline.parquet_source import streamed

__all__ = ["AnswerReader", "Woven", "aligned", "apart"]

_MOST_ROWS: Final = 8192
_MOST_NUMBERS: Final = 1_000_000
_NO_LABEL: Final = "(none)"
"""What an empty set of labels is called."""


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Reads answers of versions with one signature, or another one of its task."""

    signature: Signature

    @property
    def of(self) -> str:
        """What the numbers of an answer are."""
        names = {"classification": "confidence", "multi-label": "confidence", "regression": "value"}
        return names.get(self.signature.task, "outputs")

    @property
    def rows(self) -> int:
        """How many rows are worth having in memory at once."""
        if self.of != "outputs":
            return _MOST_ROWS
        each = sum(math.prod(dim or 1024 for dim in spec.shape) for spec in self.signature.outputs)
        return max(1, min(_MOST_ROWS, _MOST_NUMBERS // max(1, each)))

    def numbers(self, table: pa.Table) -> list[Array | None]:
        """The numbers of each answer, float64; None for a row without an answer."""
        if self.of == "outputs":
            return [_flat(value) for value in table.column("outputs").to_pylist()]
        if self.signature.task == "multi-label":
            each = table.column("labels").to_pylist()
            return [
                None if one is None else np.array([label["confidence"] for label in one], np.float64) for one in each
            ]
        values = table.column(self.of).to_pylist()
        return [None if value is None else np.array([value], np.float64) for value in values]

    def held(self, table: pa.Table) -> list[frozenset[str] | None] | None:
        """The labels of each answer, None for a row without an answer; None for a task without labels."""
        if self.signature.task == "classification":
            return [None if label is None else frozenset({label}) for label in table.column("label").to_pylist()]
        if self.signature.task == "multi-label":
            each = table.column("labels").to_pylist()
            return [None if one is None else frozenset(label["label"] for label in one) for one in each]
        return None

    def labels(self, table: pa.Table) -> list[str | None] | None:
        """The label of each answer, all that hold as one; None for a task without labels."""
        held = self.held(table)
        return None if held is None else [None if one is None else _together(one) for one in held]

    def truths(self, recorded: pa.Table) -> list[Any]:
        """What each sample truly is, in the form of an answer; None where nobody said it in that form."""
        if self.signature.task == "regression":
            values: list[Any] = recorded.column("true_value").to_pylist()
            return values
        label = recorded.column("true_label").to_pylist()
        if self.signature.task == "classification":
            return list(label)
        if self.signature.task == "multi-label":
            several = recorded.column("true_labels").to_pylist()
            return [one if many is None else _together(many) for one, many in zip(label, several, strict=True)]
        return [None] * len(label)

    def words(self, table: pa.Table, row: int) -> str:
        """One answer as a person reads it."""
        one = table.slice(row, 1)
        numbers, labels = self.numbers(one)[0], self.labels(one)
        if numbers is None:
            error = one.column("error")[0].as_py() if "error" in one.column_names else None
            return f"no answer: {error['message']}" if error else "no answer"
        if labels is not None:
            confidences = ", ".join(f"{number:.3f}" for number in numbers)
            return f"{labels[0]} ({confidences})" if confidences else _NO_LABEL
        shown = ", ".join(f"{number:.6g}" for number in numbers[:4])
        return shown if len(numbers) <= 4 else f"{shown}, ... ({len(numbers)} numbers)"


@dataclass(frozen=True, slots=True)
class Woven:
    """Answers of several versions, each to its own rows, in the order of all rows.

    Attributes:
        turns: a file whose `model_version` says of each row whose it is.
        by_version: number -> the answers to the rows of that version.
    """

    turns: Path
    by_version: Mapping[int, Path]


def aligned(sources: Sequence[Path | Woven], rows: int) -> Iterator[tuple[pa.Table, ...]]:
    """The same rows of several files, `rows` at a time, whatever their row groups are."""
    yield from zip(*(_tables(source, rows) for source in sources), strict=True)


def apart(one: Array | None, other: Array | None) -> float:
    """The largest difference of any number; NaN where they cannot be compared."""
    if one is None or other is None or one.shape != other.shape:
        return math.nan
    with np.errstate(invalid="ignore"):
        return float(np.abs(one - other).max(initial=0.0))


def _tables(source: Path | Woven, size: int) -> Iterator[pa.Table]:
    if isinstance(source, Woven):
        yield from _woven(source, size)
        return
    rows = _RowStream(source, size)
    while (table := rows.take(size)).num_rows:
        yield table


def _woven(woven: Woven, size: int) -> Iterator[pa.Table]:
    streams = {number: _RowStream(path, size) for number, path in woven.by_version.items()}
    turns = _RowStream(woven.turns, size, ["model_version"])
    while (turn := turns.take(size)).num_rows:
        numbers = turn.column(0).to_numpy()
        places = {number: np.flatnonzero(numbers == number) for number in streams}
        each = [streams[number].take(len(rows)) for number, rows in places.items() if len(rows)]
        yield pa.concat_tables(each).take(pa.array(np.argsort(np.concatenate(list(places.values())))))


class _RowStream:
    """The rows of a file, any number at a time."""

    def __init__(self, path: Path, size: int, columns: Sequence[str] | None = None) -> None:
        self._batches = _batches(path, size, columns)
        self._waiting: pa.Table = pa.Table.from_batches([], pq.read_schema(path))

    def take(self, rows: int) -> pa.Table:
        """The next `rows` rows, or as many as there are."""
        while self._waiting.num_rows < rows and (batch := next(self._batches, None)) is not None:
            held = [self._waiting] if self._waiting.num_rows else []
            self._waiting = pa.concat_tables([*held, pa.Table.from_batches([batch])])
        table, self._waiting = self._waiting.slice(0, rows), self._waiting.slice(rows)
        return table


def _batches(path: Path, size: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with streamed(path) as file:
        yield from file.iter_batches(batch_size=size, columns=columns)


def _flat(value: Any) -> Array | None:
    """All numbers of an answer's outputs, float64, in the outputs' order."""
    if value is None:
        return None
    numbers: list[float] = []
    _gather(value, numbers)
    return np.array(numbers, np.float64)


def _gather(value: Any, numbers: list[float]) -> None:
    if isinstance(value, Mapping):
        for item in value.values():
            _gather(item, numbers)
    elif isinstance(value, list):
        for item in value:
            _gather(item, numbers)
    elif isinstance(value, str):
        # A text has no distance: another one is further away than any floor allows.
        numbers.extend(byte * 1e6 for byte in value.encode())
    else:
        numbers.append(math.nan if value is None else float(value))


def _together(labels: Iterable[str]) -> str:
    return " + ".join(sorted(labels)) or _NO_LABEL
