"""SQL as a person can run it again: parameters written into the text. For reading only; nothing here is ever executed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

__all__ = ["shown"]

_PARAMETER: Final = re.compile(r"\$(\d+)")


def shown(sql: str, values: Sequence[Any]) -> str:
    """A statement with its values in place of `$1`, `$2`, ..., to be pasted into psql."""
    return _PARAMETER.sub(lambda found: _literal(values[int(found[1]) - 1]), sql).rstrip(";") + ";"


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"timestamptz '{value.isoformat()}'"
    if isinstance(value, timedelta):
        return f"interval '{value.total_seconds():g} seconds'"
    if isinstance(value, UUID):
        return f"uuid '{value}'"
    if isinstance(value, list | tuple):
        return "'{" + ",".join(map(str, value)) + "}'"
    text = str(value).replace("'", "''")
    return f"'{text}'"
