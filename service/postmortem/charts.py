"""What the charts of a report need: bad rows by time, and how the features that differ are distributed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.times import nearest_time
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.report import ReportedEvent, ReportedHistogram, ReportedTimeline
from hoverboard.postmortem.slices import ExplainedSlice
from hoverboard.postmortem.table import EXOGENOUS, BinnedCounts, Event, Field, Table

__all__ = ["histograms", "timeline"]

_MOST_BINS: Final = 240
_MOST_EVENTS: Final = 9
_TELLING: Final = ("deployment", "death", "alarm", "gap", "start", "stop")
"""Kinds of events, those that explain most first."""
_CAME_OF_IT: Final = "issue"
_MOST_FEATURES: Final = 4
_MOST_VALUES: Final = 20
_LEAST_APART: Final = 0.2
_REST: Final = "all others"
Shares = NDArray[np.float64]


def timeline(counts: BinnedCounts, onset: Onset | None, events: Sequence[Event]) -> ReportedTimeline:
    """Rows and bad ones by time, in at most 240 bins, and the events that may have to do with them.

    Args:
        counts: of the usual time and the window, between which there may be time that nobody asked about.
        onset: of them; None for a quiet time.
        events: of the window.
    """
    known = np.flatnonzero(counts.rows)
    # Time before the first row tells nothing, and takes room.
    begin = int(known[0]) if len(known) else 0
    each = -(-(len(counts.rows) - begin) // _MOST_BINS)
    first = np.arange(begin, len(counts.rows), each)
    belief = [None if onset is None or event.consequence else onset.near(counts, event.at_us) for event in events]
    order = sorted(range(len(events)), key=lambda at: (-round(belief[at] or 0.0, 2), _place(events[at].kind)))
    # Issues come of what is looked for, as outliers do, and are listed by themselves.
    order = [at for at in order if not events[at].kind.startswith(_CAME_OF_IT)]
    chosen = sorted(order[:_MOST_EVENTS], key=lambda at: events[at].at_us)
    return ReportedTimeline(
        bin_s=each * counts.width_us / 1e6,
        at=[nearest_time(at_us) for at_us in counts.start_us[first].tolist()],
        rows=np.round(np.add.reduceat(counts.rows, first), 3).tolist(),
        bad=np.round(np.add.reduceat(counts.bad, first), 3).tolist(),
        events=[
            ReportedEvent(
                nearest_time(events[at].at_us), events[at].kind, events[at].subject, events[at].detail, belief[at]
            )
            for at in chosen
        ],
    )


def histograms(
    table: Table, found: Sequence[ExplainedSlice], answers: Sequence[LikelyCause]
) -> list[ReportedHistogram]:
    """How bad rows and the usual ones are spread over the values of what was sent, of those features that differ most.

    Args:
        table: split at the onset.
        found: slices, whose features come first.
        answers: causes, the likeliest first.
    """
    bad = table.bad & ~table.base
    usual = table.base if table.base.any() else ~table.bad
    if not bad.any() or not usual.any():
        return []
    return [_histogram(table, field, bad, usual) for field in _chosen(table, bad, usual, found, answers)]


def _place(kind: str) -> int:
    return _TELLING.index(kind) if kind in _TELLING else len(_TELLING)


def _chosen(
    table: Table,
    bad: NDArray[np.bool_],
    usual: NDArray[np.bool_],
    found: Sequence[ExplainedSlice],
    answers: Sequence[LikelyCause],
) -> list[Field]:
    """Features that a cause or a slice is about, then those that differ most."""
    named = [
        name for where in (*(each.where for each in answers[:2]), *(each.where for each in found)) for name, _ in where
    ]
    sent = [field for field in table.fields if field.kind in EXOGENOUS or field.name == "label"]

    def apart(field: Field) -> float:
        return float(np.abs(_shares(table, field, bad) - _shares(table, field, usual)).sum()) / 2

    by_name = {field.name: field for field in sent}
    first = [by_name[name] for name in dict.fromkeys(named) if name in by_name]
    # Words tell less than numbers do, and there are many of them.
    others = sorted(
        (field for field in sent if field not in first and field.kind == "input"), key=lambda field: -apart(field)
    )
    return [*first, *(field for field in others if apart(field) >= _LEAST_APART)][:_MOST_FEATURES]


def _shares(table: Table, field: Field, rows: NDArray[np.bool_]) -> Shares:
    counts = np.bincount(field.codes[rows], table.weight[rows], len(field.values))
    return np.asarray(counts / counts.sum())


def _histogram(table: Table, field: Field, bad: NDArray[np.bool_], usual: NDArray[np.bool_]) -> ReportedHistogram:
    shares = np.stack([_shares(table, field, usual), _shares(table, field, bad)])
    names = list(field.values)
    kept = np.flatnonzero(shares.any(axis=0))
    if len(kept) > _MOST_VALUES:
        most = np.sort(np.argsort(-shares.max(axis=0), kind="stable")[: _MOST_VALUES - 1])
        rest = shares.sum(axis=1) - shares[:, most].sum(axis=1)
        return ReportedHistogram(
            field.name, [*(names[at] for at in most), _REST], *_rounded(np.column_stack([shares[:, most], rest]))
        )
    # A missing value is told after all others.
    kept = np.concatenate([kept[kept > 0], kept[kept == 0]])
    return ReportedHistogram(field.name, [names[at] for at in kept], *_rounded(shares[:, kept]))


def _rounded(shares: Shares) -> Iterator[list[float]]:
    for row in np.maximum(np.round(shares, 5), 0.0):
        yield row.tolist()
