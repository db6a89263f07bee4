"""How values, pointers and contracts are put into words for `InvalidParams`."""

from __future__ import annotations

import math
from typing import Any

from hoverboard.contract.signature import STRING, TensorSpec

__all__ = ["EXCERPT", "contract", "excerpt", "kind", "noun", "plural", "pointer", "token"]

EXCERPT = 40
"""Most characters of a client's own value that an error repeats."""

_LONGEST_NAME = 200


def token(name: object) -> str:
    """One reference token of a JSON Pointer (RFC 6901), escaped; a client's own name may be long, and is cut."""
    text = str(name)
    if len(text) > _LONGEST_NAME:
        text = text[:_LONGEST_NAME] + "..."
    return text.replace("~", "~0").replace("/", "~1")


def pointer(base: str, path: list[int]) -> str:
    """The JSON Pointer of the element at `path` below `base`."""
    return base + "".join(f"/{index}" for index in path)


def excerpt(value: object, most: int = EXCERPT) -> str:
    """A short, one-line picture of a scalar."""
    text = value if isinstance(value, str) else _repr(value)
    # It goes into logs and terminals, where control characters could pretend to be something else.
    text = "".join(char if char.isprintable() else "?" for char in text[: most + 1])
    return text if len(text) <= most else text[:most] + "..."


def _repr(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number that is too large"


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str | bytes):
        return "a string"
    return "an array" if isinstance(value, list | tuple) else "an object"


def noun(spec: TensorSpec) -> str:
    """What one element of a tensor is, with its article."""
    if spec.dtype == STRING:
        return "a string"
    if spec.dtype == "bool":
        return "a boolean"
    return "a number" if spec.dtype.startswith("float") else "an integer"


def plural(spec: TensorSpec, axis: int) -> str:
    """What the elements along an axis are: scalars along the last, arrays before it."""
    return noun(spec).split(" ", 1)[1] + "s" if axis == len(spec.shape) - 1 else "arrays"


def contract(spec: TensorSpec, low: float, high: float) -> str:
    """A numeric element's range in words; infinite ends are left out."""
    if math.isfinite(low) and math.isfinite(high):
        return f"{noun(spec)} from {_number(low)} to {_number(high)}"
    if math.isfinite(low):
        return f"{noun(spec)} >= {_number(low)}"
    if math.isfinite(high):
        return f"{noun(spec)} <= {_number(high)}"
    return f"{noun(spec)} that fits {spec.dtype}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e16 else repr(value)
