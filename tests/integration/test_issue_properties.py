"""What holds of issues whatever happens, in whatever order: of their states, of merges, and of a recorder that dies anywhere."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from hoverboard.config import Settings
from hoverboard.database.connect import connect
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.errors import IssueRefused
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from hoverboard.watch import issue_changes, issue_links, issue_table, issue_watcher
from hoverboard.watch.watchers import Watchers
from tests.integration.grouped import Connection, drained, groups, rounds, wide
from tests.journaled import open_journal, write

ISSUES = 4
SOMEBODY = issue_changes.IssueActor("ann", "a reason")


# -- states and merges: a rule of a few lines, beside tables -------------------------------------------------------------


@dataclass
class Rule:
    """What is said of issues in docs/issues.md, about the leaders 1 to 4, each of which began the issue of its number."""

    issue_of: dict[int, int] = field(default_factory=lambda: {each: each for each in range(1, ISSUES + 1)})
    members: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(1, ISSUES + 1), 5))
    state: dict[int, tuple[str, str]] = field(
        default_factory=lambda: dict.fromkeys(range(1, ISSUES + 1), ("unresolved", "ongoing"))
    )
    into: dict[int, int] = field(default_factory=dict)
    resolved: dict[int, tuple[int, datetime]] = field(default_factory=dict)
    apart: set[frozenset[int]] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)

    def leaders(self, issue: int) -> list[int]:
        return [leader for leader, of in self.issue_of.items() if of == issue]

    def kept_apart(self, one: int, other: int) -> set[frozenset[int]]:
        between = {frozenset((a, b)) for a in self.leaders(one) for b in self.leaders(other)}
        return self.apart & between

    def unite(self, whole: int, part: int, actor: str) -> None:
        self.told[actor] += 2  # of each of the two
        for leader in self.leaders(part):
            self.issue_of[leader] = whole
        self.state[part] = "merged", ""
        self.into = {each: whole if of == part else of for each, of in self.into.items()} | {part: whole}

    def is_explained(self, issue: int, version: int, at: datetime) -> bool:
        """Whether a find leaves a resolved issue as it is: by a version before the right one, or of a sample from before."""
        right_in, said_at = self.resolved[issue]
        return version < right_in or at <= said_at


Action = tuple[str, int, int, int, int]
KINDS = (
    ["found"] * 5
    + ["resolve"] * 3
    + ["merge"] * 3
    + ["alike"] * 2
    + ["unmerge", "again", "reopen", "archive", "ignore"]
)
ACTIONS: st.SearchStrategy[Action] = st.tuples(
    st.sampled_from(KINDS),
    st.integers(1, ISSUES),
    st.integers(1, ISSUES),
    st.integers(1, 4),
    st.integers(-2, 2).map(lambda each: each * 100),
)


async def made_issues(connection: Connection) -> int:
    """Issues of five members each, all found by version 1."""
    await connection.execute(
        "with s as (insert into issue_scopes (model, backbone_sha256) values ('m', 'w') returning id), n as ("
        " select generate_series(1, $1::int) as id), i as (insert into issues (id, scope_id, state, substate, state_at, why,"
        " members, first_seen, last_seen, first_version, last_version)"
        " select n.id, s.id, 'unresolved', 'ongoing', now(), '', 5, now(), now(), 1, 1 from s, n)"
        " insert into issue_fingerprints (id, scope_id, issue_id, members, distances, last_seen)"
        " select n.id, s.id, n.id, 5, 0, now() from s, n",
        ISSUES,
    )
    return int(await connection.fetchval("select id from issue_scopes"))


async def found(connection: Connection, scope_id: int, leader: int, version: int, at: datetime) -> None:
    """A sample of that time joins a leader."""
    scope = issue_table.IssueScope(scope_id, "m", 1.0, False, 100, 10, 0)
    ids = np.frombuffer(sample_ids(1, at.timestamp()), "V16")
    await connection.execute(
        "insert into outliers (at, sample_id, version_id, p_value) values (sample_at($1), $1, 1, 0.001)",
        UUID(bytes=ids[0].tobytes()),
    )
    joined = issue_table.Joined(issue_table.GroupedVersion(1, version), ids, np.array([leader]), np.array([0.5]))
    # No evidence is enough: whether an issue escalates is a question of its rate, and another test's.
    await issue_table.join(connection, scope, joined, 10**300)


async def act(connection: Connection, scope_id: int, rule: Rule, action: Action) -> bool:
    """Do it, and say what the rule makes of it; returns whether it may be done at all."""
    kind, one, *_ = action
    merged = {each for each, (state, _) in rule.state.items() if state == "merged"}
    if kind in {"found", "alike"}:
        await come(connection, scope_id, rule, action)
        return True
    if kind in {"merge", "again"}:
        return await joined(connection, rule, action, merged)
    if kind == "unmerge":
        if one not in merged:
            return False
        whole = await issue_changes.unmerge(connection, one, SOMEBODY)
        assert whole == rule.into.pop(one)
        rule.issue_of[one], rule.state[one] = one, ("unresolved", "ongoing")
        rule.told["ann"] += 2
        rule.apart |= {frozenset((one, leader)) for leader in rule.leaders(whole)}
        return True
    if one in merged:
        return False
    rule.told["ann"] += 1
    await decided(connection, rule, action)
    return True


async def come(connection: Connection, scope_id: int, rule: Rule, action: Action) -> None:
    """What samples do: one joins a leader, or lies between two."""
    kind, one, other, version, seconds = action
    issue = rule.issue_of[one]
    # About the moment at which somebody said that it is resolved: before, just then, after.
    at = rule.resolved.get(issue, (0, datetime.now(UTC)))[1] + timedelta(seconds=seconds)
    if kind == "found":
        await found(connection, scope_id, one, version, at)
        rule.members[one] += 1
        if rule.state[issue][0] == "resolved" and not rule.is_explained(issue, version, at):
            rule.state[issue] = "unresolved", "regressed"
            rule.told["recorder"] += 1
        return
    await issue_links.merge_alike(connection, (one, other), "alike", version, at)
    whole, part = sorted((issue, rule.issue_of[other]))
    right = rule.state[whole][0] == "resolved" and not rule.is_explained(whole, version, at)
    may = rule.state[part][0] == "unresolved" and (right or rule.state[whole][0] == "unresolved")
    if whole != part and may and not rule.kept_apart(whole, part):
        rule.unite(whole, part, "hoverboard")


async def joined(connection: Connection, rule: Rule, action: Action, merged: Collection[int]) -> bool:
    kind, one, other, *_ = action
    if {one, other} & set(merged) or one == other or (kind == "merge" and rule.kept_apart(one, other)):
        return False
    await issue_changes.merge(connection, one, other, SOMEBODY, again=kind == "again")
    rule.apart -= rule.kept_apart(one, other)
    rule.unite(one, other, "ann")
    return True


async def decided(connection: Connection, rule: Rule, action: Action) -> None:
    kind, one, _, version, _ = action
    if kind == "resolve":
        await issue_changes.resolve(connection, one, SOMEBODY, version)
        said = await connection.fetchval("select resolved_at from issues where id = $1", one)
        rule.resolved[one], rule.state[one] = (version, said), ("resolved", "")
    elif kind == "reopen":
        await issue_changes.reopen(connection, one, SOMEBODY)
        rule.state[one] = "unresolved", "ongoing"
    elif kind == "archive":
        await issue_changes.archive(connection, one, SOMEBODY, until_escalating=bool(version % 2))
        rule.state[one] = "archived", "until_escalating" if version % 2 else "forever"
    else:
        await issue_changes.ignore(connection, one, SOMEBODY)
        rule.state[one] = "ignored", ""


REFUSED: dict[str, Callable[[Connection, Action], Awaitable[Any]]] = {
    "merge": lambda connection, action: issue_changes.merge(connection, *action[1:3], SOMEBODY),
    "again": lambda connection, action: issue_changes.merge(connection, *action[1:3], SOMEBODY, again=True),
    "unmerge": lambda connection, action: issue_changes.unmerge(connection, action[1], SOMEBODY),
    "resolve": lambda connection, action: issue_changes.resolve(connection, action[1], SOMEBODY, action[3]),
    "reopen": lambda connection, action: issue_changes.reopen(connection, action[1], SOMEBODY),
    "archive": lambda connection, action: issue_changes.archive(connection, action[1], SOMEBODY, until_escalating=True),
    "ignore": lambda connection, action: issue_changes.ignore(connection, action[1], SOMEBODY),
}


async def holds(connection: Connection, actions: Sequence[Action]) -> None:
    scope_id = await made_issues(connection)
    rule = Rule()
    for action in actions:
        if not await act(connection, scope_id, rule, action):
            with pytest.raises(IssueRefused):
                await REFUSED[action[0]](connection, action)
        leaders = await connection.fetch("select id, issue_id, members from issue_fingerprints")
        assert {row["id"]: row["issue_id"] for row in leaders} == rule.issue_of, action
        assert {row["id"]: row["members"] for row in leaders} == rule.members, action
        issues = {row["id"]: row for row in await connection.fetch("select * from issues")}
        assert {number: (row["state"], row["substate"]) for number, row in issues.items()} == rule.state, action
        assert {number: row["merged_into"] for number, row in issues.items() if row["merged_into"]} == rule.into, action
        for number, row in issues.items():
            if number not in rule.into:
                assert row["members"] == sum(rule.members[each] for each in rule.leaders(number)), action
        outliers = await connection.fetch("select fingerprint, issue_id from outliers")
        assert all(row["issue_id"] == rule.issue_of[row["fingerprint"]] for row in outliers), action
        told = await connection.fetch("select actor, count(*) as events from issue_events group by actor")
        assert {row["actor"]: row["events"] for row in told} == +rule.told, action
        never = await connection.fetch("select one, other from issue_never")
        assert {frozenset(row) for row in never} == rule.apart, action


def test_no_older_version_and_no_late_sample_regresses_an_issue_and_merges_hold_in_whatever_order(
    database: str,
) -> None:
    with asyncio.Runner() as runner:
        connection = runner.run(connect(database, application="test", role=None))

        async def rolled_back(actions: Sequence[Action]) -> None:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await holds(connection, actions)
            finally:
                await transaction.rollback()

        @hypothesis.settings(max_examples=60)
        @hypothesis.given(st.lists(ACTIONS, max_size=14))
        @hypothesis.example(
            [("resolve", 1, 1, 2, 0), ("found", 1, 1, 1, 100), ("found", 1, 1, 2, 0), ("found", 1, 1, 2, 100)]
        )
        @hypothesis.example(
            [("merge", 1, 2, 1, 0), ("merge", 3, 1, 1, 0), ("unmerge", 1, 1, 1, 0), ("found", 2, 1, 1, 0)]
        )
        @hypothesis.example(
            [("merge", 1, 2, 1, 0), ("unmerge", 2, 1, 1, 0), ("alike", 1, 2, 1, 0), ("merge", 1, 2, 1, 0)]
        )
        @hypothesis.example(
            [("resolve", 1, 1, 2, 0), ("alike", 1, 2, 1, 100), ("alike", 1, 2, 2, 0), ("alike", 2, 1, 2, 100)]
        )
        @hypothesis.example([("merge", 1, 2, 1, 0), ("unmerge", 2, 1, 1, 0), ("again", 1, 2, 1, 0)])
        def check(actions: Sequence[Action]) -> None:
            runner.run(rolled_back(actions))

        check()
        runner.run(connection.close())


# -- a recorder that dies -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here: nothing that a recorder does about errors may see it."""


