"""Rows as small integers: what a client did not send is told from what nobody may see."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.postmortem import encoding
from hoverboard.postmortem.encoding import Encoder
from hoverboard.postmortem.recorded import RecordedVersion
from hoverboard.versions.baseline import Baseline, Feature

SIGNATURE = Signature(
    "raw",
    (TensorSpec("gap", "float32", (), finite=False), TensorSpec("v", "float32", (2,), finite=False)),
    (TensorSpec("y", "float32", (1,)),),
)


def feature(name: str, tensor: str, element: int = 0) -> Feature:
    return Feature(
        name=name,
        side="input",
        tensor=tensor,
        reading="element",
        element=element,
        missing=True,
        cuts=(0.0,),
        counts=(1, 1, 1),
    )


BASELINE = Baseline((feature("gap", "gap"), feature("v[0]", "v"), feature("v[1]", "v", 1)), 3)


def row(gap: float | None, vector: Sequence[float]) -> dict[str, Any]:
    """As the statement `draw` gives it; a vector as `array_send` writes it."""
    head = np.array([1, 0, 700, len(vector), 1], ">i4").tobytes()
    numbers = b"".join(np.array([4], ">i4").tobytes() + np.array([each], ">f4").tobytes() for each in vector)
    nothing = ("tensors", "tags", "caller", "role", "process", "label", "bucket", "queue_us", "issue_id")
    return {
        "id": uuid.UUID(bytes=sample_ids(1, 1e9)),
        "inputs": json.dumps({"gap": "NaN" if gap is not None and np.isnan(gap) else gap}),
        "vector": head + numbers,
        "incl_prob": 1.0,
        "bad": False,
        "version_id": 1,
        **dict.fromkeys(nothing),
    }


def values(rows: Sequence[dict[str, Any]], blanked: Sequence[str] = ()) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The value of each input's field in each row, and why rows are not what was sent."""
    encoder = Encoder([RecordedVersion(1, 1, "a", SIGNATURE, None)], BASELINE, "outliers", blanked)
    encoder.add(rows, (1.0, 1.0), base=False)
    fields = {
        each.name: [each.values[code] for code in each.codes] for each in encoder.table().fields if each.kind == "input"
    }
    return fields, dict(encoder.missing)


def test_nan_is_missing_where_a_client_may_send_it() -> None:
    found, why = values([row(np.nan, [np.nan, 1.0]), row(1.0, [-1.0, 1.0])])
    assert found == {
        "input gap": ["missing", "above 0"],
        "input v[0]": ["missing", "below 0"],
        "input v[1]": ["above 0", "above 0"],
    }
    assert why == {}


def test_nan_is_absent_where_the_policy_hides_elements_and_the_others_are_what_was_sent() -> None:
    found, why = values([row(1.0, [np.nan, 1.0]), row(-1.0, [np.nan, -1.0])], ["v"])
    assert found == {
        "input gap": ["above 0", "below 0"],
        "input v[0]": ["absent", "absent"],
        "input v[1]": ["above 0", "below 0"],
    }
    assert why == {"redacted": 2}


def test_an_input_that_is_not_there_is_absent() -> None:
    found, why = values([row(None, [1.0, 1.0]), row(1.0, [1.0, 1.0])])
    assert found["input gap"] == ["absent", "above 0"]
    assert why == {"redacted": 1}


def test_words_that_no_two_texts_share_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_MOST_KNOWN_WORDS", 1000)
    words = encoding._Words()
    letters = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, (50, 40, 20, 12), np.uint8)
    for block, texts in enumerate(letters):
        lines = [
            b" ".join([b"refund" if row % 4 == 0 else b"order", *(bytes(each) for each in text)])
            for row, text in enumerate(texts)
        ]
        words.add(np.array(lines, object), np.arange(40) + 40 * block)
        assert len(words.known) <= 1000 + 40 * 21
    found = {each.name: int(each.codes.sum()) for each in words.fields(2000)}
    assert found == {"word order": 1500, "word refund": 500}
