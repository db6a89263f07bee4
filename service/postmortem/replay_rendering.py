"""A replay as a person reads it: sentences first, then tables; on a terminal and as a page of HTML with the same words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from hoverboard.postmortem.replay_result import KINDS, ReplayResult, ReplaySide

__all__ = ["ReplaySection", "as_html", "sections", "sentences", "why_nothing"]

_MOST_MOVES: Final = 20
_MEANING: Final = {
    "same": "the same answer",
    "changed": "another answer or none, and no label to tell",
    "fixed": "labelled, and only the candidate is right",
    "broken": "labelled, and only the record is right",
    "noise": "the incumbent differs from its own record",
    "failed": "of all these, where the candidate gives no answer",
}


_REASONS: Final = {
    "redacted": "redacted, by `redact` in serving.toml: what was not recorded cannot be replayed",
    "hashed": "hashed, by `policy` in serving.toml: what was not recorded cannot be replayed",
    "outliers": "outliers, by --without-outliers",
    "of an issue that is left out": "of an issue, by --without-issue",
}


@dataclass(frozen=True, slots=True)
class ReplaySection:
    """A table with its title.

    Attributes:
        title: what it is of.
        columns: their names; those that begin with `#` hold numbers.
        rows: their cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def why_nothing(result: ReplayResult) -> str:
    """Why no sample was replayed, and what to do: no full sentence."""
    if not result.left_out:
        conditions = " that meets all conditions" if result.where or result.unless or result.labelled_only else ""
        return (
            f"no sample of {result.model} from {result.start:%Y-%m-%d %H:%M} to {result.end:%Y-%m-%d %H:%M} UTC{conditions} "
            "is recorded: --from, --to, --where and --labelled say which ones are meant"
        )
    reasons = "; ".join(f"{rows:,} {_REASONS.get(reason, reason)}" for reason, rows in result.left_out.items())
    return f"all {sum(result.left_out.values()):,} samples were left out: {reasons}"


def sentences(result: ReplayResult) -> Iterator[str]:
    """What matters, in plain words."""
    old, new = _numbers(result), result.candidate.version
    if not result.rows:
        yield f"No sample was replayed: {why_nothing(result)}."
        return
    same = result.kinds["same"].rows
    yield (
        f"{result.rows:,} samples of {result.model} that version {old} answered: version {new} answers "
        f"{same:,} of them the same ({same / result.rows:.1%})."
    )
    if len(result.incumbents) > 1:
        each = ", ".join(f"version {one.version} {one.rows:,}" for one in result.incumbents)
        yield f"Each is compared with the version that had answered it: {each}."
    if result.candidate == ReplaySide(result.incumbent.version, result.incumbent.weights_sha256):
        yield f"Version {new} had answered them itself: this shows what repetition changes, and says nothing of another version."
    elif any(one.weights_sha256 == result.candidate.weights_sha256 for one in result.incumbents):
        yield f"Version {new} has the same weights as one that had answered: what differs is repetition's alone."
    if failed := result.kinds["failed"].rows:
        yield f"Version {new} gives no answer to {failed:,} of them ({failed / result.rows:.1%})."
    labelled, test = result.labelled, result.labelled.mcnemar
    if labelled.rows:
        silent = f", {labelled.failed:,} of them by no answer" if labelled.failed else ""
        yield (
            f"Of {labelled.rows:,} labelled ones it fixes {test.less:,} and breaks {test.more:,}{silent} (McNemar's mid-p "
            f"{_p(test.mid_p)}){_quality(result)}."
        )
    else:
        yield "None of them is labelled, so that nothing can be called fixed or broken."
    floor, sign = result.noise_floor, result.sign_test
    if floor.runs:
        yield (
            f"Version {old}, run again, differs from the record in {floor.differing:,}; only the candidate differs in "
            f"{sign.more:,}, only the repetition in {sign.less:,} (sign test's mid-p {_p(sign.mid_p)})."
        )
    else:
        yield "The incumbent was not run again, so that repetition's own differences are not known."
    yield (
        f"{floor.of.capitalize()} counts as the same within {floor.absolute:g} + {floor.relative:g} x the record"
        f"{f', or {floor.quantile:.3g}' if floor.quantile else ''}; beyond that in {result.numbers_differing:,} samples."
    )
    flags = result.flags
    if flags.incumbent is not None and flags.candidate is not None:
        yield (
            f"Outliers: {flags.incumbent:.2%} on record, {flags.candidate:.2%} by the candidate ({flags.appeared:,} more, "
            f"{flags.vanished:,} no longer)."
        )
    for reason, rows in result.left_out.items():
        yield f"Left out: {rows:,}, {_REASONS.get(reason, reason)}."


