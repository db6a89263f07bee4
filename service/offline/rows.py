"""What travels between reading, scoring and writing: chunks of consecutive rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["RowChunk", "RowFault", "RowPosition", "RowSource", "ScoredChunk"]


@dataclass(frozen=True, slots=True)
class RowFault:
    """Why one row has no prediction.

    Attributes:
        pointer: JSON Pointer into the row's instance, such as `/17` or `/carat`; empty for the row as a whole.
        message: one sentence.
        lost: whether the file itself is at fault, so that the row could not be read at all.
    """

    pointer: str
    message: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class RowPosition:
    """Where reading goes on after a chunk.

    Attributes:
        rows: rows read so far, faulty ones included.
        offset: bytes read so far in a text file; 0 in a format that is addressed by rows.
    """

    rows: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class RowChunk:
    """Consecutive rows as they were read.

    Attributes:
        instances: one JSON value in row form, or the fault of a row that could not be read, for each row; of Parquet
            files `ArrowRows`, which are arrays to the codec.
        kept: column name -> one value a row: columns carried over to the output.
        after: where the next chunk begins.
    """

    instances: Sequence[Any]
    kept: Mapping[str, Sequence[Any]]
    after: RowPosition


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """The same rows, answered.

    Attributes:
        predictions: one prediction a row, None where the row has a fault.
        faults: one fault a row, None where the row has a prediction.
        kept: as in the chunk.
        after: as in the chunk.
    """

    predictions: Sequence[Mapping[str, Any] | None]
    faults: Sequence[RowFault | None]
    kept: Mapping[str, Sequence[Any]]
    after: RowPosition


class RowSource(Protocol):
    """A file of rows that can be read from any position it has reached before."""

    @property
    def total(self) -> int:
        """How far there is to go, in the unit of `reached`."""

    @property
    def kept(self) -> Sequence[str]:
        """Columns it carries over, as far as they are known before a row is read."""

    def reached(self, position: RowPosition) -> int:
        """How far a position is on the way to `total`."""

    def chunks(self, start: RowPosition, rows: int) -> Iterator[RowChunk]:
        """Chunks of up to `rows` rows, in order, from `start` to the end of the file."""
