"""What became of days that were kept: tables in Markdown, and what was missed by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.incidents.planted import EFFECTS
from benchmarks.incidents.rivals import RIVALS
from benchmarks.incidents.runs import Result

__all__ = ["Quiet", "page"]

_HEAD = "days | onset found | first | in two | onset late, median min | set covers | its width, median min | F1 | s"


@dataclass(frozen=True, slots=True)
class Quiet:
    """A day on which nothing was wrong.

    Attributes:
        seed: of the day.
        false: whether it was explained by something.
        why: by what.
    """

    seed: int
    false: bool
    why: str


Days = Sequence[tuple[str, Result]]
Key = Callable[[tuple[str, Result]], str]


def page(days: Days, quiet: Sequence[tuple[str, Quiet]]) -> Iterator[str]:
    """Lines of Markdown; days and quiet days are by the name of their model."""
    alone = [each for each in days if each[1].setting == "alone"]
    others = [each for each in days if each[1].setting != "alone"]
    yield from _table("Alone", "model, effect", alone, lambda each: f"{each[0]}, {each[1].effect:g}")
    yield from _table("What else is the case", "setting, effect", others, _of_setting)
    yield from _table("Kinds, all effects, alone", "model, kind", alone, lambda each: f"{each[0]}, {each[1].kind}")
    yield from _table(
        "Kinds, all effects, sampled recording",
        "model, kind",
        [each for each in others if each[1].setting == "sampled recording"],
        lambda each: f"{each[0]}, {each[1].kind}",
    )
    found = [(model, result) for model, result in alone if result.found]
    for model in dict.fromkeys(model for model, _ in found):
        mine = [result for name, result in found if name == model]
        yield from ("", f"| first, {model}, days with an onset | effect 1 | 3 | 10 |", "|---|---|---|---|")
        yield _by_effect("postmortem", mine, lambda result: result.first)
        for name in RIVALS:
            yield _by_effect(name, mine, lambda result, name=name: result.rivals[name])  # type: ignore[misc]
    if quiet:
        yield ""
        yield f"Quiet days explained by something: {sum(each.false for _, each in quiet)} of {len(quiet)}."
        yield from (f"- {model}, seed {each.seed}: {each.why}" for model, each in quiet if each.false)
    yield from ("", "Not first:")
    yield from sorted({f"- {model}, {_missed(result)}" for model, result in days if not result.first})
    yield from ("", "First, and its onset outside of the set:")
    yield from sorted(
        {f"- {model}, {_outside(result)}" for model, result in days if result.found and not result.covered}
    )


def _of_setting(each: tuple[str, Result]) -> str:
    return f"{each[0]}, {each[1].setting}, {each[1].effect:g}"


def _table(title: str, of: str, days: Days, key: Key) -> Iterator[str]:
    if not days:
        return
    columns = _HEAD.count("|") + 2
    yield from ("", f"### {title}", "", f"| {of} | {_HEAD} |", "|---" * columns + "|")
    for name in sorted({key(each) for each in days}, key=_in_order):
        some = [each[1] for each in days if key(each) == name]
        late = [result.error_min for result in some if result.error_min is not None]
        widths = [result.width_min for result in some if result.width_min is not None]
        figures = (
            f"{len(some)}",
            _share(result.found for result in some),
            _share(result.first for result in some),
            _share(result.in_two for result in some),
            f"{np.median(late):.1f}" if late else "-",
            _share(result.covered for result in some if result.found),
            f"{np.median(widths):.0f}" if widths else "-",
            f"{np.mean([result.f1 for result in some]):.2f}",
            f"{np.mean([result.seconds for result in some]):.1f}",
        )
        yield f"| {name} | {' | '.join(figures)} |"


def _in_order(name: str) -> tuple[str, float]:
    """By words, and by the effect where it ends in one."""
    words, _, last = name.rpartition(", ")
    return (words, float(last)) if last.isdecimal() else (name, 0.0)


def _by_effect(name: str, results: Sequence[Result], of: Callable[[Result], bool]) -> str:
    cells = (_share(of(result) for result in results if result.effect == effect) for effect in EFFECTS)
    return f"| {name} | {' | '.join(cells)} |"


def _share(of: Iterable[bool]) -> str:
    values = list(of)
    return f"{np.mean(values):.2f}" if values else "-"


def _named(result: Result) -> str:
    return f"{result.setting}, {result.kind}, effect {result.effect:g}, seed {result.seed}"


def _missed(result: Result) -> str:
    told = ", ".join(f"{kind} {subject} ({weight:.2f})".replace("  ", " ") for kind, subject, weight in result.told)
    return f"{_named(result)}: {told if result.found else 'no onset'}"


def _outside(result: Result) -> str:
    return f"{_named(result)}: {result.error_min or 0.0:+.0f} min, the set has {result.width_min or 0.0:.0f}"
