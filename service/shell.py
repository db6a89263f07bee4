"""Commands that are told to people: words as a shell takes them, and folders that nothing is in yet."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

__all__ = ["free_folder", "shell_word"]

_LONGEST: Final = 60
_OTHERS: Final = re.compile(r"[^\w.]+")


def shell_word(text: str) -> str:
    """A word that bash, ksh and zsh take for this text, and that shows as it is: what steers a terminal is escaped."""
    if text.isprintable():
        return shlex.quote(text)
    plain = (
        mark if mark.isprintable() and mark not in "\\'" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(mark))
        for mark in text
    )
    return f"$'{''.join(plain)}'"


def free_folder(model: str, left_out: Iterable[str], told: Collection[str] = ()) -> str:
    """A name for an export's folder that says what it is without; where that is taken, with a number.

    Args:
        model: whose rows they are.
        left_out: words; marks that a file's name had better not have become `-`.
        told: names that were told before.
    """
    words = "-".join(filter(None, (_OTHERS.sub("-", word).strip("-.") for word in left_out)))
    name = f"{model}-without-{words or 'some'}"[: len(model) + _LONGEST].rstrip("-.")
    free, number = name, 1
    while free in told or os.path.lexists(Path(free)):
        number += 1
        free = f"{name}-{number}"
    return free
