"""What `hoverboard issues` draws: the list, and one issue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from hoverboard.cli.output import bar, plain, plain_text, table

if TYPE_CHECKING:
    from hoverboard.watch.issue_reading import IssueDetail, UnknownIssues

__all__ = ["listed", "shown", "unknown"]

_COLORED: Final = {"regressed": "[red]regressed[/]", "escalating": "[red]escalating[/]", "new": "[yellow]new[/]"}
_STEPS: Final = "▁▂▃▄▅▆▇█"
_LONGEST: Final = 300


def listed(rows: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """The list, and why something in it needs somebody."""
    names = ["issue", "model", "state", "members", "last day", "14 days", "versions", "last seen"]
    yield table(names, [_cells(row) for row in rows], right=["issue", "members", "last day"])
    for row in rows:
        if row["substate"] in {"escalating", "regressed"}:
            verb = "escalates" if row["substate"] == "escalating" else "has regressed"
            yield f"Issue {row['id']} {verb}: {plain_text(row['why'])}."


def unknown(each: UnknownIssues) -> str:
    """That a version begins issues anew which are known, and what makes an end of it."""
    return (
        f"Version {each.version} of {each.model} has other weights and does not know {each.issues:,} issues: what it finds of them is a "
        f"new issue, and none that is resolved comes back. `{each.next}` makes them known."
    )


def shown(detail: IssueDetail) -> Iterator[Any]:
    """One issue."""
    row = detail.issue
    yield (
        f"Issue {row['id']} of {row['model']}: {_state(row)} since {row['state_at']:%Y-%m-%d %H:%M} ({plain_text(row['why'])}). "
        f"{row['members']:,} members from {row['first_seen']:%Y-%m-%d %H:%M} to {row['last_seen']:%Y-%m-%d %H:%M} UTC, "
        f"{row['members_1_day']:,} in the last day, found by {_versions(row)}."
    )
    for name, value in _shares(detail.shares):
        yield f"{name}: {value}"
    for each in detail.beside:
        yield (
            f"Perhaps the same as issue {each['id']} ({each['substate'] or each['state']}): {each['rows']:,} outliers lie between them; "
            f"`hoverboard issues merge {row['id']} {each['id']}` makes them one."
        )
    yield from map(unknown, detail.unknown)
    for each in detail.examples:
        yield ""
        yield _example(each)
    most = max((day["members"] for day in detail.days), default=1)
    days = [[str(day["day"]), f"{day['members']:,}", bar(day["members"] / most)] for day in detail.days]
    leaders = [
        [
            str(each["id"]),
            str(each["sample_id"] or "erased or expired"),
            f"{each['members']:,}",
            "" if each["radius"] is None else f"{each['mean_distance'] or 0:.3g} of {each['radius']:.3g}",
            ", ".join(map(str, each["never"])),
        ]
        for each in detail.fingerprints
    ]
    latest = plain(
        [
            [
                f"{each['at']:%Y-%m-%d %H:%M:%S}",
                str(each["sample_id"]),
                str(each["version"]),
                _answer(each),
                f"{each['p_value']:.2g}",
            ]
            for each in detail.latest
        ]
    )
    events = plain(
        [[f"{each['at']:%Y-%m-%d %H:%M}", each["kind"], each["actor"], each["reason"]] for each in detail.events]
    )
    for names, rows in (
        (["day", "members", ""], days),
        (["fingerprint", "leader", "members", "mean distance", "never with"], leaders),
        (["latest members", "sample", "version", "answer", "p-value"], latest),
        (["history", "what", "who", "why"], events),
    ):
        if rows:
            yield ""
            yield table(names, rows, right=("members", "p-value"))


def _cells(row: Mapping[str, Any]) -> list[str]:
    first, last = row["first_version"], row["last_version"]
    return [
        str(row["id"]),
        row["model"],
        _state(row),
        f"{row['members']:,}",
        f"{row['members_1_day']:,}",
        _pace(row["last_14_days"]),
        str(first) if first == last else f"{first} to {last}",
        f"{row['last_seen']:%m-%d %H:%M}",
    ]


def _pace(days: Sequence[int]) -> str:
    """Members of each day, the last one to the right: a day without any is empty."""
    # Against its own largest day: a rare issue that doubles must be seen beside one that comes all the time.
    most = max(days, default=0)
    return "".join(_STEPS[round((count / most) * (len(_STEPS) - 1))] if count else " " for count in days)


def _versions(row: Mapping[str, Any]) -> str:
    first, last = row["first_version"], row["last_version"]
    return f"version {first}" if first == last else f"versions {first} to {last}"


def _state(row: Mapping[str, Any]) -> str:
    match row["state"]:
        case "unresolved":
            return _COLORED.get(row["substate"], str(row["substate"]))
        case "archived":
            return f"archived, {row['substate'].replace('_', ' ')}"
        case "resolved":
            return f"resolved in {row['resolved_in']}"
        case "merged":
            return f"part of {row['merged_into']}"
        case state:
            return str(state)


def _shares(shares: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """One line for each kind."""
    for kind in dict.fromkeys(each["kind"] for each in shares):
        parts = [f"{plain_text(each['value'])} ({each['share']:.0%})" for each in shares if each["kind"] == kind]
        yield plain_text(f"{kind[0].upper()}{kind[1:]}"), ", ".join(parts)


def _example(row: Mapping[str, Any]) -> str:
    """A sample that leads it: when, what it was, what it was answered."""
    told = [row["inputs"]] if row["inputs"] else []
    if row["vector"]:
        more = " ..." if row["elements"] > len(row["vector"]) else ""
        told.append(f"[{' '.join(f'{each:.4g}' for each in row['vector'])}{more}]")
    if row["tensors"]:
        told.append("(and tensors)" if told else "(tensors)")
    text = " ".join(told) or "(its inputs are not on record)"
    # Enough to recognise the thing by; `export --issue` gives all of it.
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    answer = _answer(row)
    words = f" Version {row['version']} answered {answer}." if answer else ""
    return f"Like {row['sample_id']} ({row['members']:,} members): {plain_text(text)}.{plain_text(words)}"


def _answer(row: Mapping[str, Any]) -> str:
    if row["label"] is not None:
        return f"{row['label']} ({row['confidence']:.2f})" if row["confidence"] is not None else str(row["label"])
    return "" if row["value"] is None else f"{row['value']:g}"
