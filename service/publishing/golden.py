"""Golden samples, with what the graph answers to them: the publisher's own, or drawn from the signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from hoverboard.backends.authoring import Draft
from hoverboard.backends.executor import GraphError, OutOfMemory
from hoverboard.codec.arrays import Codec
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import InvalidParams, PublishError, VersionRefused
from hoverboard.publishing.lengths import Lengths
from hoverboard.versions import GoldenSample, GoldenSet

__all__ = ["SIZES", "drawn", "golden_set"]

_MOST: Final = 8
SIZES: Final = (4, 32, 256)
"""Elements along a variable dimension of a drawn sample: the next where the graph needs more."""
_TEXT: Final = b"an example of some text"


def golden_set(graph: Draft, signature: Signature, lengths: Lengths, instances: Sequence[Any] | None) -> GoldenSet:
    """Samples that the graph has answered twice, the same way.

    Args:
        graph: as it will be served.
        signature: of the version.
        lengths: told of every sample.
        instances: the publisher's; None draws samples from the signature.

    Raises:
        PublishError: a sample breaks the contract, the graph fails on it, or has no answer that can be repeated.
    """
    if instances is None:
        return _drawn(graph, signature, lengths)
    return _answered(graph, signature, lengths, _chosen(signature, instances))


def _drawn(graph: Draft, signature: Signature, lengths: Lengths) -> GoldenSet:
    """Golden samples from the signature alone; where lengths are free, larger ones until the graph can answer them."""
    sizes = SIZES if any(spec.variable for spec in signature.inputs) else SIZES[:1]
    for size in sizes:
        try:
            return _answered(graph, signature, lengths, drawn(signature.inputs, size))
        except PublishError:
            # A graph may need more than a small sample has, as a convolution does; more than the largest is a fault of its own.
            if size == sizes[-1]:
                raise
    raise AssertionError


def _answered(graph: Draft, signature: Signature, lengths: Lengths, samples: Sequence[tuple[Array, ...]]) -> GoldenSet:
    """Samples with what the graph answers to each, which must be the same when it is asked again."""
    for columns in samples:
        lengths.check(columns)
    try:
        executor = graph.executor(signature)
        golden = GoldenSet(tuple(GoldenSample(sample, tuple(executor.run(sample))) for sample in samples))
        # Dropout that is left on, or a state between calls, shows only when it is asked a second time.
        again = [executor.run(sample) for sample in samples]
    except (GraphError, OutOfMemory, VersionRefused) as error:
        raise PublishError(
            f"the model fails on a golden sample: {error}; give samples it can answer with --samples"
        ) from error
    for index, (sample, outputs) in enumerate(zip(golden.samples, again, strict=True)):
        for spec, output in zip(signature.outputs, sample.outputs, strict=True):
            if output.dtype.kind == "f" and not np.isfinite(output).all():
                raise PublishError(
                    f"output {spec.name} of a golden sample is NaN or infinite; {_finite_instead(output)}"
                )
        problem = golden.mismatch(signature, index, outputs)
        if problem:
            raise PublishError(
                f"{problem}: the model gives other values each time it is asked. Something in it is random (dropout or noise "
                "with training=True, sampling) or keeps a state (a stateful RNN): make it answer the same sample the same way"
            )
    return golden


def _finite_instead(output: Array) -> str:
    if np.isneginf(output).any() and not (np.isnan(output) | np.isposinf(output)).any():
        return (
            "-Infinity is no answer in JSON. Where the model masks logits of classes that cannot be, mask them with a large "
            "negative number, such as -1e9, or end it in a softmax. Else give samples it can answer with --samples"
        )
    return "give samples it can answer with --samples"


def _chosen(signature: Signature, instances: Sequence[Any]) -> list[tuple[Array, ...]]:
    """Up to eight of the publisher's instances, evenly spread, each as columns `(1, *shape)`.

    Raises:
        PublishError: an instance breaks the contract; it is named.
    """
    if not instances:
        raise PublishError("samples: the list is empty")
    # Spread over all of them: samples are often sorted, and the first eight would be of one class.
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
    # The same seed always, so that publishing a model again gives the same version.
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
