"""`python -m benchmarks.incidents`: plants incidents in days of traffic to shipped models, and asks for their causes.

Each day goes through the real recorder (`recorded.py`). Twelve kinds (`planted.py`), effects 1, 3 and 10; then two at once, an innocent
deployment at the same minute, sampled recording, and quiet days. Seeds below 1000 are for tuning. With `--output` each day is kept as
it is done, days that are there are not made again, and the tables are of all that are there. Needs the extra `examples`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.incidents.figures import Quiet, page
from benchmarks.incidents.planted import EFFECTS, PLANTS
from benchmarks.incidents.recorded import Recorders
from benchmarks.incidents.runs import PAIRS, Result, Setting, explain, quiet_day
from benchmarks.incidents.served import SERVED
from hoverboard.backends.tensorflow import device

FIRST_SEED: Final = 1000
_SETTINGS: Final[Sequence[Setting]] = ("alone", "two at once", "innocent deployment", "sampled recording")


class KeptDay(msgspec.Struct, frozen=True):
    """A line of `--output`: a day of a model, with an incident or quiet."""

    model: str
    incident: Result | None = None
    quiet: Quiet | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Which day it is."""
        if self.incident is not None:
            day = self.incident
            return self.model, day.setting, day.kind.partition(" and ")[0], float(day.effect), day.seed
        assert self.quiet is not None
        return self.model, "quiet", self.quiet.seed


def main() -> None:
    """Run, and print Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incidents", description=__doc__)
    parser.add_argument("--models", choices=sorted(SERVED), nargs="+", default=list(SERVED))
    parser.add_argument("--kinds", choices=list(PLANTS), nargs="+", default=list(PLANTS), metavar="KIND")
    parser.add_argument("--effects", type=int, nargs="+", choices=EFFECTS, default=list(EFFECTS))
    parser.add_argument("--settings", choices=_SETTINGS, nargs="+", default=list(_SETTINGS), metavar="SETTING")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--quiet-days", type=int, default=50, help="of each model")
    parser.add_argument("--output", type=Path, help="where to keep each day, a JSON line each")
    parser.add_argument("--only-print", action="store_true", help="tables of what --output has")
    options = parser.parse_args()
    kept = _kept(options.output)
    if not options.only_print:
        device.configure(1, 1)
        with Recorders.running() as recorders:
            for day in _days(recorders, options, {each.key for each in kept}):
                kept.append(day)
                if options.output is not None:
                    with options.output.open("ab") as file:
                        file.write(msgspec.json.encode(day) + b"\n")
    incidents = [(each.model, each.incident) for each in kept if each.incident is not None]
    quiet = [(each.model, each.quiet) for each in kept if each.quiet is not None]
    print("\n".join(page(incidents, quiet)))


def _kept(path: Path | None) -> list[KeptDay]:
    if path is None or not path.exists():
        return []
    return [msgspec.json.decode(line, type=KeptDay) for line in path.read_bytes().splitlines()]


def _days(recorders: Recorders, options: argparse.Namespace, there: set[tuple[object, ...]]) -> Iterator[KeptDay]:
    served = {name: SERVED[name]() for name in options.models}
    # A seed at a time, so that what is there is of all kinds whenever it is stopped.
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        started = time.perf_counter()
        for name, setting, kind, effect in product(options.models, options.settings, options.kinds, options.effects):
            if _applies(setting, kind) and (name, setting, kind, float(effect), seed) not in there:
                yield KeptDay(name, explain(recorders, served[name], kind, effect, seed, setting=setting))
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    for seed, name in product(range(options.first_seed, options.first_seed + options.quiet_days), options.models):
        if (name, "quiet", seed) not in there:
            false, why = quiet_day(recorders, served[name], seed, "wrong" if seed % 4 == 0 else "outliers")
            yield KeptDay(name, quiet=Quiet(seed, false, why))


def _applies(setting: Setting, kind: str) -> bool:
    if setting == "two at once":
        return kind in dict(PAIRS)
    # Two deployments at the same minute are one.
    return not (kind == "bad version" and setting == "innocent deployment")


if __name__ == "__main__":
    main()
