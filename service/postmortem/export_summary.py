"""What an export says of itself, in `export.json` and in the metadata of its files."""

from __future__ import annotations

from datetime import datetime

import msgspec

from hoverboard.postmortem.judging import JudgedAnswers
from hoverboard.version import __version__

__all__ = ["ExportSummary"]


class ExportSummary(msgspec.Struct, frozen=True):
    """What was exported; `export.json` holds it.

    Attributes:
        model: its name.
        start, end: of the time.
        where, unless: conditions that all hold, and of which none does.
        labelled, issue, without_issues, without_outliers: the choice of rows.
        versions: those whose answers they are.
        other_versions: those that answered in the same time, and take other inputs.
        rows: how many.
        left_out: why other samples of the window are not there -> how many.
        outliers: rows that were found strange when they came.
        open_issues: issues that nobody has resolved or archived -> rows of them.
        resolved_issues: the same of those that somebody has resolved: incidents that are over.
        software: the Hoverboard that wrote it.
        label_sources, without_label_sources: whose labels count, and whose do not.
        incomplete: whether samples are there of which inputs were redacted or hashed.
        judged: of an export of labelled rows, how good the recorded answers were.
    """

    model: str
    start: datetime
    end: datetime
    where: dict[str, str]
    unless: dict[str, tuple[str, ...]]
    labelled: bool
    issue: int | None
    without_issues: tuple[int, ...]
    without_outliers: bool
    versions: list[int]
    other_versions: list[int]
    rows: int
    left_out: dict[str, int]
    outliers: int
    open_issues: dict[int, int]
    resolved_issues: dict[int, int] = {}
    software: str = __version__
    label_sources: tuple[str, ...] = ()
    without_label_sources: tuple[str, ...] = ()
    incomplete: bool = False
    judged: JudgedAnswers = JudgedAnswers()
