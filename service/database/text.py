"""Text that clients wrote, who send whatever they like: as Postgres can hold it, without NUL, and as a terminal or a page may show it."""

from __future__ import annotations

from typing import Any, Final, overload

import msgspec

__all__ = ["REPLACEMENT", "plain_line", "storable", "storable_json"]

REPLACEMENT: Final = "\ufffd"
"""What stands for a character that may not be there."""

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


def plain_line(text: str) -> str:
    """One line without characters that would steer a terminal or turn the direction of writing, whoever wrote them."""
    return "".join(mark if mark.isprintable() else REPLACEMENT for mark in text)
