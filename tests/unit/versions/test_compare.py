from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hoverboard.contract.signature import TensorSpec
from hoverboard.versions import Manifest
from hoverboard.versions.compare import breaking, compare

PIXELS = TensorSpec("pixels", "float32", (64,), min=0, max=16)
BEFORE = Manifest(
    name="digits",
    version=1,
    created="2026-01-01T00:00:00+00:00",
    artifact="model.keras",
    task="classification",
    inputs=(PIXELS,),
    outputs=(TensorSpec("probabilities", "float32", (2,)), TensorSpec("z", "float32", (8,))),
    labels=("a", "b"),
    outliers={"alpha": 0.01},
    sha256={"model.keras": "00"},
)


def changed(**values: Any) -> Manifest:
    return replace(BEFORE, version=2, **values)


def pixels(**values: Any) -> Manifest:
    return changed(inputs=(replace(PIXELS, **values),))


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (changed(task="raw", labels=None), "task: classification before, raw now"),
        (changed(labels=("a", "c")), "labels: 2 with b before, 2 with c now"),
        (changed(labels=("b", "a")), "labels: in one order before, in another now"),
        (changed(head="logits"), "head: softmax before, logits now"),
        (changed(outliers=None), "outliers: calibrated before, not calibrated now"),
        (changed(outputs=BEFORE.outputs[:1]), r"output z: float32 \[8\] before, none now"),
        (changed(outputs=BEFORE.outputs[::-1]), "main output: probabilities before, z now"),
        (
            changed(outputs=(BEFORE.outputs[0], TensorSpec("z", "float64", (9,)))),
            "output z: dtype: float32 before, float64 now",
        ),
        (changed(inputs=(PIXELS, TensorSpec("age", "int64", ()))), r"input age: none before, int64 \[\] now"),
        (changed(inputs=(replace(PIXELS, name="image"),)), r"input pixels: float32 \[64\] before, none now"),
        (pixels(dtype="uint8"), "input pixels: dtype: float32 before, uint8 now"),
        (pixels(shape=(8, 8)), r"input pixels: shape: \[64\] before, \[8, 8\] now"),
        (pixels(max=15), "input pixels: max: 16 before, 15 now"),
        (pixels(min=None), "input pixels: min: 0 before, none now"),
        (pixels(max_length=3), "input pixels: max_length: none before, 3 now"),
        (pixels(allowed=(1.0, 2.0)), "input pixels: allowed: none before, 1.0, 2.0 now"),
    ],
)
def test_what_callers_may_break_on_is_named_with_what_was_and_what_is(after: Manifest, words: str) -> None:
    import re

    assert any(re.search(words, str(found)) for found in breaking(BEFORE, after)), breaking(BEFORE, after)


@pytest.mark.parametrize(
    "after",
    [
        changed(),
        changed(notes="other", parent=1, created="2027-01-01", sha256={"model.keras": "ff"}, max_batch=8),
        changed(outputs=(*BEFORE.outputs, TensorSpec("more", "float32", (1,)))),
        pixels(max=17, min=-1),
        pixels(shape=(None,)),
        pixels(finite=False),
        changed(outliers={"alpha": 0.05}),
    ],
)
def test_what_suits_every_caller_of_the_version_before_breaks_nobody(after: Manifest) -> None:
    assert breaking(BEFORE, after) == ()


def test_a_calibration_that_is_new_is_a_difference_that_breaks_nobody() -> None:
    (found,) = compare(replace(BEFORE, outliers=None), changed())
    assert (found.what, found.before, found.after, found.breaking) == (
        "outliers",
        "not calibrated",
        "calibrated",
        False,
    )


def test_a_longer_list_of_allowed_values_breaks_nobody_and_a_shorter_one_does() -> None:
    few, more = pixels(allowed=(1.0,)), pixels(allowed=(1.0, 2.0))
    assert breaking(few, more) == ()
    assert [found.what for found in breaking(more, few)] == ["input pixels: allowed"]


def test_manifests_written_before_the_comparison_are_read_and_later_ones_by_older_readers() -> None:
    text = changed(breaking=True).to_json()
    assert Manifest.from_json(text).breaking
    assert not Manifest.from_json(text.replace(b'"breaking"', b'"something_of_tomorrow"')).breaking


@pytest.mark.parametrize(
    ("before", "after", "breaks"), [(5, 9, True), (9, 5, False), (5, (5, 9), True), (None, 9, None), (9, None, None)]
)
def test_longer_samples_than_before_break_callers_and_what_nobody_looked_for_does_not(
    before: Any, after: Any, breaks: bool | None
) -> None:
    spec = TensorSpec("pixels", "float32", (None, None))
    old, new = (replace(BEFORE, inputs=(replace(spec, min_length=least),)) for least in (before, after))
    found = compare(old, new)
    assert [difference.breaking for difference in found] == ([] if breaks is None else [breaks])
    assert all(str(each) == f"input pixels: min_length: {before} before, {after} now" for each in found)


def test_another_alpha_or_detector_is_a_difference_that_breaks_nobody() -> None:
    after = changed(outliers={"alpha": 0.05, "detector": "energy"})
    assert [(str(found), found.breaking) for found in compare(BEFORE, after)] == [
        ("outliers: alpha: 0.01 before, 0.05 now", False),
        ("outliers: detector: none before, energy now", False),
    ]
