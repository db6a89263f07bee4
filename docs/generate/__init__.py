"""The reference pages, and hoverboard.example.toml, written from the code: `make docs`.

A page that people write by hand says something else than the code after a while. So these are generated, and a test
fails where what is committed is not what the code says. In: the code, and tests/integration/schema.sql. Out: texts by path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from docs.generate import commands, errors, methods, metrics, python, settings, tables

__all__ = ["ROOT", "pages"]

ROOT: Final = Path(__file__).resolve().parents[2]
_NOTE: Final = "<!-- Written by `make docs` from the code; edit the code, not this page. -->\n\n"


def pages() -> dict[Path, str]:
    """Every generated file with its text."""
    dump = (ROOT / "tests" / "integration" / "schema.sql").read_text(encoding="utf-8")
    reference = {
        "settings": settings.page(),
        "methods": methods.page(),
        "errors": errors.page(),
        "metrics": metrics.page(),
        "commands": commands.page(),
        "python": python.page(),
        "tables": tables.page(dump),
    }
    generated = {ROOT / "docs" / "reference" / f"{name}.md": _NOTE + text for name, text in reference.items()}
    return {ROOT / "hoverboard.example.toml": settings.example_file(), **generated}
