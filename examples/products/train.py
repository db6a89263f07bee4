"""Train and publish `products`: which of 22 kinds of product a text names or describes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from examples import common  # first: it chooses Keras's backend

# isort: split
import keras
from matplotlib import pyplot as plt
from scipy.stats import binomtest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from examples.products.batches import tensor_of
from examples.products.data import LABELS, SEED, STYLES, Entry, Parts, examples, load, others, split, texts, without
from examples.products.model import SIZES, Size, fit
from hoverboard.publishing.calibration_file import CalibrationRows

VERSION: Final = 3
DETECTOR: Final = "energy"
SIZE: Final = SIZES[0]
CONTRACT: Final = {"text": {"max_length": 4096, "description": "A product's name, its description, or both; English."}}
HANDWRITTEN: Final = HERE / "handwritten.jsonl"

Predict = Callable[[Sequence[str]], NDArray[np.int64]]


def train(part: Sequence[Entry], size: Size = SIZE, *, left_out: str | None = None) -> keras.Model:
    """The net of a part, of all 22 labels or of all but one."""
    doubtful = others(part)
    if left_out is None:
        return fit(part, doubtful, size, SEED)
    labels = [label for label in LABELS if label != left_out]
    return fit(without(part, left_out), doubtful, size, SEED, labels=labels)


def calibration(part: Sequence[Entry]) -> CalibrationRows:
    """What outlier detectors are fitted and calibrated on: name and gloss of entries that no net was trained on."""
    given = [text.encode() for text in texts(part, STYLES[0])]
    return CalibrationRows((np.array(given, dtype=object),), [LABELS[entry.label] for entry in part])


def shop_texts(file: str) -> CalibrationRows:
    """The texts of `known.jsonl` or `modern.jsonl`, written before any detector saw them, or of those to tune by."""
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    return CalibrationRows((np.array([json.loads(line)["text"].encode() for line in lines], dtype=object),))


def predictor(model: keras.Model) -> Predict:
    """The model as a function from texts to labels, int64 `(n,)`."""

    def predict(given: Sequence[str]) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = np.asarray(model(tensor_of(given))).argmax(axis=1)
        return labels

    return predict


def baseline(entries: Sequence[Entry], *, characters: bool, strength: float = 30) -> Predict:
    """TF-IDF with logistic regression on the same texts.

    Args:
        entries: to train on.
        characters: whether character n-grams (2 to 5, within words) stand beside the words and their bigrams.
        strength: `C`, the inverse of regularisation; 30 was the best of 3, 10, 30 and 100.
    """
    vectors = [TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)]
    if characters:
        vectors.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))
    pipeline = make_pipeline(make_union(*vectors), LogisticRegression(C=strength, max_iter=500))
    given, labels = examples(entries)
    predict: Predict = pipeline.fit(given, labels).predict
    return predict


def accuracies(predict: Predict, entries: Sequence[Entry]) -> dict[str, float]:
    """Style -> share of entries that are put where they belong."""
    truth = np.array([entry.label for entry in entries])
    return {style: round(float((predict(texts(entries, style)) == truth).mean()), 4) for style in STYLES}


def evaluate() -> None:
    """Compare sizes with the baselines on three splits within the training part; calibration and test stay unseen."""
    whole = split(load()).train
    inner = [split(whole, seed) for seed in (1, 2, 3)]
    for characters in (False, True):
        _report(f"TF-IDF, characters {characters}", inner, lambda part: baseline(part, characters=characters))  # noqa: B023
    for size in SIZES:
        _report(f"{size}", inner, lambda part: predictor(train(part, size)))  # noqa: B023


def sign_test(one: Predict, other: Predict, entries: Sequence[Entry]) -> dict[str, tuple[int, int, float]]:
    """Style -> entries that only the one gets right, that only the other does, and the p-value of so uneven a pair."""
    truth = np.array([entry.label for entry in entries])
    found = {}
    for style in STYLES:
        first, second = (predict(texts(entries, style)) == truth for predict in (one, other))
        ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
        p_value = float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0
        found[style] = (ahead, behind, round(p_value, 4))
    return found


def _report(name: str, inner: Sequence[Parts], train: Callable[[Sequence[Entry]], Predict]) -> None:
    found = [accuracies(train(parts.train + parts.calibration), parts.test) for parts in inner]
    mean = {style: round(float(np.mean([one[style] for one in found])), 4) for style in STYLES}
    print(f"{name}: {mean}", flush=True)


def handwritten() -> tuple[list[str], NDArray[np.int64]]:
    """66 texts written for this example in a shop's style, three a category, with their labels."""
    rows = [json.loads(line) for line in HANDWRITTEN.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], np.array([LABELS.index(row["label"]) for row in rows])


def draw_styles(figures: dict[str, dict[str, float]], path: Path) -> None:
    """Draw accuracy by style of text, the model beside the baselines."""
    figure, axes = plt.subplots(figsize=(7, 3))
    for place, (name, found) in enumerate(figures.items()):
        bars = axes.bar(np.arange(len(STYLES)) + 0.27 * (place - 1), [100 * found[s] for s in STYLES], 0.25, label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks(range(len(STYLES)), STYLES)
    axes.set(ylabel="accuracy on the test part, %", ylim=(0, 119))
    axes.legend(fontsize=8, ncols=3, loc="upper center")
    common.save_picture(figure, path)


def main() -> None:
    options = common.arguments(str(__doc__), "products", [VERSION])
    if options.evaluate:
        evaluate()
        return
    parts = split(load())
    model = train(parts.train)
    predict = predictor(model)
    predictors = {
        "model": predict,
        "TF-IDF of words": baseline(parts.train, characters=False),
        "TF-IDF of words and characters": baseline(parts.train, characters=True),
    }
    figures = {name: accuracies(one, parts.test) for name, one in predictors.items()}
    given, truth = handwritten()
    own = {name: int((one(given) == truth).sum()) for name, one in predictors.items()}
    for name, found in figures.items():
        print(f"{name}: test {found}, handwritten {own[name]} of {len(given)}")
    for name in list(predictors)[1:]:
        print(f"model against {name}, sign tests: {sign_test(predict, predictors[name], parts.test)}")
    print(
        "handwritten and wrong:",
        [(t, LABELS[p]) for t, p, y in zip(given, predict(given), truth, strict=True) if p != y],
    )
    draw_styles(figures, HERE / "styles.png")
    common.confusion_picture(
        np.array([entry.label for entry in parts.test]),
        predict(texts(parts.test, STYLES[0])),
        LABELS,
        f"products version {VERSION}, test part, name and gloss",
        HERE / "confusion.png",
    )
    common.write_request(
        HERE / "request.json", "products", ["Acoustic guitar with a spruce top and nylon strings"], top_k=3
    )
    notes = {
        "data": "WordNet 3.0, Copyright 2006 by Princeton University, all rights reserved: nouns under 22 hypernyms",
        "licence": "WordNet 3.0 license, see examples/products/README.md",
        "parts": {"train": len(parts.train), "calibration": len(parts.calibration), "test": len(parts.test)},
        "seed": SEED,
        "test": figures,
        "handwritten": {name: f"{right} of {len(given)}" for name, right in own.items()},
        "parameters": model.count_params(),
    }
    common.publish_all(
        {VERSION: model},
        name="products",
        models_dir=options.models,
        samples=given[::9],
        labels=LABELS,
        task="classification",
        contract=CONTRACT,
        notes={VERSION: notes},
        calibration={VERSION: calibration(parts.calibration)},
        detector=DETECTOR,
        compressed=True,
    )


if __name__ == "__main__":
    main()
