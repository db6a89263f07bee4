"""What makes a version refused, and what of it is decided without any framework: its graph here is NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.backend import Backend
from hoverboard.backends.executor import Executor
from hoverboard.backends.graph import Shapes, Way
from hoverboard.contract.signature import Array, Signature
from hoverboard.engine.models.loader import Loader
from hoverboard.engine.models.proof_messages import Verdict
from hoverboard.engine.models.proofs import Proofs
from hoverboard.errors import VersionRefused
from hoverboard.outliers import Features, OutlierPackage
from hoverboard.versions import GoldenSample, GoldenSet, Manifest, VersionOnDisk, VersionWriter
from hoverboard.versions.golden import GOLDEN_FILE
from tests.unit.engine.fakes import INPUT, OUTPUT, Doubling

X = np.array([[1.0, 2.0]], np.float32)


@dataclass
class NumPyGraph:
    memory_bytes: int = 8

    def watched(self, outliers: OutlierPackage) -> NumPyGraph:
        return self

    def executor(self, signature: Signature) -> Executor:
        return Doubling()

    def ways(self, signature: Signature, threads: tuple[int, int], *, xla: bool) -> Mapping[str, Way]:
        return {}

    def extractor(self, signature: Signature, layer: str | None, space: Any) -> Callable[[Sequence[Array]], Features]:
        return lambda columns: Features(z=columns[0])

    def shapes(self, signature: Signature) -> Shapes:
        raise AssertionError("nothing is variable here")


BACKEND = Backend(
    load=lambda directory, manifest: NumPyGraph(),
    configure=lambda intra_op, inter_op: None,
    device_kind=lambda: "cpu",
    software=lambda: {"numpy": np.__version__},
    packages=("numpy",),
    executors=("numpy",),
)


def publish(models: Path, golden: Array = 2 * X, **changes: Any) -> VersionOnDisk:
    signature = Signature("raw", (INPUT,), (OUTPUT,))
    with VersionWriter(models / "m") as writer:
        (writer.path / "model.keras").write_bytes(b"a model")
        samples = GoldenSet((GoldenSample((X,), (golden,)),))
        (writer.path / GOLDEN_FILE).write_bytes(samples.to_json(signature))
        manifest = Manifest(
            name="m",
            version=1,
            created="2026-01-01T00:00:00+00:00",
            artifact="model.keras",
            task="raw",
            inputs=(INPUT,),
            outputs=(OUTPUT,),
            sha256=writer.checksums(),
            **changes,
        )
        return VersionOnDisk(1, writer.commit(manifest), ())


def loader(backend: Backend = BACKEND, **more: Any) -> Loader:
    return Loader(lambda job: job(), 8, backend=lambda artifact, threads: backend, **more)


def counting() -> tuple[Backend, list[Path]]:
    """A backend, and what it was asked to load."""
    loads: list[Path] = []

    def load(directory: Path, manifest: Manifest) -> NumPyGraph:
        loads.append(directory)
        return NumPyGraph()

    return replace(BACKEND, load=load), loads


def refusal(place: VersionOnDisk, backend: Backend = BACKEND, **more: Any) -> VersionRefused:
    with pytest.raises(VersionRefused) as caught:
        loader(backend, **more).load(place)
    return caught.value


def test_a_version_whose_golden_samples_pass_answers(tmp_path: Path) -> None:
    live = loader().load(publish(tmp_path))
    assert live.key == ("m", 1)
    assert live.executor.name == "numpy"
    assert live.timings
    assert live.sandbox is None


def test_a_file_that_was_changed_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    place = publish(tmp_path)
    (place.path / "model.keras").write_bytes(b"another model")
    backend, loads = counting()
    assert refusal(place, backend).check == "checksum"
    assert not loads


def test_an_artifact_that_no_backend_runs_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    place = publish(tmp_path)
    manifest = json.loads((place.path / "manifest.json").read_text())
    (place.path / "manifest.json").write_text(json.dumps({**manifest, "artifact": "model.onnx"}))
    assert "artifact 'model.onnx' is not known: model.keras, saved_model" in str(refusal(place))


def test_other_answers_than_the_golden_ones_are_refused(tmp_path: Path) -> None:
    assert refusal(publish(tmp_path, golden=3 * X)).check == "golden"


def test_what_the_backend_refuses_is_refused_for_its_reason(tmp_path: Path) -> None:
    def load(directory: Path, manifest: Manifest) -> NumPyGraph:
        raise VersionRefused("it would reach out of itself", check="safety")

    caught = refusal(publish(tmp_path), replace(BACKEND, load=load))
    assert (caught.check, str(caught)) == ("safety", "it would reach out of itself")


def test_whatever_else_goes_wrong_is_a_refusal_with_the_errors_name(tmp_path: Path) -> None:
    def load(directory: Path, manifest: Manifest) -> NumPyGraph:
        raise ZeroDivisionError("once")

    caught = refusal(publish(tmp_path), replace(BACKEND, load=load))
    assert (caught.check, str(caught)) == ("load", "loading failed: ZeroDivisionError: once")


def test_detectors_that_the_manifest_promises_and_that_are_not_there_are_a_refusal(tmp_path: Path) -> None:
    assert refusal(publish(tmp_path, outliers={"alpha": 0.01})).check == "outliers"


@pytest.mark.parametrize(
    ("model_says", "version_says", "largest"), [(None, None, 8), (4, None, 4), (4, 2, 2), (None, 2, 2)]
)
def test_the_smallest_limit_decides_on_the_largest_batch(
    tmp_path: Path, model_says: int | None, version_says: int | None, largest: int
) -> None:
    live = loader().load(publish(tmp_path, max_batch=version_says), model_says)
    assert live.timings[-1].size == largest


def test_timings_are_remembered_for_the_same_device_and_software_only(tmp_path: Path) -> None:
    place, timings = publish(tmp_path), tmp_path / "timings"
    others = [
        BACKEND,
        BACKEND,
        replace(BACKEND, software=lambda: {"numpy": "3"}),
        replace(BACKEND, executors=("numpy", "another")),
        replace(BACKEND, device_kind=lambda: "gpu"),
    ]
    counts = []
    for backend in others:
        loader(backend, timings_dir=timings).load(place)
        counts.append(len(list(timings.iterdir())))
    assert counts == [1, 1, 2, 3, 4]


def test_a_version_is_tried_elsewhere_before_it_is_loaded_here(tmp_path: Path) -> None:
    def refuse(directory: Path, *rest: Any) -> Verdict:
        raise VersionRefused("it ended by SIGSEGV", check="crash")

    backend, loads = counting()
    assert refusal(publish(tmp_path), backend, proofs=Proofs(None, attempt=refuse)).check == "crash"
    assert not loads


def test_what_held_while_it_was_tried_is_known_of_a_live_version(tmp_path: Path) -> None:
    proofs = Proofs(None, attempt=lambda *_: Verdict(sandbox="seccomp"))
    assert loader(proofs=proofs).load(publish(tmp_path)).sandbox == "seccomp"
