"""What people say of issues: one transaction each, under the lock of the model, with who and why in `issue_events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.database.text import storable
from hoverboard.errors import IssueRefused

__all__ = [
    "IssueActor",
    "archive",
    "ignore",
    "kept_apart",
    "merge",
    "note",
    "reopen",
    "resolve",
    "unite",
    "unmerge",
]

_SQL: Final = statements(__file__)
_PATIENCE_S: Final = 600.0
"""For what marks all outliers of an issue anew."""
_LARGEST_VERSION: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class IssueActor:
    """Who changes an issue, and why; an empty reason where nobody gave one."""

    name: str
    reason: str = ""


async def resolve(connection: Connection, number: int, actor: IssueActor, version: int | None) -> int:
    """From a version on it is right again; returns that version.

    Samples from before this moment, and what lower versions find, change nothing.

    Args:
        version: the first that is right; None for the one after the highest that was served.

    Raises:
        IssueRefused: there is no such issue, or it is part of another one.
    """
    async with connection.transaction():
        model = (await _locked(connection, number))["model"]
        if version is None:
            # Of a model whose versions are gone from the tables, any version is a later one.
            version = min((await connection.fetchval(_SQL["last_version"], model) or 0) + 1, _LARGEST_VERSION)
        await _set(connection, number, actor, ("resolved", "", f"right again in version {version}"), version)
    return version


async def archive(connection: Connection, number: int, actor: IssueActor, *, until_escalating: bool) -> None:
    """Out of sight: for ever, or until it comes more often than it did.

    Raises:
        IssueRefused: as `resolve`.
    """
    substate = "until_escalating" if until_escalating else "forever"
    words = "until it escalates" if until_escalating else "for ever"
    async with connection.transaction():
        await _locked(connection, number)
        await _set(connection, number, actor, ("archived", substate, f"archived {words}"))


async def ignore(connection: Connection, number: int, actor: IssueActor) -> None:
    """Nobody's business; it is counted, and nothing more.

    Raises:
        IssueRefused: as `resolve`.
    """
    async with connection.transaction():
        await _locked(connection, number)
        await _set(connection, number, actor, ("ignored", "", "ignored"))


async def reopen(connection: Connection, number: int, actor: IssueActor) -> None:
    """Unresolved again, and not news.

    Raises:
        IssueRefused: as `resolve`.
    """
    async with connection.transaction():
        await _locked(connection, number)
        await _set(connection, number, actor, ("unresolved", "ongoing", "reopened"))


async def note(connection: Connection, number: int, actor: IssueActor) -> None:
    """Keep what somebody knows of it, which is the actor's reason.

    Raises:
        IssueRefused: as `resolve`.
    """
    async with connection.transaction():
        await _locked(connection, number)
        await _tell(connection, number, "note", actor)


async def merge(connection: Connection, number: int, other: int, actor: IssueActor, *, again: bool = False) -> None:
    """Make another issue part of this one: what joins any of its leaders from now on is this one's, too.

    Args:
        again: also where somebody took the two apart.

    Raises:
        IssueRefused: one is not there, they cannot be compared, or they were taken apart.
    """
    if number == other:
        raise IssueRefused(f"{number} is one issue already; name two")
    async with connection.transaction():
        # One lock covers both, if they are of one model; else it is refused.
        first, second = [await _locked(connection, each) for each in sorted((number, other))]
        if first["model"] != second["model"]:
            raise IssueRefused(f"issues {number} and {other} are of different models: their features are not alike")
        apart = await kept_apart(connection, number, other)
        if apart is not None and not again:
            raise IssueRefused(
                f"{apart['actor']} took {apart['one']} and {apart['other']} apart on {apart['at']:%Y-%m-%d}; --again merges "
                "them all the same"
            )
        # Who says so twice has changed their mind: from now on they may be merged by themselves, too.
        await connection.execute(_SQL["forget_apart"], number, other)
        await unite(connection, number, other, actor)


async def kept_apart(connection: Connection, number: int, other: int) -> asyncpg.Record | None:
    """Who took a fingerprint of the one issue from one of the other (`actor`, `at`, `one`, `other`); None where nobody did."""
    return await connection.fetchrow(_SQL["apart"], number, other)


async def unite(connection: Connection, number: int, other: int, actor: IssueActor) -> None:
    """Make another issue part of this one, in a transaction that holds their lock."""
    # The outliers are marked anew, and not looked up through their leader: everything that reads an issue's rows reads this column.
    await connection.execute(_SQL["widen"], number, other)
    await connection.execute(_SQL["point_fingerprints"], other, number, None)
    await connection.execute(_SQL["point_outliers"], other, number, None, timeout=_PATIENCE_S)
    await connection.execute(_SQL["become_merged"], other, number, f"merged into issue {number}")
    await connection.execute(_SQL["point_merged"], other, number)
    await connection.execute(_SQL["recount"], [number])
    await _tell(connection, other, "merged", actor, f"into issue {number}")
    await _tell(connection, number, "merged", actor, f"issue {other} into this one")


async def unmerge(connection: Connection, number: int, actor: IssueActor) -> int:
    """Take an issue out of the one that it was merged into; returns that one.

    It gets back the leader that it began with, and the outliers that joined that. The two are remembered as not the same.

    Raises:
        IssueRefused: it is not there, or part of no other.
    """
    async with connection.transaction():
        row = await _locked(connection, number, merged=True)
        whole = row["merged_into"]
        if whole is None:
            raise IssueRefused(f"issue {number} is part of no other; give the number of one that was merged")
        await connection.execute(_SQL["become_itself"], number, f"taken out of issue {whole}")
        await connection.execute(_SQL["point_fingerprints"], whole, number, number)
        await connection.execute(_SQL["point_outliers"], whole, number, number, timeout=_PATIENCE_S)
        await connection.execute(_SQL["keep_apart"], number, whole, storable(actor.name))
        await connection.execute(_SQL["recount"], [number, whole])
        await _tell(connection, number, "unmerged", actor, f"from issue {whole}")
        await _tell(connection, whole, "unmerged", actor, f"issue {number} from this one")
    return int(whole)


async def _locked(connection: Connection, number: int, *, merged: bool = False) -> asyncpg.Record:
    """An issue whose model is this transaction's own from now on."""
    # Two statements: who has waited for the lock must not see the issue as it was before.
    await connection.execute(_SQL["lock_model"], number)
    row = await connection.fetchrow(_SQL["find_issue"], number)
    if row is None:
        raise IssueRefused(f"there is no issue {number}; `hoverboard issues` lists them")
    if row["state"] == "merged" and not merged:
        raise IssueRefused(
            f"issue {number} is part of issue {row['merged_into']}: name that one, or `hoverboard issues unmerge {number}` first"
        )
    return row


async def _set(
    connection: Connection, number: int, actor: IssueActor, state: tuple[str, str, str], version: int | None = None
) -> None:
    await connection.execute(_SQL["set_state"], number, *state, version)
    name, _, words = state
    await _tell(connection, number, "reopened" if name == "unresolved" else name, actor, words)


async def _tell(connection: Connection, number: int, kind: str, actor: IssueActor, what: str = "") -> None:
    reason = ": ".join(each for each in (what, actor.reason) if each)
    await connection.execute(_SQL["insert_event"], number, kind, storable(actor.name), storable(reason))
