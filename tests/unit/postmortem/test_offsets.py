from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.postmortem.factors import FEWEST
from hoverboard.postmortem.offsets import OFFSETS, unit_offset
from hoverboard.postmortem.repairs import repair_of
from hoverboard.postmortem.shapes import scaled
from hoverboard.postmortem.table import ABSENT, Field
from tests.unit.postmortem.test_factors import COLUMNS, innocent, usual
from tests.unit.postmortem.test_shapes import table_of


def test_what_drifts_is_shifted_or_chosen_has_no_other_zero() -> None:
    claimed = []
    for seed in range(600):
        generator = np.random.default_rng(seed)
        rows = int(generator.choice([20, 40, 100, 400, 1000]))
        # Things of many sorts, and temperatures: around freezing, in a room, of the air in kelvins.
        scale, zero = [(1.0, 0.0), (4.0, 2.0), (2.0, 20.0), (6.0, 285.0), (5.0, 60.0), (1.5, 10.0)][seed // 6 % 6]
        ours = innocent(generator, usual(generator, seed % 6, 20 * rows + 500), rows) * scale + zero
        before = usual(generator, seed % 6, int(generator.choice([100, 400, 2000]))) * scale + zero
        if unit_offset(ours, before, COLUMNS) is not None:
            claimed.append(seed)
    assert not claimed


@pytest.mark.parametrize("unit", list(OFFSETS))
@pytest.mark.parametrize("part", [1.0, 0.8])
def test_each_unit_is_told_where_all_or_most_of_a_hundred_rows_are_in_it(
    unit: tuple[float, float], part: float
) -> None:
    generator = np.random.default_rng(2)
    middle = 295.0 if unit[1] == -273.15 else 68.0 if unit[0] < 1 else 20.0
    before, ours = generator.normal(middle, 5, 800), generator.normal(middle, 5, 100)
    changed = ours[: round(100 * part)]
    changed[:] = changed * unit[0] + unit[1]
    found = unit_offset(ours, before, COLUMNS)
    assert found is not None
    assert found[0] == unit
    assert unit_offset(ours[: FEWEST - 1], before, COLUMNS) is None


def test_another_zero_that_is_near_one_is_not_that_one() -> None:
    generator = np.random.default_rng(0)
    before, ours = generator.normal(20, 5, 800), generator.normal(20, 5, 400)
    for factor, offset in ((1.8, 20.0), (1.5, 32.0), (1.0, 250.0), (2.4, 32.0), (1.0, 30.0), (3.28, 0.0)):
        assert unit_offset(ours * factor + offset, before, COLUMNS) is None, (factor, offset)


def test_degrees_fahrenheit_are_named_and_turned_back() -> None:
    generator = np.random.default_rng(3)
    warmth = generator.normal(20, 4, (600, 1))
    base, bad = np.arange(600) < 400, np.arange(600) >= 400
    sent = np.where(bad[:, np.newaxis], warmth * 1.8 + 32, warmth)
    numbers = sent[:, 0].astype(np.float32)
    table = replace(
        table_of(sent, base, bad),
        fields=(Field("input warmth", "input", (ABSENT, "some"), np.ones(600, np.uint8), numbers),),
    )
    shape = scaled(table, bad)
    assert shape is not None
    assert "1.8 times what it usually is plus 32, as in another unit: degrees Fahrenheit for Celsius" in shape.words
    spec = TensorSpec("warmth", "float32", (1,))
    repair = repair_of(table, bad, Signature("regression", (spec,), (TensorSpec("value", "float32", (1,)),)))
    assert str(repair) == "warmth less 32 divided by 1.8"
    assert repair is not None
    back = repair.applied({"warmth": numbers[bad].reshape(-1, 1)})["warmth"]
    np.testing.assert_allclose(back, warmth[bad], atol=1e-4)
