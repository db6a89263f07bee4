from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.journal.columns import pack_column
from hoverboard.journal.records import BatchRecord
from hoverboard.publishing.baseline import make_baseline
from hoverboard.versions.baseline import Baseline
from hoverboard.watch.drift import Finding, Reference, Window, count
from tests.records import record, texts

SIGNATURE = Signature(
    "classification",
    inputs=(TensorSpec("pixels", "float32", (8,)), TensorSpec("kind", STRING, ())),
    outputs=(TensorSpec("probabilities", "float32", (3,)),),
    labels=("red", "green", "blue"),
)
KINDS = (b"disc", b"square", b"star")


def reference_rows(rows: int, generator: np.random.Generator, shift: float = 0.0) -> tuple[Array, Array, Array]:
    """Pixels, kinds and probabilities; the shift is that of the last pixel."""
    pixels = generator.normal(size=(rows, 8)) + np.array([0] * 7 + [shift])
    kinds = texts(*generator.choice(KINDS, rows).tolist())
    return pixels.astype(np.float32), kinds, generator.dirichlet([1, 1, 1], rows).astype(np.float32)


def baseline(rows: int = 2000) -> Baseline:
    pixels, kinds, probabilities = reference_rows(rows, np.random.default_rng(9))
    return make_baseline(SIGNATURE, [pixels, kinds], [probabilities], np.arange(1, rows + 1) / (rows + 1))


def batch(rows: int, generator: np.random.Generator, shift: float = 0.0, **fields: Any) -> BatchRecord:
    pixels, kinds, probabilities = reference_rows(rows, generator, shift)
    given = {
        "label_index": probabilities.argmax(axis=1).astype(np.int32).tobytes(),
        "confidence": probabilities.max(axis=1).tobytes(),
        "p_value": generator.uniform(size=rows).astype(np.float32).tobytes(),
        "outlier": np.zeros(rows, np.bool_).tobytes(),
    }
    return record(pixels, kinds, outputs=[probabilities], **(given | fields))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(baseline(), SIGNATURE)


def judged(reference: Reference, records: Sequence[BatchRecord]) -> dict[str, Finding]:
    (found,) = reference.judge([reference.add(reference.empty, records)])
    return {finding.feature: finding for finding in found}


def test_usual_traffic_has_not_drifted(reference: Reference) -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        found = judged(reference, [batch(64, generator) for _ in range(78)])
        assert not [finding for finding in found.values() if finding.drifted]
    assert found.keys() == {*(f"pixels[{i}]" for i in range(8)), "kind", "label", "confidence", "p_value"}
    assert all(finding.n == finding.counts.sum() == 78 * 64 for finding in found.values())


def test_the_feature_that_moves_is_the_one_that_has_drifted(reference: Reference) -> None:
    generator = np.random.default_rng(2)
    found = judged(reference, [batch(64, generator, shift=0.8) for _ in range(20)])
    assert [finding.feature for finding in found.values() if finding.drifted] == ["pixels[7]"]


def test_a_change_that_is_sure_but_small_is_no_drift(reference: Reference) -> None:
    generator = np.random.default_rng(3)
    moved = judged(reference, [batch(64, generator, shift=0.3) for _ in range(160)])["pixels[7]"]
    assert moved.q_value < 1e-6
    assert moved.js < 0.05
    assert not moved.drifted


def test_a_change_that_is_large_but_may_be_chance_is_no_drift(reference: Reference) -> None:
    generator = np.random.default_rng(4)
    found = judged(reference, [batch(10, generator)])
    assert max(finding.js for finding in found.values()) > 0.05
    assert not [finding for finding in found.values() if finding.drifted]


def test_new_classes_and_new_words_are_drift(reference: Reference) -> None:
    generator = np.random.default_rng(5)
    pixels, _, probabilities = reference_rows(500, generator)
    strange = record(
        pixels,
        texts(*[b"hoverboard"] * 500),
        outputs=[probabilities],
        label_index=np.full(500, 2, np.int32).tobytes(),
        confidence=probabilities.max(axis=1).tobytes(),
        p_value=np.full(500, 0.001, np.float32).tobytes(),
    )
    found = judged(reference, [strange])
    assert {name for name, finding in found.items() if finding.drifted} == {"kind", "label", "p_value"}
    assert found["kind"].counts[:4].tolist() == [0, 0, 0, 500]


def test_a_window_is_full_with_the_batch_that_fills_it(reference: Reference) -> None:
    generator = np.random.default_rng(6)
    records = [batch(int(generator.integers(1, 65)), generator) for _ in range(60)]
    whole = count(reference, reference.empty, records, 300)
    rest, at_once = whole.after, [each for each, _ in whole.full]
    window: Window = reference.empty
    piecemeal: list[Window] = []
    for each in records:
        portion = count(reference, window, [each], 300)
        window = portion.after
        piecemeal += [full for full, _ in portion.full]
    assert [each.rows for each in at_once] == [each.rows for each in piecemeal]
    assert all(300 <= each.rows < 364 for each in at_once)
    assert [each.number for each in at_once] == list(range(1, len(at_once) + 1))
    for ours, theirs in zip([*at_once, rest], [*piecemeal, window], strict=True):
        assert np.array_equal(ours.counts, theirs.counts)
        assert (ours.first_us, ours.last_us, ours.weight) == (theirs.first_us, theirs.last_us, theirs.weight)
    assert sum(each.rows for each in [*at_once, rest]) == sum(each.rows for each in records)


