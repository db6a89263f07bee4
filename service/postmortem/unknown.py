"""What a report cannot know: what is missing, what is only an estimate, and what nobody may read."""

from __future__ import annotations

from typing import Final

from hoverboard.postmortem.counting import RecordedShare
from hoverboard.postmortem.drawing import Drawn
from hoverboard.postmortem.question import About
from hoverboard.postmortem.report import ReportedBad
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.postmortem.wording import moment

__all__ = ["unknown"]

_FEW: Final = 10


async def unknown(
    recording: RecordedShare,
    window: RecordedWindow,
    drawn: Drawn | None,
    bad: ReportedBad,
    *,
    about: About,
    compared: bool,
    rows: float,
) -> list[str]:
    """Sentences, what matters most first; empty where nothing is missing.

    Args:
        recording: of the model.
        window: that was looked at.
        drawn: rows that were looked at closely; None where there are none.
        bad: the totals.
        about: kind of the bad rows.
        compared: whether a baseline says what inputs usually are.
        rows: of the window, by 1 / incl_prob.
    """
    found = []
    if bad.rows < _FEW:
        found.append(f"There are too few {about.words} to say what they have in common: {bad.rows:,.0f}.")
    for gap in await recording.gaps(window):
        records = "an unknown number of" if gap["records"] is None else f"{gap['records']:,}"
        found.append(f"Not recorded: {records} records ({gap['reason']}); `hoverboard gaps` says why.")
    if bad.recorded < 0.999 * rows and about.kind != "refusals":
        kind = "labelled row" if about.kind == "wrong" else "row"
        found.append(
            f"Not every {kind} was recorded: {bad.recorded:,} are in the database, of about {rows:,.0f}. "
            "Totals are estimates, by 1 / incl_prob."
        )
    span = await recording.span()
    if span is not None and (span[0] - window.start).total_seconds() > 60:
        found.append(f"Nothing is recorded before {moment(span[0])}: older days have expired, or there were none.")
    if drawn is not None:
        found += _of_rows(about, drawn, asked_of=window.tags is not None or "caller" in window.where)
    if not compared:
        found.append(
            "No version of this model has a baseline, so its numbers and categories could not be compared: publish with "
            "--calibration."
        )
    if about.kind == "refusals":
        found.append("Of a refused call nothing but its tags, its error and its place is recorded.")
    if about.kind == "errors":
        found.append("A sample that ended in an error has no answer, so its version and process are not known.")
    return found


def _of_rows(about: About, drawn: Drawn, *, asked_of: bool) -> list[str]:
    found = []
    if drawn.bad_share < 1:
        found.append(f"There are so many {about.words} that only {drawn.bad_share:.1%} of them were looked at.")
    for reason, rows in sorted(drawn.missing.items()):
        found.append(
            f"Of {rows:,} of {len(drawn.table):,} rows that were looked at not every input is what was sent: {reason}."
        )
    named = {field.kind for field in drawn.table.fields}
    if not asked_of and "caller" not in named and "tag" not in named:
        found.append("No tag tells these rows apart, and no caller has a key: nobody can say whose calls they were.")
    return found
