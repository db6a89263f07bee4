"""Why a call was refused, in words that can be counted: which input, what is wrong with it, and at which place of the call."""

from __future__ import annotations

import re
from typing import Final, Literal

from hoverboard.contract.signature import STRING, Signature
from hoverboard.errors import InvalidParams

__all__ = ["fault_of", "reason_of"]

_ROW: Final = re.compile(r"/\d+")
_BROKEN: Final = re.compile(r"(?P<subject>.+): (?P<how>[^:]+), at (?P<place>/.*)", re.DOTALL)
_WHOLE: Final = ("instances", "inputs")
_WRONG_TYPES: Final = frozenset({"null", "a boolean", "a number", "a string", "an array", "an object"})
_BUSY: Final = frozenset({"overloaded", "deadline_exceeded", "not_ready"})


def reason_of(code: int, kind: str, pointer: str | None, excerpt: str | None, signature: Signature) -> str:
    """One reason, the same for all calls that were refused for it: `input carat: missing, at /instances/carat`.

    Args:
        code, kind: of the error.
        pointer: into the call; which row and which element it was is left out.
        excerpt: what stood there; None where nobody may read it.
        signature: of the model.
    """
    if not pointer:
        return kind
    place = _ROW.sub("", pointer)
    first, *names = place.split("/")[1:]
    if first not in _WHOLE:
        return f"param {first}: not as it must be, at {place}"
    if not names and len(signature.inputs) == 1:
        names = [signature.inputs[0].name]
    subject = f"input {names[0].replace('~1', '/').replace('~0', '~')}" if names else "sample"
    how = (
        _broken(pointer, excerpt, subject, signature)
        if code == InvalidParams.code
        else f"refused as {kind.replace('_', ' ')}"
    )
    return f"{subject}: {how}, at {place}"


def _broken(pointer: str, excerpt: str | None, subject: str, signature: Signature) -> str:
    """What is wrong, by what stood there: the journal keeps that, and not what was expected."""
    if excerpt is None:
        return "wrong, and nobody may read how"
    if excerpt == "nothing":
        return "missing"
    if excerpt == "an unknown input":
        return "unknown to the model"
    if excerpt in _WRONG_TYPES:
        return f"of the wrong type ({excerpt})"
    spec = next((each for each in signature.inputs if f"input {each.name}" == subject), None)
    if spec is None or not _is_number(excerpt):
        return "not allowed" if spec is None or spec.dtype == STRING else "of the wrong type"
    # A number stands for an element, or for the length of an array that has too few or too many of them; the first index is the row.
    if len(_ROW.findall(pointer)) - 1 < len(spec.shape) and spec.shape != (1,):
        return "of the wrong length"
    if spec.allowed is not None:
        return "not allowed"
    whole = spec.dtype.startswith("float") or float(excerpt).is_integer()
    return "out of range" if whole else "of the wrong type (not whole)"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def fault_of(reason: str) -> tuple[Literal["schema", "load"], str, str]:
    """The kind of cause that a reason speaks for, its subject, and what is wrong in words."""
    found = _BROKEN.fullmatch(reason)
    if found is not None:
        return "schema", found["subject"], f"{found['subject']} is {found['how']} at {found['place']}"
    words = reason.replace("_", " ")
    return ("load" if reason in _BUSY else "schema"), words, f"they were refused as {words}"
