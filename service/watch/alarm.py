"""The alarm of a version: whether it finds more samples strange than its calibration allows, with a promise on false alarms.

A version promises that of normal samples at most a share `bound` is flagged. Counted are blocks of n samples, k of them
flagged. For each of a few rates q above the bound, with the likelihood ratio of q against the bound

    L = (q / bound)^k ((1 - q) / (1 - bound))^(n - k),

a sum goes on as S := (S + n) L, and the alarm is raised once the mean E of the sums, over the rates, is at least A: the
average run length, in samples. This is the e-detector of Shin, Ramdas and Rinaldo (2022) in the form of Shiryaev and
Roberts. Per sample L is 1 + lambda (b - bound), with lambda = (q - bound) / (bound (1 - bound)), and S adds up, over every
sample at which the change may have been, the evidence since then.

Why the run length holds: let, as long as nothing is wrong, each sample be flagged with a probability of at most the bound
given everything before it. Then the expectation of 1 + lambda (b - bound) is at most 1 given what came before, hence that
of L is too, whatever the order within the block; so that of (S + n) L is at most S + n. With T samples counted so far, E - T
is therefore a supermartingale that begins at 0, and where the alarm is raised, E[T] >= E[E] >= A. Blocks may be cut
anywhere and in any size, so long as that does not look at the block's own flags: all that is lost is that the evidence
within a block counts from its beginning. The sum is never less than M := max(M, 1) L, the CUSUM form, whose run length has
the same bound, but which takes longer to notice: twice as long for 5% novel samples at A = 2,000. That form is kept beside it
for what it is good at, the time of the change.

Both halves of the assumption are worth naming: the bound holds for 95% of calibration sets, and samples must not depend
on each other's flags. Hence rows that repeat a recent one are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["BLOCK_ROWS", "ODDS", "Alarm", "Block", "Counts", "Evidence", "Raised", "blocks_of"]

ODDS: Final = (1.5, 2.0, 4.0, 8.0, 16.0)
"""The odds of the rates q, as multiples of the bound's odds."""

# A recorder that has fallen behind would otherwise take a step for each batch of one.
BLOCK_ROWS: Final = 128
"""Counts that come together are counted in blocks of at least this many samples."""

# Only for people to look at: the alarm itself forgets nothing.
_RECENT_ROWS: Final = 10_000.0
# S begins at 0, whose logarithm this is.
_QUIET: Final = (-math.inf,) * len(ODDS)


