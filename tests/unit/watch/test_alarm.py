from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hoverboard.watch.alarm import BLOCK_ROWS, ODDS, Alarm, Block, Counts, Evidence, blocks_of

BOUND = 0.0157
NOVEL = 0.055
"""Of 5% novel samples most are flagged, and of the rest 1%."""


def run_length(
    share: float, generator: np.random.Generator, *, rows: Callable[[np.random.Generator], int], promised: int
) -> int:
    """Samples until the alarm is raised, where a share of all is flagged."""
    alarm, samples = Alarm(BOUND), 0
    while alarm.raised is None:
        count = rows(generator)
        samples += count
        alarm = alarm.after(Block(count, int(generator.binomial(count, share)), samples), promised)
    return samples


def mixed(generator: np.random.Generator) -> int:
    """Blocks as a service makes them: single samples, and batches up to the largest bucket."""
    return int(generator.choice([1, 1, 2, 16, 64]))


@pytest.mark.parametrize("rows", [lambda _: 16, mixed, lambda _: 300], ids=["16", "mixed", "300"])
def test_without_change_the_mean_run_length_is_at_least_what_was_promised(
    rows: Callable[[np.random.Generator], int],
) -> None:
    generator = np.random.default_rng(1)
    # The worst that a calibration allows: the true rate is the bound itself.
    lengths = [run_length(BOUND, generator, rows=rows, promised=2000) for _ in range(200)]
    assert np.mean(lengths) >= 2000
    # And no useless one: the promise is met, not missed by orders of magnitude.
    assert np.mean(lengths) < 30_000


def test_blocks_cut_by_what_came_before_keep_the_promise() -> None:
    """A busy service makes larger blocks after outliers: that does not look at the block's own flags."""
    generator = np.random.default_rng(2)
    lengths = []
    for _ in range(200):
        alarm, samples, rows = Alarm(BOUND), 0, 1
        while alarm.raised is None:
            flagged = int(generator.binomial(rows, BOUND))
            samples += rows
            alarm = alarm.after(Block(rows, flagged, samples), 2000)
            rows = 64 if flagged else 1
        lengths.append(samples)
    assert np.mean(lengths) >= 2000


def test_five_percent_of_novel_traffic_is_noticed_within_a_few_hundred_samples() -> None:
    generator = np.random.default_rng(3)
    delays = [run_length(NOVEL, generator, rows=lambda _: 16, promised=1_000_000) for _ in range(50)]
    assert np.mean(delays) < 500
    everything = [run_length(1.0, generator, rows=lambda _: 1, promised=1_000_000) for _ in range(3)]
    assert max(everything) <= 8


def test_evidence_is_the_sum_over_all_beginnings_of_the_likelihood_ratios_since() -> None:
    flags = [0, 1, 0, 0, 1, 1, 0]
    evidence = Evidence()
    for at, flag in enumerate(flags):
        evidence = evidence.after(Block(1, flag, at), BOUND)
    sums = []
    for odds in ODDS:
        rate = BOUND * odds / (1 - BOUND) / (1 + BOUND * odds / (1 - BOUND))
        lam = (rate - BOUND) / (BOUND * (1 - BOUND))
        factors = [1 + lam * (flag - BOUND) for flag in flags]
        sums.append(sum(math.prod(factors[start:]) for start in range(len(flags))))
    assert [math.exp(each) for each in evidence.log_sums] == pytest.approx(sums)
    assert evidence.log10_e == pytest.approx(math.log10(np.mean(sums)))


def test_a_block_is_never_more_evidence_than_its_samples_one_by_one_from_its_beginning() -> None:
    block = Evidence().after(Block(8, 3, 0), BOUND)
    for order in ([1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1]):
        single = Evidence()
        for flag in order:
            single = single.after(Block(1, flag, 0), BOUND)
        for together, product in zip(block.log_sums, single.log_products, strict=True):
            assert together <= product + math.log(8) + 1e-12