# What is done of a chunk, in order: who dies before one of them, or after it, has done the half of it.
STEPS: Sequence[tuple[Any, str]] = (
    (issue_table, "count_rows"),
    (issue_table, "set_radius"),
    (issue_table, "begin_issues"),
    (issue_table, "change_leaders"),
    (issue_watcher, "link"),
    (issue_links, "unite"),
    (issue_table, "join"),
    (issue_table, "_mark"),
    (Watchers, "follow"),
)


@dataclass(frozen=True)
class Death:
    """Where a recorder ends: at the which-th time that it comes to a step, before it or after."""

    step: int
    time: int
    after: bool


@contextmanager
def dying(death: Death) -> Iterator[list[str]]:
    """A recorder that dies there, if it comes that far; yields where it did."""
    place, name = STEPS[death.step]
    whole, died = getattr(place, name), []
    left = death.time

    async def mortal(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        done = await whole(*arguments, **more) if left or death.after else None
        if not left:
            died.append(name)
            raise Killed
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, mortal)
        yield died


DEATHS = st.builds(Death, st.integers(0, len(STEPS) - 1), st.integers(1, 3), st.booleans())
TABLES = (
    "issues, issue_fingerprints, issue_scopes, issue_days, issue_scope_days, issue_events, issue_never, issue_links, "
    "recorder_cursor, samples, predictions, outliers, features"
)


