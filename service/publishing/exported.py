"""What an export's file says of its own rows, so that who calibrates on it hears which of them were strange when they came."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from hoverboard.shell import free_folder, shell_word

__all__ = ["EXPORT_KEY", "largest", "said_before", "tell_doubts"]

_log: Final = logging.getLogger(__name__)

EXPORT_KEY: Final = "hoverboard.export"
"""The key, in the metadata of a Parquet file, of the export's summary as JSON."""
_PARQUET: Final = (".parquet", ".pq")
_NAMED: Final = 5
"""Issues that are named. An incident is among the largest, and what every detector finds now and then is not."""


class _ExportedAnswers(msgspec.Struct, frozen=True):
    """How good the recorded answers were."""

    rows: int = 0
    right: float | None = None
    error: float | None = None


class _ExportedRows(msgspec.Struct, frozen=True):
    """As much of the summary as is read here."""

    model: str
    rows: int
    start: datetime | None = None
    end: datetime | None = None
    where: dict[str, str] = {}
    unless: dict[str, tuple[str, ...]] = {}
    labelled: bool = False
    issue: int | None = None
    without_issues: tuple[int, ...] = ()
    without_outliers: bool = False
    label_sources: tuple[str, ...] = ()
    without_label_sources: tuple[str, ...] = ()
    incomplete: bool = False
    outliers: int = 0
    open_issues: dict[int, int] = {}
    resolved_issues: dict[int, int] = {}
    versions: list[int] = []
    judged: _ExportedAnswers = _ExportedAnswers()

    def again(self, *, without: Sequence[int] = (), outliers: bool = False) -> str:
        """The command that exports the same rows but for some, into a folder of its own.

        Args:
            without: issues that are left out as well.
            outliers: whether all outliers are.
        """
        conditions = [f"{name}={value}" for name, value in self.where.items()]
        conditions += [f"{name}!={value}" for name, values in self.unless.items() for value in values]
        several = {
            "--where": conditions,
            "--label-source": self.label_sources,
            "--without-label-source": self.without_label_sources,
            "--without-issue": list(dict.fromkeys((*self.without_issues, *without))),
        }
        single = {"--from": _time(self.start), "--to": _time(self.end), "--issue": self.issue}
        flags = {
            "--labelled": self.labelled,
            "--incomplete": self.incomplete,
            "--without-outliers": self.without_outliers or outliers,
        }
        words = [self.model]
        words += [word for name, value in single.items() if value is not None for word in (name, str(value))]
        words += [word for name, values in several.items() for value in values for word in (name, str(value))]
        words += [name for name, given in flags.items() if given]
        left_out = ["outliers"] if outliers else ["issue" if len(without) == 1 else "issues", *map(str, without)]
        return " ".join(
            map(shell_word, ["hoverboard", "export", *words, "--output", free_folder(self.model, left_out)])
        )


def tell_doubts(path: Path, alpha: float) -> tuple[str, ...]:
    """Log why a calibration file may hold what is not normal, with what to do; nothing of a file that is no export.

    Args:
        path: the file.
        alpha: the share of normal samples that may be called outliers. So many are usual, and belong to a calibration.

    Returns:
        The same, a sentence each.
    """
    found = _exported(path)
    if found is None or not found.rows:
        return ()
    told = []
    # What is resolved may be an incident that is over, or a thing that this version has learnt: only who publishes knows.
    for state, issues, condition in (
        ("open", found.open_issues, ""),
        ("resolved", found.resolved_issues, "unless the model was trained on them, "),
    ):
        if found.issue in issues:
            told.append(
                f"calibration: {path.name} is of outliers of the {state} issue {found.issue}, by --issue {found.issue}: the version "
                f"will take what is like them for normal; {condition}calibrate it on an export without --issue"
            )
        if others := {issue: rows for issue, rows in issues.items() if issue != found.issue}:
            named, listed = largest(others)
            told.append(
                f"calibration: {path.name} holds outliers of {state} issues, {listed}: the version will take what is like them "
                f"for normal; {condition}leave {'them' if len(named) == len(others) else 'the largest'} out with "
                f"`{found.again(without=named)}`"
            )
    if found.issue is None and found.outliers > alpha * found.rows:
        told.append(
            f"calibration: {found.outliers:,} of {found.rows:,} rows in {path.name} were outliers when they came "
            f"({found.outliers / found.rows:.1%}, where {alpha:.1%} are usual): the version will take what is like them for "
            f"normal; `{found.again(outliers=True)}` leaves out all, also the few that are usual"
        )
    for doubt in told:
        _log.warning("%s", doubt)
    return tuple(told)


def largest(issues: Mapping[int, int]) -> tuple[Sequence[int], str]:
    """Which of some issues are named, by their rows, falling; and all of them in words.

    Args:
        issues: number -> rows, at least one.
    """
    falling = sorted(issues, key=lambda issue: (-issues[issue], issue))
    named, others = falling[:_NAMED], falling[_NAMED:]
    told = ", ".join(f"{issue} ({issues[issue]:,} {'row' if issues[issue] == 1 else 'rows'})" for issue in named)
    if others:
        rows = sum(issues[issue] for issue in others)
        told += f", and {len(others):,} smaller {'one' if len(others) == 1 else 'ones'} with {rows:,} {'row' if rows == 1 else 'rows'}"
    return named, told


def said_before(path: Path) -> tuple[str, ...]:
    """How good the recorded answers to a calibration file's rows were, a sentence; nothing of a file that is no export with labels.

    What a new version says to the same rows is told beside it.
    """
    found = _exported(path)
    if found is None or not found.judged.rows or not found.versions:
        return ()
    several = len(found.versions) > 1
    who = f"version{'s' if several else ''} {', '.join(map(str, found.versions))}, which had answered these rows,"
    if found.judged.error is not None:
        return (
            f"calibration: {who} {'were' if several else 'was'} off from their labels by {found.judged.error:.6g} on average",
        )
    return (f"calibration: {who} agreed with {found.judged.right or 0.0:.1%} of their labels",)


def _time(at: datetime | None) -> str | None:
    """As `--from` and `--to` take it, to the microsecond: no row more, and none less."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _exported(path: Path) -> _ExportedRows | None:
    if path.suffix.lower() not in _PARQUET:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = (pq.read_schema(path).metadata or {}).get(EXPORT_KEY.encode())
        return None if about is None else msgspec.json.decode(about, type=_ExportedRows)
    except (OSError, pa.ArrowException, msgspec.DecodeError):
        return None  # who reads the rows says what is wrong with the file
