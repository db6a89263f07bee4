"""Train and publish `diamonds`: the price of a diamond from six measures and three grades; once more with calibration."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from examples import common  # first: it chooses Keras's backend

# isort: split
import keras
from keras import layers, ops
from matplotlib import pyplot as plt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from examples.diamonds.data import CATEGORIES, NUMBERS, SEED, Part, load, split
from hoverboard.publishing.calibration_file import CalibrationRows

VERSIONS: Final = (1, 2)
"""The same net; the second is published with the calibration part, so that it tells outliers."""
EPOCHS: Final = 60
BATCH: Final = 256
CONTRACT: Final[Mapping[str, Mapping[str, Any]]] = {
    "carat": {"min": 0.05, "max": 20, "description": "Weight in carats."},
    "depth": {"min": 0, "max": 100, "description": "Height in per cent of the mean diameter."},
    "table": {"min": 0, "max": 100, "description": "Width of the top facet in per cent of the widest point."},
    "x": {"min": 0, "max": 100, "description": "Length in mm; 0 for unknown."},
    "y": {"min": 0, "max": 100, "description": "Width in mm; 0 for unknown."},
    "z": {"min": 0, "max": 100, "description": "Height in mm; 0 for unknown."},
    "cut": {"allowed": CATEGORIES["cut"], "description": "Quality of the cut."},
    "color": {"allowed": CATEGORIES["color"], "description": "Color grade, J (worst) to D (best)."},
    "clarity": {"allowed": CATEGORIES["clarity"], "description": "Clarity grade, I1 (worst) to IF (best)."},
}


def build(train: Part) -> tuple[keras.Model, keras.Model]:
    """The net that is trained, which ends at the standardised logarithm of the price, and the same net in dollars."""
    inputs = {name: keras.Input((), name=name) for name in NUMBERS}
    inputs |= {name: keras.Input((), name=name, dtype="string") for name in CATEGORIES}
    columns = [layers.Reshape((1,), name=f"{name}_column")(inputs[name]) for name in NUMBERS]
    measures = layers.Concatenate(name="measures")([ops.log(columns[0]), *columns])
    scale = layers.Normalization(name="scale")
    scale.adapt(np.column_stack([np.log(train.columns["carat"]), *(train.columns[name] for name in NUMBERS)]))
    grades = [
        layers.StringLookup(vocabulary=list(grades), output_mode="one_hot", name=f"{name}_grade")(inputs[name])
        for name, grades in CATEGORIES.items()
    ]
    # A measure mistyped by a factor of ten (the data has some) must not carry the price off to infinity.
    x = layers.Concatenate(name="encoded")([ops.clip(scale(measures), -6, 6), *grades])
    x = layers.Dense(64, activation="relu", name="hidden")(x)
    x = layers.Dense(64, activation="relu", name="shape")(x)
    x = layers.Dense(32, activation="relu", name="features")(x)
    standard = layers.Dense(1, name="standard_log_price")(x)
    logs = np.log(train.price)
    log_price = layers.Rescaling(float(logs.std()), float(logs.mean()), name="log_price")(standard)
    price = layers.Reshape((), name="price")(layers.Activation("exponential", name="dollars")(log_price))
    return keras.Model(inputs, standard), keras.Model(inputs, price, name="diamonds")


def fit(train: Part) -> keras.Model:
    """Train on the absolute error of the log price, which is nearly the relative error of the price."""
    common.start(SEED)
    trained, model = build(train)
    spoilt = spoil(train, SEED)
    logs = np.log(train.price)
    target = (np.log(np.concatenate([train.price, spoilt.price])) - logs.mean()) / logs.std()
    # Encoded once, not once an epoch: string look-ups are slow.
    encoded = trained.get_layer("encoded").output
    encoder = keras.Model(trained.inputs, encoded)
    rows = np.concatenate([encoder(tensors(train)), encoder(tensors(spoilt))])
    head = keras.Model(encoded, trained.output)
    steps = EPOCHS * -(-len(rows) // BATCH)
    head.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(4e-3, steps)), "mean_absolute_error")
    head.fit(rows, target, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model


def spoil(part: Part, seed: int) -> Part:
    """One row in twenty again, each with some of x, y and z unknown (0) or mistyped (tenfold), as a few really are."""
    generator = np.random.default_rng(seed)
    copy = part[generator.choice(len(part), len(part) // 20, replace=False)]
    faults = {name: generator.choice((1, 0, 10), size=len(copy), p=(0.5, 0.3, 0.2)) for name in "xyz"}
    columns = {name: column * faults[name] if name in faults else column for name, column in copy.columns.items()}
    return Part({name: columns[name].astype(column.dtype) for name, column in copy.columns.items()}, copy.price)


def tensors(part: Part) -> dict[str, Any]:
    """Columns as the model takes them."""
    return {name: ops.convert_to_tensor(column) for name, column in part.columns.items()}


def calibration(part: Part) -> CalibrationRows:
    """What outlier detectors are fitted and calibrated on: columns in the order of the model's inputs."""
    columns = [part.columns[name] for name in sorted(part.columns)]
    return CalibrationRows(
        tuple(np.array([v.encode() for v in c], object) if c.dtype == object else c for c in columns)
    )


