"""Intervals hold what they promise, of rows that were recorded and labelled in part: counted over hundreds of draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from hoverboard.contract.calls import ExecutedBatch, Source
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.engine.recording.policy import RowPolicy
from hoverboard.journal.records import WHYS
from hoverboard.postmortem.estimates import (
    Estimate,
    Kind,
    Sums,
    difference,
    mean_of_kinds,
    pooled,
    share_of_kinds,
    wilson,
)
from hoverboard.versions import Recording

CLASSES = Signature(
    "classification", (TensorSpec("x", "float32", (1,)),), (TensorSpec("p", "float32", (2,)),), ("a", "b"), "softmax"
)
DRAWS = 1500
OUTLIER, LOW_MARGIN = 0.05, 0.1
RIGHT = {"ordinary": 0.95, "low_margin": 0.7, "outlier": 0.5}
"""The chance that an answer is right, by the kind of its sample."""
TRUTH = OUTLIER * RIGHT["outlier"] + (1 - OUTLIER) * (
    LOW_MARGIN * RIGHT["low_margin"] + (1 - LOW_MARGIN) * RIGHT["ordinary"]
)


@dataclass(frozen=True)
class Recorded:
    """What a policy kept of a draw of traffic: arrays of one entry a row."""

    kind: Array
    weight: Array


def recorded(draw: np.random.Generator, rows: int, share: float) -> Recorded:
    """Traffic through the policy `sampled` as the engine runs it."""
    outlier = draw.random(rows) < OUTLIER
    near = draw.random(rows) < LOW_MARGIN
    sure = np.where(near, 0.51, 0.99).astype(np.float32)
    batch = ExecutedBatch(
        calls=(),
        source=Source("m", 1, "sha", CLASSES, {}),
        columns=(np.zeros((rows, 1), np.float32),),
        outputs=(np.stack([sure, 1 - sure], axis=1),),
        sample_ids=draw.bytes(16 * rows),
        ok=np.ones(rows, bool),
        label_index=np.zeros(rows, np.int32),
        confidence=sure,
        value=None,
        p_value=None,
        outlier=outlier,
        queue_us=np.zeros(rows, np.uint32),
        infer_us=1,
        bucket=rows,
        started_at=0.0,
    )
    kept = RowPolicy(Recording(policy="sampled", share=share, low_margin=0.1), CLASSES, b"").select(batch)
    assert kept.why is not None and kept.incl_prob is not None
    names = np.array(["ordinary" if why == "sampled" else why for why in WHYS])
    return Recorded(names[kept.why], 1 / kept.incl_prob.astype(np.float64))


def sums(weight: Array, x: Array) -> Sums:
    total = float(weight.sum())
    if not total:
        return Sums()
    mean = float(weight @ x / total)
    return Sums(len(x), total, float((weight**2).sum()), mean, float(((weight * (x - mean)) ** 2).sum() / total**2))


def kinds_of(rows: Recorded, labelled: Array, x: Array) -> list[Kind]:
    found = []
    for name in RIGHT:
        its = rows.kind == name
        both = its & labelled
        found.append(
            Kind(float(rows.weight[its].sum()), float((rows.weight[its] ** 2).sum()), sums(rows.weight[both], x[both]))
        )
    return found


def covered(found: list[Estimate], truth: float) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in found]))


def naive(kinds: list[Kind]) -> Estimate:
    """As if every labelled row stood for one, and had been picked at random."""
    rows = sum(kind.labelled.rows for kind in kinds)
    return wilson(sum(kind.labelled.rows * kind.labelled.mean for kind in kinds) / rows, rows)


@pytest.mark.parametrize(
    ("rows", "share", "labels"),
    [
        (4_000, 0.1, {"ordinary": 0.5, "low_margin": 0.5, "outlier": 0.5}),
        (4_000, 0.1, {"ordinary": 0.3, "low_margin": 0.5, "outlier": 0.9}),
        (20_000, 0.02, {"ordinary": 0.4, "low_margin": 0.2, "outlier": 0.8}),
        (3_000, 1.0, {"ordinary": 0.05, "low_margin": 0.2, "outlier": 0.9}),
    ],
    ids=["labels at random", "labels of what is strange", "one in fifty recorded", "all recorded"],
)
def test_an_accuracy_s_interval_covers_it_in_95_of_100(rows: int, share: float, labels: dict[str, float]) -> None:
    draw = np.random.default_rng(12)
    found, without = [], []
    for _ in range(DRAWS):
        kept = recorded(draw, rows, share)
        right = draw.random(len(kept.kind)) < np.array([RIGHT[kind] for kind in kept.kind])
        labelled = draw.random(len(kept.kind)) < np.array([labels[kind] for kind in kept.kind])
        kinds = kinds_of(kept, labelled, right.astype(np.float64))
        estimate = share_of_kinds(kinds)
        assert estimate is not None
        found.append(estimate)
        without.append(naive(kinds))
    assert covered(found, TRUTH) == pytest.approx(0.95, abs=0.02)
    assert covered(without, TRUTH) < 0.5  # what the weights are for


def test_of_labels_at_random_the_labelled_rows_alone_cover_as_well() -> None:
    draw = np.random.default_rng(3)
    found = []
    for _ in range(DRAWS):
        kept = recorded(draw, 4_000, 0.1)
        right = draw.random(len(kept.kind)) < np.array([RIGHT[kind] for kind in kept.kind])
        kinds = kinds_of(kept, draw.random(len(right)) < 0.5, right.astype(np.float64))
        estimate = share_of_kinds(pooled(dict(zip(RIGHT, kinds, strict=True))))
        assert estimate is not None
        found.append(estimate)
    assert covered(found, TRUTH) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("power", [1, 2], ids=["absolute", "squared"])
def test_an_error_s_interval_covers_it_in_95_of_100(power: int) -> None:
    """Errors are normal with a width by kind: 1 for ordinary rows, 2 and 4 for the others."""
    draw = np.random.default_rng(5)
    width = {"ordinary": 1.0, "low_margin": 2.0, "outlier": 4.0}
    shares = {
        "outlier": OUTLIER,
        "low_margin": (1 - OUTLIER) * LOW_MARGIN,
        "ordinary": (1 - OUTLIER) * (1 - LOW_MARGIN),
    }
    moment = np.sqrt(2 / np.pi) if power == 1 else 1.0
    truth = float(sum(share * width[kind] ** power for kind, share in shares.items()) * moment)
    found = []
    for _ in range(DRAWS):
        kept = recorded(draw, 4_000, 0.1)
        error = draw.normal(0, [width[kind] for kind in kept.kind])
        labelled = draw.random(len(error)) < np.where(kept.kind == "outlier", 0.9, 0.4)
        estimate = mean_of_kinds(kinds_of(kept, labelled, np.abs(error) ** power), positive=True)
        assert estimate is not None
        found.append(estimate)
    assert covered(found, truth) == pytest.approx(0.95, abs=0.02)


def test_a_difference_s_interval_covers_it() -> None:
    draw = np.random.default_rng(7)
    found = []
    for _ in range(2000):
        this, that = draw.binomial(300, 0.92) / 300, draw.binomial(200, 0.85) / 200
        found.append(difference(wilson(this, 300), wilson(that, 200)))
    assert covered(found, 0.07) == pytest.approx(0.95, abs=0.02)


def test_where_all_are_right_nothing_is_certain() -> None:
    known = share_of_kinds([Kind(100.0, 100.0, sums(np.ones(30), np.ones(30)))])
    assert known is not None
    assert (known.value, known.high) == (1.0, 1.0)
    assert known.low == pytest.approx(30 / (30 + 1.959964**2))


def test_nothing_labelled_is_nothing_known_and_one_row_tells_no_width() -> None:
    assert share_of_kinds([Kind(10.0, 10.0, Sums())]) is None
    assert mean_of_kinds([Kind(10.0, 10.0, Sums())], positive=True) is None
    one = mean_of_kinds([Kind(10.0, 10.0, sums(np.ones(1), np.full(1, 3.0)))], positive=False)
    assert one is not None
    assert (one.value, one.low, one.high) == (3.0, -np.inf, np.inf)


def test_a_kind_without_labels_is_left_out() -> None:
    known = Kind(90.0, 90.0, sums(np.ones(50), np.repeat([1.0, 0.0], 25)))
    with_unknown = share_of_kinds([known, Kind(10.0, 10.0, Sums())])
    assert with_unknown == share_of_kinds([known])
