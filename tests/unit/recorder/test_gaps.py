"""What journals count as missing becomes few rows, and none of it is lost."""

from __future__ import annotations

from hoverboard.contract.times import time_of
from hoverboard.journal.records import GapEntry, GapRecord
from hoverboard.recorder.gaps import Gap, gaps_of

AT = 1_790_000_000_000_000 // 60_000_000 * 60_000_000
SECOND = 1_000_000


def entry(model: str | None, reason: str, at: int) -> GapEntry:
    return GapEntry(model, None if model is None else 1, reason, 2, 5, 1, at, at + SECOND)


def test_a_storm_of_gaps_is_one_a_minute_for_each_model_and_reason() -> None:
    storm = [GapRecord(number, [entry("cups", "too many", AT + number * SECOND)]) for number in range(90)]
    storm[7] = GapRecord(7, [entry("cups", "budget", AT), entry(None, "too many", AT)])
    found = gaps_of(storm)
    assert [(gap.model, gap.reason, gap.records, gap.executed, gap.flagged) for gap in found] == [
        ("cups", "too many", 118, 295, 59),
        ("cups", "budget", 2, 5, 1),
        (None, "too many", 2, 5, 1),
        ("cups", "too many", 60, 150, 30),
    ]
    first, last = found[0], found[-1]
    assert (first.first_at, first.last_at) == (time_of(AT), time_of(AT + 60 * SECOND))
    assert (last.first_at, last.last_at) == (time_of(AT + 60 * SECOND), time_of(AT + 90 * SECOND))


def test_one_gap_is_as_its_journal_has_it() -> None:
    (gap,) = gaps_of([GapRecord(1, [entry("cups", "budget", AT)])])
    assert gap == Gap(
        model="cups",
        version=1,
        reason="budget",
        records=2,
        executed=5,
        flagged=1,
        first_at=time_of(AT),
        last_at=time_of(AT + SECOND),
    )
