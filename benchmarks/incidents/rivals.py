"""Other ways to say what differs, on the same table: each gives one field and value, or nothing.

They rank fields and know no causes. So that they can be compared, what they put first is read as a cause by the kind of its
field; an input outside of the baseline's bins is a schema, another one something new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.cells import Cells, Draw
from hoverboard.postmortem.shapes import outside
from hoverboard.postmortem.table import Field, Table

__all__ = ["RIVALS", "Found", "cause_of"]

Matrix = NDArray[np.float64]
Found = tuple[Field, int] | None
_LAPLACE: Final = 1e-3
_T_EP: Final = 0.67
_T_EEP: Final = 0.1
_KINDS: Final = {
    "tag": "caller",
    "process": "machine",
    "version": "version",
    "bucket": "load",
    "label": "labels",
    "hour": "none",
}


def kl_ranking(table: Table) -> Found:
    """Fields by KL(baseline || selection) of the shares of their values, smoothed (as Sentry ranks attributes)."""
    best: tuple[float, Field, int] | None = None
    for field, bad, others, _ in _counted(table):
        p, q = (
            (each + _LAPLACE) / (each.sum() + _LAPLACE * len(each))
            for each in (others / max(others.sum(), 1), bad / max(bad.sum(), 1))
        )
        score = float((p * np.log(p / q)).sum())
        if best is None or score > best[0]:
            best = (score, field, int((q - p).argmax()))
    return None if best is None else best[1:]


def adtributor(table: Table) -> Found:
    """Adtributor (Bhagwan et al., 2014): fields by surprise, whose values explain at least 67% together and 10% each."""
    best: tuple[float, Field, int] | None = None
    for field, bad, _, expected in _counted(table):
        rise = bad.sum() - expected.sum()
        if rise <= 0:
            continue
        power = (bad - expected) / rise
        p, q = expected / max(expected.sum(), 1e-9), bad / max(bad.sum(), 1e-9)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.nan_to_num(p * np.log(2 * p / (p + q))) + np.nan_to_num(q * np.log(2 * q / (p + q)))
        surprise = parts / 2
        explained, total = 0.0, 0.0
        chosen: list[int] = []
        for code in np.argsort(-surprise).tolist():
            if power[code] > _T_EEP:
                chosen.append(code)
                explained += power[code]
                total += surprise[code]
            if explained > _T_EP:
                break
        if explained > _T_EP and (best is None or total > best[0]):
            best = (total, field, chosen[0])
    return None if best is None else best[1:]


def greatest_lift(table: Table) -> Found:
    """The value whose share of bad rows is the most times its share of other rows, of those with 5% of the bad rows."""
    best: tuple[float, Field, int] | None = None
    for field, bad, others, _ in _counted(table):
        lift = (bad + 0.5) / max(bad.sum(), 1) / ((others + 0.5) / max(others.sum(), 1))
        lift[bad < max(10, 0.05 * bad.sum())] = 0
        code = int(lift.argmax())
        if lift[code] > 0 and (best is None or lift[code] > best[0]):
            best = (float(lift[code]), field, code)
    return None if best is None else best[1:]


RIVALS: Final[Mapping[str, Callable[[Table], Found]]] = {
    "KL ranking": kl_ranking,
    "Adtributor": adtributor,
    "greatest lift": greatest_lift,
}


def cause_of(table: Table, found: Found) -> tuple[str, str]:
    """Kind and subject of the cause that the first field and value would be read as."""
    if found is None:
        return "none", ""
    field, code = found
    if field.kind in _KINDS:
        return _KINDS[field.kind], f"{field.name} {field.values[code]}"
    return ("schema" if outside(table, field, code) else "novelty"), field.name


def _counted(table: Table) -> list[tuple[Field, Matrix, Matrix, Matrix]]:
    """Each field's bad rows, other rows, and expected bad rows by value, in the incident."""
    draw = Draw.of(table)
    counted = []
    for field in table.fields:
        if field.kind == "cluster":
            continue  # it has values for bad rows only, which any of these would put first
        counts = draw.count(field)
        counted.append((field, counts[0], counts[1], Cells.of(draw, counts).expected))
    return counted
