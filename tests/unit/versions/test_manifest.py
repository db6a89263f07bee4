from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from hoverboard.contract.signature import TensorSpec
from hoverboard.errors import VersionRefused
from hoverboard.versions import Manifest
from hoverboard.versions.manifest import check_name

GOOD = Manifest(
    name="digits",
    version=3,
    created="2026-01-01T00:00:00+00:00",
    artifact="model.keras",
    task="classification",
    inputs=(TensorSpec("pixels", "float32", (64,), min=0, max=16),),
    outputs=(TensorSpec("probabilities", "float32", (2,)),),
    labels=("a", "b"),
    sha256={"model.keras": "00"},
    notes={"any": ["thing"]},
)


def test_a_manifest_survives_the_disk() -> None:
    assert Manifest.from_json(GOOD.to_json()) == GOOD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "manifest.json"),
        (b"{", "manifest.json"),
        (b"[" * 100_000, "manifest.json"),
        (b"{}", "missing required field"),
        (GOOD.to_json().replace(b'"version": 3', b'"version": "x"'), "version"),
        (GOOD.to_json().replace(b'"format": 1', b'"format": 99'), "format 99 is newer"),
        (b'{"format": 4, "something": "else"}', "format 4 is newer"),
        (GOOD.to_json().replace(b'"float32"', b'"complex64"'), "complex64 is not supported"),
        (GOOD.to_json().replace(b'"thing"', b'"\xff"'), "it is no UTF-8"),
    ],
)
def test_a_malformed_manifest_is_refused_with_words_that_help(text: bytes, words: str) -> None:
    with pytest.raises(VersionRefused, match=words) as caught:
        Manifest.from_json(text)
    assert caught.value.check == "manifest"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ("a", "b", "c")}, "3 labels for 2 classes"),
        ({"labels": None}, "needs labels"),
        ({"inputs": ()}, "at least one input"),
        ({"outputs": (GOOD.outputs[0], GOOD.outputs[0])}, "share a name"),
        ({"task": "regression", "labels": None}, "one number a sample"),
        ({"head": "sigmoid"}, "sigmoid head has shape"),
        ({"outputs": (TensorSpec("p", "float32", (4, 2)),)}, "shape .classes."),
        ({"inputs": (TensorSpec("x", "float32", (2,), min=20, max=1),)}, "input x: min 20 is above max 1"),
        ({"inputs": (TensorSpec("x", "string", (), max_length=-1),)}, "input x: max_length"),
        ({"inputs": (TensorSpec("x", "string", (), allowed=()),)}, "input x: allowed: the list is empty"),
        ({"labels": ("a", "a")}, "'a' comes twice"),
        ({"labels": ("a", "b\0")}, "label 1 holds a zero byte"),
        ({"parent": -5}, "parent: expected a version's number"),
        ({"parent": 0}, "parent: expected a version's number"),
        ({"labels": ("a", "b" * 1025)}, "label 1 is longer than 1024 bytes"),
        ({"inputs": (TensorSpec("x", "float32", (), description="x" * 3000),)}, "description: longer than 2048 bytes"),
        ({"notes": [[]] * 30_000}, "notes: larger than 64 KiB"),
        ({"software": {"a" * 70_000: "1"}}, "software: larger than 64 KiB"),
        ({"created": "2026" * 30}, "created: larger than 100 bytes"),
        ({"allowed_ops": ("Op",) * 20_000}, "allowed_ops: larger than 64 KiB"),
        ({"outliers": {"x": "y" * 1_100_000}}, "outliers: larger than 512 KiB"),
        ({"labels": tuple(str(number) * 100 for number in range(9000))}, "labels: larger than 3072 KiB"),
        ({"notes": "x" * 5_000_000}, "larger than 4 MiB"),
        ({"labels": tuple(map(str, range(100_001)))}, "100001 of them, at most 100000"),
        ({"inputs": tuple(TensorSpec(str(i), "bool", ()) for i in range(10_001))}, "at most 10000 inputs"),
    ],
)
def test_a_signature_that_contradicts_itself_is_refused(changes: dict[str, object], words: str) -> None:
    text = msgspec.json.encode(replace(GOOD, **changes))  # type: ignore[arg-type]
    with pytest.raises(VersionRefused, match=words):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    "labels",
    [
        [f"{number:04}" + "\N{GRINNING FACE}" * 252 for number in range(2000)],
        [f"class number {number}, with a name of some length" for number in range(50_000)],
    ],
    ids=["long", "many"],
)
def test_many_and_long_labels_are_read_however_the_file_is_laid_out(labels: list[str]) -> None:
    many = replace(GOOD, labels=tuple(labels), outputs=(TensorSpec("p", "float32", (len(labels),)),))
    assert Manifest.from_json(many.to_json()) == many
    assert Manifest.from_json(msgspec.json.encode(many)) == many


def test_a_manifest_that_could_not_be_passed_on_is_refused() -> None:
    text = msgspec.json.encode(replace(GOOD, notes={"runs": [2**64]}))
    with pytest.raises(VersionRefused, match="past 64 bits"):
        Manifest.from_json(text)


@pytest.mark.parametrize("name", ["a", "Digits-2.1_x", "9"])
def test_a_model_name_may_be_a_directory(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "-x", "a b", "ä", "x" * 65, "a\n"])
def test_a_model_name_may_not_leave_its_directory(name: str) -> None:
    with pytest.raises(ValueError, match="model name"):
        check_name(name)


def test_what_is_published_about_a_version_has_one_digest_and_no_file_list() -> None:
    public = GOOD.public()
    assert public["weights_sha256"] == "00"
    assert "sha256" not in public
    assert public["inputs"][0]["shape"] == [64]


def test_a_saved_models_digest_covers_every_file_of_it() -> None:
    files = {"saved_model/saved_model.pb": "1", "saved_model/variables/v": "2", "golden.json": "3"}
    base = replace(GOOD, artifact="saved_model", sha256=files)
    assert base.weights_sha256 != replace(base, sha256={**files, "saved_model/variables/v": "9"}).weights_sha256
    assert base.weights_sha256 == replace(base, sha256={**files, "golden.json": "9"}).weights_sha256
