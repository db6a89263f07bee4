"""Cells of text files as the JSON values that the codec takes."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from service.types import STRING, TensorSpec

__all__ = ["cell", "value_of"]

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ABSENT: Final = frozenset({"", "nan", "na", "n/a", "null", "none"})
_TRUTH: Final = {"true": True, "false": False}


def cell(text: str, spec: TensorSpec) -> Any:
    """The JSON value of a cell for one input.

    Text as it is for a single string. For numbers, what spreadsheets and databases write beside JSON's own numbers:
    `.5`, `1.`, `+1`, `007`; an empty cell, `NaN` and `NA` are null where the input takes missing values (`finite` is
    false); `True` and `FALSE` for a bool. A vector is a JSON array. Whatever else is no JSON stays text, so that the
    codec says what it expected there.
    """
    if spec.dtype == STRING and spec.shape in ((), (1,)):
        return text
    if spec.dtype == "bool":
        return _TRUTH.get(text.strip().lower(), value_of(text))
    if not spec.finite and text.strip().lower() in _ABSENT:
        return None
    return value_of(text)


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
