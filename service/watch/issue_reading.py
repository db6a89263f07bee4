"""Issues as people look at them: a list, and one with its history and members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.errors import IssueRefused
from hoverboard.watch.issue_table import VISIBLE

__all__ = ["IssueDetail", "UnknownIssues", "list_issues", "read_issue", "ungrouped", "unknown_issues"]

_SQL: Final = statements(__file__)
_LATEST: Final = 5
_EXAMPLES: Final = 3
# Of the latest members: an issue may have millions, and what it is now is what somebody has to decide about.
_ASKED: Final = 2000


@dataclass(frozen=True, slots=True)
class UnknownIssues:
    """Issues that the latest version of a model, which has other weights, does not know.

    Attributes:
        model: its name.
        version: of the model.
        issues: how many.
        next: the command that makes them known.
    """

    model: str
    version: int
    issues: int
    next: str


@dataclass(frozen=True, slots=True)
class IssueDetail:
    """One issue; rows as their statements name them.

    Attributes:
        issue: as in the list.
        events: what became of it, in order.
        fingerprints: its leaders.
        days: members by day, of the last 30.
        latest: its latest members on record.
        examples: samples that lead it, with their inputs as they were recorded.
        shares: of the latest 2,000 members by version, answer, caller and tag, the three largest of each.
        beside: issues that outliers lie between this and them.
        unknown: what the latest version of the model does not know.
    """

    issue: dict[str, Any]
    events: Sequence[dict[str, Any]]
    fingerprints: Sequence[dict[str, Any]]
    days: Sequence[dict[str, Any]]
    latest: Sequence[dict[str, Any]]
    examples: Sequence[dict[str, Any]]
    shares: Sequence[dict[str, Any]]
    beside: Sequence[dict[str, Any]]
    unknown: Sequence[UnknownIssues]


async def unknown_issues(connection: Connection, model: str | None) -> list[UnknownIssues]:
    """For each model, or this one, what is to be carried over to its latest version; without those that know everything."""
    found = []
    for name, version, issues in await connection.fetch(_SQL["unknown"], model, VISIBLE):
        found.append(UnknownIssues(name, version, issues, f"hoverboard issues carry {name} --to {version}"))
    return found


async def list_issues(connection: Connection, model: str | None, *, every: bool) -> list[dict[str, Any]]:
    """Issues with enough members: what escalates, regressed or is new first, then by members of the last day.

    Args:
        model: of this one; None for all.
        every: also those that are archived, resolved, ignored or merged.

    Raises:
        IssueRefused: no such model was recorded.
    """
    if model is not None and not await connection.fetchval(_SQL["models"], model):
        raise IssueRefused(f"nothing is recorded of a model {model!r}; `hoverboard issues` lists the issues of all")
    return [dict(row) for row in await connection.fetch(_SQL["issues"], model, None, VISIBLE, every)]


async def ungrouped(connection: Connection, model: str | None) -> int:
    """Outliers with features that joined no issue, since the beginning."""
    return await connection.fetchval(_SQL["scopes"], model) or 0


async def read_issue(connection: Connection, number: int) -> IssueDetail:
    """One issue, whatever its state.

    Raises:
        IssueRefused: there is none of that number.
    """
    issues = await connection.fetch(_SQL["issues"], None, number, VISIBLE, True)
    if not issues:
        raise IssueRefused(f"there is no issue {number}; `hoverboard issues` lists them")
    rows = {name: await connection.fetch(_SQL[name], number) for name in ("events", "fingerprints", "days", "beside")}
    for name, most in (("latest", _LATEST), ("examples", _EXAMPLES), ("shares", _ASKED)):
        rows[name] = await connection.fetch(_SQL[name], number, most)
    unknown = await unknown_issues(connection, issues[0]["model"])
    found = {name: [dict(row) for row in each] for name, each in rows.items()}
    return IssueDetail(dict(issues[0]), **found, unknown=unknown)