async def whole(sql: Connection) -> tuple[set[tuple[str, ...]], list[Any], list[Any]]:
    """Who belongs together, how many of each leader, and what ran; without numbers, which a rolled back transaction uses up."""
    leaders = await sql.fetch(
        "select sample_id, members, round(distances::numeric, 6) from issue_fingerprints order by sample_id"
    )
    rows = await sql.fetch("select rows, ungrouped, radius from issue_scopes")
    return {ids for _, ids in await groups(sql)}, [tuple(row) for row in leaders], [tuple(row) for row in rows]


async def test_a_recorder_that_dies_anywhere_in_a_chunk_and_starts_again_changes_no_group(
    database: str, make_settings: Callable[..., Settings], sql: Connection
) -> None:
    settings = make_settings(alarm_run_length=1000)
    journal = open_journal(settings.data_dir)
    everything = [*rounds(8, usual=1), *[record for seed in range(8, 20) for record in wide(seed)]]
    write(journal, *everything)
    await drained(settings, database)
    expected = await whole(sql)
    assert [len(ids) for ids in expected[0]].count(8) >= 4
    assert await sql.fetchval("select count(*) from issues where state = 'merged'")
    for number, (_, name) in enumerate(STEPS):
        for after in (False, True):
            await sql.execute(f"truncate {TABLES}")
            with dying(Death(number, 1, after)) as died:
                drain = Drain(settings, lambda: open_database(settings, database))
                with pytest.raises(Killed):
                    await drain.empty(10)
                drain.close()
            assert died == [name]
            await drained(settings, database)
            assert await whole(sql) == expected, (name, after)


