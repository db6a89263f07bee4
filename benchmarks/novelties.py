"""`python -m benchmarks.novelties`: into how many issues one new thing falls, and whether an issue holds one thing.

For each model, outliers of several planted things come mixed, in three orders, with those of usual traffic. A thing is what
somebody would call one: a product, a sign, a unit that was changed, a class that the model was not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from benchmarks.outliers.studies import ROOT, Digits, _shipped
from benchmarks.running import markdown
from hoverboard.contract.signature import Array
from hoverboard.outliers import OutlierPackage, load_features, load_package, p_values
from hoverboard.publishing.calibration import FeaturesOf, calibrate
from hoverboard.watch.grouping import calibrated_radius, group, published_radius, whitening_of
from hoverboard.watch.issue_links import ENOUGH
from hoverboard.watch.issue_table import VISIBLE

ROWS: Final = 300
EACH: Final = 150
FEWEST: Final = 15
ORDERS: Final = 3
USUAL: Final = "usual"
CLUTTER: Final = 0.15
"""Share of the pixels that are anything at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Planting:
    """A model, and what is strange to it.

    Attributes:
        model: its name.
        package: what it knows of outliers.
        alpha: that is taken here.
        kinds: thing -> z of its outliers.
    """

    model: str
    package: OutlierPackage
    alpha: float
    kinds: dict[str, Array]


def planted(
    model: str, package: OutlierPackage, features_of: FeaturesOf, alpha: float, samples: dict[str, list[Array]]
) -> Planting:
    """Ask the model; what it does not flag is no outlier and is left out."""
    kinds = {}
    for name, columns in samples.items():
        features = features_of(columns)
        assert features.z is not None
        flagged = p_values(package.detector.score(features), package.calibration) <= alpha
        kinds[name] = features.z[flagged].astype("<f2")
    return Planting(model, package, alpha, kinds)


def digits(draw: np.random.Generator) -> Iterator[Planting]:
    from examples.digits import train
    from examples.digits.data import load, split

    parts = split(load())
    features_of = _shipped("digits/3")
    package = calibrate(features_of, train.calibration(parts.calibration), classes=[str(each) for each in range(10)])
    pixels = np.concatenate([parts.calibration.pixels, parts.test.pixels])
    usual = np.repeat(pixels, 6, axis=0)
    usual = np.where(usual > 0, np.round(usual + draw.normal(0, 0.3, usual.shape)), 0)
    picked = pixels[draw.integers(0, len(pixels), ROWS)]
    frame = np.pad(np.zeros((6, 6)), 1, constant_values=14)
    frame[3] = 14
    cross = 15.0 * (np.eye(8) + np.eye(8)[::-1] > 0)
    half = picked.reshape(-1, 8, 8).copy()
    half[:, :4] = 16
    images = {
        USUAL: usual,
        "frame": frame + draw.normal(0, 1.5, (ROWS, 8, 8)) * (frame > 0),
        "cross": np.where(cross > 0, cross + draw.normal(0, 3, (ROWS, 8, 8)), draw.normal(0, 1.5, (ROWS, 8, 8))),
        "one digit, inverted": 16 - pixels[0] + draw.integers(-2, 3, (ROWS, 64)),
        "all digits, inverted": 16 - picked,
        "all digits, on their side": np.rot90(picked.reshape(-1, 8, 8), 1, (1, 2)),
        "upper half covered": half,
        "noise": draw.integers(0, 17, (ROWS, 64)),
    }
    samples = {
        name: [np.clip(np.round(each), 0, 16).reshape(-1, 64).astype(np.float32)] for name, each in images.items()
    }
    yield planted("digits 3", package, features_of, 0.05, samples)
    # By itself: beside the same digits without clutter nobody would say whether it is another thing.
    clutter = np.random.default_rng(5)
    varied = np.where(clutter.random((ROWS, 64)) < CLUTTER, clutter.integers(0, 17, (ROWS, 64)), 16 - picked)
    samples = {USUAL: samples[USUAL], "all digits, inverted, in clutter": [varied.astype(np.float32)]}
    yield planted("digits 3", package, features_of, 0.05, samples)
    for number, trial in enumerate(Digits().left_out()):
        if number == 4:
            return
        package = calibrate(trial.features_of, trial.calibration, classes=trial.classes)
        samples = {USUAL: list(trial.normal.columns), f"the {trial.name}": list(trial.strange.columns)}
        yield planted(f"digits without {trial.name}", package, trial.features_of, 0.05, samples)


def diamonds(draw: np.random.Generator) -> Iterator[Planting]:
    from examples.diamonds import train
    from examples.diamonds.data import load, split

    parts = split(load())
    features_of = _shipped("diamonds/2")
    package = calibrate(features_of, train.calibration(parts.calibration))
    names = sorted(parts.calibration.columns)
    usual = dict(zip(names, train.calibration(parts.test).columns, strict=True))
    rows = draw.integers(0, len(usual["x"]), ROWS)
    some = {name: column[rows] for name, column in usual.items()}
    side = draw.normal(8, 0.1, ROWS).astype(np.float32)
    changes: dict[str, dict[str, Array]] = {
        "a simulant": {
            "x": side,
            "y": side,
            "z": side * np.float32(0.62),
            "carat": draw.normal(0.5, 0.03, ROWS).astype(np.float32),
        },
        "carat in grams": {"carat": some["carat"] * np.float32(0.2)},
        "x in cm": {"x": some["x"] / np.float32(10)},
        "x and z exchanged": {"x": some["z"], "z": some["x"]},
        "no measures": {name: np.zeros(ROWS, np.float32) for name in "xyz"},
    }
    samples = {USUAL: list(usual.values())}
    samples |= {thing: list({**some, **change}.values()) for thing, change in changes.items()}
    yield planted("diamonds 2", package, features_of, 0.02, samples)


