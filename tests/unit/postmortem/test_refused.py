from __future__ import annotations

import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.postmortem.refused import fault_of, reason_of

STONES = Signature(
    "regression",
    (
        TensorSpec("carat", "float32", (), min=0),
        TensorSpec("clarity", "string", (), allowed=("IF", "VS1")),
        TensorSpec("count", "int32", ()),
        TensorSpec("a: b", "float32", ()),
    ),
    (TensorSpec("price", "float32", ()),),
)
PICTURES = Signature(
    "classification", (TensorSpec("pixels", "float32", (64,), max=16),), (TensorSpec("scores", "float32", (10,)),)
)


@pytest.mark.parametrize(
    "pointer, excerpt, told",
    [
        ("/instances/3/carat", "nothing", "input carat is missing at /instances/carat"),
        ("/instances/0/carat", "a string", "input carat is of the wrong type (a string) at /instances/carat"),
        ("/instances/0/carat", "-1.0", "input carat is out of range at /instances/carat"),
        ("/inputs/carat/17", "-1.0", "input carat is out of range at /inputs/carat"),
        ("/instances/0/count", "1.5", "input count is of the wrong type (not whole) at /instances/count"),
        ("/instances/0/clarity", "'SI9'", "input clarity is not allowed at /instances/clarity"),
        ("/instances/0/colour", "an unknown input", "input colour is unknown to the model at /instances/colour"),
        ("/instances/0/a: b", "nothing", "input a: b is missing at /instances/a: b"),
        ("/instances/0/carat", None, "input carat is wrong, and nobody may read how at /instances/carat"),
        ("/instances/0", "a number", "sample is of the wrong type (a number) at /instances"),
        ("/deadline_ms", "-1", "param deadline_ms is not as it must be at /deadline_ms"),
    ],
)
def test_a_broken_contract_is_told_by_its_input(pointer: str, excerpt: str | None, told: str) -> None:
    kind, subject, words = fault_of(reason_of(-32602, "invalid_params", pointer, excerpt, STONES))
    assert (kind, words) == ("schema", told)
    assert told.startswith(subject)


def test_of_an_array_elements_and_lengths_are_told_apart() -> None:
    element = reason_of(-32602, "invalid_params", "/instances/1/7", "99.5", PICTURES)
    assert element == "input pixels: out of range, at /instances"
    assert reason_of(-32602, "invalid_params", "/instances/1", "63", PICTURES) == (
        "input pixels: of the wrong length, at /instances"
    )


def test_what_is_no_fault_of_the_call_is_load_or_said_as_it_is() -> None:
    assert fault_of(reason_of(-32005, "overloaded", None, None, STONES))[:2] == ("load", "overloaded")
    assert fault_of(reason_of(-32012, "deadline_exceeded", None, None, STONES))[:2] == ("load", "deadline exceeded")
    kind, subject, words = fault_of(reason_of(-32001, "version_not_found", None, None, STONES))
    assert (kind, subject) == ("schema", "version not found")
    assert words == "they were refused as version not found"