def test_wherever_chunks_end_and_recorders_die_the_groups_are_the_same(
    database: str, make_settings: Callable[..., Settings]
) -> None:
    everything = [*rounds(8, usual=1), *[record for seed in range(8, 20) for record in wide(seed)]]
    seen: list[Any] = []

    async def run(folder: Any, cuts: Sequence[int], deaths: Sequence[Death]) -> None:
        sql = await connect(database, application="test", role=None)
        await sql.execute(f"truncate {TABLES}")
        settings = make_settings(alarm_run_length=1000, data_dir=folder)
        journal = open_journal(settings.data_dir)
        ends = [*sorted(set(cuts)), len(everything)]
        for place, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
            write(journal, *everything[first:last])
            if place < len(deaths):
                with dying(deaths[place]):
                    drain = Drain(settings, lambda: open_database(settings, database))
                    with suppress(Killed):
                        await drain.empty(10)
                    drain.close()
            await drained(settings, database)
        journal.close()
        # Without what ran: it is counted from the chunk on in which the first outlier comes.
        seen.append((await whole(sql))[:2])
        await sql.close()
        assert seen[-1] == seen[0]

    @hypothesis.settings(max_examples=5)
    @hypothesis.given(st.lists(st.integers(1, len(everything) - 1), max_size=3), st.lists(DEATHS, max_size=4))
    @hypothesis.example([], [])
    # The first chunk has just enough outliers to tell a radius; what comes then is read from the journal, and not from the tables.
    @hypothesis.example([16], [])
    def check(cuts: Sequence[int], deaths: Sequence[Death]) -> None:
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
            runner.run(run(Path(folder), cuts, deaths))

    check()
