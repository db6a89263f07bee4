"""The products net: bags of words and of character n-grams, weighed, summed and projected; the text goes in as it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from examples import common  # first: it chooses Keras's backend

# isort: split
import keras
import numpy as np
from keras import layers, ops

from examples.products.data import LABELS, Entry, examples

__all__ = ["SIZES", "Size", "build", "fit"]

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
NGRAMS: Final = (2, 3, 4, 5)
EPOCHS: Final = 10
BATCH: Final = 128
FORGOTTEN: Final = 0.3
_EDGE: Final = 1
_BASE: Final = len(ALPHABET) + 2


@dataclass(frozen=True, slots=True)
class Size:
    """How large a net is: words and character n-grams it knows, and the width of their embeddings."""

    words: int
    grams: int
    width: int


SIZES: Final = (
    Size(8000, 12000, 16),
    Size(8000, 24000, 16),
    Size(9000, 40000, 12),
    Size(9000, 40000, 16),
    Size(9000, 58000, 16),
)
"""What `train.py --evaluate` compares."""


def build(texts: Sequence[str], size: Size) -> tuple[keras.Model, keras.Model, keras.Model]:
    """The whole net with the vocabulary of `texts`, and its two halves, which share its layers.

    The first half takes texts to known words and n-grams by number, int64 `(n, any)` each, 0 for unknown; the second,
    which is trained, takes those to probabilities.
    """
    text = keras.Input((), dtype="string", name="text")
    words = layers.TextVectorization(max_tokens=size.words, name="words")
    words.adapt(list(texts))
    word_ids = words(text)
    # 0 is padding and 1 an unknown word: both count for nothing.
    known_words = ops.maximum(word_ids - 1, 0)
    known_grams = layers.IntegerLookup(vocabulary=_common_grams(texts, size.grams), name="grams")(_codes(text))
    numbers = [known_words, known_grams]
    bags = [
        _bag(known_words, words.vocabulary_size() - 1, size.width, "word"),
        _bag(known_grams, size.grams + 1, size.width, "gram"),
    ]
    features = layers.Concatenate(name="features")(bags)
    kept = layers.Dropout(0.5, name="drop")(features)
    probabilities = layers.Dense(len(LABELS), activation="softmax", name="probabilities")(kept)
    whole = keras.Model(text, probabilities, name="products")
    return whole, keras.Model(text, numbers), keras.Model(numbers, probabilities)


def fit(entries: Sequence[Entry], size: Size, seed: int) -> keras.Model:
    """Train a net on the entries, forgetting some words and n-grams at each step; returns it uncompiled."""
    common.start(seed)
    texts, labels = examples(entries)
    model, strings, trained = build(texts, size)
    batches = _Batches(strings, texts, labels, seed)
    steps = EPOCHS * len(batches)
    trained.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, steps)),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.05),
    )
    trained.fit(batches, epochs=EPOCHS, verbose=0)
    return model


def _bag(numbers: Any, count: int, width: int, name: str) -> Any:
    """Sum of the embeddings of known tokens, each with its learned weight, over the root of the squared weights."""
    # Rare tokens are hardly trained: what they start with stays in the sum as noise, so they start with next to nothing.
    vectors = layers.Embedding(
        count, width, embeddings_initializer=keras.initializers.RandomNormal(stddev=0.001), name=f"{name}_vectors"
    )(numbers)
    weights = layers.Embedding(count, 1, embeddings_initializer="zeros", name=f"{name}_weights")(numbers)
    weights = ops.exp(weights) * ops.expand_dims(ops.cast(ops.not_equal(numbers, 0), "float32"), -1)
    total = ops.sum(vectors * weights, axis=1)
    return total / ops.sqrt(ops.sum(ops.square(weights), axis=1) + 1e-6)


def _codes(text: Any) -> Any:
    """One whole number for each character n-gram, int64 `(n, any)`: its characters as digits, edges of words as 1."""
    characters = layers.TextVectorization(
        standardize="lower", split="character", vocabulary=list(ALPHABET), name="characters"
    )(text)
    # 0 is padding and 1 any other character: both are edges.
    digits = ops.pad(ops.maximum(characters, _EDGE), ((0, 0), (1, max(NGRAMS))), constant_values=_EDGE)
    found = []
    for length in NGRAMS:
        code = digits[:, : 1 - length]
        for place in range(1, length):
            code = code * _BASE + digits[:, place : (place + 1 - length) or None]
        found.append(code)
    return ops.concatenate(found, axis=1)


def _common_grams(texts: Iterable[str], count: int) -> list[int]:
    """Codes of the n-grams that most texts have, an edge being the first or last character or not at all there."""
    number = dict(zip(ALPHABET, range(2, _BASE), strict=True))
    frequency: Counter[int] = Counter()
    for text in texts:
        words = "".join(c if c in number else " " for c in text.lower()).split()
        found = {
            word[start : start + length]
            for word in (f" {word} " for word in words)
            for length in NGRAMS
            for start in range(len(word) - length + 1)
        }
        for gram in found:
            code = 0
            for character in gram:
                code = code * _BASE + number.get(character, _EDGE)
            frequency[code] += 1
    ranked = sorted(frequency, key=lambda code: (-frequency[code], code))
    return ranked[:count]


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of numbered texts, tokens forgotten (set to 0) at random."""

    def __init__(self, strings: keras.Model, texts: Sequence[str], labels: Sequence[int], seed: int) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)
        self._numbers = [
            [row[row != 0] for row in np.asarray(column)]
            for column in strings(ops.convert_to_tensor(np.array(texts, dtype=object)))
        ]
        self._targets = np.eye(len(LABELS), dtype=np.float32)[list(labels)]
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._targets) / BATCH)

    def on_epoch_end(self) -> None:
        self._order = self._random.permutation(len(self._targets))

    def __getitem__(self, index: int) -> tuple[tuple[Any, ...], Any]:
        rows = self._order[index * BATCH : (index + 1) * BATCH]
        return tuple(self._padded([column[row] for row in rows]) for column in self._numbers), self._targets[rows]

    def _padded(self, rows: Sequence[Any]) -> Any:
        padded = np.zeros((len(rows), max(1, *map(len, rows))), dtype=np.int64)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = np.where(self._random.random(len(row)) < FORGOTTEN, 0, row)
        return padded
