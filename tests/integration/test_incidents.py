"""The benchmark of incidents, on two days: through the engine's sink, a journal, the recorder and Postgres to a named cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.incidents.recorded import Recorders
from benchmarks.incidents.runs import explain
from benchmarks.incidents.served import Served, of_images

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def served() -> Served:
    """The shipped digits with its golden images, each many times, and a few of them badly written."""
    golden = json.loads((ROOT / "models/digits/3/golden.json").read_text())["samples"]
    images = np.array([each["inputs"]["pixels"] for each in golden])
    truth = np.array([int(np.argmax(each["outputs"]["probabilities"])) for each in golden], np.float64)
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 1, (100, *images.shape)) * np.where(np.arange(100) < 3, 4, 0.3)[:, None, None]
    noisy = np.clip(np.where(images > 0, np.round(images + noise), 0), 0, 16).astype(np.float32)
    return of_images(noisy.reshape(-1, 64), np.tile(truth, 100))


@pytest.fixture(scope="module")
def recorders() -> Iterator[Recorders]:
    with Recorders.running() as running:
        yield running


@pytest.mark.parametrize(
    ("kind", "setting"), [("corrupting process", "alone"), ("bad version", "sampled recording"), ("overload", "alone")]
)
def test_what_was_planted_is_found_in_what_was_recorded(
    recorders: Recorders, served: Served, kind: str, setting: str
) -> None:
    day = explain(recorders, served, kind, 10, 0, setting=setting)  # type: ignore[arg-type]
    assert day.found and day.covered, day
    assert day.first, day.told
    assert day.f1 > 0.5
