"""What the products net has read, as rows of hashed character n-grams, and how like it a text is, by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from examples import common  # noqa: F401 - first: it chooses Keras's backend

# isort: split
import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from examples.products.batches import tensor_of
from examples.products.ngrams import PAIRS

__all__ = ["Memory"]

SHARPNESS: Final = 40.0
"""Of the soft maximum over the rows of a class."""
BUCKETS: Final = (32, 16)
_LEVELS: Final = 31
"""Steps of a stored number on each side of 0: few, so that a model's file can be compressed."""
_MULTIPLIER: Final = 1_000_003
_PRIME: Final = 2_147_483_647
_CHUNK: Final = 256


class Memory:
    """A nearest-neighbour classifier in layers: for each class the cosine of a text to the most similar row of it.

    A net learns what tells its classes apart, and forgets what else a text says: to it whatever is electric and has a
    wheel is a vehicle. Whether it has read of such a thing before is another question, and this answers it.

    Rows are TF-IDF of n-grams, hashed with signs (Weinberger et al., 2009, "Feature hashing for large scale multitask
    learning"), of length 1. The logarithm of a class's sum of `exp(SHARPNESS * cosine)` is, but for its scale, that
    of a kernel density (von Mises-Fisher).
    """

    def __init__(self, rows: int, grams: int, classes: int) -> None:
        """Layers for `rows` texts of some `classes`, and `grams` numbers of n-grams, 0 and 1 included."""
        self._idf = layers.Embedding(grams, 1, embeddings_initializer="zeros", trainable=False, name="gram_idf")
        self._rows = layers.Dense(rows, use_bias=False, trainable=False, name="memory")
        self._classes = layers.Dense(classes, use_bias=False, trainable=False, name="memory_classes")

    def vectors(self, codes: Any, numbers: Any) -> Any:
        """Float32 `(n, 512)` of length 1, or 0 where there are no n-grams, from n-grams `(n, any)` as codes and as numbers."""
        high, low = BUCKETS
        hashed = ops.mod(codes * _MULTIPLIER, _PRIME)
        sign = 1 - 2 * ops.mod(hashed // (high * low), 2)
        weights = self._idf(numbers) * ops.expand_dims(ops.cast(sign, "float32"), -1)
        # A sum over one-hot vectors of 512 would be large; that of products of two short ones is the same.
        first = ops.one_hot(ops.mod(hashed // low, high), high) * weights
        second = ops.one_hot(ops.mod(hashed, low), low)
        total = ops.reshape(ops.matmul(ops.transpose(first, (0, 2, 1)), second), (-1, high * low))
        return total / ops.sqrt(ops.sum(ops.square(total), axis=1, keepdims=True) + 1e-6)

    def likeness(self, vectors: Any) -> Any:
        """Float32 `(n, classes)`: about the greatest cosine to a row of each class, and above it by at most the logarithm of
        the class's rows over `SHARPNESS`, 0.16 with 600 of them.
        """
        near = ops.exp((self._rows(vectors) - 1) * SHARPNESS)
        return 1 + ops.log(self._classes(near) + 1e-17) / SHARPNESS

    def weigh(self, frequency: Mapping[int, int], count: int, vocabulary: Sequence[int]) -> None:
        """Set the weight of each n-gram: its inverse document frequency; that of the rarest for those without a number.

        Args:
            frequency: code of an n-gram -> how many of `count` texts it is in.
            count: of texts.
            vocabulary: codes of the n-grams that have a number, from 2 on.
        """
        inverse = [np.log((1 + count) / (1 + frequency[code])) + 1 for code in vocabulary]
        # Common pairs of characters are in every text, and say nothing. A rare one counts as all that is rare.
        known = [0.0 if code < PAIRS else one for code, one in zip(vocabulary, inverse, strict=True)]
        self._idf.set_weights([np.array([0.0, max(inverse), *known], np.float32)[:, None]])

    def fill(self, vectors: keras.Model, texts: Sequence[str], labels: Sequence[int]) -> None:
        """Remember texts, one a row, and their classes; `vectors` is the model from text to what the method gives."""
        chunks = [
            np.asarray(vectors(tensor_of(texts[start : start + _CHUNK]))) for start in range(0, len(texts), _CHUNK)
        ]
        rows: NDArray[np.float32] = np.concatenate(chunks)
        step = np.abs(rows).max() / _LEVELS
        self._rows.set_weights([(np.round(rows / step) * step).astype(np.float32).T])
        self._classes.set_weights([np.eye(self._classes.units, dtype=np.float32)[np.asarray(labels)]])
