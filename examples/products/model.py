"""The products net: bags of words and of character n-grams, weighed, summed and projected; the text goes in as it is."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from examples import common  # first: it chooses Keras's backend

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from examples.products.batches import PADDING, UNKNOWN, Batches
from examples.products.data import LABELS, SHOP, STYLES, Entry, examples, texts

__all__ = ["SIZES", "Net", "Size", "build", "fit"]

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
NGRAMS: Final = (2, 3, 4, 5)
EPOCHS: Final = 10
PLACES: Final = 32
_CHARACTERS_A_PLACE: Final = 4
_EDGE: Final = 1
_BASE: Final = len(ALPHABET) + 2


@dataclass(frozen=True, slots=True)
class Size:
    """How large a net is: words and character n-grams it knows, and the width of their embeddings."""

    words: int
    grams: int
    width: int


SIZES: Final = (
    Size(10000, 20000, 32),
    Size(8000, 12000, 16),
    Size(4000, 6000, 12),
    Size(3000, 4500, 8),
)
"""What `train.py --evaluate` compares, largest first."""


@dataclass(frozen=True, slots=True)
class Net:
    """A net and what it is trained through.

    Attributes:
        whole: from text to probabilities.
        strings: from text to words and n-grams by number and their places, int64 `(n, any)` each; number 0 is padding,
            1 unknown.
        bags: of words and of n-grams.
        head: dropout and the dense layer, from features to probabilities.
    """

    whole: keras.Model
    strings: keras.Model
    bags: tuple[_Bag, _Bag]
    head: tuple[keras.Layer, keras.Layer]


def build(given: Sequence[str], size: Size, labels: Sequence[str] = LABELS) -> Net:
    """An untrained net for `labels` with the vocabulary of `given`."""
    text = keras.Input((), dtype="string", name="text")
    lookup = layers.TextVectorization(max_tokens=size.words, name="words")
    lookup.adapt(list(given))
    words = lookup(text)
    codes, gram_places = _codes(text)
    grams = layers.IntegerLookup(vocabulary=_common_grams(given, size.grams), mask_token=PADDING, name="grams")(codes)
    numbers = [words, ops.minimum(_index(words), PLACES - 1), grams, gram_places]
    bags = _Bag(lookup.vocabulary_size(), size.width, "word"), _Bag(size.grams + 2, size.width, "gram")
    features = layers.Concatenate(name="features")([bags[0].padded(*numbers[:2]), bags[1].padded(*numbers[2:])])
    head = layers.Dropout(0.5, name="drop"), layers.Dense(len(labels), activation="softmax", name="probabilities")
    probabilities = functools.reduce(lambda found, layer: layer(found), head, features)
    return Net(keras.Model(text, probabilities, name="products"), keras.Model(text, numbers), bags, head)


def fit(
    entries: Sequence[Entry], others: Sequence[Entry], size: Size, seed: int, *, labels: Sequence[str] = LABELS
) -> keras.Model:
    """Train a net, forgetting some words and n-grams at each step; returns it uncompiled.

    Args:
        entries: products, all of them of `labels`.
        others: entries of no category, for which every label shall be as probable as the next.
        size: of the net.
        seed: of its start and of what is forgotten.
        labels: the labels it is to know, in order.
    """
    common.start(seed)
    known, found = examples(entries)
    strange = [text for style in (*STYLES, SHOP) for text in texts(others, style)]
    net = build(known, size, labels)
    targets = np.eye(len(labels), dtype=np.float32)[[labels.index(LABELS[label]) for label in found]]
    batches = Batches(net.strings, known, targets, strange, seed)
    step = _step(net, keras.optimizers.schedules.CosineDecay(1e-2, EPOCHS * len(batches)))
    for _ in range(EPOCHS):
        for batch in batches.epoch():
            step(*batch)
    return net.whole


def _step(net: Net, rate: Any) -> Callable[..., None]:
    """One step of training, compiled: tokens, places and rows of words and of n-grams, targets, weights of texts."""
    variables = net.whole.trainable_variables
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(variables)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.05)
    words, grams = net.bags
    drop, dense = net.head

    def step(*batch: Any) -> None:
        targets, weights = batch[6:]
        count = ops.shape(targets)[0]
        with tf.GradientTape() as tape:
            bags = [words.flat(*batch[:3], count=count), grams.flat(*batch[3:6], count=count)]
            wrong = loss(targets, dense(drop(ops.concatenate(bags, axis=1), training=True)), sample_weight=weights)
        optimizer.apply(tape.gradient(wrong, variables), variables)

    whole, real = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None,), tf.float32)
    signature = [*[whole] * 6, tf.TensorSpec((None, dense.units), tf.float32), real]
    compiled: Callable[..., None] = tf.function(step, input_signature=signature)
    return compiled


class _Bag:
    """Sum of the embeddings of known tokens, each with its learned weight, over the root of all squared weights.

    A token's weight is its own times that of its place. Unknown ones weigh, too, and add nothing: the more of a text
    is unknown, the shorter its sum.
    """

    def __init__(self, count: int, width: int, name: str) -> None:
        # Rare tokens are hardly trained: what they start with stays in the sum as noise, so it is next to nothing.
        start = keras.initializers.RandomNormal(stddev=0.001)
        self._vectors = layers.Embedding(count, width, embeddings_initializer=start, name=f"{name}_vectors")
        self._own = layers.Embedding(count, 1, embeddings_initializer="zeros", name=f"{name}_weights")
        self._of_place = layers.Embedding(PLACES, 1, embeddings_initializer="zeros", name=f"{name}_places")

    def padded(self, numbers: Any, places: Any) -> Any:
        """Float32 `(n, width)` of tokens and places `(n, any)`."""
        vectors, squares = self._weighed(numbers, places)
        return _pooled(ops.sum(vectors, axis=1), ops.sum(squares, axis=1))

    def flat(self, numbers: Any, places: Any, rows: Any, *, count: Any) -> Any:
        """The same of tokens in one row, `(any,)`, each with the text that it is of: half of a padded batch is padding."""
        summed = [ops.segment_sum(one, rows, num_segments=count) for one in self._weighed(numbers, places)]
        return _pooled(*summed)

    def _weighed(self, numbers: Any, places: Any) -> tuple[Any, Any]:
        weights = ops.exp(self._own(numbers) + self._of_place(places)) * _where(numbers > PADDING)
        return self._vectors(numbers) * weights * _where(numbers > UNKNOWN), ops.square(weights)


def _pooled(total: Any, squares: Any) -> Any:
    return total / ops.sqrt(squares + 1e-6)


def _where(condition: Any) -> Any:
    return ops.expand_dims(ops.cast(condition, "float32"), -1)


def _index(numbers: Any) -> Any:
    """0, 1, 2, ... along the second axis."""
    return ops.cumsum(ops.ones_like(numbers), axis=1) - 1


def _codes(text: Any) -> tuple[Any, Any]:
    """The character n-grams within words and their places, int64 `(n, any)` each.

    A code has the n-gram's characters as digits, an edge of the word as 1; 0 stands where there is none.
    """
    characters = layers.TextVectorization(
        standardize="lower", split="character", vocabulary=list(ALPHABET), name="characters"
    )(text)
    # 0 is padding and 1 any other character: both are edges.
    digits = ops.pad(ops.maximum(characters, _EDGE), ((0, 0), (1, max(NGRAMS))), constant_values=_EDGE)
    places = ops.minimum(_index(digits) // _CHARACTERS_A_PLACE, PLACES - 1)
    codes = []
    for length in NGRAMS:
        parts = [digits[:, place : (place + 1 - length) or None] for place in range(length)]
        code = functools.reduce(lambda found, part: found * _BASE + part, parts)
        within = functools.reduce(ops.minimum, parts[1:-1]) if length > 2 else ops.maximum(*parts)
        codes.append(ops.where(within > _EDGE, code, PADDING))
    return ops.concatenate(codes, axis=1), ops.concatenate([places[:, : 1 - length] for length in NGRAMS], axis=1)


def _common_grams(given: Iterable[str], count: int) -> list[int]:
    """Codes of the n-grams that most texts have, an edge being the first or last character or not at all there."""
    number = dict(zip(ALPHABET, range(2, _BASE), strict=True))
    frequency: Counter[int] = Counter()
    for text in given:
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
