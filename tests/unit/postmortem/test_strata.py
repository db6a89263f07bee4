from __future__ import annotations

import numpy as np
import pytest

from hoverboard.postmortem.onset import onset
from hoverboard.postmortem.strata import onset_of_a_part
from hoverboard.postmortem.table import Table
from tests.unit.postmortem.days import NOON_US, Day
from tests.unit.postmortem.test_causes import MINUTE_US, counts_of


def drawn(day: Day, risk: np.ndarray) -> tuple[Table, np.ndarray]:
    """The table of a day of which every row is drawn, and which rows are bad."""
    table = day.table(risk, share=1.0)
    return table, table.bad


@pytest.mark.parametrize("seed", range(3))
def test_one_callers_rise_is_dated_though_all_rows_together_hide_it(seed: int) -> None:
    day = Day(16_000, seed=seed)
    table, bad = drawn(day, day.risk(day.caller == 1, 0.55))
    counts = counts_of(day, bad)
    assert onset(counts) is None
    found = onset_of_a_part(table, counts)
    assert found is not None
    assert found.earliest_us <= NOON_US <= found.latest_us + MINUTE_US


def test_parts_of_a_quiet_day_show_nothing() -> None:
    told = []
    for seed in range(40):
        day = Day(20_000, seed=seed)
        table, bad = drawn(day, np.full(len(day.at), 0.02))
        if onset_of_a_part(table, counts_of(day, bad)) is not None:
            told.append(seed)
    assert not told
