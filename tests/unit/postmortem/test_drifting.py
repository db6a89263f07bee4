from __future__ import annotations

import numpy as np
import pytest

from hoverboard.postmortem.drifting import began_to_move
from hoverboard.postmortem.onset import Onset, onset
from hoverboard.postmortem.table import ABSENT, BinnedCounts, Field, Table

MINUTE_US = 60_000_000
START_US = 1_764_460_800_000_000
BINS = 1440
INPUT = "input weight"


def drifting(seed: int, begin: int, length: int, far: float, rows: int = 12_000) -> tuple[Table, BinnedCounts]:
    """A day of a number that moves by `far` spreads from a minute on, within a length; it is bad where it is large."""
    generator = np.random.default_rng(seed)
    minute = np.sort(generator.uniform(0, BINS, rows))
    # Three rows of a call are alike.
    numbers = generator.normal(0, 1, rows) + np.repeat(generator.normal(0, 0.7, rows // 3), 3)
    numbers += far * np.clip((minute - begin) / length, 0, 1)
    bad = numbers > 3
    at = START_US + (minute * MINUTE_US).astype(np.int64)
    empty = np.zeros(rows, np.bool_)
    codes = np.ones(rows, np.uint8)
    field = Field(INPUT, "input", (ABSENT, "a number"), codes, numbers.astype(np.float32))
    table = Table(at, bad, empty, np.ones(rows), np.zeros(rows, np.int32), (field,), np.zeros(rows, "V16"))
    place = minute.astype(int)
    start = START_US + np.arange(BINS, dtype=np.int64) * MINUTE_US
    counted = [np.bincount(place, part, BINS).astype(float) for part in (np.ones(rows), bad)]
    return table, BinnedCounts(start, *counted)


def found(table: Table, counts: BinnedCounts) -> tuple[Onset, Onset]:
    of_bad = onset(counts)
    assert of_bad is not None
    return of_bad, began_to_move(table, INPUT, counts, of_bad)


@pytest.mark.parametrize("length", [10, 60, 200])
def test_a_drift_is_dated_by_its_input_and_not_by_the_bad_rows_that_come_later(length: int) -> None:
    covered, widths, errors, of_bad_errors = 0, [], [], []
    for seed in range(20):
        begin = 500 + 17 * seed
        of_bad, moved = found(*drifting(seed, begin, length, 2.5))
        at = START_US + begin * MINUTE_US
        covered += moved.earliest_us <= at <= moved.latest_us
        errors.append(abs(moved.at_us - at))
        of_bad_errors.append(abs(of_bad.at_us - at))
        widths.append((moved.latest_us - moved.earliest_us) / MINUTE_US)
        assert (moved.share, moved.end_us) == (of_bad.share, of_bad.end_us)
    assert covered >= 18
    assert np.median(widths) <= 10 + 0.3 * length
    assert np.median(errors) < 0.5 * np.median(of_bad_errors)


def test_an_input_that_stays_dates_nothing() -> None:
    table, _ = drifting(3, 700, 60, 2.5)
    still, _ = drifting(4, 700, 60, 0.0)
    of_bad = onset(drifting(3, 700, 60, 2.5)[1])
    assert of_bad is not None
    counts = drifting(3, 700, 60, 2.5)[1]
    assert began_to_move(still, INPUT, counts, of_bad) is of_bad
    assert began_to_move(table, "input of nobody", counts, of_bad) is of_bad
