"""Text that Postgres can hold: no NUL fits into `text` or `jsonb`, and clients send whatever they like."""

from __future__ import annotations

from typing import Any, Final, overload

import msgspec

__all__ = ["REPLACEMENT", "storable", "storable_json"]

REPLACEMENT: Final = "\ufffd"
"""What stands where a NUL was."""

_NUL_IN_JSON: Final = b"\\u0000"


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: str | None) -> str | None: ...
def storable(text: str | None) -> str | None:
    """Text with `REPLACEMENT` for each NUL in it; None stays None."""
    return text if text is None else text.replace("\0", REPLACEMENT)


def storable_json(text: bytes) -> bytes:
    """The same for JSON text.

    Raises:
        ValueError: something with a NUL in it that is no JSON.
    """
    return msgspec.json.encode(_cleaned(msgspec.json.decode(text))) if _NUL_IN_JSON in text else text


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
