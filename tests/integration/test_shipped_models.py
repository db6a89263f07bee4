"""The models in `models/`: each loads as the server loads it, and answers what Keras answers, in every bucket."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.contract.signature import Array
from hoverboard.engine.buckets import ladder
from hoverboard.engine.models.loader import Loader
from hoverboard.publishing.golden import drawn
from hoverboard.versions import VersionOnDisk, read_version
from hoverboard.versions.store import read_golden

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path.parent for path in (ROOT / "models").glob("*/*/manifest.json"))
MOST = 64


def _name(version: Path) -> str:
    return f"{version.parent.name}-{version.name}"


def test_the_promised_models_are_shipped() -> None:
    assert {_name(version) for version in SHIPPED} >= {"digits-1", "digits-3", "products-3", "diamonds-2"}


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(lambda job: job(), max_batch=MOST)


def _keras(version: Path) -> Any:
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras.saving.load_model(version / "model.keras", compile=False, safe_mode=True)


def _expected(model: Any, names: list[str], columns: list[Array]) -> list[Array]:
    tensors = [column.astype(str) if column.dtype == object else column for column in columns]
    given = tensors[0] if len(names) == 1 else dict(zip(names, tensors, strict=True))
    answer = model(given, training=False)
    flat = list(answer.values()) if isinstance(answer, dict) else answer if isinstance(answer, list) else [answer]
    return [np.asarray(output) for output in flat]


@pytest.mark.parametrize("version", SHIPPED, ids=_name)
def test_every_bucket_gives_what_keras_gives(version: Path, loader: Loader) -> None:
    live = loader.load(VersionOnDisk(int(version.name), version, ()))
    golden = read_golden(version, live.manifest)
    samples = [sample.inputs for sample in golden.samples] + drawn(live.signature.inputs)
    model = _keras(version)
    names = [spec.name for spec in live.signature.inputs]
    for bucket in ladder(MOST):
        rows = [samples[row % len(samples)] for row in range(bucket)]
        columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
        done = live.execute(columns, bucket, bucket)
        assert not done.errors
        for got, want in zip(done.outputs, _expected(model, names, columns), strict=True):
            np.testing.assert_allclose(got, want, rtol=golden.relative, atol=golden.absolute)


@pytest.mark.parametrize("version", SHIPPED, ids=_name)
def test_a_shipped_version_is_small_named_for_people_and_carries_its_figures(version: Path) -> None:
    manifest = read_version(version)
    assert sum(path.stat().st_size for path in version.iterdir()) < 5_000_000
    assert all(spec.description for spec in manifest.inputs)
    assert manifest.notes
