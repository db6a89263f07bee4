from __future__ import annotations

import math

import numpy as np
import pytest

from hoverboard.postmortem.onset import Onset, credible, dispersion, log_beta, log_gamma, onset
from hoverboard.postmortem.table import BinnedCounts, Table

MINUTE_US = 60_000_000
START_US = 1_764_460_800_000_000


def counts(share: np.ndarray, generator: np.random.Generator, rows: float = 60, clump: int = 1) -> BinnedCounts:
    drawn = generator.poisson(rows / clump, len(share))
    bad = generator.binomial(drawn, share)
    start = START_US + np.arange(len(share)) * MINUTE_US
    return BinnedCounts(start, (drawn * clump).astype(float), (bad * clump).astype(float))


def stepped(bins: int, begin: int, low: float, high: float, end: int | None = None) -> np.ndarray:
    share = np.full(bins, low)
    share[begin:end] = high
    return share


def bin_of(at_us: int) -> int:
    return (at_us - START_US) // MINUTE_US


def found(planted: np.ndarray, generator: np.random.Generator, **how: int) -> tuple[Onset, BinnedCounts]:
    made = counts(planted, generator, **how)
    answer = onset(made)
    assert answer is not None
    return answer, made


def test_log_gamma_is_that_of_the_standard_library() -> None:
    x = np.array([1e-3, 0.5, 1, 2, 3.3, 17, 1e3, 1e6])
    assert log_gamma(x) == pytest.approx([math.lgamma(each) for each in x], rel=1e-10, abs=1e-10)
    assert log_beta(np.array([0.5]), np.array([0.5])) == pytest.approx([math.log(math.pi)])


def test_a_step_is_found_where_it_is_and_its_set_covers_it() -> None:
    generator = np.random.default_rng(11)
    covered, errors, widths = 0, [], []
    for _ in range(100):
        begin = int(generator.integers(30, 170))
        answer, _ = found(stepped(200, begin, 0.012, 0.06), generator)
        covered += bin_of(answer.earliest_us) <= begin <= bin_of(answer.latest_us)
        errors.append(abs(bin_of(answer.at_us) - begin))
        widths.append(bin_of(answer.latest_us) - bin_of(answer.earliest_us) + 1)
        assert answer.posterior.sum() == pytest.approx(1)
    assert covered >= 90
    assert np.mean(errors) < 1
    assert np.median(widths) <= 6  # two of them since a change within a minute shows in this one or the next


def test_quiet_days_have_no_onset() -> None:
    generator = np.random.default_rng(12)
    assert sum(onset(counts(np.full(1440, 0.012), generator)) is not None for _ in range(40)) <= 1


def test_bad_rows_that_come_in_clumps_are_no_onset() -> None:
    generator = np.random.default_rng(13)
    clumped = [counts(np.full(1440, 0.012), generator, clump=8) for _ in range(25)]
    assert max(dispersion(one, 0, 0) for one in clumped) > 4
    assert sum(onset(one) is not None for one in clumped) <= 1


def test_a_fall_is_no_onset() -> None:
    assert onset(counts(stepped(300, 100, 0.06, 0.01, None), np.random.default_rng(14))) is None


def test_what_is_over_has_an_end() -> None:
    answer, made = found(stepped(1440, 600, 0.01, 0.05, 700), np.random.default_rng(15))
    assert abs(bin_of(answer.at_us) - 600) <= 3
    assert answer.end_us is not None
    assert abs(bin_of(answer.end_us) - 700) <= 9  # ends are looked for every sixth minute of a day
    assert answer.share == pytest.approx(0.05, rel=0.2)
    assert answer.usual_share == pytest.approx(0.01, rel=0.2)
    assert answer.near(made, START_US + 600 * MINUTE_US + 1, 5) > 0.9
    assert answer.near(made, START_US + 300 * MINUTE_US) < 1e-6


def test_what_goes_on_has_none() -> None:
    answer, _ = found(stepped(1440, 900, 0.01, 0.05), np.random.default_rng(16))
    assert answer.end_us is None


