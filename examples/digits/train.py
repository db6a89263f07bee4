"""Train and publish `digits`: a plain MLP, a small convolutional net, and the latter once more with calibration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import RepeatedStratifiedKFold

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from examples import common  # first: it chooses Keras's backend

# isort: split
import keras
from keras import layers
from matplotlib import pyplot as plt

from examples.digits.data import LABELS, SEED, Part, load, split
from hoverboard.publishing.calibration_file import CalibrationRows

EPOCHS: Final = 40
BATCH: Final = 64
CONTRACT: Final = {"pixels": {"min": 0, "max": 16, "description": "An 8x8 image row by row, 0 (paper) to 16 (ink)."}}


def mlp(classes: int = len(LABELS)) -> keras.Model:
    """Version 1: two hidden layers over the bare pixels."""
    pixels = keras.Input((64,), name="pixels")
    x = layers.Rescaling(1 / 16, name="scale")(pixels)
    x = layers.Dense(64, activation="relu", name="hidden")(x)
    x = layers.Dense(32, activation="relu", name="features")(x)
    return keras.Model(pixels, layers.Dense(classes, activation="softmax", name="probabilities")(x), name="digits_mlp")


def conv(classes: int = len(LABELS)) -> keras.Model:
    """Versions 2 and 3: three convolutions that know which pixels are neighbours."""
    pixels = keras.Input((64,), name="pixels")
    x = layers.Rescaling(1 / 16, name="scale")(pixels)
    x = layers.Reshape((8, 8, 1), name="image")(x)
    x = layers.Conv2D(24, 3, padding="same", activation="relu", name="strokes")(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="joints")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(48, 3, activation="relu", name="shapes")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dropout(0.4, name="drop_shapes")(x)
    x = layers.Dense(64, activation="relu", name="features")(x)
    x = layers.Dropout(0.4, name="drop_features")(x)
    return keras.Model(pixels, layers.Dense(classes, activation="softmax", name="probabilities")(x), name="digits_conv")


VERSIONS: Final[dict[int, Callable[[], keras.Model]]] = {1: mlp, 2: conv}
CALIBRATED: Final = 3
"""Version 2's net again, published with the calibration part, so that it tells outliers."""
FEATURES: Final = "flat"
"""What detectors look at: the convolutions' output. The dense layer behind it keeps only what tells the ten digits apart."""


def fit(build: Callable[[], keras.Model], part: Part, seed: int = SEED) -> keras.Model:
    """Train a net on `part`, each epoch on images shifted by a fraction of a pixel; returns it uncompiled."""
    common.start(seed)
    model = build()
    trained = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Reshape((8, 8, 1)),
            layers.RandomTranslation(0.06, 0.06, fill_mode="constant", seed=seed),
            layers.Reshape((64,)),
            model,
        ]
    )
    steps = EPOCHS * -(-len(part) // BATCH)
    trained.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(3e-3, steps), weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(),
    )
    trained.fit(part.pixels, part.labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model


def calibration(part: Part) -> CalibrationRows:
    """What outlier detectors are fitted and calibrated on."""
    return CalibrationRows((part.pixels,), [LABELS[label] for label in part.labels])


def predict(model: keras.Model, part: Part) -> NDArray[np.int64]:
    """Predicted labels, int64 `(n,)`."""
    probabilities: NDArray[np.float32] = np.asarray(model(part.pixels, training=False))
    labels: NDArray[np.int64] = probabilities.argmax(axis=1)
    return labels


def evaluate() -> None:
    """Print both versions' error over five times five-fold cross-validation on all the data."""
    everything = load()
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=SEED)
    errors: dict[int, list[float]] = {version: [] for version in VERSIONS}
    for fold, (train, test) in enumerate(folds.split(everything.pixels, everything.labels)):
        for version, build in VERSIONS.items():
            model = fit(build, everything[train], SEED + fold)
            errors[version].append(float((predict(model, everything[test]) != everything.labels[test]).mean()))
            keras.utils.clear_session(free_memory=False)
        print(f"fold {fold + 1:2}: " + ", ".join(f"v{v} {100 * e[-1]:.2f}%" for v, e in errors.items()), flush=True)
    for version, found in errors.items():
        repeats = 100 * np.reshape(found, (5, 5)).mean(axis=1)
        spread = 100 * np.std(found, ddof=1)
        print(
            f"version {version}: error {repeats.mean():.2f}%; standard deviation {spread:.2f} over folds, "
            f"{repeats.std(ddof=1):.2f} over repeats; repeats {np.round(repeats, 2).tolist()}"
        )
    gain = 100 * (np.array(errors[1]) - np.array(errors[2]))
    print(f"version 2 is better in {int((gain > 0).sum())} folds of {len(gain)}, equal in {int((gain == 0).sum())}")


def draw_samples(part: Part, predicted: NDArray[np.int64]) -> None:
    """Draw one test image of each class, and below them every test image that version 2 gets wrong (at most ten)."""
    first = [int(np.flatnonzero(part.labels == label)[0]) for label in range(10)]
    wrong = np.flatnonzero(predicted != part.labels)[:10].tolist()
    figure, grid = plt.subplots(2, 10, figsize=(10, 2.6))
    for axes, row in zip(grid.flat, [*first, *wrong, *[-1] * (10 - len(wrong))], strict=True):
        axes.axis("off")
        if row >= 0:
            axes.imshow(part.pixels[row].reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            told, label = LABELS[predicted[row]], LABELS[part.labels[row]]
            axes.set_title(told if told == label else f"{told}, not {label}", fontsize=9)
    figure.suptitle("version 2 on the test part: one of each class, and its errors", fontsize=10)
    common.save_picture(figure, HERE / "samples.png")


def main() -> None:
    options = common.arguments(str(__doc__), "digits", [*VERSIONS, CALIBRATED])
    if options.evaluate:
        evaluate()
        return
    parts = split(load())
    models = {version: fit(build, parts.train) for version, build in VERSIONS.items()}
    notes: dict[int, dict[str, Any]] = {}
    for version, model in models.items():
        predicted = predict(model, parts.test)
        errors = int((predicted != parts.test.labels).sum())
        notes[version] = {
            "data": "scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits)",
            "parts": {"train": len(parts.train), "calibration": len(parts.calibration), "test": len(parts.test)},
            "seed": SEED,
            "test": {"errors": errors, "accuracy": round(1 - errors / len(parts.test), 4)},
            "parameters": model.count_params(),
        }
        print(f"version {version}: {errors} errors in {len(parts.test)} test images, {model.count_params()} parameters")
    models[CALIBRATED], notes[CALIBRATED] = models[2], notes[2]
    draw_samples(parts.test, predicted)
    common.confusion_picture(
        parts.test.labels, predicted, LABELS, "digits version 2, test part", HERE / "confusion.png"
    )
    samples = [[int(value) for value in row] for row in parts.test.pixels[:8]]
    common.write_request(HERE / "request.json", "digits", samples[:1], top_k=3)
    common.publish_all(
        models,
        name="digits",
        models_dir=options.models,
        samples=samples,
        labels=LABELS,
        task="classification",
        contract=CONTRACT,
        notes=notes,
        calibration={CALIBRATED: calibration(parts.calibration)},
        feature_layer=FEATURES,
    )


if __name__ == "__main__":
    main()
