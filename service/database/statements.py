"""SQL by name: beside a module the `.sql` file of the same name, each statement under a line `-- name: what_it_does`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["statements"]

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def statements(module: str) -> Mapping[str, str]:
    """The statements of a module by name, parameters as `$1`, `$2`, ...

    Args:
        module: its `__file__`.
    """
    parts = _NAME.split(Path(module).with_suffix(".sql").read_text(encoding="utf-8"))
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