def test_sampled_rows_weigh_what_they_stand_for(reference: Reference) -> None:
    generator = np.random.default_rng(7)
    shares = np.array([1.0, 1.0, 0.1, 0.1, 0.1, 0.5], np.float32)
    window = reference.add(
        reference.empty, [batch(6, generator, incl_prob=shares.tobytes(), why=np.array([2, 2, 1, 1, 1, 1]).tobytes())]
    )
    assert window.rows == 6
    assert window.weight == pytest.approx(34)
    assert window.weight_squared == pytest.approx(306)
    (found,) = reference.judge([window])
    for finding in found:
        assert finding.counts.sum() == pytest.approx(34)
        assert finding.n == pytest.approx(34**2 / 306)


def test_sampling_in_which_strange_rows_are_always_kept_is_no_drift(reference: Reference) -> None:
    """A tenth of all rows is always kept, of the others one in ten: without weights it would look like drift."""
    generator = np.random.default_rng(8)
    records: list[BatchRecord] = []
    honest: list[BatchRecord] = []
    for _ in range(60):
        pixels, kinds, probabilities = reference_rows(300, generator)
        special = pixels[:, 0] > 1.2816
        kept = special | (generator.uniform(size=300) < 0.1)
        for into, shares in ((records, np.where(special, 1, 0.1)[kept]), (honest, None)):
            into.append(
                record(
                    pixels[kept],
                    kinds[kept],
                    outputs=[probabilities[kept]],
                    incl_prob=None if shares is None else shares.astype(np.float32).tobytes(),
                )
            )
    assert not judged(reference, records)["pixels[0]"].drifted
    assert judged(reference, honest)["pixels[0]"].drifted


def test_batches_whose_ordinary_rows_were_shed_do_not_count(reference: Reference) -> None:
    generator = np.random.default_rng(9)
    shed = batch(20, generator, why=np.full(20, 2, np.uint8).tobytes())
    counted = count(reference, reference.empty, [shed, batch(10, generator), shed], 25)
    assert (counted.after.rows, counted.full) == (10, ())


def test_what_is_redacted_hashed_or_answered_with_an_error_is_left_out(reference: Reference) -> None:
    generator = np.random.default_rng(10)
    pixels, kinds, probabilities = reference_rows(50, generator)
    pixels[:, 3] = np.nan
    kinds[:5] = None
    told = {"label_index": np.zeros(50, np.int32).tobytes(), "confidence": np.full(50, 0.5, np.float32).tobytes()}
    hidden = judged(reference, [record(pixels, kinds, outputs=[probabilities], failed_rows=[1, 2], **told)])
    assert [hidden[name].n for name in ("pixels[2]", "pixels[3]", "kind", "label", "p_value")] == [50, 0, 45, 48, 0]
    without = judged(reference, [record(kinds, outputs=[probabilities], redacted=["pixels"], **told)])
    assert [without[name].n for name in ("pixels[2]", "kind", "label")] == [0, 45, 50]
    digests = np.zeros((50, 32), np.uint8)
    hashed = judged(reference, [record(digests, outputs=[probabilities], policy="hashed", **told)])
    assert [hashed[name].n for name in ("pixels[2]", "kind", "label")] == [0, 0, 50]


def test_a_batch_that_its_version_does_not_suit_counts_for_nothing(reference: Reference) -> None:
    generator = np.random.default_rng(11)
    pixels, kinds, probabilities = reference_rows(5, generator)
    wrong = [
        record(pixels, outputs=[probabilities]),
        record(pixels[:, :3], kinds, outputs=[probabilities]),
        batch(5, generator, incl_prob=np.zeros(5, np.float32).tobytes()),
        batch(5, generator, label_index=np.full(5, 99, np.int32).tobytes()),
        batch(5, generator, columns=[("float32", [5, 8], b"xyz"), pack_column(kinds)]),
    ]
    window = reference.add(reference.empty, [*wrong, batch(4, generator)])
    assert window.rows == 4
    assert reference.judge([reference.add(reference.empty, wrong)])[0][0].n == 0


def test_records_of_other_shapes_are_counted_together() -> None:
    signature = Signature("raw", (TensorSpec("steps", "float32", (None, 2)),), (TensorSpec("state", "float32", (2,)),))
    generator = np.random.default_rng(12)
    lengths = generator.integers(1, 30, 200)
    steps = [generator.normal(size=(1, int(length), 2)).astype(np.float32) for length in lengths]
    state = generator.normal(size=(1, 2)).astype(np.float32)
    made = make_baseline(signature, [steps[0].repeat(50, axis=0)], [state.repeat(50, axis=0)])
    found = Reference(made, signature)
    window = found.add(found.empty, [record(each, outputs=[state]) for each in steps])
    assert window.rows == 200
    assert {finding.feature: finding.n for finding in found.judge([window])[0]} == dict.fromkeys(
        ["steps.length", "steps.mean", "steps.deviation", "steps.smallest", "steps.largest", "state[0]", "state[1]"],
        200,
    )
