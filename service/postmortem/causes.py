"""Which cause: hypotheses about a rise of bad rows, ranked by how well each explains when and where they came.

Each hypothesis says that more rows are bad in its cell and nowhere else. Its evidence is G (a likelihood ratio against no
change at all, divided by the clustering of clients) less a price for having been picked among many: dBIC. Weights are
softmax(dBIC / 2). So "none of these" (a rise everywhere) is a hypothesis like the others, and wins where nothing is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hoverboard.postmortem.cells import Draw, excess_g
from hoverboard.postmortem.hypotheses import hypotheses
from hoverboard.postmortem.hypothesis import Hypothesis, HypothesisKind, Moment
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.slices import ExplainedSlice, rows_of, slices
from hoverboard.postmortem.table import BinnedCounts, Event, Table

__all__ = ["NOTHING_USUAL", "LikelyCause", "causes", "risen"]

LEAST_DBIC: Final = 10.0
"""Evidence that a second cause must have beyond no change: very strong (Kass and Raftery, 1995)."""
_BETTER: Final = 6.0
"""Evidence that a cause must have beyond "none of these", where it is known that something changed: strong, 20 to one (likewise)."""
MOST: Final = 5
_ROUNDS: Final = 3
_LEAST_SHARE: Final = 0.05
_LEAST_OF_TWO: Final = 0.2
_CONFIRMED: Final = 0.1
_RISEN: Final = 10.8  # chi-squared
_SAME: Final = 0.8
_MOST_OF: Final = 0.67

_UNDO: Final = {
    "version": "serve the previous version again; a replay on it tells beforehand what that changes",
    "caller": "ask its owner, and leave its rows out of what is learned next",
    "schema": "have the inputs written as before where they are sent: what is recorded stays as it was sent",
    "machine": "restart the process, or take its machine out",
    "novelty": "label these rows for the next version (`hoverboard label`), or leave them out of what it learns",
    "load": "nothing to undo in the model: look at capacity and deadlines",
    "labels": "take these labels for never said",
    "upstream": "nothing to undo here: ask where the input comes from, or train on what is usual now",
    "none": "nothing",
}


@dataclass(frozen=True, slots=True)
class LikelyCause:
    """One answer to "why".

    Attributes:
        kind: of cause.
        subject: what is at fault, such as the version, the tag with its value, or the input; empty for none.
        weight: relative evidence among all answers, 0 to 1; they sum to 1.
        evidence: one sentence with figures.
        confirmed: whether at most 10% of the excess is left without the rows of it; None where only a replay can tell.
        undo: what would undo it.
        where: the slice of rows that it is about; empty for all.
    """

    kind: HypothesisKind
    subject: str
    weight: float
    evidence: str
    confirmed: bool | None
    undo: str
    where: tuple[tuple[str, str], ...] = ()


NOTHING_USUAL: Final = LikelyCause(
    "none", "", 1.0, "nothing is recorded of the usual time, so that nothing can be compared", None, _UNDO["none"]
)
"""The only answer where there is no usual time."""


def causes(
    table: Table,
    counts: BinnedCounts,
    onset: Onset | None,
    events: Sequence[Event],
    found: Sequence[ExplainedSlice] | None = None,
) -> list[LikelyCause]:
    """Answers, the likeliest first; never empty.

    Args:
        table: the window's rows and those of the usual time.
        counts: of all rows by time.
        onset: of those; None for a quiet day.
        events: what happened in the window.
        found: slices of `onset.split(table)`; found here when left out.
    """
    now = table if onset is None else onset.split(table)
    draw = Draw.of(now)
    if onset is None and not risen(draw):
        return [_quiet(counts)]
    if found is None:
        found = slices(now)
    moment = Moment(counts, onset, tuple(events))
    rounds: list[tuple[list[tuple[float, Hypothesis]], Draw]] = []
    excess = max(draw.bad_now - draw.expected, 1.0)
    whole = excess
    for number in range(_ROUNDS):
        ranked = _ranked(draw, moment, found if number == 0 else slices(draw.table))
        if number == 0:
            ranked = _with_a_second(draw, moment, ranked)
        top = ranked[0][1]
        # A second cause must be one by itself: what the first leaves over is not.
        if number and (top.kind == "none" or ranked[0][0] < LEAST_DBIC or top.excess < _LEAST_SHARE * whole):
            break
        rounds.append((ranked, draw))
        if not top.where or top.kind == "none":
            break
        draw = Draw.of(draw.table[~rows_of(draw.table, top.where)], draw.phi)
        if draw.bad_now < 10 or draw.bad_now - draw.expected < _LEAST_SHARE * whole:
            break
    return _weighed(rounds, whole)


def risen(draw: Draw) -> bool:
    """Whether more rows are bad than usual beyond chance, whenever that began: p below 0.001, bad rows of one client clustered.

    A change that is as old as its time has no onset in it.
    """
    if not draw.table.base.any():
        return False
    g = excess_g(np.array([draw.bad_now]), np.array([draw.expected]), 1 / (draw.totals[2] + 0.5))
    return bool(g[0] / draw.phi > _RISEN)


def _ranked(draw: Draw, moment: Moment, found: Sequence[ExplainedSlice]) -> list[tuple[float, Hypothesis]]:
    """Hypotheses with their dBIC, the best of each kind (and whom it names), the best first; `none` is always among them."""
    price = math.log(max(draw.bad_now, 2.0))
    none = _none(draw)
    if draw.table.field("refused") is not None:
        none = replace(none, g=0.0)  # the reason of each refused call is on record: "everywhere" is none
    ranked = [(none.g - price, none)]
    ranked += [
        (each.g + each.timing - price - 2 * math.log(max(each.looked_at, 1)), each)
        for each in hypotheses(draw, moment, found)
    ]
    best: dict[tuple[str, str], tuple[float, Hypothesis]] = {}
    for score, each in ranked:
        # Cells of what was sent overlap: of one kind they are one answer.
        key = (each.kind, "" if each.kind in ("schema", "novelty", "upstream") else each.subject)
        if key not in best or best[key][0] < score:
            best[key] = (score, each)
    in_order = sorted(best.values(), key=lambda each: -each[0])
    score, top = in_order[0]
    if top.kind != "none" and not top.whole and score < max(ranked[0][0], 0.0) + _BETTER:
        # Better than "none of these" by so little that chance will do.
        in_order = [(score, none), *(each for each in in_order if each[1] is not none)]
    return _joined(draw, in_order)


def _with_a_second(
    draw: Draw, moment: Moment, ranked: list[tuple[float, Hypothesis]]
) -> list[tuple[float, Hypothesis]]:
    """The same with the one first that explains more than a rise everywhere together with a second one, which its rows hide.

    Two causes at once have no better one alone: a new client that sends most rows, and something new that others send.
    """
    if ranked[0][1].kind != "none":
        return ranked
    everywhere = ranked[0][0]
    best: tuple[float, tuple[float, Hypothesis]] | None = None
    for score, each in ranked[1 : 1 + _ROUNDS]:
        if not each.where or each.whole or each.excess < _LEAST_OF_TWO * (draw.bad_now - draw.expected):
            continue
        left = Draw.of(draw.table[~rows_of(draw.table, each.where)], draw.phi)
        if left.bad_now < 10:
            continue
        other, second = _ranked(left, moment, slices(left.table))[0]
        if second.kind != "none" and not second.whole and (best is None or score + other > best[0]):
            best = score + other, (score, each)
    if best is None or best[0] < everywhere + LEAST_DBIC:
        return ranked
    _, first = best
    return [(best[0], first[1]), *(each for each in ranked if each is not first)]


def _joined(draw: Draw, ranked: list[tuple[float, Hypothesis]]) -> list[tuple[float, Hypothesis]]:
    """The same with what the first one's rows have in common told beside whose they are: one cause, and no rivals.

    Two hypotheses are one where the rows of what was sent are nearly all the first one's, and make most of its excess.
    """
    score, top = ranked[0]
    if top.kind != "caller":
        return ranked
    bad = draw.table.bad & ~draw.table.base
    mine = rows_of(draw.table, top.where) & bad
    same = []
    for each in ranked[1:]:
        if each[1].words and each[1].where:
            rows = rows_of(draw.table, each[1].where) & bad
            both = int((rows & mine).sum())
            if both >= _SAME * rows.sum() and both >= _MOST_OF * top.excess:
                same.append(each)
    if not same:
        return ranked
    # What is wrong says more than that it is new.
    what = next((each for _, each in same if each.kind == "schema"), same[0][1])
    undo = f"{_UNDO['caller']}; {what.undo or _UNDO[what.kind]}" if what.kind == "schema" else ""
    joined = replace(top, evidence=f"{top.evidence}; {what.words}", words=what.words, undo=undo)
    return [(score, joined), *(each for each in ranked[1:] if each not in same)]


def _none(draw: Draw) -> Hypothesis:
    k, expected = draw.bad_now, draw.expected
    g = float(excess_g(np.array([k]), np.array([max(expected, 0.5)]), 1 / (draw.totals[2] + 0.5))[0]) / draw.phi
    evidence = (
        f"{k:,.0f} bad rows where {expected:,.0f} were expected: that they rose everywhere, and that what some hold more of than "
        "their share is chance"
    )
    return Hypothesis("none", "", (), k, expected, g, 1, 0.0, evidence)


def _weighed(rounds: Sequence[tuple[list[tuple[float, Hypothesis]], Draw]], whole: float) -> list[LikelyCause]:
    shares = np.array([max(ranked[0][1].excess, 1e-3 * whole) for ranked, _ in rounds])
    shares = shares / shares.sum()
    leaders = {(ranked[0][1].kind, ranked[0][1].subject) for ranked, _ in rounds}
    merged: dict[tuple[str, str], LikelyCause] = {}
    for share, (ranked, draw) in zip(shares.tolist(), rounds, strict=True):
        scores = np.array([score for score, _ in ranked[:MOST]])
        weights = np.exp((scores - scores.max()) / 2)
        for weight, (_, each) in zip((share * weights / weights.sum()).tolist(), ranked[:MOST], strict=True):
            key = (each.kind, each.subject)
            before = merged.get(key)
            merged[key] = (
                _cause(each, weight, draw) if before is None else replace(before, weight=before.weight + weight)
            )
    in_order = sorted(merged.items(), key=lambda each: (each[0] not in leaders, -each[1].weight))
    kept = [cause for _, cause in in_order[:MOST]]
    total = sum(each.weight for each in kept)
    return [replace(each, weight=each.weight / total) for each in kept]


def _cause(each: Hypothesis, weight: float, draw: Draw) -> LikelyCause:
    return LikelyCause(
        each.kind,
        each.subject,
        weight,
        each.evidence,
        _confirmed(each, draw),
        each.undo or _UNDO[each.kind],
        each.where,
    )


def _confirmed(each: Hypothesis, draw: Draw) -> bool | None:
    """Whether dropping its rows leaves at most a tenth of the excess; only replays can undo the others."""
    if each.kind not in ("caller", "novelty", "labels") or not each.where:
        return None
    left = Draw.of(draw.table[~rows_of(draw.table, each.where)], draw.phi)
    excess = draw.bad_now - draw.expected
    return bool(left.bad_now - left.expected <= _CONFIRMED * max(excess, 1e-9))


def _quiet(counts: BinnedCounts) -> LikelyCause:
    bad, rows = float(counts.bad.sum()), float(counts.rows.sum())
    evidence = (
        f"a quiet day: {bad:,.0f} of {rows:,.0f} rows are bad ({bad / max(rows, 1):.2%}), and that share has not risen"
    )
    return LikelyCause("none", "", 1.0, evidence, None, _UNDO["none"])
