"""A report as text for a terminal, and as Markdown for a wiki or a ticket: the same sections in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hoverboard.postmortem.report import Report, ReportedExample
from hoverboard.postmortem.wording import moment, share

__all__ = ["Section", "render_markdown", "render_text", "sections", "title", "took"]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report.

    Attributes:
        title: a question.
        lines: sentences that answer it.
        code: whether the lines are commands.
        figures: names of the SQL statements behind it.
    """

    title: str
    lines: Sequence[str]
    code: bool = False
    figures: Sequence[str] = ()


def sections(report: Report) -> list[Section]:
    """What a report says, in the order in which one asks."""
    bad = f"bad: {report.about}"
    found = [
        Section("Since when", list(_since(report)), figures=(bad, "rows", "events", "alarm")),
        Section("How much, and who", list(_who(report)), figures=(bad, "rows")),
        Section("What differs", list(_differs(report)), figures=("drawn rows", "refused rows")),
        Section("Which cause", list(_causes(report)), figures=("drawn rows", "events", "refusals")),
        Section("What it looks like", list(_examples(report)), figures=("examples",)),
        Section("What cannot be known", list(report.unknown) or ["Nothing that is known to be missing."], figures=("gaps",)),
        Section("Next", list(report.next), code=True),
    ]  # fmt: skip
    return [section for section in found if section.lines]


def render_text(report: Report, *, sql: bool = False) -> str:
    """For a terminal; with the SQL of each section where it is wanted."""
    lines = [title(report), "", report.summary]
    for section in sections(report):
        lines += ["", section.title]
        lines += [f"  {line}" for line in section.lines]
        if sql:
            lines += [f"  {line}" for text in _sql(report, section).values() for line in ("", *text.splitlines())]
    lines += ["", took(report)]
    return "\n".join(lines)


def render_markdown(report: Report, *, sql: bool = False) -> str:
    """For a wiki or a ticket."""
    lines = [f"# {_escaped(title(report))}", "", _escaped(report.summary)]
    for section in sections(report):
        lines += ["", f"## {section.title}", ""]
        if section.code:
            lines += ["```sh", *section.lines, "```"]
        else:
            lines += [f"- {_escaped(line.strip())}" for line in section.lines]
        if sql:
            for figure, text in _sql(report, section).items():
                lines += ["", f"SQL: {figure}", "", "```sql", text, "```"]
    lines += ["", _escaped(took(report))]
    return "\n".join(lines)


def title(report: Report) -> str:
    """Of which model, about what, and of which time."""
    where = "".join(f", {name} = {value}" for name, value in report.where.items())
    return f"{report.model}: {report.about}, {moment(report.start)} to {moment(report.end)}{where}"


def _sql(report: Report, section: Section) -> Mapping[str, str]:
    return {name: report.sql[name] for name in section.figures if name in report.sql}


def took(report: Report) -> str:
    """How much was looked at, and how long that took."""
    return f"{report.looked_at:,} rows were looked at one by one, {report.seconds:.1f} s."


def _since(report: Report) -> Iterator[str]:
    onset = report.onset
    if onset is None:
        yield "No change that chance would not explain."
        return
    yield (
        f"{moment(onset.at)}; with 90% belief between {moment(onset.earliest)} and {moment(onset.latest)} "
        f"(evidence 10^{onset.log10_bayes:.0f} to 1, by {_width(onset.bin_s)})."
    )
    yield "It goes on." if onset.end is None else f"It was over at {moment(onset.end)}."
    for event in onset.events:
        detail = f": {event.detail}" if event.detail else ""
        yield f"{event.belief:.0%} belief that it began with: {moment(event.at)} {event.kind} {event.subject}{detail}"
    if not onset.events:
        yield "Nothing that is on record happened then: no deployment, start, death, alarm or gap."


def _width(seconds: float) -> str:
    return {10: "tens of seconds", 60: "minutes", 3600: "hours", 86_400: "days"}.get(
        int(seconds), f"{seconds / 60:g} minutes"
    )


def _who(report: Report) -> Iterator[str]:
    bad = report.bad
    bounds = f", between {bad.low:,.0f} and {bad.high:,.0f}" if bad.high - bad.low >= 1 else ""
    usual = "" if bad.usual_share is None else f"; usually {share(bad.usual_share)}"
    yield f"{bad.rows:,.0f} bad rows{bounds}, of {bad.of:,.0f}: {share(bad.share)}{usual}."
    for each in report.who:
        yield (
            f"{each.field} {each.value}: {each.explained:.0%} of the excess; {each.bad_rows:,.0f} of its {each.rows:,.0f} rows "
            f"are bad ({share(each.share)})."
        )


def _differs(report: Report) -> Iterator[str]:
    for each in report.slices:
        where = " and ".join(f"{name} = {value}" for name, value in each.where.items())
        yield (
            f"{where}: {each.explained:.0%} of the excess (at least {max(each.explained_low, 0):.0%}), "
            f"{each.bad_rows:,.0f} bad rows of {each.rows:,.0f}; at least {each.odds_low:.1f} times as likely as usual."
        )
    if not report.slices and report.onset is not None:
        yield "No value of a field holds more of the bad rows than chance allows."


def _causes(report: Report) -> Iterator[str]:
    for each in report.causes:
        confirmed = {True: "; confirmed: without it the excess is gone", False: "; not confirmed"}.get(
            bool(each.confirmed), ""
        ) if each.confirmed is not None else ""  # fmt: skip
        subject = f" {each.subject}" if each.subject else ""
        yield f"{each.weight:.0%} {each.kind}{subject}: {each.evidence}{confirmed}."
        if each.undo and each.kind != "none":
            yield f"    To undo it: {each.undo}."


def _examples(report: Report) -> Iterator[str]:
    for name, rows in report.examples.items():
        for row in rows:
            yield f"{name}: {_row(row)}"
            # The nearest says most of it; JSON has them all.
            for neighbour in row.neighbours[:1]:
                yield f"    near it: {_row(neighbour)}"


def _row(row: ReportedExample) -> str:
    parts = [row.sample_id, moment(row.at)]
    if row.distance is not None:
        parts.insert(0, f"{row.distance:.2f} away")
    if row.version is not None:
        answer = row.label if row.label is not None else f"{row.value:g}" if row.value is not None else "no label"
        parts.append(f"version {row.version} says {answer}")
    if row.p_value is not None:
        parts.append(f"p {row.p_value:.2g}")
    if row.true_label is not None:
        parts.append(f"truly {row.true_label}")
    if row.tags:
        parts.append(" ".join(f"{name}={value}" for name, value in row.tags.items()))
    if row.inputs:
        parts.append(row.inputs)
    return ", ".join(parts)


def _escaped(text: str) -> str:
    """What callers wrote must not become markup of a page that shows this."""
    for mark in "\\`*_[]<>#|":
        text = text.replace(mark, f"\\{mark}" if mark != "<" else "&lt;")
    return text
