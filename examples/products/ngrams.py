"""Character n-grams within words, as numbers: in a model's graph, and of texts at hand."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from examples import common  # noqa: F401 - first: it chooses Keras's backend

# isort: split
from keras import layers, ops

from examples.products.batches import PADDING

__all__ = ["PAIRS", "PLACES", "frequencies", "index", "symbolic"]

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
NGRAMS: Final = (2, 3, 4, 5)
PLACES: Final = 32
_CHARACTERS_A_PLACE: Final = 4
_EDGE: Final = 1
_BASE: Final = len(ALPHABET) + 2
_NUMBER: Final = dict(zip(ALPHABET, range(2, _BASE), strict=True))
PAIRS: Final = _BASE**2
"""Codes of n-grams of two are below this, those of longer ones are not."""


def symbolic(text: Any) -> tuple[Any, Any]:
    """The n-grams of texts and their places, int64 `(n, any)` each.

    A code has the n-gram's characters as digits, an edge of the word as 1; 0 stands where there is none.
    """
    characters = layers.TextVectorization(
        standardize="lower", split="character", vocabulary=list(ALPHABET), name="characters"
    )(text)
    # 0 is padding and 1 any other character: both are edges.
    digits = ops.pad(ops.maximum(characters, _EDGE), ((0, 0), (1, max(NGRAMS))), constant_values=_EDGE)
    places = ops.minimum(index(digits) // _CHARACTERS_A_PLACE, PLACES - 1)
    codes = []
    for length in NGRAMS:
        parts = [digits[:, place : (place + 1 - length) or None] for place in range(length)]
        code = functools.reduce(lambda found, part: found * _BASE + part, parts)
        within = functools.reduce(ops.minimum, parts[1:-1]) if length > 2 else ops.maximum(*parts)
        codes.append(ops.where(within > _EDGE, code, PADDING))
    return ops.concatenate(codes, axis=1), ops.concatenate([places[:, : 1 - length] for length in NGRAMS], axis=1)


def index(numbers: Any) -> Any:
    """0, 1, 2, ... along the second axis."""
    return ops.cumsum(ops.ones_like(numbers), axis=1) - 1


def _codes_of(text: str) -> set[int]:
    """Codes of the n-grams of one text, as `symbolic` has them."""
    words = "".join(c if c in _NUMBER else " " for c in text.lower()).split()
    found = {
        word[start : start + length]
        for word in (f" {word} " for word in words)
        for length in NGRAMS
        for start in range(len(word) - length + 1)
    }
    return {functools.reduce(lambda code, c: code * _BASE + _NUMBER.get(c, _EDGE), gram, 0) for gram in found}


def frequencies(texts: Iterable[str]) -> Counter[int]:
    """In how many texts each n-gram is, by code."""
    return Counter(code for text in texts for code in _codes_of(text))
