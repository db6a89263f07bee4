"""Inputs that were written otherwise are put back as they are usually written, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.postmortem.repairs import repair_of
from hoverboard.postmortem.table import ABSENT, Field, Table
from tests.records import signature

ROWS = 400
HALF = ROWS // 2
PIXELS = 25
TABLE = signature(TensorSpec("a", "float32", ()), TensorSpec("b", "int64", (1,)), TensorSpec("word", "string", ()))
IMAGE = signature(TensorSpec("pixels", "float32", (5, 5)))


def usual() -> dict[str, Any]:
    draw = np.random.default_rng(1)
    a = draw.normal(10, 1, ROWS).astype(np.float32)
    return {"a": a, "b": np.round(1000 + 30 * draw.normal(0, 1, (ROWS, 1))).astype(np.int64)}


def pictures() -> dict[str, Any]:
    """Ink that is most at the top and least at the left."""
    draw = np.random.default_rng(2)
    mean = np.linspace(9, 3, 5)[:, np.newaxis] + np.linspace(0, 2, 5)
    return {
        "pixels": np.maximum(mean + draw.normal(0, 0.3, (ROWS, 5, 5)), 0).astype(np.float32)
        * draw.lognormal(0, 0.2, (ROWS, 1, 1)).astype(np.float32)
    }


def table(known: Signature, columns: dict[str, Any], *more: Field) -> Table:
    """The first half is usual, a half of the others is bad."""
    fields = []
    for spec in known.inputs:
        if spec.name in columns:
            flat = columns[spec.name].reshape(ROWS, -1).astype(np.float32)
            for element in range(flat.shape[1]):
                index = (
                    ",".join(map(str, np.unravel_index(element, [dim or 1 for dim in spec.shape])))
                    if flat.shape[1] > 1
                    else ""
                )
                name = f"input {spec.name}" + (f"[{index}]" if index else "")
                codes = np.where(np.isnan(flat[:, element]), 2, 1).astype(np.uint8)
                fields.append(Field(name, "input", (ABSENT, "any number", "missing"), codes, flat[:, element]))
    rows = np.arange(ROWS)
    return Table(
        rows,
        (rows >= HALF) & (rows % 2 == 0),
        rows < HALF,
        np.ones(ROWS),
        np.zeros(ROWS, np.int32),
        (*fields, *more),
        np.zeros(ROWS, "V16"),
    )


def planted(columns: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """With what has changed in every second row of the second half, the bad ones."""
    rows = (np.arange(ROWS) >= HALF) & (np.arange(ROWS) % 2 == 0)
    found = {name: each.copy() for name, each in columns.items()}
    for name, each in changed.items():
        found[name][rows] = each[rows]
    return found


def turned(columns: dict[str, Any]) -> dict[str, Any]:
    return {"pixels": columns["pixels"].transpose(0, 2, 1)}


@pytest.mark.parametrize(
    ("known", "columns", "change", "words"),
    [
        (TABLE, usual(), lambda it: {"a": it["a"] * 100}, "a divided by 100"),
        (TABLE, usual(), lambda it: {"a": it["a"] / 10}, "a multiplied by 10"),
        (TABLE, usual(), lambda it: {"a": it["b"][:, 0], "b": np.round(it["a"])[:, None]}, "a and b exchanged"),
        (IMAGE, pictures(), turned, "the numbers of pixels in their usual order"),
        (IMAGE, pictures(), lambda it: {"pixels": it["pixels"] * 255}, "pixels divided by 255"),
    ],
)
def test_rows_that_were_written_otherwise_are_put_back_and_the_others_stay(
    known: Signature, columns: dict[str, Any], change: Any, words: str
) -> None:
    sent = planted(columns, change(columns))
    made = table(known, sent)
    repair = repair_of(made, made.bad, known)
    assert str(repair) == words and repair is not None
    fixed = repair.applied(sent)
    for name, column in columns.items():
        assert fixed[name].dtype == column.dtype and fixed[name].shape == column.shape
        assert np.allclose(fixed[name], column, rtol=1e-5, atol=0.5), name


def test_what_is_missing_is_given_what_is_usual() -> None:
    columns = usual()
    for lost, told in ((np.nan, None), (0.0, 0.0), (-1.0, -1.0)):
        sent = planted(columns, {"a": np.full(ROWS, lost, np.float32)})
        made = table(TABLE, sent)
        repair = repair_of(made, made.bad, TABLE)
        assert repair is not None and str(repair).startswith("a filled with its usual "), (told, repair)
        fixed = repair.applied(sent)["a"]
        assert np.array_equal(fixed[~made.bad], columns["a"][~made.bad])
        assert np.all(np.abs(fixed[made.bad] - 10) < 0.5)


def test_a_text_that_is_missing_is_given_the_usual_one() -> None:
    codes = np.ones(ROWS, np.uint8)
    made = table(TABLE, usual())
    codes[made.bad] = 3
    words = Field("input word", "input", (ABSENT, "free", "other", "missing"), codes)
    made = table(TABLE, usual(), words)
    repair = repair_of(made, made.bad, TABLE)
    assert str(repair) == "word filled with its usual 'free'" and repair is not None
    sent = np.array([b"" if bad else b"basic" for bad in made.bad], object)
    assert repair.applied({"word": sent})["word"].tolist() == [b"free" if bad else b"basic" for bad in made.bad]


def test_where_nothing_is_odd_nothing_is_put_back() -> None:
    made = table(TABLE, usual())
    assert repair_of(made, made.bad, TABLE) is None
