"""Times and conditions as people write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.errors import ConfigError
from hoverboard.postmortem.commands import condition_of
from hoverboard.postmortem.window import RecordedWindow, parse_time, parse_where

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=UTC)),
        ("2026-11-30T07:12", datetime(2026, 11, 30, 7, 12, tzinfo=UTC)),
        ("2026-11-30 07:12:30.5Z", datetime(2026, 11, 30, 7, 12, 30, 500_000, tzinfo=UTC)),
        ("2026-11-30T07:12+02:00", datetime(2026, 11, 30, 5, 12, tzinfo=UTC)),
        ("now", NOW),
        ("90m", NOW - timedelta(minutes=90)),
        ("-2h", NOW - timedelta(hours=2)),
        ("7d ago", NOW - timedelta(days=7)),
    ],
)
def test_a_time_is_one_of_the_calendar_or_so_long_ago(text: str, meant: datetime) -> None:
    assert parse_time(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2x", "999999w", "12"])
def test_what_is_no_time_is_told_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ConfigError, match="2026-11-30T07:12"):
        parse_time(text, NOW)


@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=-7)))))
def test_every_time_reads_back(at: datetime) -> None:
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        return
    assert parse_time(at.isoformat(), NOW) == utc


def test_conditions_are_by_name_and_their_values_may_hold_anything() -> None:
    found, unless = parse_where(["tag.customer=17", "tag.a=b=c", "version=03", "label=a chair"])
    assert found == {"tag.customer": "17", "tag.a": "b=c", "version": "3", "label": "a chair"} and unless == {}
    window = RecordedWindow("m", NOW, NOW + timedelta(1), found)
    assert json.loads(window.tags or "") == {"customer": "17", "a": "b=c"}
    assert window.conditions == (window.tags, 3, "a chair", None, None) and window.excluded == (None,) * 5
    assert str(window) == (
        "m, 2026-11-30 12:00 UTC to 2026-12-01 12:00 UTC, tag.customer = 17, tag.a = b=c, version = 3, label = a chair"
    )


def test_conditions_may_say_what_must_not_be() -> None:
    found = parse_where(
        ["tag.customer!=17", "tag.customer!=18", "tag.customer!=17", "version!=3", "caller!=a!=b", "tag.b=1"]
    )
    assert found == ({"tag.b": "1"}, {"tag.customer": ("17", "18"), "version": ("3",), "caller": ("a!=b",)})
    window = RecordedWindow("m", NOW, NOW + timedelta(1), *found)
    assert window.excluded == (['{"customer":"17"}', '{"customer":"18"}'], [3], None, ["a!=b"], None)
    assert (window.has_version(3), window.has_version(4)) == (False, True)
    assert str(window).endswith("tag.b = 1, tag.customer != 17, tag.customer != 18, version != 3, caller != a!=b")
    with pytest.raises(ConfigError, match="must be '1' and must not be"):
        parse_where(["tag.b=1", "tag.b!=1"])


@pytest.mark.parametrize(
    "text",
    ["customer=17", "tag.=1", "tag.!=1", "version!=x", "tag.customer", "=", "version=", "version=x", "version=0"],
)
def test_a_condition_that_nothing_is_recorded_for_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--where"):
        parse_where([text])


def test_two_values_for_one_name_are_refused_and_the_same_one_twice_is_not() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        parse_where(["tag.a=1", "tag.a=2"])
    assert parse_where(["tag.a=1", "tag.a=1"]).where == {"tag.a": "1"}


def test_a_time_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ConfigError, match="before it starts"):
        RecordedWindow("m", NOW, NOW)


def test_a_version_of_thousands_of_digits_is_no_number() -> None:
    with pytest.raises(ConfigError, match="expected the number of a version"):
        parse_where(["version=" + "9" * 5000])


@pytest.mark.parametrize(
    "name", ["x", "x ", "x\xa0", "x\r", "x\u2028", "x\u3000", "x\x1f", " x", "x!", "x !", "x=y", "", "!"]
)
def test_a_condition_that_is_proposed_means_the_tag_that_it_was_made_of(name: str) -> None:
    condition = condition_of(f"tag {name}", "v")
    if condition is None:
        assert name != "x"
    else:
        assert parse_where([condition]).where == {f"tag.{name}": "v"}