def products(draw: np.random.Generator) -> Iterator[Planting]:
    from examples.products import train

    colors = ["black", "white", "red", "blue", "green", "silver", "orange", "pink"]
    kinds = ["new", "used", "cheap", "fast", "light", "kids", "adult", "premium", "folding", "electric"]

    def texts(thing: str) -> list[Array]:
        long = f"{{}} {thing} {{}} {{}}"
        found = [
            long.format(draw.choice(kinds), draw.choice(colors), draw.integers(1, 99))
            if draw.random() < 0.5
            else f"{thing}, {draw.choice(colors)}"
            for _ in range(ROWS)
        ]
        return [np.array([each.encode() for each in found], object)]

    samples = {thing: texts(thing) for thing in ("hoverboard", "vape pen", "bitcoin miner", "drone with camera")}
    codes = ["".join(draw.choice(list("abcdefghijklmnop0123456789"), 12)) for _ in range(ROWS)]
    samples["codes"] = [np.array([each.encode() for each in codes], object)]
    samples[USUAL] = list(train.shop_texts("known.jsonl").columns)
    package = load_package(ROOT / "models/products/3/outliers.npz")
    package = replace(package, kept=load_features(ROOT / "models/products/3"))
    yield planted("products 3", package, _shipped("products/3"), 0.02, samples)


@dataclass(frozen=True, slots=True)
class Fallen:
    """What became of one thing: visible issues that are mostly of it, the share of it in the largest, and in all of them."""

    issues: float
    largest: float
    shown: float


def measured(planting: Planting, draw: np.random.Generator, *, linked: bool) -> tuple[dict[str, Fallen], float]:
    """One order: each thing, and the share of rows in visible issues that are of their issue's thing."""
    kinds = {name: z for name, z in planting.kinds.items() if len(z) >= FEWEST or name == USUAL}
    parts = [z[draw.permutation(len(z))[:EACH]] for z in kinds.values()]
    of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = draw.permutation(len(of))
    z, of = np.concatenate(parts)[order], of[order]
    whitening = whitening_of(planting.package, z.shape[1])
    kept = planting.package.kept
    radius = published_radius(planting.package, whitening) if kept is None else calibrated_radius(kept, whitening)
    assert radius is not None
    rows = whitening.apply(z)
    found = group(rows, np.empty((0, rows.shape[1])), radius, 2000, whitening.stretch)
    whole = np.arange(len(found.founders))
    pairs, counts = np.unique(np.sort(found.links, axis=1), axis=0, return_counts=True)
    for one, other in pairs[counts >= ENOUGH] if linked else ():
        low, high = sorted((whole[one], whole[other]))
        whole[whole == high] = low
    issues = whole[found.places]
    counted = {issue: np.bincount(of[issues == issue], minlength=len(parts)) for issue in np.unique(issues)}
    visible = {issue: count for issue, count in counted.items() if count.sum() >= VISIBLE}
    fallen = {}
    for place, name in enumerate(kinds):
        mine = [count[place] for count in visible.values() if count.argmax() == place]
        total = max(int((of == place).sum()), 1)
        fallen[name] = Fallen(
            len(mine), max((count[place] for count in counted.values()), default=0) / total, sum(mine) / total
        )
    every = sum(int(count.sum()) for count in visible.values())
    return fallen, sum(int(count.max()) for count in visible.values()) / max(every, 1)


def main() -> None:
    """Measure, and print a table."""
    rows, means, purities = [], [], []
    draw = np.random.default_rng(3)
    for planting in (each for made in (digits, diamonds, products) for each in made(draw)):
        runs = [measured(planting, np.random.default_rng(seed), linked=True) for seed in range(ORDERS)]
        alone = [measured(planting, np.random.default_rng(seed), linked=False)[0] for seed in range(ORDERS)]
        purity = float(np.mean([run[1] for run in runs]))
        purities.append(purity)
        for name in runs[0][0]:
            if name == USUAL:
                continue
            mean = [
                float(np.mean([getattr(run[0][name], part) for run in runs])) for part in ("issues", "largest", "shown")
            ]
            before = float(np.mean([run[name].issues for run in alone]))
            means.append([before, *mean])
            rows.append(
                [
                    planting.model,
                    name,
                    f"{before:.1f}",
                    f"{mean[0]:.1f}",
                    *(f"{each:.0%}" for each in mean[1:]),
                    f"{purity:.0%}",
                ]
            )
    total = np.mean(means, axis=0)
    rows.append(
        [
            "mean",
            "",
            f"{total[0]:.1f}",
            f"{total[1]:.1f}",
            f"{total[2]:.0%}",
            f"{total[3]:.0%}",
            f"{np.mean(purities):.0%}",
        ]
    )
    print(
        markdown(
            ["model", "thing", "leaders' issues", "issues", "in the largest", "in all shown", "of one thing"], rows
        )
    )


if __name__ == "__main__":
    main()
