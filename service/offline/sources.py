"""Files of rows: jsonl, csv and parquet, read in bounded memory from any position reached before.

Reading is strict. A row that cannot be read is a `RowFault` with `lost` set, which names its line; no row is passed
over in silence.
"""

from __future__ import annotations

import itertools
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from hoverboard.codec.file_columns import plan_columns
from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError
from hoverboard.offline.csv_source import open_csv
from hoverboard.offline.lines import Line, TextSource, lines_from, refuse_utf16
from hoverboard.offline.parquet_source import open_parquet
from hoverboard.offline.rows import RowChunk, RowFault, RowPosition, RowSource

__all__ = ["JsonlSource", "open_source"]

_NOT_JSON: Final = {
    b"NaN": "NaN is no JSON; write null, where the model takes missing values",
    b"Infinity": "Infinity is no JSON",
}


def open_source(path: Path, signature: Signature, *, keep: Sequence[str] = (), keep_all: bool = False) -> RowSource:
    """Open a file of rows by its extension: .parquet, .jsonl, .ndjson or .csv.

    Raises:
        ConfigError: the file is missing, of another format, unreadable, or lacks a column that is needed.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    try:
        match path.suffix.lower():
            case ".parquet" | ".pq":
                return open_parquet(path, signature, keep, keep_all=keep_all)
            case ".jsonl" | ".ndjson":
                refuse_utf16(path)
                return JsonlSource(path, plan_columns(signature, None, keep=keep, keep_all=keep_all))
            case ".csv":
                return open_csv(path, signature, keep, keep_all=keep_all)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    raise ConfigError(f"{path}: the extension must be .parquet, .jsonl, .ndjson or .csv")


@dataclass(frozen=True, slots=True)
class JsonlSource(TextSource):
    """One JSON value a line: an instance, or an object that holds one. Blank lines are no rows."""

    def chunks(self, start: RowPosition, rows: int) -> Iterator[RowChunk]:
        with self.path.open("rb") as file:
            filled = (line for line in lines_from(file, start.offset) if not line.text.isspace())
            at = start
            while lines := list(itertools.islice(filled, rows)):
                at = RowPosition(at.rows + len(lines), lines[-1].end)
                yield self._chunk(lines, at)

    def _chunk(self, lines: list[Line], after: RowPosition) -> RowChunk:
        records = [_record(line) for line in lines]
        return RowChunk([self.plan.instance(record) for record in records], self._kept(records), after)

    def _kept(self, records: list[Any]) -> dict[str, list[Any]]:
        objects = [record if isinstance(record, dict) else {} for record in records]
        if self.plan.keep_all:
            names: dict[str, None] = {name: None for record in objects for name in record}
            return {name: [record.get(name) for record in objects] for name in names}
        return {name: [record.get(name) for record in objects] for name in self.plan.keep}


def _record(line: Line) -> Any:
    text = line.text.removeprefix(BOM_UTF8) if line.start == 0 else line.text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec says only that a value is invalid; these are what Python's json writes unasked.
        reason = next((words for word, words in _NOT_JSON.items() if word in text), str(error))
        return RowFault("", f"Line {line.number} is no JSON: {reason}", lost=True)
