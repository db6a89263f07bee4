"""`python -m benchmarks.incidents`: plants incidents in days of traffic to shipped models, and asks for their causes.

Twelve kinds (`planted.py`), effects 1, 3 and 10, and as many seeds as asked for; then two at once, an innocent deployment at the same
minute, sampled recording, and quiet days. Seeds of the report begin at 1000; what is below was for tuning. Needs the extra
`examples`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.incidents.planted import EFFECTS, PLANTS
from benchmarks.incidents.rivals import RIVALS
from benchmarks.incidents.runs import PAIRS, Result, Setting, explain, quiet_day
from benchmarks.incidents.served import SERVED, Served
from hoverboard.backends.tensorflow import device

FIRST_SEED: Final = 1000
_SETTINGS: Final[Sequence[Setting]] = ("alone", "two at once", "innocent deployment", "sampled recording")
_COLUMNS: Final = (
    "onset found | first | in two | error, median min | set covers | F1 | s",
    "---|---|---|---|---|---|---",
)


def main() -> None:
    """Run and print Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incidents", description=__doc__)
    parser.add_argument("--model", choices=sorted(SERVED), action="append", help="some only; all when left out")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="below 1000 are those for tuning")
    parser.add_argument("--setting", choices=_SETTINGS, action="append", help="some only")
    parser.add_argument("--quiet-days", type=int, default=100, help="a model")
    parser.add_argument("--output", type=Path, help="where to keep each day's result, a JSON line each")
    options = parser.parse_args()
    device.configure(1, 1)
    results: list[tuple[str, Result]] = []
    false: list[tuple[str, str]] = []
    names = options.model or list(SERVED)
    started = time.perf_counter()
    for name in names:
        served = SERVED[name]()
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        for result in _days(served, seeds, options.setting or _SETTINGS):
            results.append((name, result))
            _keep(options.output, name, msgspec.to_builtins(result))
        for seed in range(options.first_seed, options.first_seed + options.quiet_days):
            wrong, why = quiet_day(served, seed, "wrong" if seed % 4 == 0 else "outliers")
            _keep(options.output, name, {"quiet": seed, "false": wrong, "why": why})
            if wrong:
                false.append((name, why))
    print("\n".join(_page(results, false, options.quiet_days * len(names))))
    print(f"\n{len(results)} incidents in {time.perf_counter() - started:.0f} s")


def _days(served: Served, seeds: Sequence[int], settings: Sequence[Setting]) -> Iterator[Result]:
    for setting in settings:
        for kind in [one for one, _ in PAIRS] if setting == "two at once" else PLANTS:
            if kind == "class-prior shift" and not served.classes:
                continue  # a regression has none
            if kind == "bad version" and setting == "innocent deployment":
                continue  # two deployments at the same minute are one
            started = time.perf_counter()
            for effect in EFFECTS:
                yield from (explain(served, kind, effect, seed, setting) for seed in seeds)
            print(
                f"{served.name} {setting}, {kind}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
            )


def _keep(path: Path | None, model: str, line: object) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"model": model, "day": line}) + "\n")


def _page(results: Sequence[tuple[str, Result]], false: Sequence[tuple[str, str]], quiet: int) -> Iterator[str]:
    alone = [each for each in results if each[1].setting == "alone"]
    yield from _table("all kinds", "effect", alone, lambda each: f"{each[1].effect:g}")
    for model in dict.fromkeys(name for name, _ in alone):
        mine = [each for each in alone if each[0] == model]
        yield from _table(model, "kind, effect", mine, lambda each: f"{each[1].kind}, {each[1].effect:g}")
    others = [each for each in results if each[1].setting != "alone"]
    yield from _table("what else is the case", "setting, effect", others, lambda e: f"{e[1].setting}, {e[1].effect:g}")
    yield from ("", "| way, on days with an onset | effect 1 | 3 | 10 |", "|---|---|---|---|")
    found = [result for _, result in alone if result.found]
    yield _by_effect("postmortem", found, lambda result: result.first)
    for name in RIVALS:
        yield _by_effect(name, found, lambda result, name=name: result.rivals[name])  # type: ignore[misc]
    yield ""
    yield f"Quiet days explained by something: {len(false)} of {quiet}."
    yield from (f"- {model}: {why}" for model, why in false)
    yield from ("", "Missed:")
    yield from sorted({f"- {name}, {_missed(result)}" for name, result in results if not result.first})


def _table(
    title: str,
    of: str,
    results: Sequence[tuple[str, Result]],
    key: Callable[[tuple[str, Result]], str],
) -> Iterator[str]:
    if not results:
        return
    yield from ("", f"## {title}", "", f"| {of} | days | {_COLUMNS[0]} |", f"|---|---|{_COLUMNS[1]}|")
    for name in dict.fromkeys(key(each) for each in results):
        some = [result for each in results for result in [each[1]] if key(each) == name]
        errors = [result.error_min for result in some if result.error_min is not None]
        covered = [result.covered for result in some if result.found]
        figures = (
            _share(result.found for result in some),
            _share(result.first for result in some),
            _share(result.in_two for result in some),
            f"{np.median(errors):.1f}" if errors else "-",
            _share(covered) if covered else "-",
            f"{np.mean([result.f1 for result in some]):.2f}",
            f"{np.mean([result.seconds for result in some]):.2f}",
        )
        yield f"| {name} | {len(some)} | {' | '.join(figures)} |"


def _by_effect(name: str, results: Sequence[Result], of: Callable[[Result], bool]) -> str:
    cells = (_share(of(result) for result in results if result.effect == effect) for effect in EFFECTS)
    return f"| {name} | {' | '.join(cells)} |"


def _share(of: Iterable[bool]) -> str:
    values = list(of)
    return f"{np.mean(values):.2f}" if values else "-"


def _missed(result: Result) -> str:
    told = ", ".join(f"{kind} {subject} ({weight:.2f})".replace("  ", " ") for kind, subject, weight in result.told)
    return f"{result.setting}, {result.kind}, effect {result.effect:g}, seed {result.seed}: " + (
        told if result.found else "no onset"
    )


if __name__ == "__main__":
    main()
