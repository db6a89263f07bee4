"""Which recorded samples are meant: a model, a time and conditions, as the command line has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from hoverboard.errors import ConfigError

__all__ = ["CONDITIONS", "Conditions", "RecordedWindow", "RowChoice", "parse_time", "parse_where"]

CONDITIONS: Final = ("version", "label", "caller", "process")
"""What samples can be chosen by, beside `tag.NAME`."""
_TAG: Final = "tag."
_AGO: Final = re.compile(r"-?(\d{1,6})\s*(s|m|h|d|w)(?: ago)?")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DIGITS: Final = 19
_MOST_VERSION: Final = 2**63 - 1


class Conditions(NamedTuple):
    """What `--where` says, by name.

    Attributes:
        where: what a sample must have: name -> value.
        unless: what it must not have: name -> values. A sample without any is meant.
    """

    where: dict[str, str]
    unless: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RowChoice:
    """Which samples of a window, by what came of them.

    Attributes:
        labelled: only those that somebody labelled.
        issue: only outliers of this issue.
        without_issues: none that a version's outliers of these issues are.
        without_outliers: none that any version found strange.
        label_sources: whose labels count; empty for those of all.
        without_label_sources: whose do not.
    """

    labelled: bool = False
    issue: int | None = None
    without_issues: tuple[int, ...] = ()
    without_outliers: bool = False
    label_sources: tuple[str, ...] = ()
    without_label_sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedWindow:
    """Samples of one model and one time.

    Attributes:
        model: its name.
        start: of the time, included.
        end: of the time, excluded.
        where: conditions that all must hold: `tag.NAME`, `version`, `label` (as answered), `caller` or `process` -> value.
        unless: conditions of which none may hold, by the same names.
    """

    model: str
    start: datetime
    end: datetime
    where: Mapping[str, str] = field(default_factory=dict)
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hold the times against each other.

        Raises:
            ConfigError: it ends before it starts.
        """
        if self.start >= self.end:
            raise ConfigError(f"the time ends ({_written(self.end)}) before it starts ({_written(self.start)})")

    @property
    def tags(self) -> str | None:
        """The tags that samples must have, a JSON object; None for any."""
        wanted = {key.removeprefix(_TAG): value for key, value in self.where.items() if key.startswith(_TAG)}
        return msgspec.json.encode(wanted).decode() if wanted else None

    @property
    def version(self) -> int | None:
        """The number of the version that must have answered; None for any."""
        return int(self.where["version"]) if "version" in self.where else None

    @property
    def conditions(self) -> tuple[Any, ...]:
        """`tags`, `version`, `label`, `caller`, `process`, None where anything will do: in the order that queries take them."""
        return self.tags, self.version, *(self.where.get(name) for name in CONDITIONS[1:])

    @property
    def excluded(self) -> tuple[list[Any] | None, ...]:
        """What no sample may have, in the same order: JSON objects of one tag each, numbers of versions, labels, callers, processes."""
        tags = [
            msgspec.json.encode({name.removeprefix(_TAG): value}).decode()
            for name, values in self.unless.items()
            for value in (values if name.startswith(_TAG) else ())
        ]
        others = (list(self.unless.get(name, ())) or None for name in CONDITIONS[1:])
        return tags or None, [int(each) for each in self.unless.get("version", ())] or None, *others

    @property
    def written(self) -> list[str]:
        """Its conditions as `--where` has them."""
        unlike = [f"{name}!={value}" for name, values in self.unless.items() for value in values]
        return [f"{name}={value}" for name, value in self.where.items()] + unlike

    def has_version(self, number: int) -> bool:
        """Whether answers of this version are meant."""
        return self.version in (None, number) and str(number) not in self.unless.get("version", ())

    def __str__(self) -> str:
        """In words, for a title."""
        conditions = "".join(f", {key} = {value}" for key, value in self.where.items())
        conditions += "".join(f", {key} != {value}" for key, values in self.unless.items() for value in values)
        return f"{self.model}, {_written(self.start)} to {_written(self.end)}{conditions}"


def parse_time(text: str, now: datetime) -> datetime:
    """A time as people write it, in UTC where it names no zone.

    Args:
        text: `2026-11-30`, `2026-11-30T07:12`, with a zone such as `Z` or `+01:00`; `2h`, `90m`, `7d` for so long ago; `now`.
        now: what the last two forms are counted from.

    Raises:
        ConfigError: it is none of these.
    """
    stripped = text.strip()
    if stripped == "now":
        return now
    ago = _AGO.fullmatch(stripped)
    try:
        if ago:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(stripped)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{text!r} is no time: expected one such as 2026-11-30, 2026-11-30T07:12, 2h (so long ago) or now"
        ) from error


def parse_where(conditions: Iterable[str]) -> Conditions:
    """Conditions such as `tag.customer=17`, `tag.customer!=17` and `version=3`, by name.

    Raises:
        ConfigError: one has no `=`, has a name that nothing is recorded under, or is given twice with different values
            that must both hold.
    """
    where: dict[str, str] = {}
    unless: dict[str, tuple[str, ...]] = {}
    for text in conditions:
        name, equals, value = text.partition("=")
        unlike = name.endswith("!")
        name = name.removesuffix("!").strip()
        if not equals or not (name in CONDITIONS or (name.startswith(_TAG) and name != _TAG)):
            raise ConfigError(
                f"--where {text!r}: expected tag.NAME=VALUE, or one of {', '.join(CONDITIONS)}, = or != and a value"
            )
        if name == "version":
            value = _number_of_version(text, value)
        if unlike:
            unless[name] = tuple(dict.fromkeys((*unless.get(name, ()), value)))
        elif where.setdefault(name, value) != value:
            raise ConfigError(
                f"--where {name}: given twice, as {where[name]!r} and {value!r}; all conditions must hold"
            )
    for name, value in where.items():
        if value in unless.get(name, ()):
            raise ConfigError(f"--where {name}: must be {value!r} and must not be, so that no sample is meant")
    return Conditions(where, unless)


def _number_of_version(text: str, value: str) -> str:
    """A version's number as it is always written."""
    if value.isascii() and value.isdecimal() and len(value) <= _DIGITS and 0 < int(value) <= _MOST_VERSION:
        return str(int(value))
    raise ConfigError(f"--where {text}: expected the number of a version")


def _written(at: datetime) -> str:
    """To the minute where that says it all, and in UTC."""
    whole = not (at.second or at.microsecond)
    # Not %Y, which has no zeros before the year 1000.
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(' ', 'minutes' if whole else 'seconds')} UTC"