def sections(result: ReplayResult) -> Iterator[ReplaySection]:
    """The tables, without those that would be empty."""
    yield ReplaySection(
        "Samples by kind",
        ("kind", "#rows", "#weighted", "which are"),
        tuple(
            (kind, f"{result.kinds[kind].rows:,}", f"{result.kinds[kind].estimate:,.0f}", _MEANING[kind])
            for kind in KINDS
        ),
    )
    if result.moves:
        moves = result.moves[:_MOST_MOVES]
        title = "Labels that move" + (
            f" (the largest {_MOST_MOVES} of {len(result.moves):,})" if len(moves) < len(result.moves) else ""
        )
        rows = tuple((move.before, move.after, f"{move.rows:,}", f"{move.estimate:,.0f}") for move in moves)
        yield ReplaySection(title, ("from", "to", "#rows", "#weighted"), rows)
    speeds = [
        (f"version {side.version}", f"{speed:,.1f}")
        for side, speed in ((result.incumbent, result.speed.incumbent), (result.candidate, result.speed.candidate))
        if speed is not None
    ]
    if speeds:
        yield ReplaySection("Speed here", ("", "#rows/s"), tuple(speeds))
    if result.examples:
        yield ReplaySection(
            "Examples",
            ("kind", "sample", "record", "candidate", "truth", "inputs"),
            tuple(
                (
                    each.kind,
                    each.sample_id,
                    each.recorded,
                    each.candidate,
                    each.truth or "",
                    "; ".join(f"{name}: {value}" for name, value in each.inputs.items()),
                )
                for each in result.examples
            ),
        )


def as_html(result: ReplayResult) -> str:
    """One page that needs nothing else: no script, no other host."""
    title = f"Replay of {result.model}: version {result.candidate.version} beside {_numbers(result)}"
    conditions = "".join(f", {name} = {value}" for name, value in result.where.items())
    conditions += "".join(f", {name} != {value}" for name, values in result.unless.items() for value in values)
    window = f"{result.start:%Y-%m-%d %H:%M} to {result.end:%Y-%m-%d %H:%M} UTC{conditions}"
    words = "".join(f"<p>{escape(sentence)}</p>\n" for sentence in sentences(result))
    tables = "".join(map(_html_table, sections(result)))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n<style>{_STYLE}</style>'
        f"</head>\n<body><h1>{escape(title)}</h1>\n<p>{escape(window)}</p>\n{words}{tables}</body></html>\n"
    )


_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:0 0 1.5rem}th,td{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere}th{border-bottom:1px solid}.n{text-align:right;white-space:nowrap}"
)


def _html_table(section: ReplaySection) -> str:
    head = "".join(_cell("th", name.removeprefix("#"), name) for name in section.columns)
    body = "".join(f"<tr>{_cells(section.columns, row)}</tr>\n" for row in section.rows)
    return f"<h2>{escape(section.title)}</h2>\n<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>\n"


def _cells(columns: Sequence[str], row: Sequence[str]) -> str:
    return "".join(_cell("td", text, name) for name, text in zip(columns, row, strict=True))


def _cell(tag: str, text: str, column: str) -> str:
    return f"<{tag}{' class=n' if column.startswith('#') else ''}>{escape(text)}</{tag}>"


def _numbers(result: ReplayResult) -> str:
    return " or ".join(str(one.version) for one in result.incumbents) or str(result.incumbent.version)


def _quality(result: ReplayResult) -> str:
    before, after = result.labelled.incumbent, result.labelled.candidate
    if before is None or after is None:
        return ""  # of numbers, where the candidate gives none
    if result.noise_floor.of == "value":
        where = ", where both answer" if result.labelled.failed else ""
        return f"; its mean absolute error is {after:.6g}, the record's {before:.6g}{where}"
    return f"; it is right in {after:.2%}, the record in {before:.2%}"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "below 0.0001"
