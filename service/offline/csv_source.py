"""CSV, strictly: a row that the format's rules do not allow is an error with its line, and reading goes on after that line."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from hoverboard.codec.cells import cell, csv_header, reason_of
from hoverboard.codec.file_columns import plan_columns, refuse_repeated
from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError
from hoverboard.offline.lines import TextSource, lines_before, refuse_utf16
from hoverboard.offline.rows import RowChunk, RowFault, RowPosition

__all__ = ["CsvSource", "open_csv"]

_LONGEST_CELL: Final = 64 << 20
"""A quote that nothing closes reads on to the end of the file; past this many characters it is given up."""


def open_csv(path: Path, signature: Signature, keep: Sequence[str], *, keep_all: bool) -> CsvSource:
    """Read the header, and match its columns with the model's inputs.

    Raises:
        ConfigError: no UTF-8, no header, a name that stands there twice, or a column that is needed and missing.
    """
    refuse_utf16(path)
    try:
        names, delimiter = csv_header(path)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    refuse_repeated(path, names)
    return CsvSource(path, plan_columns(signature, names, keep=keep, keep_all=keep_all), names, signature, delimiter)


@dataclass(frozen=True, slots=True)
class CsvSource(TextSource):
    """Separated values in UTF-8 with a header line; a vector is a cell that holds a JSON array.

    Attributes:
        names: of the file's columns.
        signature: of the version that will answer.
        delimiter: between cells.
    """

    names: Sequence[str]
    signature: Signature
    delimiter: str = ","

    def chunks(self, start: RowPosition, rows: int) -> Iterator[RowChunk]:
        specs = {spec.name: spec for spec in self.signature.inputs}
        inputs = [(name, self.names.index(column), specs[name]) for name, column in self.plan.inputs.items()]
        at = start
        with self.path.open("rb") as file, _cells_up_to(_LONGEST_CELL):
            records = _CsvRows(file, start.offset, len(self.names), self.delimiter)
            while taken := records.take(rows):
                at = RowPosition(at.rows + len(taken), records.offset)
                instances = [record.fault or self._instance(record.cells, inputs) for record in taken]
                yield RowChunk(instances, self._kept(taken), at)

    def _instance(self, cells: Sequence[str], inputs: Sequence[tuple[str, int, Any]]) -> Any:
        if self.plan.bare:
            ((_, place, spec),) = inputs
            return cell(cells[place], spec)
        return {name: cell(cells[place], spec) for name, place, spec in inputs}

    def _kept(self, taken: Sequence[_CsvRow]) -> dict[str, list[Any]]:
        places = {name: self.names.index(name) for name in self.plan.keep}
        return {
            name: [None if record.fault else record.cells[place] for record in taken] for name, place in places.items()
        }


class _CsvRow(NamedTuple):
    cells: Sequence[str]
    fault: RowFault | None = None


class _CsvRows:
    """Rows of a file, one by one; a text iterator for `csv.reader` at the same time.

    A stray quote makes a reader take the lines after it for part of one cell. So a row over several lines that breaks
    the rules, or has the wrong number of cells, is given up at its first line, and reading goes on at the next one.
    """

    def __init__(self, file: BinaryIO, offset: int, width: int, delimiter: str) -> None:
        self.offset = offset
        self._file = file
        self._width = width
        self._line = lines_before(file, offset)
        # It reads through this iterator, which so always knows the byte behind the last row.
        self._reader = csv.reader(self, delimiter=delimiter, strict=True)
        file.seek(offset)
        if not offset:
            next(self._reader, None)  # the header, which has been read

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self._file.readline()
        if not text:
            raise StopIteration
        line = text.removeprefix(BOM_UTF8) if self.offset == 0 else text
        self.offset += len(text)
        self._line += 1
        return line.decode(errors="surrogateescape")

    def take(self, rows: int) -> list[_CsvRow]:
        """Up to so many rows; none at the end. Blank lines are no rows."""
        taken: list[_CsvRow] = []
        while len(taken) < rows:
            start, line = self.offset, self._line
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                taken.append(self._given_up(start, line, reason_of(error)))
                continue
            if cells is None:
                break
            if len(cells) == self._width:
                taken.append(self._checked(cells, line))
            elif cells:
                words = f"it has {len(cells)} cells, the header {self._width}"
                taken.append(self._given_up(start, line, words))
        return taken

    def _checked(self, cells: list[str], line: int) -> _CsvRow:
        try:
            # Bytes that are no UTF-8 came through as surrogates, which do not encode: one check for all cells.
            "".join(cells).encode()
        except UnicodeEncodeError:
            return _CsvRow((), _lost(line + 1, "it is not UTF-8"))
        return _CsvRow(cells)

    def _given_up(self, start: int, line: int, reason: str) -> _CsvRow:
        if self._line > line + 1:
            self._file.seek(start)
            self.offset = start + len(self._file.readline())
            self._line = line + 1
        return _CsvRow((), _lost(line + 1, reason))


def _lost(line: int, reason: str) -> RowFault:
    return RowFault("", f"Line {line} is no row: {reason}", lost=True)


@contextmanager
def _cells_up_to(size: int) -> Iterator[None]:
    """The longest cell that the csv module takes; a limit of the process, so it is put back."""
    before = csv.field_size_limit(size)
    try:
        yield
    finally:
        csv.field_size_limit(before)
