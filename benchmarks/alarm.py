"""`python -m benchmarks.alarm`: how long an alarm keeps quiet without reason, and how soon it speaks up with one.

Streams of conformal p-values, each against a calibration set of its own: normal scores are N(0, 1), novel ones N(3, 1), of
which about three quarters are flagged at alpha = 1%. The recorder's alarm, ADWIN (river, on the same flags) and a fixed
threshold on the share that was flagged lately all see the same streams. Needs the extra `examples`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.outliers import p_values, rate_bound
from hoverboard.watch.alarm import Alarm, Block

ALPHA: Final = 0.01
POINTS: Final = 1000
BATCH: Final = 16
BOUND: Final = rate_bound(POINTS, ALPHA)
NOVEL: Final = 0.05
MEAN: Final = 3.0

Flags = NDArray[np.bool_]
Way = Callable[[Flags], int | None]
"""The number of samples after which it gives alarm; None where it does not."""


@dataclass(frozen=True, slots=True)
class EProcess:
    """The recorder's alarm, fed in batches.

    Attributes:
        run_length: as set.
    """

    run_length: int

    def __call__(self, flags: Flags) -> int | None:
        alarm = Alarm(BOUND)
        counts = np.add.reduceat(flags, np.arange(0, len(flags), BATCH), dtype=np.int64).tolist()
        for place, flagged in enumerate(counts):
            alarm = alarm.after(Block(BATCH, flagged, place), self.run_length)
            if alarm.raised is not None:
                return (place + 1) * BATCH
        return None


@dataclass(frozen=True, slots=True)
class Adwin:
    """Adaptive windowing (Bifet and Gavalda, 2007), an alarm where the mean of the flags has risen.

    Attributes:
        delta: its setting, 0.002 unless somebody says otherwise.
    """

    delta: float = 0.002

    def __call__(self, flags: Flags) -> int | None:
        import river.drift

        detectors: Any = river.drift
        adwin = detectors.ADWIN(delta=self.delta)
        for place, flag in enumerate(flags.tolist()):
            before = adwin.estimation
            adwin.update(flag)
            if adwin.drift_detected and adwin.estimation > before:
                return place + 1
        return None


@dataclass(frozen=True, slots=True)
class Threshold:
    """An alarm where the share that was flagged of the last samples is above a fixed one.

    Attributes:
        share: as set.
        window: samples.
    """

    share: float
    window: int

    def __call__(self, flags: Flags) -> int | None:
        total = np.cumsum(flags, dtype=np.int64)
        lately = total[self.window :] - total[: -self.window]
        found = np.flatnonzero(lately > self.share * self.window)
        return None if not len(found) else int(found[0]) + self.window + 1


WAYS: Final[Mapping[str, Way]] = {
    "alarm, run length 2,000": EProcess(2000),
    "alarm, run length 1,000,000": EProcess(1_000_000),
    "ADWIN, delta 0.002": Adwin(),
    "ADWIN, delta 0.00001": Adwin(1e-5),
    "above 2% of the last 1,000": Threshold(0.02, 1000),
    "above 3% of the last 1,000": Threshold(0.03, 1000),
}


def normal(count: int, samples: int, generator: np.random.Generator) -> Iterator[Flags]:
    """Streams without change, each with its own calibration set."""
    return changed(count, samples, samples, generator)


def worst(count: int, samples: int, generator: np.random.Generator) -> Iterator[Flags]:
    """Streams without change of versions whose calibration is as unlucky as the bound allows for."""
    for _ in range(count):
        yield generator.uniform(size=samples) < BOUND


def changed(count: int, samples: int, change: int, generator: np.random.Generator) -> Iterator[Flags]:
    """Streams with a share of novel samples from `change` on."""
    for _ in range(count):
        calibration = np.sort(generator.normal(size=POINTS))
        scores = generator.normal(size=samples)
        scores[change:] += MEAN * (generator.uniform(size=samples - change) < NOVEL)
        yield p_values(scores, calibration) <= ALPHA


def run_lengths(way: Way, streams: list[Flags]) -> str:
    """The mean, where streams without alarm count as far as they go."""
    found = [way(flags) for flags in streams]
    lengths = [len(flags) if at is None else at for at, flags in zip(found, streams, strict=True)]
    quiet = sum(at is None for at in found)
    more = "at least " if quiet else ""
    return f"{more}{np.mean(lengths):,.0f} ({quiet} of {len(streams)} quiet)"


def delays(way: Way, streams: list[Flags], change: int) -> tuple[str, str, str]:
    """Mean and 95th percentile of the delay; how many missed it; how many had given alarm before it."""
    found = [way(flags) for flags in streams]
    early = sum(at is not None and at <= change for at in found)
    late = [at - change for at in found if at is not None and at > change]
    missed = sum(at is None for at in found)
    words = f"{np.mean(late):,.0f} ({np.quantile(late, 0.95):,.0f})" if late else "-"
    return words, str(missed), str(early)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarm", description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--samples", type=int, default=40_000, help="of a stream")
    parser.add_argument("--change", type=int, default=4000, help="samples before the novel ones come")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    count, samples, change = arguments.streams, arguments.samples, arguments.change
    start = time.perf_counter()
    quiet = list(normal(count, samples, generator))
    unlucky = list(worst(count, samples, generator))
    novel = list(changed(count, samples, change, generator))
    always = list(changed(count, samples, 0, generator))
    print(
        f"{count} streams of {samples:,} samples, batches of {BATCH}; alpha {ALPHA:.0%}, {POINTS:,} calibration ",
        end="",
    )
    print(f"points, bound {BOUND:.2%}; {NOVEL:.0%} novel samples from {change:,} on\n")
    print(
        "| way | run length without change | the same at the bound | delay, mean (95%) | missed | false before ", end=""
    )
    print("| delay where it is so from the start | missed |")
    print("|---|---|---|---|---|---|---|---|")
    for name, way in WAYS.items():
        delay, missed, early = delays(way, novel, change)
        from_start, never, _ = delays(way, always, 0)
        lengths = run_lengths(way, quiet), run_lengths(way, unlucky)
        print(f"| {' | '.join([name, *lengths, delay, missed, early, from_start, never])} |", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
