"""Which times are believed, and which days they fall on."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
import uuid_utils

from hoverboard.contract.times import times_ms
from hoverboard.database.partitions import FIRST_DAY, judge

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def milliseconds(*moments: datetime) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([int(at.timestamp() * 1000) for at in moments], np.int64)


def test_times_are_those_of_the_ids() -> None:
    ids = [uuid_utils.uuid7() for _ in range(3)]
    assert times_ms(b"".join(one.bytes for one in ids)).tolist() == [one.timestamp for one in ids]
    assert times_ms(b"\xff" * 16).tolist() == [2**48 - 1]
    assert times_ms(b"").shape == (0,)


@pytest.mark.parametrize(
    "at, implausible, expired",
    [
        (NOW, False, False),
        (NOW + timedelta(days=1), False, False),
        (NOW + timedelta(days=1) + SECOND, True, False),
        (datetime(2199, 1, 1, tzinfo=UTC), True, False),
        (NOW - timedelta(days=30), False, False),
        (NOW - timedelta(days=30) - SECOND, False, True),
        (datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC), False, True),
        (datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC) - SECOND, True, False),
        (datetime(1970, 1, 1, tzinfo=UTC), True, False),
    ],
)
def test_a_time_is_believed_within_a_day_ahead_and_back_to_the_first_day(
    at: datetime, implausible: bool, expired: bool
) -> None:
    found = judge(milliseconds(at), now=NOW, retention_days=30)
    assert found.implausible.tolist() == [implausible]
    assert found.expired.tolist() == [expired]
    assert found.days == (frozenset() if implausible or expired else {at.date()})


def test_days_are_those_of_the_rows_that_are_inserted_by_their_time_in_utc() -> None:
    times = milliseconds(
        datetime(2026, 3, 3, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 3, 4, tzinfo=UTC),
        datetime(2026, 3, 4, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    found = judge(times, now=NOW, retention_days=30)
    assert found.days == {date(2026, 3, 3), date(2026, 3, 4)}
    assert found.implausible.tolist() == [False, False, False, True, False]
    assert found.expired.tolist() == [False, False, False, False, True]
