"""What a report says, sentence by sentence, in the order in which one asks: text, Markdown and the page show the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from hoverboard.database.text import plain_line
from hoverboard.postmortem.report import Report, ReportedCause, ReportedEvent, ReportedExample, ReportedOnset
from hoverboard.postmortem.table import CONSEQUENCES
from hoverboard.postmortem.wording import moment, share, usually

__all__ = [
    "ALARM_COUNTS",
    "Section",
    "answer",
    "asked",
    "cause_name",
    "described",
    "not_usual",
    "sections",
    "sql_of",
    "title",
    "told_causes",
    "took",
    "undo_of",
]

_RUNNER_UP = 2
_LEAST_WEIGHT = 0.01
_AROUND = timedelta(minutes=5)
ALARM_COUNTS = "The share of an alarm is another one: it counts what was answered until it was raised, without samples that repeat a recent one."
_COMMAND = re.compile(r"(.*?); `(hoverboard .*)`", re.DOTALL)
_DIGITS = re.compile(r"(\d\d:\d\d:\d\d)(?:\.\d+)?\+00\b")
"""A time as Postgres writes it into a sentence."""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report.

    Attributes:
        title: a question.
        lines: sentences that answer it; those that belong to the one before them begin with two spaces, and with four where they are commands.
        code: whether the lines are commands.
        figures: names of the SQL statements behind it.
    """

    title: str
    lines: Sequence[str]
    code: bool = False
    figures: Sequence[str] = ()


def sections(report: Report) -> list[Section]:
    """What a report says; no line has a character that would steer a terminal."""
    bad = f"bad: {report.about}"
    found = [
        Section("Since when", list(_since(report)), figures=(bad, "rows", "events", "alarm")),
        Section("How much, and who", list(_who(report)), figures=(bad, "rows", "slow above", "wrong above")),
        Section("What differs", list(_differs(report)), figures=("drawn rows", "refused rows")),
        Section("Which cause", list(_causes(report)), figures=("drawn rows", "events")),
        Section("What it looks like", list(_examples(report)), figures=("examples",)),
        Section("What cannot be known", list(report.unknown) or ["Nothing that is known to be missing."], figures=("gaps",)),
        Section("Next", list(report.next), code=True),
    ]  # fmt: skip
    return [
        Section(each.title, each.lines if each.code else [plain_line(line) for line in each.lines], each.code, each.figures)
        for each in found
        if each.lines
    ]  # fmt: skip


def answer(report: Report) -> str:
    """The sentence that comes first."""
    return plain_line(report.summary)


def title(report: Report) -> str:
    """Of which model, about what, and of which time."""
    return plain_line(f"{report.model}: {report.about}, {moment(report.start)} to {moment(report.end)}{_where(report)}")


def asked(report: Report) -> str:
    """What was looked at, and what it was compared with."""
    return plain_line(
        f"Asked about {report.about} of {report.model}{_where(report)}, {moment(report.start)} to {moment(report.end)}; compared with {report.comparison}."
    )


def took(report: Report) -> str:
    """How much was looked at, and how long that took."""
    return f"{report.looked_at:,} rows were looked at one by one, {report.seconds:.1f} s."


def sql_of(report: Report, section: Section) -> Mapping[str, str]:
    """The statements behind a section, by what they give."""
    return {name: report.sql[name] for name in section.figures if name in report.sql}


def cause_name(cause: ReportedCause) -> str:
    """Kind and subject."""
    return plain_line(f"{cause.kind} {cause.subject}" if cause.subject else cause.kind)


def weight(cause: ReportedCause) -> str:
    """Its relative evidence, which is never quite nothing."""
    return f"{cause.weight:.0%}" if cause.weight >= _LEAST_WEIGHT else "under 1%"


def happened(event: ReportedEvent) -> str:
    """When, and what."""
    detail = ": " + _DIGITS.sub(r"\1 UTC", event.detail) if event.detail else ""
    return plain_line(f"{moment(event.at)} {event.kind} {event.subject}{detail}")


def told_causes(report: Report) -> list[ReportedCause]:
    """The likeliest and its runner-up, and others that have any weight."""
    return [
        each for at, each in enumerate(report.causes) if at < _RUNNER_UP or each.weight >= _LEAST_WEIGHT
    ]  # fmt: skip


def undo_of(cause: ReportedCause) -> tuple[str, str | None]:
    """What would undo a cause, and the command that does, by itself: it can be pasted where a sentence would break it."""
    found = _COMMAND.fullmatch(cause.undo)
    return (cause.undo, None) if found is None else (found[1], found[2])


def described(row: ReportedExample) -> list[tuple[str, str]]:
    """What is known of an example row, by name."""
    found = [("at", moment(row.at))]
    if row.version is not None:
        said = row.label if row.label is not None else f"{row.value:g}" if row.value is not None else "no label"
        found.append((f"version {row.version} says", said))
    if row.true_label is not None:
        found.append(("truly", row.true_label))
    if row.p_value is not None:
        found.append(("p", f"{row.p_value:.2g}"))
    if row.distance is not None:
        found.append(("away", f"{row.distance:.2f}"))
    found += [(name, str(value)) for name, value in (row.tags or {}).items()]
    return [(plain_line(name), plain_line(value)) for name, value in found]


def _where(report: Report) -> str:
    unlike = [f", {name} != {value}" for name, values in report.unless.items() for value in values]
    return "".join([*(f", {name} = {value}" for name, value in report.where.items()), *unlike])


