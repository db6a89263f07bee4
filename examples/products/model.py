"""The products net: bags of words and of character n-grams, weighed, summed and projected; the text goes in as it is.

Beside them stands a memory of what it was trained on. The less a text is like anything of a class, the less the answer
is that class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from examples.products.memory import Memory
from examples.products.ngrams import PLACES, frequencies, index, symbolic

__all__ = ["SIZES", "Net", "Size", "build", "fit"]

EPOCHS: Final = 10
LIKENESS: Final = 14.0
"""Weight of a class's likeness, a cosine, in its logit."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a net is: words and character n-grams it knows, and the width of their embeddings."""

    words: int
    grams: int
    width: int


SIZES: Final = (
    Size(10000, 14000, 24),
    Size(8000, 12000, 16),
    Size(4000, 6000, 12),
    Size(3000, 4500, 8),
)
"""What `train.py --evaluate` compares, largest first."""


@dataclass(frozen=True, slots=True)
class Net:
    """A net and what it is trained through.

    Attributes:
        whole: from text to probabilities; `fit` fills the memory and the last layer.
        bare: the part of it that is trained, without memory.
        strings: from text to words and n-grams by number and their places, int64 `(n, any)` each; number 0 is padding,
            1 unknown.
        bags: of words and of n-grams.
        memory: of products.
        vectors: from text to what memory keeps of it.
        head: of `bare`: dropout and the dense layer, from sums to probabilities.
    """

    whole: keras.Model
    bare: keras.Model
    strings: keras.Model
    bags: tuple[_Bag, _Bag]
    memory: Memory
    vectors: keras.Model
    head: tuple[keras.Layer, keras.Layer]


def build(given: Sequence[str], size: Size, rows: int, strange: Sequence[str], labels: Sequence[str]) -> Net:
    """An untrained net for `labels` with the vocabulary of `given`, and memory for as many `rows`.

    Args:
        strange: other texts, of which memory learns, too, what is rare and what is common.
    """
    text = keras.Input((), dtype="string", name="text")
    lookup = layers.TextVectorization(max_tokens=size.words, name="words")
    lookup.adapt(list(given))
    words = lookup(text)
    codes, gram_places = symbolic(text)
    frequency = frequencies(given)
    common_grams = sorted(frequency, key=lambda code: (-frequency[code], code))[: size.grams]
    grams = layers.IntegerLookup(vocabulary=common_grams, mask_token=PADDING, name="grams")(codes)
    memory = Memory(rows, len(common_grams) + 2, len(labels))
    vectors = memory.vectors(codes, grams)
    memory.weigh(frequency + frequencies(strange), len(given) + len(strange), common_grams)
    numbers = [words, ops.minimum(index(words), PLACES - 1), grams, gram_places]
    bags = _Bag(lookup.vocabulary_size(), size.width, "word"), _Bag(len(common_grams) + 2, size.width, "gram")
    sums = layers.Concatenate(name="sums")([bags[0].padded(*numbers[:2]), bags[1].padded(*numbers[2:])])
    features = layers.Concatenate(name="features")([sums, memory.likeness(vectors)])
    drop, dense = layers.Dropout(0.5), layers.Dense(len(labels), activation="softmax")
    last = layers.Dense(len(labels), activation="softmax", name="probabilities")
    return Net(
        keras.Model(text, last(features), name="products"),
        keras.Model(text, dense(drop(sums))),
        keras.Model(text, numbers),
        bags,
        memory,
        keras.Model(text, vectors),
        (drop, dense),
    )


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
    net = build(known, size, len(entries), strange, labels)
    targets = np.eye(len(labels), dtype=np.float32)[[labels.index(LABELS[label]) for label in found]]
    batches = Batches(net.strings, known, targets, strange, seed)
    step = _step(net, keras.optimizers.schedules.CosineDecay(1e-2, EPOCHS * len(batches)))
    for _ in range(EPOCHS):
        for batch in batches.epoch():
            step(*batch)
    numbers = {LABELS.index(label): number for number, label in enumerate(labels)}
    net.memory.fill(net.vectors, texts(entries, STYLES[0]), [numbers[entry.label] for entry in entries])
    kernel, bias = net.head[1].get_weights()
    net.whole.get_layer("probabilities").set_weights([np.concatenate([kernel, LIKENESS * np.eye(len(labels))]), bias])
    return net.whole


def _step(net: Net, rate: Any) -> Callable[..., None]:
    """One step of training, compiled: tokens, places and rows of words and of n-grams, targets, weights of texts."""
    variables = net.bare.trainable_variables
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
