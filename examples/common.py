"""What the example scripts share: their arguments, a reproducible start, publishing and pictures."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hoverboard.backends.tensorflow import (
    device,  # first: it chooses Keras's backend, and keeps TensorFlow's import quiet
)

# isort: split
import keras
import matplotlib as mpl
import numpy as np
import tensorflow as tf
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows

__all__ = ["arguments", "confusion_picture", "publish_all", "save_picture", "start", "write_request"]

mpl.use("agg")


def arguments(description: str, name: str, versions: Sequence[int]) -> argparse.Namespace:
    """Parse `--models` and `--evaluate`, and stop before any training where a version to be written exists."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--models", type=Path, default=Path("models"), help="models directory to publish to")
    parser.add_argument("--evaluate", action="store_true", help="run the slow comparison; publish nothing")
    options = parser.parse_args()
    taken = [options.models / name / str(version) for version in versions]
    if not options.evaluate and any(path.exists() for path in taken):
        sys.exit(f"{' or '.join(map(str, taken))} exists and versions are immutable: remove it, or use --models DIR")
    return options


def start(seed: int) -> None:
    """Make training repeatable on this machine: seeds for Python, NumPy and TensorFlow, deterministic kernels."""
    device.first_operation()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def publish_all(
    models: Mapping[int, keras.Model],
    *,
    name: str,
    models_dir: Path,
    samples: Sequence[Any],
    contract: Mapping[str, Any],
    notes: Mapping[int, Mapping[str, Any]],
    task: str,
    labels: Sequence[str] | None = None,
    calibration: Mapping[int, CalibrationRows],
    feature_layer: str | None = None,
    detector: str | None = None,
    compressed: bool = False,
) -> None:
    """Publish version -> model, each the child of the one before it, and say where they went.

    Args:
        calibration: version -> samples that it was not trained on, for those versions that are to tell outliers.
        feature_layer: what detectors look at in those; None for the layer before the last dense one.
        detector: which of them answers; None for the one that publishing finds best.
        compressed: whether their files are, which helps where weights repeat.
    """
    parent = None
    for version, model in models.items():
        with tempfile.TemporaryDirectory() as directory:
            path = publish(
                _compressed(model, Path(directory)) if compressed else model,
                name=name,
                models_dir=models_dir,
                samples=samples,
                labels=labels,
                task=task,
                contract=contract,
                version=version,
                parent=parent,
                notes=dict(notes[version]),
                calibration=calibration.get(version),
                feature_layer=feature_layer if version in calibration else None,
                detector=detector if version in calibration else None,
            )
        size = sum(file.stat().st_size for file in path.iterdir())
        print(f"published {path} ({size / 1e6:.2f} MB)")
        parent = version


def _compressed(model: keras.Model, directory: Path) -> Path:
    """The model's `.keras` file, deflated; Keras stores and reads them as they are."""
    stored, path = directory / "stored.keras", directory / "model.keras"
    model.save(stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return path


def write_request(path: Path, name: str, instances: Sequence[Any], **params: Any) -> None:
    """Write a JSON-RPC predict request that is ready to be sent with curl."""
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "predict",
        "params": {"model": name, "instances": list(instances), **params},
    }
    path.write_text(json.dumps(request) + "\n", encoding="utf-8")


def save_picture(figure: Figure, path: Path) -> None:
    """Save a figure as a small PNG and close it."""
    figure.savefig(path, dpi=90, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def confusion_picture(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: Sequence[str], title: str, path: Path
) -> None:
    """Draw a confusion matrix: rows are the truth, shades are shares of a row, numbers are counts."""
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.36 * len(labels)
    figure, axes = plt.subplots(figsize=(side, side))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    slanted = max(map(len, labels)) > 3
    axes.set_xticks(range(len(labels)), labels, rotation=90 if slanted else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    save_picture(figure, path)
