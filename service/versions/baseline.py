"""`baseline.arrow`: what a version's traffic looked like before it was served, as counts in bins that never change.

One row a feature. Counts of any traffic in the same bins can be compared with it, and added up over chunks, windows and
days without loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of
from hoverboard.versions.reading import read_file

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BASELINE_FILE", "FORMAT", "Baseline", "Feature", "Reading", "Side", "read_baseline", "write_baseline"]

BASELINE_FILE: Final = "baseline.arrow"
FORMAT: Final = 1
Side = Literal["input", "output", "prediction"]
Reading = Literal["element", "mean", "deviation", "smallest", "largest", "length", "words", "category"]

_FORMAT_KEY: Final = b"hoverboard.baseline"
_MOST_BYTES: Final = 64 * 1024 * 1024
_READINGS: Final = frozenset({"element", "mean", "deviation", "smallest", "largest", "length", "words", "category"})
_SIDES: Final = frozenset({"input", "output", "prediction"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One thing about a sample that is counted.

    A number x falls into bin i where i of the `cuts` are at most x: so the first bin holds what is below all of them, the
    last what is not below any. A category falls into its own bin, or into the one after all of them.

    Attributes:
        name: such as `pixels[17]`, `title.length` or `confidence`.
        side: where it is read: an input, an output, or what the task reads off the first output.
        tensor: the input's or output's name; for a prediction `label`, `confidence`, `value` or `p_value`.
        reading: how one number or category is made of a sample: an `element` of the tensor; `mean`, standard
            `deviation`, `smallest` or `largest` of its elements; `length` (elements, or bytes of a text); `words` of a
            text; or the text itself as a `category`.
        element: for `element`, its index in the flattened tensor.
        missing: whether NaN is counted, in a bin after all others; otherwise it is left out.
        cuts: ascending, the last one right after the greatest number of the reference; empty for categories.
        categories: the frequent ones; empty for numbers.
        counts: of the reference, one a bin.
    """

    name: str
    side: Side
    tensor: str
    reading: Reading
    element: int = 0
    missing: bool = False
    cuts: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Feature:
        """Of a table's row, whose columns are the attributes."""
        values = dict(row)
        for plural in ("cuts", "categories", "counts"):
            values[plural] = tuple(values[plural])
        return cls(**values)

    @property
    def bins(self) -> int:
        """How many there are."""
        return len(self.cuts) + len(self.categories) + 1 + self.missing

    def labels(self) -> list[str]:
        """The bins in words, such as `below 0.5`, `0.5 to 1`, `above 1`, `other`, `missing`."""
        if self.reading == "category":
            return [*self.categories, "other"]
        edges = [f"{cut:.6g}" for cut in self.cuts]
        inner = [low if low == high else f"{low} to {high}" for low, high in pairwise(edges)]
        ends = [f"below {edges[0]}", *inner, f"above {edges[-1]}"] if edges else ["any number"]
        return [*ends, "missing"] if self.missing else ends

    def problem(self) -> str | None:
        """The first thing in it that makes no sense, or None."""
        if self.side not in _SIDES or self.reading not in _READINGS or self.element < 0:
            return "an unknown side or reading"
        if (self.reading == "category") != bool(self.categories) or (self.categories and (self.cuts or self.missing)):
            return "cuts and categories do not suit its reading"
        if not all(map(math.isfinite, self.cuts)) or any(np.diff(self.cuts) <= 0):
            return "cuts that do not ascend"
        if len(self.counts) != self.bins or min(self.counts) < 0:
            return f"{len(self.counts)} counts for {self.bins} bins"
        return None


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference of a version.

    Attributes:
        features: names are unique.
        rows: samples that were counted.
    """

    features: tuple[Feature, ...]
    rows: int

    @property
    def size(self) -> int:
        """Bins of all features."""
        return sum(feature.bins for feature in self.features)

    def counts(self) -> NDArray[np.int64]:
        """Of all features, one after the other, `(size,)`."""
        return np.array([count for feature in self.features for count in feature.counts], np.int64)

    def problem(self) -> str | None:
        """The first thing in it that makes no sense, or None."""
        if len({feature.name for feature in self.features}) != len(self.features):
            return "two features share a name"
        for feature in self.features:
            problem = feature.problem()
            if problem:
                return f"{feature.name}: {problem}"
        return None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write the file: Arrow IPC, one record batch."""
    import pyarrow as pa

    schema = _schema().with_metadata({_FORMAT_KEY: str(FORMAT), "rows": str(baseline.rows)})
    columns = [
        pa.array([getattr(feature, column.name) for feature in baseline.features], column.type) for column in schema
    ]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))


def read_baseline(directory: Path) -> Baseline | None:
    """Read a version's baseline; None where it has none.

    Raises:
        VersionRefused: the file is no baseline, a newer one, or contradicts itself.
    """
    import pyarrow as pa

    path = directory / BASELINE_FILE
    try:
        with pa.BufferReader(read_file(path, _MOST_BYTES)) as file, pa.ipc.open_file(file) as reader:
            table = reader.read_all()
        # Arrow trusts the offsets of a file, and would read past its buffers where they are damaged.
        table.validate(full=True)
        return _baseline(table)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        sentence = f"{BASELINE_FILE}: {type(error).__name__}: {error}"
        raise VersionRefused(sentence, check=check_of(error, "baseline")) from error


def _baseline(table: pa.Table) -> Baseline:
    metadata = dict(table.schema.metadata or {})
    number = int(metadata[_FORMAT_KEY])
    # Before the columns are looked at: a newer format may have others.
    if number > FORMAT:
        raise _refused(f"format {number} is newer than this server's {FORMAT}: upgrade the server")
    if not table.schema.equals(_schema()):
        raise _refused("not the columns of a baseline")
    baseline = Baseline(tuple(Feature.of(row) for row in table.to_pylist()), int(metadata[b"rows"]))
    problem = baseline.problem()
    if problem:
        raise _refused(problem)
    return baseline


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = {
        "element": pa.int32(),
        "missing": pa.bool_(),
        "cuts": pa.list_(pa.float64()),
        "categories": pa.list_(pa.string()),
        "counts": pa.list_(pa.int64()),
    }
    return pa.schema([pa.field(each.name, types.get(each.name, pa.string()), False) for each in fields(Feature)])


def _refused(reason: str) -> VersionRefused:
    return VersionRefused(f"{BASELINE_FILE}: {reason}", check="baseline")
