"""Batches to train on: texts as tokens in one row, half of the texts of no category, tokens forgotten at random."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from examples import common  # noqa: F401 - first: it chooses Keras's backend

# isort: split
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

__all__ = ["PADDING", "UNKNOWN", "Batches", "tensor_of"]

PADDING: Final = 0
UNKNOWN: Final = 1
BATCH: Final = 128
FORGOTTEN: Final = 0.3
DOUBT: Final = 0.5
"""Weight of a text of no category, beside 1 for a product's."""
_CHUNK: Final = 512

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of many texts in one row, by number, and their places; `ends` says where each text ends."""

    numbers: Numbers
    places: Numbers
    ends: Numbers

    def of(self, texts: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """The tokens of some texts, their places, and for each the index in `texts` of the one that it is of."""
        begins = np.concatenate([[0], self.ends[:-1]])[texts]
        lengths = self.ends[texts] - begins
        rows = np.repeat(np.arange(len(texts)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        chosen = begins[rows] + within
        return self.numbers[chosen], self.places[chosen], rows


class Batches:
    """Products in random order, and beside them as many texts of no category, drawn anew each epoch."""

    def __init__(
        self,
        strings: keras.Model,
        known: Sequence[str],
        targets: NDArray[np.float32],
        strange: Sequence[str],
        seed: int,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._words, self._grams = _tokens(strings, [*known, *strange])
        self._known = len(known)
        unsure = np.full((len(strange), targets.shape[1]), 1 / targets.shape[1], np.float32)
        self._targets = np.concatenate([targets, unsure])

    def __len__(self) -> int:
        """Batches an epoch."""
        return math.ceil(self._known / BATCH)

    def epoch(self) -> Iterator[tuple[Any, ...]]:
        """Words, n-grams (numbers, places and rows of each), targets and weights of the texts, batch by batch."""
        known = self._random.permutation(self._known)
        strange = self._known + self._random.permutation(len(self._targets) - self._known)
        for start in range(0, self._known, BATCH):
            beside = strange.take(range(start, start + BATCH), mode="wrap")
            texts = np.concatenate([known[start : start + BATCH], beside])
            weights = np.where(texts < self._known, 1, DOUBT).astype(np.float32)
            yield (
                *self._forgetful(self._words, texts),
                *self._forgetful(self._grams, texts),
                self._targets[texts],
                weights,
            )

    def _forgetful(self, tokens: _Tokens, texts: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        numbers, places, rows = tokens.of(texts)
        return np.where(self._random.random(len(numbers)) < FORGOTTEN, UNKNOWN, numbers), places, rows


def tensor_of(texts: Sequence[str]) -> Any:
    """Texts as models take them: a tensor of strings `(n,)`."""
    return ops.convert_to_tensor(np.array(texts, dtype=object))


def _tokens(strings: keras.Model, texts: Sequence[str]) -> tuple[_Tokens, _Tokens]:
    """Words and n-grams of the texts, without padding."""
    chunks: tuple[list[_Tokens], list[_Tokens]] = ([], [])
    for start in range(0, len(texts), _CHUNK):
        words, word_places, grams, gram_places = map(np.asarray, strings(tensor_of(texts[start : start + _CHUNK])))
        chunks[0].append(_without_padding(words, word_places))
        chunks[1].append(_without_padding(grams, gram_places))
    return _joined(chunks[0]), _joined(chunks[1])


def _without_padding(numbers: Any, places: Any) -> _Tokens:
    there = numbers != PADDING
    return _Tokens(numbers[there], places[there], np.cumsum(there.sum(axis=1)))


def _joined(chunks: Sequence[_Tokens]) -> _Tokens:
    before = np.cumsum([0, *(len(chunk.numbers) for chunk in chunks)])
    ends = [chunk.ends + count for chunk, count in zip(chunks, before[:-1], strict=True)]
    return _Tokens(
        np.concatenate([chunk.numbers for chunk in chunks]),
        np.concatenate([chunk.places for chunk in chunks]),
        np.concatenate(ends),
    )
