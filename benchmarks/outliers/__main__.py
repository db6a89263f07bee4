"""`python -m benchmarks.outliers`: writes a page with tables and pictures for each shipped model into `docs/outliers/`.

Validity: over random calibration splits, are normal samples flagged as often as promised? Power: what does each detector find
of a class that the model has never seen? Needs the extra `examples`, and for `products` Debian's `wordnet-base`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.outliers.plots import draw_novelty, draw_power, draw_validity
from benchmarks.outliers.power import ALPHA, Found, by_class, means, measure
from benchmarks.outliers.studies import ROOT, STUDIES, Study, Trial
from benchmarks.outliers.validity import table, validity
from hoverboard.backends.tensorflow import device

PAGES: Final = ROOT / "docs" / "outliers"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outliers", description=__doc__)
    parser.add_argument("--model", choices=sorted(STUDIES), help="one only; all of them when left out")
    parser.add_argument("--splits", type=int, default=200, help="random splits for validity")
    parser.add_argument("--pages", type=Path, default=PAGES, help="where to write")
    options = parser.parse_args()
    device.configure(1, 1)
    options.pages.mkdir(parents=True, exist_ok=True)
    for name in [options.model] if options.model else STUDIES:
        started = time.perf_counter()
        page = _page(name, STUDIES[name](), options.splits, options.pages)
        (options.pages / f"{name}.md").write_text("\n".join(page) + "\n", encoding="utf-8")
        _say(f"{name}: {time.perf_counter() - started:.0f} s")


def _page(name: str, study: Study, splits: int, pages: Path) -> list[str]:
    pool = study.pool()
    found = validity(pool, splits)
    draw_validity(found, pool.version, pages / f"{name}-validity.png")
    _say(f"{name}: validity done")
    lines = [
        f"# Outliers of {name}: figures",
        "",
        f"Written by `python -m benchmarks.outliers --model {name}`, with {pool.version} as it is shipped. What the words mean is in",
        "[the promise](../outliers.md) and [the statistics](../outliers-statistics.md).",
        "",
        "## Validity",
        "",
        *table(found, asked=pool.detector),
        "",
        f"![Histogram and QQ plot of p-values]({name}-validity.png)",
    ]
    left_out = _measured(study.left_out())
    if left_out:
        draw_power(left_out, f"{name}: one class left out of training", pages / f"{name}-power.png")
        lines += ["", "## Power: a class the model has never seen", "", _how(len(left_out), pool.detector), ""]
        lines += [*means(left_out), "", *by_class(left_out), "", "AUROC; the one that answers is bold.", ""]
        lines += [f"![AUROC by class and detector]({name}-power.png)"]
    for number, one in enumerate(_measured(study.unheard_of()), 1):
        picture = f"{name}-novelty.png" if number == 1 else f"{name}-novelty-{number}.png"
        draw_novelty(one, f"{name}: {one.name}", pages / picture)
        power = one.powers[one.chosen]
        normal, strange = len(power.normal), len(power.strange)
        lines += ["", f"## Power: {one.name}", ""]
        lines += [
            f"{strange} texts against {normal} of kinds that the model knows, written in one style. {one.note}",
            "",
        ]
        lines += [*means([one]), "", f"![ROC curves and p-values]({picture})"]
    return lines


def _how(count: int, asked: str | None) -> str:
    chosen = "chosen" if asked is None else f"`{asked}` asked for"
    return (
        f"{count} trainings, each without one class. Detectors are fitted and calibrated on the calibration part, {chosen}\n"
        f"as in the shipped version; alpha is {ALPHA:.0%}. Every sample of the left-out class stands against the test part's\n"
        "samples of the others."
    )


def _measured(trials: Iterable[Trial]) -> Sequence[Found]:
    found = []
    for trial in trials:
        one = measure(trial)
        best = max(one.powers, key=lambda name: one.powers[name].auroc)
        _say(
            f"{trial.name}: chosen {one.chosen} {one.powers[one.chosen].auroc:.3f}, best {best} {one.powers[best].auroc:.3f}"
        )
        found.append(one)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