class Block(NamedTuple):
    """Samples that are counted together.

    Attributes:
        rows: that ran and repeat no recent one.
        flagged: outliers among them.
        at_us: when the first of them ran, microseconds since the epoch.
        repeats: others that do repeat one, and are left out.
    """

    rows: int
    flagged: int
    at_us: int
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Samples since some time.

    Attributes:
        rows, flagged, repeats: as in `Block`.
    """

    rows: int
    flagged: int
    repeats: int

    def after(self, block: Block) -> Counts:
        """These and one block more."""
        return Counts(self.rows + block.rows, self.flagged + block.flagged, self.repeats + block.repeats)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has been counted since a beginning.

    Attributes:
        rows, flagged: in total.
        log_sums: for each rate the natural logarithm of S.
        log_products: for each rate that of the product of L since `since_us`, begun anew wherever it was below 1.
        since_us: for each rate, when the first sample of that product ran; None before the first.
        counts: for each rate, what was counted since; None where that began before such counts were kept.
        repeats: left out, in total.
    """

    rows: int = 0
    flagged: int = 0
    log_sums: tuple[float, ...] = _QUIET
    log_products: tuple[float, ...] = (0.0,) * len(ODDS)
    since_us: tuple[int | None, ...] = (None,) * len(ODDS)
    counts: tuple[Counts | None, ...] = (None,) * len(ODDS)
    repeats: int = 0

    def after(self, block: Block, bound: float) -> Evidence:
        """This and one block more; one of nothing but repeats is no evidence."""
        rows, flagged = block.rows, block.flagged
        repeats = self.repeats + block.repeats
        # Repeats say nothing of the next sample, but belong to the counts that people see.
        if not rows:
            return replace(self, counts=tuple([each and each.after(block) for each in self.counts]), repeats=repeats)
        log_rows = math.log(rows)
        ratios = [flagged * strange + (rows - flagged) * normal for strange, normal in _steps(bound)]
        # At a product of 1 or less a change that began now explains as much as one that began before: the later time is taken.
        begins = [product <= 0 or at is None for product, at in zip(self.log_products, self.since_us, strict=True)]
        fresh = Counts(rows, flagged, block.repeats)
        return Evidence(
            self.rows + rows,
            self.flagged + flagged,
            tuple([_log_add(each, log_rows) + ratio for each, ratio in zip(self.log_sums, ratios, strict=True)]),
            tuple([max(each, 0.0) + ratio for each, ratio in zip(self.log_products, ratios, strict=True)]),
            tuple([block.at_us if anew else at for anew, at in zip(begins, self.since_us, strict=True)]),
            tuple(
                [fresh if anew else each and each.after(block) for anew, each in zip(begins, self.counts, strict=True)]
            ),
            repeats,
        )

    @property
    def log10_e(self) -> float:
        """The decimal logarithm of E, at least 0."""
        # In logarithms: the sums pass every float within a few hundred strange samples.
        largest = max(self.log_sums)
        if largest == -math.inf:
            return 0.0
        mean = sum(math.exp(each - largest) for each in self.log_sums) / len(ODDS)
        return max(0.0, (largest + math.log(mean)) / math.log(10))

    @property
    def onset_us(self) -> int | None:
        """The most likely time of the change: where the largest of the products begins."""
        return self.since_us[self._likeliest]

    @property
    def since_onset(self) -> Counts | None:
        """What was counted since then; None where it began before such counts were kept."""
        return self.counts[self._likeliest]

    @property
    def _likeliest(self) -> int:
        return max(range(len(ODDS)), key=self.log_products.__getitem__)


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm.

    Attributes:
        at_us: time of the block that raised it.
        onset_us: when what raised it seems to have begun.
        log10_e: the evidence.
        rows, flagged: counted since the last reset, when it was raised.
        since_onset: counted since `onset_us`, up to now; None where that was before such counts were kept.
    """

    at_us: int
    onset_us: int
    log10_e: float
    rows: int
    flagged: int
    since_onset: Counts | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One version's alarm.

    Attributes:
        bound: on the share of normal samples that are flagged, between 0 and 1.
        evidence: since the last reset.
        recent_rows, recent_flagged: counts in which older samples weigh less, about the last ten thousand.
        raised: the alarm, until it is reset.
        reset_us: when that was last; samples that ran before it count no more.
    """

    bound: float
    evidence: Evidence = Evidence()
    recent_rows: float = 0.0
    recent_flagged: float = 0.0
    raised: Raised | None = None
    reset_us: int | None = None

    @property
    def rate(self) -> float | None:
        """The share that was flagged lately; None before the first sample."""
        return self.recent_flagged / self.recent_rows if self.recent_rows else None

    def after(self, block: Block, run_length: int) -> Alarm:
        """This and one block more; a raised alarm stays raised.

        Args:
            run_length: samples between two false alarms, on average, at least.
        """
        # Whoever has reset it has seen these; they came late, from a journal that lagged.
        if self.reset_us is not None and block.at_us < self.reset_us:
            return self
        # By rows and not by time: a version that is seldom asked keeps its rate.
        fading = math.exp(-block.rows / _RECENT_ROWS)
        evidence = self.evidence.after(block, self.bound)
        raised = self.raised
        if raised is not None and raised.since_onset is not None:
            raised = replace(raised, since_onset=raised.since_onset.after(block))
        # Once raised it stays: evidence that falls again is no proof that what raised it is over.
        elif raised is None and evidence.log10_e >= math.log10(run_length):
            onset = evidence.onset_us
            raised = Raised(
                block.at_us,
                block.at_us if onset is None else onset,
                evidence.log10_e,
                evidence.rows,
                evidence.flagged,
                evidence.since_onset,
            )
        return Alarm(
            self.bound,
            evidence,
            self.recent_rows * fading + block.rows,
            self.recent_flagged * fading + block.flagged,
            raised,
            self.reset_us,
        )

    def reset(self, at_us: int) -> Alarm:
        """Quiet again, with nothing counted."""
        return Alarm(self.bound, reset_us=at_us)


def blocks_of(counts: Iterable[Block]) -> list[Block]:
    """Counts that are at hand together as blocks of at least `BLOCK_ROWS` samples, but for the last one.

    Args:
        counts: of each batch, in order; one of repeats alone is no sample, though they are counted.
    """
    blocks: list[Block] = []
    rows = flagged = first_us = repeats = 0
    for more, strange, at_us, again in counts:
        if not (rows or (repeats and more <= 0)):
            first_us = at_us
        repeats += max(again, 0)
        if more > 0:
            rows += more
            # A broken count must not make a likelihood of more outliers than samples.
            flagged += min(strange, more)
        if rows >= BLOCK_ROWS:
            blocks.append(Block(rows, flagged, first_us, repeats))
            rows = flagged = repeats = 0
    return [*blocks, Block(rows, flagged, first_us, repeats)] if rows or repeats else blocks


# One bound for each version, and a step for each block: logarithms would be most of the work.
@lru_cache(maxsize=256)
def _steps(bound: float) -> tuple[tuple[float, float], ...]:
    """For each rate the natural logarithms of what a flagged sample and another one multiply L by."""
    rates = [bound * odds / (1 + bound * (odds - 1)) for odds in ODDS]
    return tuple((math.log(rate / bound), math.log((1 - rate) / (1 - bound))) for rate in rates)


def _log_add(a: float, b: float) -> float:
    # The larger one is taken out, so that no exponential overflows.
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