def baselines(train: Part, test: Part) -> dict[str, NDArray[np.float64]]:
    """Test prices in dollars as other models see them, all trained on the same part."""
    plain, logged = LinearRegression(), LinearRegression()
    trees = HistGradientBoostingRegressor(loss="absolute_error", max_iter=600, random_state=SEED)
    logs = np.log(train.price)
    return {
        "linear regression": plain.fit(_flat(train), train.price).predict(_flat(test)),
        "linear regression of log price, with log carat": np.exp(
            logged.fit(_flat(train, log_carat=True), logs).predict(_flat(test, log_carat=True))
        ),
        "gradient-boosted trees of log price": np.exp(trees.fit(_flat(train), logs).predict(_flat(test))),
    }


def _flat(part: Part, *, log_carat: bool = False) -> NDArray[np.float64]:
    """Measures and one-hot grades (without the worst, which the intercept stands for), float64 `(n, 23)` or one more."""
    columns = [part.columns[name].astype(np.float64) for name in NUMBERS]
    columns += [part.columns[name] == grade for name, grades in CATEGORIES.items() for grade in grades[1:]]
    if log_carat:
        columns.append(np.log(part.columns["carat"]))
    return np.column_stack(columns).astype(np.float64)


def errors(price: NDArray[np.float32], predicted: NDArray[Any]) -> dict[str, float]:
    """Mean absolute and root mean squared error in dollars, and mean absolute error in per cent of the price."""
    off = predicted.astype(np.float64) - price
    return {
        "mae": round(float(np.abs(off).mean()), 1),
        "rmse": round(float(np.sqrt(np.square(off).mean())), 1),
        "mape": round(float(100 * (np.abs(off) / price).mean()), 2),
    }


def draw_residuals(test: Part, predicted: NDArray[Any], line: NDArray[Any]) -> None:
    """Draw predicted against true price, and the relative error of model and linear baseline by price."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.hexbin(test.price, predicted, xscale="log", yscale="log", gridsize=50, bins="log", cmap="Blues", mincnt=1)
    ends = [float(test.price.min()), float(test.price.max())]
    left.plot(ends, ends, color="black", linewidth=0.8)
    left.set(xlabel="true price, $", ylabel="predicted price, $", title="diamonds version 1, test part")
    edges = np.quantile(test.price, np.linspace(0, 1, 21))
    tenth = np.clip(np.searchsorted(edges, test.price, side="right") - 1, 0, 19)
    middle = [float(np.median(test.price[tenth == i])) for i in range(20)]
    for name, prices, color in (("log-linear baseline", line, "tab:orange"), ("model", predicted, "tab:blue")):
        off = 100 * (prices / test.price - 1)
        low, median, high = (
            [float(np.quantile(off[tenth == i], share)) for i in range(20)] for share in (0.1, 0.5, 0.9)
        )
        right.fill_between(middle, low, high, alpha=0.25, color=color, linewidth=0)
        right.plot(middle, median, color=color, label=f"{name}: median, and 10 to 90%")
    right.axhline(0, color="black", linewidth=0.8)
    right.set(xscale="log", xlabel="true price, $", ylabel="error, % of the price", title="error by price")
    right.legend(fontsize=8)
    common.save_picture(figure, HERE / "residuals.png")


def main() -> None:
    options = common.arguments(str(__doc__), "diamonds", VERSIONS)
    parts = split(load())
    others = baselines(parts.train, parts.test)
    model = fit(parts.train)
    predicted = np.asarray(model(tensors(parts.test)))
    figures = {name: errors(parts.test.price, prices) for name, prices in {"model": predicted, **others}.items()}
    for name, found in figures.items():
        print(f"{name}: MAE ${found['mae']}, RMSE ${found['rmse']}, MAPE {found['mape']}%")
    if options.evaluate:
        return
    draw_residuals(parts.test, predicted, others["linear regression of log price, with log carat"])
    samples = parts.test.instances(8)
    common.write_request(HERE / "request.json", "diamonds", samples[:1])
    notes = {
        "data": "diamonds, 53,940 rows, from plotnine.data",
        "parts": {"train": len(parts.train), "calibration": len(parts.calibration), "test": len(parts.test)},
        "seed": SEED,
        "test": figures,
        "parameters": model.count_params(),
    }
    common.publish_all(
        dict.fromkeys(VERSIONS, model),
        name="diamonds",
        models_dir=options.models,
        samples=samples,
        task="regression",
        contract=CONTRACT,
        notes=dict.fromkeys(VERSIONS, notes),
        calibration={VERSIONS[-1]: calibration(parts.calibration)},
    )


if __name__ == "__main__":
    main()
