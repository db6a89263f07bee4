from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.shapes import missing, scaled
from hoverboard.postmortem.table import ABSENT, Field, Table

ROWS = 600


def pictures(generator: np.random.Generator) -> NDArray[np.float64]:
    """Of two kinds, one of which has no ink in the first half: `(rows, 36)`."""
    ink = generator.uniform(4, 16, (ROWS, 36))
    ink[::2, :18] = 0
    ink[1::2, 18:] *= 0.3
    return ink


def table_of(numbers: NDArray[np.float64], base: NDArray[np.bool_], bad: NDArray[np.bool_]) -> Table:
    codes = np.ones(len(numbers), np.uint8)
    fields = tuple(
        Field(f"input pixels[{place}]", "input", (ABSENT, "ink"), codes, column.astype(np.float32))
        for place, column in enumerate(numbers.T)
    )
    ones = np.ones(len(numbers))
    return Table(
        np.arange(len(numbers)), bad, base, ones, codes.astype(np.int32), fields, np.zeros(len(numbers), "V16")
    )


def test_pictures_in_a_hundredth_of_the_unit_are_told_among_a_few_in_the_usual_one() -> None:
    ink = pictures(np.random.default_rng(0))
    base = np.arange(ROWS) < 300
    bad = ~base
    small = bad & (np.arange(ROWS) % 7 > 0)
    # Those in the usual unit are of one kind: by their size alone they would be the mean picture.
    ink[bad & ~small, :18] = 0
    ink[small] /= 100
    found = scaled(table_of(ink, base, bad), bad)
    assert found is not None
    assert "1/100 of" in found.words


def test_of_what_has_moved_only_a_blank_is_missing() -> None:
    ink = pictures(np.random.default_rng(1))[:, :3] + 1
    base = np.arange(ROWS) < 300
    bad = ~base
    ink[bad, 1] = 3
    assert missing(table_of(ink, base, bad), bad) is not None
    assert missing(table_of(ink, base, bad), bad, blank=True) is None
    ink[bad, 1] = 0
    blank = missing(table_of(ink, base, bad), bad, blank=True)
    assert blank is not None
    assert blank.field == "input pixels[1]"
