from typing import Any

import numpy as np
import pytest

from hoverboard.contract.calls import ExecutedBatch
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.engine.recording.policy import RowPolicy, redact_problem
from hoverboard.journal.columns import column_array
from hoverboard.journal.records import WHYS
from hoverboard.versions import Recording
from tests.unit.engine.recording.batches import CLASSIFIER, batch

KEY = b"k" * 32


def policy(**recording: Any) -> RowPolicy:
    return RowPolicy(Recording(**recording), CLASSIFIER, KEY)


def inputs(rows: RowPolicy, executed: ExecutedBatch) -> dict[str, Any]:
    """The recorded columns by input name."""
    names = [spec.name for spec in CLASSIFIER.inputs if spec.name not in rows.redacted]
    columns = rows.columns(executed, None)
    return {name: column_array(column) for name, column in zip(names, columns, strict=True)}


def test_all_keeps_every_row_as_it_was() -> None:
    executed = batch(3)
    kept = policy().select(executed)
    assert (kept.rows, kept.incl_prob, kept.why) == (None, None, None)
    found = inputs(policy(), executed)
    assert found["pixels"].tobytes() == executed.columns[0].tobytes()
    assert found["note"].tolist() == [b"row 0", b"row 1", b"row 2"]
    assert found["size"].tolist() == [0, 1, 2]


def test_none_keeps_no_row_not_even_an_outlier() -> None:
    executed = batch(3, outlier=np.array([True, False, False]))
    kept = policy(policy="none").select(executed)
    assert kept.rows is not None
    assert len(kept.rows) == 0
    special = policy(policy="none").special(executed).rows
    assert special is not None
    assert len(special) == 0


def test_sampled_keeps_the_share_it_names_and_says_so() -> None:
    executed = batch(20_000)
    kept = policy(policy="sampled", share=0.25).select(executed)
    assert kept.rows is not None
    assert kept.incl_prob is not None
    assert kept.why is not None
    # Four standard deviations of a binomial with n = 20,000 and p = 0.25 are 245.
    assert abs(len(kept.rows) - 5000) < 245
    assert set(kept.incl_prob.tolist()) == {0.25}
    assert {WHYS[code] for code in kept.why} == {"sampled"}


def test_totals_under_sampling_stay_honest() -> None:
    ok = np.ones(20_000, bool)
    ok[:100] = False
    kept = policy(policy="sampled", share=0.1).select(batch(20_000, ok=ok))
    assert kept.incl_prob is not None
    # The estimator's standard deviation is sqrt(19,900 * 0.9 / 0.1) = 423.
    assert abs((1 / kept.incl_prob.astype(float)).sum() - 20_000) < 4 * 423


def test_sampled_always_keeps_outliers_errors_and_low_margins() -> None:
    probabilities = np.tile(np.array([0.9, 0.08, 0.02], np.float32), (4, 1))
    probabilities[2] = [0.45, 0.40, 0.15]
    executed = batch(
        4,
        probabilities=probabilities,
        ok=np.array([True, False, True, True]),
        outlier=np.array([True, False, False, False]),
    )
    kept = policy(policy="sampled", share=0.0).select(executed)
    assert kept.rows is not None
    assert kept.why is not None
    assert kept.incl_prob is not None
    assert kept.rows.tolist() == [0, 1, 2]
    assert [WHYS[code] for code in kept.why] == ["outlier", "error", "low_margin"]
    assert kept.incl_prob.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("head", "outputs", "close"),
    [
        ("logits", [[1.0, 1.05, -9.0], [1.0, 4.0, -9.0]], [0]),
        ("sigmoid", [[0.52], [0.9]], [0]),
        ("softmax", [[0.5, 0.45, 0.05], [0.8, 0.1, 0.1]], [0]),
    ],
)
def test_a_low_margin_is_seen_for_every_head(head: Any, outputs: list[list[float]], close: list[int]) -> None:
    width = len(outputs[0])
    labels = ("a", "b", "c")[: max(2, width)]
    signature = Signature("classification", CLASSIFIER.inputs, (TensorSpec("y", "float32", (width,)),), labels, head)
    executed = batch(2, probabilities=np.array(outputs, np.float32))
    kept = RowPolicy(Recording(policy="sampled", share=0.0), signature, KEY).select(executed)
    assert kept.rows is not None
    assert kept.rows.tolist() == close


def test_hashed_tells_equal_inputs_from_others_and_nothing_else() -> None:
    executed = batch(3)
    executed.columns[0][2] = executed.columns[0][0]
    executed.columns[1][2] = executed.columns[1][0]
    executed.columns[2][2] = executed.columns[2][0]
    (column,) = policy(policy="hashed").columns(executed, None)
    digests = column_array(column)
    assert digests.shape == (3, 32)
    assert digests[0].tobytes() == digests[2].tobytes() != digests[1].tobytes()
    (other,) = RowPolicy(Recording(policy="hashed"), CLASSIFIER, b"x" * 32).columns(executed, None)
    assert column_array(other)[0].tobytes() != digests[0].tobytes(), "without the key nobody can try inputs"


def test_a_redacted_input_is_left_out() -> None:
    rows = policy(redact=("/note",))
    assert rows.redacted == ["note"]
    assert set(inputs(rows, batch(2))) == {"pixels", "size"}


def test_a_redacted_element_is_nan_and_the_callers_array_is_untouched() -> None:
    executed = batch(2)
    found = inputs(policy(redact=("/pixels/3",)), executed)["pixels"]
    assert np.isnan(found[:, 3]).all()
    assert np.isfinite(found[:, :3]).all()
    assert np.isfinite(executed.columns[0]).all()


def test_an_element_that_cannot_be_blanked_takes_its_whole_input_along() -> None:
    assert policy(redact=("/size/0",)).redacted == ["size"]
    assert policy(redact=("/pixels/first",)).redacted == ["pixels"]


def test_what_is_kept_without_room_for_the_rest() -> None:
    executed = batch(4, outlier=np.array([False, True, False, True]))
    special = policy().special(executed)
    assert special.rows is not None
    assert special.rows.tolist() == [1, 3]


@pytest.mark.parametrize("pointer", ["/notes", "/", "/Note", "/pixels/4", "/note~1text", "/pixels/7/0"])
def test_a_pointer_that_hides_nothing_is_a_problem(pointer: str) -> None:
    problem = redact_problem(("/note", pointer), CLASSIFIER)
    assert problem is not None
    assert pointer in problem
    assert policy(redact=("/note", pointer)).problem == problem


@pytest.mark.parametrize("pointer", ["/note", "/pixels/3", "/pixels/first", "/size/0", "/note/deeper"])
def test_a_pointer_that_hides_something_is_none(pointer: str) -> None:
    assert redact_problem((pointer,), CLASSIFIER) is None
