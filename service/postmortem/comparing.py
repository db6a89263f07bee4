"""Rows that were drawn, compared: what bad ones have in common, whose they are, and why; or what they are held against without a usual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hoverboard.postmortem.causes import NOTHING_USUAL, LikelyCause, causes, risen
from hoverboard.postmortem.ceilings import Ceiling
from hoverboard.postmortem.cells import Cells, Draw, exposure_of
from hoverboard.postmortem.choosing import Inquiry
from hoverboard.postmortem.recorded import RecordedVersion
from hoverboard.postmortem.report import ReportedBad, ReportedWho
from hoverboard.postmortem.slices import ExplainedSlice, rows_of, slices
from hoverboard.postmortem.table import WHO, Event, Table
from hoverboard.postmortem.wording import share

__all__ = ["ComparedRows", "answering", "compare"]

_MOST_WHO: Final = 8
_Z: Final = 1.96
_WORSE: Final = 1.1
_OF_WHAT_WAS_SENT: Final = ("novelty", "upstream")
_ALL: Final = 0.9
"""Share of rows from which on a value says no more of them than the condition that they were chosen by."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedRows:
    """What comes of comparing rows.

    Attributes:
        changed: whether there are more bad rows than usual.
        beyond: what there may be at most, where there are more, though no more than usual.
        found: slices.
        who: has more than their share.
        answers: causes, the likeliest first.
    """

    changed: bool
    beyond: Ceiling | None
    found: Sequence[ExplainedSlice] = ()
    who: Sequence[ReportedWho] = ()
    answers: Sequence[LikelyCause] = ()


def answering(versions: Sequence[RecordedVersion], table: Table) -> list[RecordedVersion]:
    """Those that answered rows of the window."""
    field = table.field("version")
    if field is None:
        return list(versions)
    there = {field.values[code] for code in np.unique(field.codes[~table.base]).tolist()}
    return [each for each in versions if str(each.version) in there]


def compare(
    looked: Inquiry, table: Table | None, events: Sequence[Event], bad: ReportedBad, limit: Ceiling | None
) -> ComparedRows:
    """Whether there are more bad rows than usual, what they have in common, and why.

    Args:
        table: split at the onset; None where there are no rows.
        bad: the totals.
        limit: on bad rows, whatever is usual.
    """
    changed = looked.onset is not None or (table is not None and risen(Draw.of(table)))
    if table is not None and not changed and limit is not None:
        alone = table[~table.base]
        if limit.exceeded(bad.rows, bad.of):
            # No usual time is worth comparing with; the other rows of the same time are.
            return ComparedRows(changed, limit, slices(alone), _who(alone), [_standing(looked, bad)])
    if not looked.compared and looked.onset is None:
        return ComparedRows(changed, None, answers=[_unknown_before(bad)])
    if table is None:
        return ComparedRows(changed, None)
    # A quiet day has nothing that would have to differ.
    differs = changed and bool((table.bad & ~table.base).any())
    found = slices(table) if differs else []
    answers = causes(table, looked.counts, looked.onset, events, found)
    if looked.aside and "label" in looked.window.where:
        found, answers = _without_the_answer(table, found, answers)
    return ComparedRows(changed, None, found, _who(table) if differs else [], answers)


def _without_the_answer(
    table: Table, found: Sequence[ExplainedSlice], answers: Sequence[LikelyCause]
) -> tuple[list[ExplainedSlice], list[LikelyCause]]:
    """The same without what all rows with the answer that was asked about have, beside rows with other answers.

    The answer depends on what was sent: that is the question in other words, and nothing new.
    """
    here = ~table.base
    same = [rows_of(table, each.where)[here].mean() >= _ALL for each in found]
    left = [each for each in answers if each.kind not in _OF_WHAT_WAS_SENT]
    if not left:
        left = [replace(NOTHING_USUAL, evidence="all that differs is what the answer depends on")]
    # What the others weigh beside it may be too little for a float; they are in order.
    weights = [each.weight for each in left] if any(each.weight for each in left) else [1.0] + [0.0] * (len(left) - 1)
    return (
        [each for each, all_ in zip(found, same, strict=True) if not all_],
        [replace(each, weight=weight / sum(weights)) for each, weight in zip(left, weights, strict=True)],
    )


def _standing(looked: Inquiry, bad: ReportedBad) -> LikelyCause:
    """Why no cause is told of rows that are as bad as usual, and too bad."""
    if bad.usual_share is not None:
        why = "as usual, so that what made them bad is older than what was looked at"
    elif looked.usual is None:
        why = "from the beginning of what was looked at on, so that what made them bad is older"
    else:
        why = "and nothing is recorded of the usual time to compare them with"
    evidence = f"{bad.rows:,.0f} of {bad.of:,.0f} rows are bad ({share(bad.share)}), though {bad.allowed_by}: {why}"
    return replace(NOTHING_USUAL, evidence=evidence)


def _unknown_before(bad: ReportedBad) -> LikelyCause:
    if bad.allowed_by is None:
        return NOTHING_USUAL
    return replace(NOTHING_USUAL, evidence=f"{NOTHING_USUAL.evidence}; {bad.allowed_by}, and there are no more")


def _who(table: Table) -> list[ReportedWho]:
    """Values of who sent or answered, by their share of the excess (Adtributor's explanatory power)."""
    drawn = Draw.of(table)
    excess = max(drawn.bad_now - drawn.expected, 1.0)
    everywhere = float(table.weight[table.bad & ~table.base].sum() / max(table.weight[~table.base].sum(), 1e-9))
    found = []
    for field in table.fields:
        if field.kind not in WHO or len(field.values) < 3:
            continue
        counts = drawn.count(field)
        cells = Cells.of(drawn, counts, exposure_of(drawn, [field], counts))
        error = _Z * np.sqrt(drawn.phi * cells.bad + cells.expected**2 * cells.error)
        for code in np.argsort(-(cells.bad - cells.expected))[:2].tolist():
            here = (field.codes == code) & ~table.base
            bad = float(table.weight[here & table.bad].sum())
            rows = float(table.weight[here].sum())
            explained = float((cells.bad[code] - cells.expected[code]) / excess)
            # What most rows have, bad or not, says nothing of who they are.
            if code and explained > 0.05 and rows and bad / rows > _WORSE * everywhere:
                low = max(explained - float(error[code]) / excess, 0.0)
                told = (field.name, field.values[code], rows, bad, bad / rows, min(explained, 1.0), min(low, 1.0))
                found.append(ReportedWho(*told))
    return sorted(found, key=lambda each: -each.explained)[:_MOST_WHO]
