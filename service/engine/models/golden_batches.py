"""Rows for golden samples to share a batch with. A graph must answer each row as if it were alone.

Callers share batches. A graph that mixes rows (statistics or a softmax over the batch, padding to its longest text) lets them
change each other's answers. Padding repeats one row, so it does not show that: this takes other golden samples, and rows made
of them that differ as much as callers' may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.versions import GoldenSet

__all__ = ["Company", "Shared"]

_Row = tuple[Array, ...]
_SIZED: Final = 2  # golden samples that strangers are made of, for each shape
_FAR: Final = 100.0
_EXACT: Final = 2.0**53  # integers that float64 holds


@dataclass(frozen=True, slots=True)
class Shared:
    """A batch in which golden samples lie among other rows.

    Attributes:
        columns: one array per input, `(size, *shape)`.
        golden: row -> which golden sample it is.
    """

    columns: list[Array]
    golden: dict[int, int]


class Company:
    """Batches to try a version's golden samples in.

    Args:
        signature: of the version.
        golden: its samples.
    """

    def __init__(self, signature: Signature, golden: GoldenSet) -> None:
        self._inputs = signature.inputs
        self._rows = [sample.inputs for sample in golden.samples]
        self._pools: list[list[tuple[_Row, int | None]]] | None = None

    def batches(self, size: int, runs: Callable[[Sequence[Array]], bool]) -> Iterator[Shared]:
        """Batches of `size` rows, each with golden samples of one shape in it; none for a single row.

        Args:
            size: of the bucket.
            runs: whether the graph can run a single row. One that it cannot is no company.
        """
        if size < 2:
            return
        if self._pools is None:  # once for all buckets: whether a row can be run alone does not depend on them
            self._pools = [pool for group in self._groups() if len(pool := self._pool(group, runs)) > 1]
        for pool in self._pools:
            yield _shared(pool, size)
        if len(self._pools) == 1:
            yield _shared(self._pools[0][::-1], size)

    def _groups(self) -> list[list[int]]:
        """Golden samples of one shape each: only such rows meet in a batch."""
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, row in enumerate(self._rows):
            groups.setdefault(tuple(column.shape for column in row), []).append(index)
        return list(groups.values())

    def _pool(self, group: list[int], runs: Callable[[Sequence[Array]], bool]) -> list[tuple[_Row, int | None]]:
        """Golden samples and strangers in turn."""
        made = [row for index in group[:_SIZED] for row in self._strangers(self._rows[index])]
        strangers = [row for row in made if runs(row)]
        pool: list[tuple[_Row, int | None]] = []
        for place in range(max(len(group), len(strangers))):
            pool += [(self._rows[index], index) for index in group[place : place + 1]]
            pool += [(row, None) for row in strangers[place : place + 1]]
        return pool

    def _strangers(self, row: _Row) -> list[_Row]:
        return [
            tuple(change(spec, column) for spec, column in zip(self._inputs, row, strict=True))
            for change in (_far, _near, _turned)
        ]


def _shared(pool: Sequence[tuple[_Row, int | None]], size: int) -> Shared:
    rows = [pool[place % len(pool)] for place in range(size)]
    columns = [np.concatenate(parts) for parts in zip(*(row for row, _ in rows), strict=True)]
    return Shared(columns, {place: index for place, (_, index) in enumerate(rows) if index is not None})


def _far(spec: TensorSpec, column: Array) -> Array:
    """Far above: numbers a hundred times as large, texts three times as long."""
    if spec.dtype == STRING and spec.allowed is None:
        return _texts(spec, column, lambda text: b" ".join([text] * 3))
    return _moved(spec, column, _FAR)


def _near(spec: TensorSpec, column: Array) -> Array:
    """Far below, or empty."""
    if spec.dtype == STRING and spec.allowed is None:
        return _texts(spec, column, lambda _: b"")
    return _moved(spec, column, -_FAR)


def _turned(spec: TensorSpec, column: Array) -> Array:
    """The same values in another order: what suits a lookup or an embedding as well."""
    if spec.dtype == STRING and spec.allowed is None:
        return _texts(spec, column, lambda text: b" ".join(reversed(text.split())))
    if spec.allowed is None and len(np.unique(column)) < 2:
        return _moved(spec, column, 1.0)
    turned = _next_allowed(spec, column, 2) if spec.allowed is not None else np.roll(column.reshape(-1), 1)
    return np.asarray(turned).reshape(column.shape)


def _moved(spec: TensorSpec, column: Array, factor: float) -> Array:
    if spec.allowed is not None:
        return _next_allowed(spec, column, 1)
    if spec.dtype == "bool":
        return ~column
    whole = np.issubdtype(column.dtype, np.integer)
    limits: Any = np.iinfo(column.dtype) if whole else np.finfo(column.dtype)
    low, high = float(limits.min), float(limits.max)
    if whole:
        low, high = max(low, -_EXACT), min(high, _EXACT)
    with np.errstate(all="ignore"):
        moved = column.astype(np.float64) * factor + np.sign(factor)
        low, high = (
            max(low, spec.min if spec.min is not None else low),
            min(high, spec.max if spec.max is not None else high),
        )
        clipped: Array = np.clip(np.nan_to_num(moved), low, high).astype(column.dtype)
    return clipped


def _next_allowed(spec: TensorSpec, column: Array, steps: int) -> Array:
    """Each value's successor among those that are allowed."""
    allowed = [value.encode() if isinstance(value, str) else value for value in spec.allowed or ()]
    moved = column.copy()
    for place, value in np.ndenumerate(column):
        known = allowed.index(value) if value in allowed else 0
        moved[place] = allowed[(known + steps) % len(allowed)]
    return moved


def _texts(spec: TensorSpec, column: Array, change: Callable[[bytes], bytes]) -> Array:
    changed = np.empty(column.shape, dtype=object)
    for place, text in np.ndenumerate(column):
        changed[place] = change(text)[: spec.max_length]
    return changed
