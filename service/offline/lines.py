"""Lines of a text file with their numbers and places, from any byte at which a line begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from hoverboard.codec.file_columns import ColumnPlan
from hoverboard.errors import ConfigError
from hoverboard.offline.rows import RowPosition

__all__ = ["Line", "TextSource", "lines_before", "lines_from", "refuse_utf16"]

_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TextSource:
    """What sources of rows in text files share: they go by bytes.

    Attributes:
        path: of the file.
        plan: which of its columns are read.
    """

    path: Path
    plan: ColumnPlan

    @property
    def total(self) -> int:
        return self.path.stat().st_size

    @property
    def kept(self) -> Sequence[str]:
        return self.plan.keep

    def reached(self, position: RowPosition) -> int:
        return position.offset


class Line(NamedTuple):
    """One line.

    Attributes:
        number: counted from 1.
        text: with its line end.
        start, end: bytes before it and up to its end.
    """

    number: int
    text: bytes
    start: int
    end: int


def lines_from(file: BinaryIO, offset: int) -> Iterator[Line]:
    """Lines from a byte on at which one begins."""
    number, at = lines_before(file, offset), offset
    file.seek(offset)
    while text := file.readline():
        number += 1
        yield Line(number, text, at, at := at + len(text))


def lines_before(file: BinaryIO, offset: int) -> int:
    """How many lines end before a byte; one pass over what lies before it."""
    # Counted only when a run goes on from its middle, for the line numbers in errors.
    file.seek(0)
    lines = 0
    while offset > 0 and (block := file.read(min(_BLOCK, offset))):
        lines += block.count(b"\n")
        offset -= len(block)
    return lines


def refuse_utf16(path: Path) -> None:
    """Raise ConfigError for a file that begins as UTF-16 does; it would be read as one broken line after another."""
    with path.open("rb") as file:
        if file.read(2) in _UTF16:
            raise ConfigError(f"{path} is UTF-16: save it as UTF-8")