@pytest.mark.parametrize("bins, bad", [(0, 0), (2, 1), (50, 0)])
def test_where_there_is_nothing_to_tell_there_is_no_onset(bins: int, bad: int) -> None:
    start = START_US + np.arange(bins) * MINUTE_US
    assert onset(BinnedCounts(start, np.full(bins, 10.0), np.full(bins, float(bad)))) is None


def test_minutes_without_rows_are_no_harm() -> None:
    made = counts(stepped(400, 200, 0.01, 0.08), np.random.default_rng(17))
    quiet = np.r_[np.arange(40, 80), np.arange(300, 330)]
    made.rows[quiet], made.bad[quiet] = 0, 0
    answer = onset(made)
    assert answer is not None
    assert abs(bin_of(answer.at_us) - 200) <= 2


def test_a_credible_set_is_the_smallest_with_its_mass() -> None:
    assert credible(np.array([0.05, 0.5, 0.1, 0.35]), 0.9).tolist() == [1, 2, 3]
    assert credible(np.array([0.0, 1.0, 0.0]), 0.9).tolist() == [1]


def test_rows_of_the_time_when_it_may_have_begun_are_neither_usual_nor_of_the_incident() -> None:
    answer, _ = found(stepped(1440, 600, 0.01, 0.03, 700), np.random.default_rng(18), rows=20)
    at = START_US + np.arange(1440) * MINUTE_US
    empty, weight = np.zeros(1440, np.bool_), np.ones(1440)
    parted = answer.split(Table(at, empty, empty, weight, np.zeros(1440, np.int32), (), np.zeros(1440, "V16")))
    unsure = (answer.at_us - answer.earliest_us) // MINUTE_US
    assert unsure > 0
    assert len(parted) < 1440 - unsure + 1
    now = parted.at_us[~parted.base]
    assert now.min() == answer.at_us
    assert now.max() < (answer.end_us or 0)
    assert not ((parted.at_us >= answer.earliest_us) & (parted.at_us < answer.at_us)).any()


def sampled(made: BinnedCounts, share: np.ndarray, generator: np.random.Generator) -> BinnedCounts:
    """All bad rows are kept, and a share of the others."""
    kept = generator.binomial((made.rows - made.bad).astype(int), share)
    return BinnedCounts(made.start_us, made.bad + kept / share, made.bad, made.bad + kept, made.bad)


def test_a_step_in_sampled_rows_is_found_as_in_all_of_them() -> None:
    generator = np.random.default_rng(19)
    steps = [int(each) for each in generator.integers(300, 1000, 60)]
    days = [counts(stepped(1440, step, 0.02, 0.045), generator, rows=10) for step in steps]
    answers = [onset(sampled(day, np.full(1440, 0.1), generator)) for day in days]
    found = [(answer, step) for answer, step in zip(answers, steps, strict=True) if answer is not None]
    assert len(found) >= 57
    assert sum(bin_of(each.earliest_us) <= step <= bin_of(each.latest_us) for each, step in found) >= 0.9 * len(found)
    assert np.median([each.share for each, _ in found]) == pytest.approx(0.045, rel=0.1)


def test_another_policy_at_noon_is_no_onset() -> None:
    generator = np.random.default_rng(20)
    share = np.where(np.arange(1440) < 720, 1.0, 0.1)
    days = [sampled(counts(np.full(1440, 0.02), generator, rows=10), share, generator) for _ in range(20)]
    assert sum(onset(day) is not None for day in days) <= 1


def test_what_was_to_be_the_usual_time_is_the_incidents_from_its_onset_on() -> None:
    # An alarm is raised some rows after it began, and the time before the alarm is what is compared with.
    answer, _ = found(stepped(1440, 600, 0.01, 0.05), np.random.default_rng(21))
    at = START_US + np.arange(1440) * MINUTE_US
    usual = at < START_US + 620 * MINUTE_US
    table = Table(at, ~usual, usual, np.ones(1440), np.zeros(1440, np.int32), (), np.zeros(1440, "V16"))
    parted = answer.split(table)
    assert not parted.base[parted.at_us >= answer.at_us].any()
    assert parted.base[parted.at_us < answer.at_us].all()
