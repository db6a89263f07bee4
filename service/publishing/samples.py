"""Golden samples: the publisher's own, or drawn from the signature where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from hoverboard.codec.arrays import Codec
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import InvalidParams, PublishError

__all__ = ["SIZES", "chosen", "drawn"]

_MOST: Final = 8
SIZES: Final = (4, 32, 256)
"""Elements along a variable dimension of a drawn sample: the next where the graph needs more."""
_TEXT: Final = b"an example of some text"


def chosen(signature: Signature, instances: Sequence[Any]) -> list[tuple[Array, ...]]:
    """Up to eight of the publisher's instances, evenly spread, each as columns `(1, *shape)`.

    Raises:
        PublishError: an instance breaks the contract; it is named.
    """
    if not instances:
        raise PublishError("samples: the list is empty")
    picks = sorted({round(i) for i in np.linspace(0, len(instances) - 1, min(_MOST, len(instances)))})
    codec = Codec(signature)
    found = []
    for pick in picks:
        try:
            columns, _ = codec.decode_instances([instances[pick]])
        except InvalidParams as error:
            details = error.details or {}
            place = str(details.get("pointer", "")).replace("/instances/0", f"/{pick}", 1)
            raise PublishError(f"samples: {place}: expected {details['expected']}, got {details['got']}") from error
        found.append(tuple(columns))
    return found


def drawn(inputs: Sequence[TensorSpec], size: int = SIZES[0]) -> list[tuple[Array, ...]]:
    """Four samples from the signature alone, the same ones every time; variable dimensions have `size` elements, or the nearest
    number that their limits allow.
    """
    generator = np.random.default_rng(0)
    return [tuple(_draw(generator, spec, size) for spec in inputs) for _ in range(4)]


def _draw(generator: np.random.Generator, spec: TensorSpec, size: int) -> Array:
    most = size if spec.max_length is None or spec.dtype == STRING else min(size, spec.max_length)
    shape = (1, *(max(least, most) if dim is None else dim for dim, least in zip(spec.shape, spec.least, strict=True)))
    if spec.allowed is not None:
        picks = generator.choice(len(spec.allowed), shape)
        values = [v.encode() if isinstance(v, str) else v for v in spec.allowed]
        column = np.empty(shape, dtype=object if spec.dtype == STRING else spec.dtype)
        for index, pick in np.ndenumerate(picks):
            column[index] = values[pick]
        return column
    if spec.dtype == STRING:
        column = np.empty(shape, dtype=object)
        column[...] = _TEXT[: spec.max_length]
        return column
    low = 0.0 if spec.min is None else spec.min
    high = low + 1.0 if spec.max is None else spec.max
    if spec.min is None and spec.max is not None:
        low = min(0.0, high - 1.0)
    if spec.dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    if "int" in spec.dtype:
        return generator.integers(int(np.ceil(low)), int(np.floor(high)) + 1, shape).astype(spec.dtype)
    return generator.uniform(low, high, shape).astype(spec.dtype)