def stream(*parts: tuple[int, float], seed: int = 4) -> Iterator[Block]:
    """Blocks of ten samples, one a second: so many samples of which such a share is flagged."""
    generator = np.random.default_rng(seed)
    second = 0
    for samples, share in parts:
        for _ in range(samples // 10):
            yield Block(10, int(generator.binomial(10, share)), second * 1_000_000)
            second += 1


def test_the_onset_is_about_when_the_change_was() -> None:
    errors = []
    for seed in range(30):
        alarm = Alarm(BOUND)
        for block in stream((20_000, 0.008), (5000, 0.06), seed=seed):
            alarm = alarm.after(block, 1_000_000)
        assert alarm.raised is not None
        errors.append(alarm.raised.onset_us / 1e6 - 2000)
    assert abs(float(np.median(errors))) < 20


def test_a_raised_alarm_stays_raised_and_keeps_its_onset_until_it_is_reset() -> None:
    alarm = Alarm(BOUND)
    for block in stream((1000, 0.3), (50_000, 0.0)):
        alarm = alarm.after(block, 2000)
    raised = alarm.raised
    assert raised is not None
    assert raised.at_us < 20_000_000
    assert alarm.evidence.log10_e < 3
    assert alarm.rate is not None
    assert alarm.rate < 0.01
    quiet = alarm.reset(6_000_000_000)
    assert quiet.raised is None
    assert quiet.after(Block(64, 64, 5_999_999_999), 2000) == quiet
    assert quiet.after(Block(64, 64, 6_000_000_000), 2000).raised is not None


def test_evidence_does_not_overflow_however_long_it_lasts() -> None:
    alarm = Alarm(BOUND)
    for block in (Block(10**9, 10**9, 1), Block(10**9, 0, 2), Block(1, 1, 3)):
        alarm = alarm.after(block, 10**6)
        assert math.isfinite(alarm.evidence.log10_e)
    assert alarm.raised is not None
    assert alarm.raised.at_us == 1


def test_the_rate_is_that_of_about_the_last_ten_thousand_samples() -> None:
    alarm = Alarm(BOUND)
    assert alarm.rate is None
    for block in stream((30_000, 0.0), (10_000, 0.5)):
        alarm = alarm.after(block, 10**9)
    assert alarm.rate == pytest.approx(0.5 * (1 - math.exp(-1)), abs=0.02)


def test_counts_that_come_together_are_joined_and_nonsense_is_left_out() -> None:
    counts = [Block(1, 1, at) for at in range(BLOCK_ROWS + 1)] + [Block(0, 0, 90), Block(-3, 0, 91), Block(4, 9, 92)]
    assert blocks_of(counts) == [Block(BLOCK_ROWS, BLOCK_ROWS, 0), Block(5, 5, BLOCK_ROWS)]
    assert blocks_of([]) == []
    assert blocks_of([Block(200, 2, 1), Block(200, 3, 2)]) == [Block(200, 2, 1), Block(200, 3, 2)]


def test_repeats_are_counted_and_are_no_evidence() -> None:
    repeats = [Block(0, 0, 3, repeats=5), Block(2, 1, 4, repeats=1), Block(0, 0, 5, repeats=7)]
    assert blocks_of(repeats) == [Block(2, 1, 4, repeats=13)]
    assert blocks_of([Block(0, 0, 3, repeats=5)]) == [Block(0, 0, 3, repeats=5)]
    with_them, without = Alarm(BOUND), Alarm(BOUND)
    for at in range(5):
        with_them = with_them.after(Block(64, 8, at, repeats=3), 2000).after(Block(0, 0, at, repeats=100), 2000)
        without = without.after(Block(64, 8, at), 2000)
    assert with_them.evidence.repeats == 5 * 103
    assert with_them.evidence.log10_e == without.evidence.log10_e
    assert (with_them.evidence.rows, with_them.rate) == (without.evidence.rows, without.rate)
    assert with_them.reset(9).evidence.repeats == 0


def test_an_alarm_counts_what_came_since_its_onset_and_goes_on_counting() -> None:
    alarm, blocks = Alarm(BOUND), [*stream((20_000, 0.0), (3000, 0.2))]
    blocks = [Block(one.rows, one.flagged, one.at_us, repeats=2) for one in blocks]
    for block in blocks:
        alarm = alarm.after(block, 2000)
    raised = alarm.raised
    assert raised is not None
    since = [block for block in blocks if block.at_us >= raised.onset_us]
    assert raised.since_onset == Counts(
        sum(block.rows for block in since), sum(block.flagged for block in since), 2 * len(since)
    )
    assert raised.since_onset.rows < 4000 < raised.rows
    assert raised.since_onset.flagged / raised.since_onset.rows > 0.15


def test_of_what_began_before_counts_were_kept_none_are_told() -> None:
    begun = Evidence(100, 2, since_us=(1,) * len(ODDS), log_products=(0.5,) * len(ODDS), log_sums=(5.0,) * len(ODDS))
    alarm = Alarm(BOUND, begun).after(Block(64, 30, 5), 2000)
    assert alarm.raised is not None
    assert alarm.raised.since_onset is None
    assert alarm.after(Block(64, 30, 6), 2000).raised == alarm.raised
