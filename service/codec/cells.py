"""CSV files: what separates their cells, and cells as the JSON values that the codec takes."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from hoverboard.codec.json_exact import TooLarge
from hoverboard.contract.signature import STRING, TensorSpec

__all__ = ["cell", "csv_header", "reason_of", "value_of"]

# The one that the header has most of is taken: what Excel writes depends on the country.
_DELIMITERS: Final = (",", ";", "\t")
_REASONS: Final = {
    "unexpected end of data": "the quote that opens here is never closed",
    "expected after": "a quote within a quoted cell is not doubled, or one is never closed",
    "new-line character seen": "a carriage return stands in a cell that is not quoted",
    "field larger than": "the quote that opens here is never closed, or a cell is larger than 64 MiB",
}

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# What pandas and spreadsheets write for a missing number.
_ABSENT: Final = frozenset({"", "nan", "na", "n/a", "null", "none"})
_TRUTH: Final = {"true": True, "false": False}


def cell(text: str, spec: TensorSpec) -> Any:
    """The JSON value of a cell for one input.

    Text as it is for a single string. For numbers, what spreadsheets and databases write beside JSON's own numbers:
    `.5`, `1.`, `+1`, `007`; an empty cell, `NaN` and `NA` are null where the input takes missing values (`finite` is
    false); `True` and `FALSE` for a bool. A vector is a JSON array. Whatever else is no JSON stays text, so that the
    codec says what it expected there.
    """
    # A text is never looked into: `null`, `1` and `[2]` may be words.
    if spec.dtype == STRING and spec.shape in ((), (1,)):
        return text
    if spec.dtype == "bool":
        return _TRUTH.get(text.strip().lower(), value_of(text))
    if not spec.finite and text.strip().lower() in _ABSENT:
        return None
    value = value_of(text)
    # Infinite to Python, and null to JSON: said to be too large only as long as it is told apart from both.
    return TooLarge.parse(text.strip()) if value in (math.inf, -math.inf) else value


def value_of(text: str) -> Any:
    """The JSON value of a cell that no input is known for: JSON, a number in another spelling, else the text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        stripped = text.strip()
        # Cut: int() of a very long text takes quadratic time, and no dtype holds such a number.
        if len(stripped) > 400 or not _NUMBER.fullmatch(stripped) or not stripped.isascii():
            return text
        return int(stripped) if stripped.lstrip("+-").isdigit() else float(stripped)


def csv_header(path: Path) -> tuple[list[str], str]:
    """The names of a file's columns, and what separates them: the delimiter that gives the most columns, commas first.

    Raises:
        OSError: the file cannot be read.
        ValueError: the header is no CSV in UTF-8; one sentence.
    """
    best: tuple[list[str], str] = ([], ",")
    problem: Exception | None = None
    for delimiter in _DELIMITERS:
        try:
            # Text is decoded by the block, and what follows the header has its own errors.
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                names = next(csv.reader(file, delimiter=delimiter, strict=True), [])
            "".join(names).encode()
        except (csv.Error, UnicodeEncodeError) as error:
            problem = problem or error
            continue
        if len(names) > len(best[0]):
            best = names, delimiter
    if problem is not None and len(best[0]) < 2:
        reason = reason_of(problem) if isinstance(problem, csv.Error) else "it is not UTF-8"
        raise ValueError(f"the header cannot be read: {reason}")
    return best


def reason_of(error: csv.Error) -> str:
    """What is wrong with a row, in words that say where to look."""
    return next((words for part, words in _REASONS.items() if part in str(error)), str(error))
