"""Issues that outliers lie between: one thing that is wider than the radius, and so began several issues, becomes one."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np

from hoverboard.contract.signature import Array
from hoverboard.contract.times import nearest_time
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.watch.grouping import Grouping, Places
from hoverboard.watch.issue_changes import IssueActor, kept_apart, unite

__all__ = ["ENOUGH", "YOUNG", "link", "merge_alike"]

ENOUGH: Final = 2
"""Outliers between two leaders from which on they lead one issue."""
YOUNG: Final = 50
"""Members of the smaller one up to which they count: of thousands a few always lie between things that are not the same."""

_SQL: Final = statements(__file__)
_NOBODY: Final = "hoverboard"


async def link(connection: Connection, grouping: Grouping, numbers: Places, version: int, at_ms: Array) -> None:
    """Count the outliers of a chunk between leaders of different issues, before they are members, and merge what they make one.

    It depends on the order of the outliers and not on where a chunk ends: of each leader its first members count.

    Args:
        grouping: of the chunk's outliers.
        numbers: int64 `(k,)`, the fingerprints of its leaders.
        version: that found them.
        at_ms: times of the outliers, int64 `(n,)`.
    """
    if not len(grouping.links):
        return
    involved = np.unique(grouping.links)
    rows = await connection.fetch(_SQL["members"], numbers[involved].tolist())
    members = {row["id"]: row["members"] for row in rows}
    before = np.array([members[number] for number in numbers[involved].tolist()], np.int64)
    sizes = np.stack(
        [before[np.searchsorted(involved, side)] + _earlier(grouping, side) for side in grouping.links.T], axis=1
    )
    # Judged by the smaller one: a thing that many samples know already is wide where it is, and not by what lies at its rim.
    young = np.asarray(sizes.min(axis=1) < YOUNG)
    if not young.any():
        return
    # The lower number first, as the table has it: a link has no direction.
    pairs = np.sort(numbers[grouping.links[young]], axis=1)
    unique, where, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    last = np.zeros(len(unique), np.int64)
    np.maximum.at(last, where.ravel(), at_ms[grouping.between[young]])
    found = await connection.fetch(_SQL["count_links"], unique[:, 0].tolist(), unique[:, 1].tolist(), counts.tolist())
    latest = {(one, other): at for (one, other), at in zip(unique.tolist(), last.tolist(), strict=True)}
    # In one order, so that which of three issues takes in the others does not depend on how Postgres returned the rows.
    for row in sorted(found, key=lambda row: (row["one"], row["other"])):
        if row["rows"] >= ENOUGH:
            pair = row["one"], row["other"]
            why = f"{row['rows']} outliers lie within the radius of both"
            await merge_alike(connection, pair, why, version, nearest_time(latest[pair] * 1000))


def _earlier(grouping: Grouping, leaders: Places) -> Places:
    """For each link, how many rows before its own joined that leader."""
    order = np.argsort(grouping.places, kind="stable")
    # A row's place and its number as one key: both ascend in this order.
    count = len(grouping.places)
    keys = grouping.places[order] * count + order
    return np.searchsorted(keys, leaders * count + grouping.between) - np.searchsorted(keys, leaders * count)


async def merge_alike(
    connection: Connection, pair: tuple[int, int], why: str, version: int, at: datetime, *, joins: bool = False
) -> int | None:
    """Make the issues of two fingerprints one, unless somebody has decided otherwise; returns the one that there is then.

    Not those that somebody took apart, nor what somebody archived or ignored: that would hide what is not the same after all. What
    was resolved takes in only what makes it regress: `version` is not before the one that is right, and `at` is after it was said.

    Args:
        joins: the leader of the one lies within the radius of the other's, and would have joined it, whatever its state.
    """
    # Asked anew for each pair: the merge before this one may have made them one issue already.
    row = await connection.fetchrow(_SQL["linked"], *pair)
    if row is None or row["other_state"] != "unresolved":
        return None
    covered = row["one_state"] == "resolved" and version >= row["resolved_in"] and at > row["resolved_at"]
    if not (joins or covered or row["one_state"] == "unresolved"):
        return None
    if await kept_apart(connection, row["one"], row["other"]) is not None:
        return None
    await unite(connection, row["one"], row["other"], IssueActor(_NOBODY, why))
    return int(row["one"])
