"""What is asked: of which model, about which kind of bad row, and of which time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hoverboard.errors import ConfigError
from hoverboard.postmortem.bounds import EPOCH
from hoverboard.postmortem.window import RecordedWindow

__all__ = ["KINDS", "About", "Question"]

KINDS: Final = ("outliers", "errors", "refusals", "slow", "wrong")
"""Kinds of bad rows, beside `label=X`."""
_LABEL: Final = "label="


@dataclass(frozen=True, slots=True)
class About:
    """Which rows are bad.

    Attributes:
        kind: one of `KINDS`, or `label`.
        label: rows that were answered so, for `label`.
        above: microseconds of queue and run that are `slow`, or the error of a value that is `wrong`; None elsewhere.
    """

    kind: str
    label: str | None = None
    above: float | None = None

    @classmethod
    def of(cls, text: str) -> About:
        """As the command line has it.

        Raises:
            ConfigError: there is no such kind.
        """
        if text.startswith(_LABEL) and text != _LABEL:
            return cls("label", text.removeprefix(_LABEL))
        if text in KINDS:
            return cls(text)
        raise ConfigError(f"--about {text!r}: expected one of {', '.join(KINDS)}, or label=X with an answered label X")

    def __str__(self) -> str:
        """As the command line has it."""
        return f"{_LABEL}{self.label}" if self.kind == "label" else self.kind

    def unknown_of(self, where: Iterable[str]) -> list[str]:
        """Conditions that such rows cannot be held against: an error has no answer, and a refused call no sample."""
        none = {"errors": ("version", "label", "process"), "refusals": ("version", "label", "process", "caller")}
        return [name for name in where if name in none.get(self.kind, ())]

    @property
    def words(self) -> str:
        """What a bad row is, for a sentence."""
        return {
            "outliers": "outliers",
            "errors": "errors",
            "refusals": "refused calls",
            "slow": "slow answers",
            "wrong": "wrong answers",
        }.get(self.kind, f"answers {self.label!r}")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one model.

    Attributes:
        model: its name.
        about: which rows are bad; None for whatever has changed most.
        start, end: of the time that is looked at; None for the raised alarm's, or the last day.
        against: begin and end of the time that is usual; None for as long a time before `start`.
        where, unless: conditions that must hold and those that must not, see `RecordedWindow`.
        models: the models directory that was named, for the commands that are proposed; None for that of the settings.
        target: options that say where the database is, quoted for a shell: for the commands that are proposed.
        blanked: inputs of which the recording policy hides single elements: NaN there is nothing that a client sent.
    """

    model: str
    about: About | None = None
    start: datetime | None = None
    end: datetime | None = None
    against: tuple[datetime, datetime] | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    models: str | None = None
    target: str = ""
    blanked: Collection[str] = ()

    def windows(self, now: datetime) -> tuple[RecordedWindow | None, RecordedWindow] | None:
        """The usual time (None: whatever comes before the onset) and the one looked at; None where neither was given.

        Raises:
            ConfigError: a time ends before it starts, or the usual one is not before the other.
        """
        if self.start is None:
            if self.against is not None or self.end is not None:
                raise ConfigError("--to and --against need --from: say when the time that is looked at begins")
            return None
        return self.between(self.start, self.end or now)

    def between(self, start: datetime, end: datetime) -> tuple[RecordedWindow | None, RecordedWindow]:
        """The usual time and the one looked at.

        Raises:
            ConfigError: as of `windows`.
        """
        window = self.window(start, end)
        if self.against is None:
            before = start - min(end - start, max(start - EPOCH, timedelta(0)))
            return None if before == start else self.window(before, start), window
        usual = self.window(*self.against)
        if usual.end > window.start:
            raise ConfigError("--against must end before --from: it says what was usual until then")
        return usual, window

    def window(self, start: datetime, end: datetime) -> RecordedWindow:
        """The samples of a time that the question is about."""
        return RecordedWindow(self.model, start, end, self.where, self.unless)
