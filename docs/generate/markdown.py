"""Tables and sentences of generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Row", "capital", "sentence", "table"]

Row = Sequence[str]


def sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def table(header: Row, rows: Iterable[Row]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(
        f"| {' | '.join(line)} |\n".replace("| --- ", "|---").replace("---|---", "---|---") for line in lines
    )