def _since(report: Report) -> Iterator[str]:
    onset = report.onset
    if onset is None:
        if report.changed:
            yield "From the beginning of the time on: no later time stands out that it would have begun at."
        else:
            yield "No time that it began at: within this time the share does not change beyond chance."
        for event in report.timeline.events if report.changed else ():
            if abs(event.at - report.start) <= _AROUND and not event.kind.startswith(CONSEQUENCES):
                yield f"Around its beginning: {happened(event)}"
        return
    yield (
        f"{moment(onset.at)}; with 90% belief between {moment(onset.earliest)} and {moment(onset.latest)} "
        f"(evidence 10^{onset.log10_bayes:.0f} to 1, by {_width(onset.bin_s)})."
    )
    yield _until(onset)
    # Issues are listed by themselves.
    for event in (each for each in onset.events if not each.kind.startswith("issue")):
        how = "Since then" if event.belief is None else f"{event.belief:.0%} belief that it began with"
        yield f"{how}: {happened(event)}"
        if event.kind == "alarm":
            yield f"  {ALARM_COUNTS}"
    if all(event.belief is None for event in onset.events):
        yield "Nothing that is on record happened when it began: no deployment, start, stop or death."


def _until(onset: ReportedOnset) -> str:
    if onset.end is not None:
        return f"It was over at {moment(onset.end)}."
    if onset.last is not None:
        return f"The last row came at {moment(onset.last)}, and none has come since: nobody can say whether it goes on."
    return "It goes on."


def _width(seconds: float) -> str:
    names = {1: "seconds", 10: "tens of seconds", 60: "minutes", 3600: "hours", 86_400: "days"}
    return names.get(int(seconds), f"{seconds / 60:g} minutes")


def _who(report: Report) -> Iterator[str]:
    bad = report.bad
    bounds = f", between {bad.low:,.0f} and {bad.high:,.0f}" if bad.high - bad.low >= 1 else ""
    allowed = "" if bad.allowed_by is None or report.about != "outliers" else f"; {bad.allowed_by}"
    yield f"{bad.rows:,.0f} bad rows{bounds}, of {bad.of:,.0f}: {share(bad.share)}{usually(bad)}{allowed}."
    for each in report.who:
        yield (
            f"{each.field} {each.value}: {each.explained:.0%} of the excess; {each.bad_rows:,.0f} of its {each.rows:,.0f} rows "
            f"are bad ({share(each.share)})."
        )

    yield from not_usual(report)


def not_usual(report: Report) -> Iterator[str]:
    """Which rows of the usual time its share leaves out, and why: who counts it again should get the same."""
    bad = report.bad
    for each in report.set_aside:
        yield (
            f"Not counted as usual: {each.rows:,.0f} rows, {each.bad:,.0f} of them bad, {moment(each.start)} to {moment(each.end)}: "
            f"{each.why}."
        )
    of = _usual_rows(report)
    if of and bad.usual_rows and bad.usual_bad is not None:
        yield f"The usual share is that of {bad.usual_bad:,.0f} bad rows of {bad.usual_rows:,.0f}: {of}."


def _usual_rows(report: Report) -> str:
    """Which rows are usual, where those are not just the rows of the usual time; empty elsewhere."""
    onset = report.onset
    # Of a drift the time when its input began to move is told, which no rows are counted from.
    if report.usual is None or (report.causes and report.causes[0].kind == "upstream"):
        return ""
    of = "of the usual time"
    if onset is not None and onset.at < report.start:
        of += f" until {moment(onset.at)}"
    if report.set_aside:
        of += " without those"
    if onset is not None and onset.at > report.start:
        of += f", and of {moment(report.start)} to {moment(onset.at)}"
    if onset is not None and onset.end is not None:
        of += f", and from {moment(onset.end)} on"
    return "" if of == "of the usual time" else of


def _differs(report: Report) -> Iterator[str]:
    for each in report.slices:
        where = " and ".join(f"{name} = {value}" for name, value in each.where.items())
        yield (
            f"{where}: {each.explained:.0%} of the excess (at least {max(each.explained_low, 0):.0%}), "
            f"{each.bad_rows:,.0f} bad rows of {each.rows:,.0f}; at least {each.odds_low:.1f} times as likely as usual."
        )
    if not report.slices and report.changed:
        yield "No value passes the test, in which many rows of one caller are few witnesses."


def _causes(report: Report) -> Iterator[str]:
    for each in told_causes(report):
        confirmed = {None: "", True: "; confirmed: without it the excess is gone", False: "; not confirmed"}
        yield f"{weight(each)} {cause_name(each)}: {each.evidence}{confirmed[each.confirmed]}."
        if each.undo and each.kind != "none":
            words, command = undo_of(each)
            yield f"  To undo it: {words}{'.' if command is None else ':'}"
            if command is not None:
                yield f"    {command}"


def _examples(report: Report) -> Iterator[str]:
    for name, rows in report.examples.items():
        # One of each says most of it; the page has three, JSON all of their neighbours.
        for row in rows[:1]:
            yield f"{name}: {_row(row)}"
            for neighbour in row.neighbours[:1]:
                yield f"  near it, but not bad: {_row(neighbour)}"


def _row(row: ReportedExample) -> str:
    known = [f"{name} {value}" for name, value in described(row) if name != "at"]
    return ", ".join([row.sample_id, moment(row.at), *known, *([row.inputs] if row.inputs else [])])
