"""The least size of each free dimension of a version's inputs: with fewer elements its graph cannot answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from hoverboard.backends.executor import Executor, GraphError, OutOfMemory
from hoverboard.backends.graph import TOO_SHORT, Fit, Graph, Shapes
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.versions import GoldenSample, GoldenSet

__all__ = ["with_least"]

_BUDGET_S: Final = 10.0
_STEPS: Final = 512
_Sizes = tuple[tuple[int, ...], ...]  # of each input's sample, without the batch axis


def with_least(
    graph: Graph, signature: Signature, golden: GoldenSet, shapes: Shapes | None = None
) -> tuple[TensorSpec, ...]:
    """A version's inputs, each with the least sizes that its graph can answer as its `min_length`.

    Args:
        graph: the graph.
        signature: of the version; what its inputs say of least sizes already is kept.
        golden: samples that it can answer, so that no least size is above theirs.
        shapes: of the graph, where they are at hand.

    Raises:
        VersionRefused: as `Graph.executor` does.
    """
    unknown = [place for place, spec in enumerate(signature.inputs) if spec.variable and spec.min_length is None]
    if not unknown:
        return signature.inputs
    least = _Search(graph, signature, golden, shapes or graph.shapes(signature)).least()
    return tuple(
        replace(spec, min_length=_min_length(spec, least[place])) if place in unknown else spec
        for place, spec in enumerate(signature.inputs)
    )


def _min_length(spec: TensorSpec, least: Sequence[int]) -> int | tuple[int, ...]:
    free = [size for size, dim in zip(least, spec.shape, strict=True) if dim is None]
    return free[0] if len(set(free)) == 1 else tuple(free)


class _Search:
    """Changes one dimension after the other; all others keep the sizes of a golden sample meanwhile."""

    def __init__(self, graph: Graph, signature: Signature, golden: GoldenSet, shapes: Shapes) -> None:
        self._graph, self._signature, self._shapes = graph, signature, shapes
        self._until = time.monotonic() + _BUDGET_S
        self._known: dict[_Sizes, Fit] = {}
        self._executor: Executor | None = None
        each = [_sizes(sample) for sample in golden.samples]
        self._smallest = [tuple(map(min, zip(*sizes, strict=True))) for sizes in zip(*each, strict=True)]
        self._sample = max(golden.samples, key=lambda sample: sum(column.size for column in sample.inputs)).inputs
        self._good = tuple(column.shape[1:] for column in self._sample)

    def least(self) -> _Sizes:
        """The least size of each dimension of each input; of a fixed one, its size."""
        least = self._mapped(self._axis)
        if self._fit(least) is not Fit.SHORT:
            return least
        # Each will do beside larger ones only, as where inputs are added up.
        most = max(max(sizes, default=0) for sizes in self._smallest)
        size = self._first_wide(lambda size: self._fit(self._raised(least, size)), most)
        return self._raised(least, size)

    def _raised(self, sizes: _Sizes, least: int) -> _Sizes:
        """Free dimensions of at least some size, as far as golden samples are as large."""
        return self._mapped(lambda place, axis: max(sizes[place][axis], min(least, self._smallest[place][axis])))

    def _mapped(self, size: Callable[[int, int], int]) -> _Sizes:
        return tuple(
            tuple(size(place, axis) if dim is None else dim for axis, dim in enumerate(spec.shape))
            for place, spec in enumerate(self._signature.inputs)
        )

    def _axis(self, place: int, axis: int) -> int:
        if self._fit(self._good) is not Fit.GOOD:
            return 0  # yet it was answered: shapes tell nothing of this graph
        most: int = self._smallest[place][axis]
        empty, fit = self._resized(place, axis, 0)
        if fit is Fit.GOOD:
            return 0 if self._answers(empty) else min(1, most)
        fits: Callable[[int], Fit] = lambda size: self._resized(place, axis, size)[1]  # noqa: E731
        return min(self._first_good(fits, self._first_wide(fits, most), most), most)

    def _first_wide(self, fits: Callable[[int], Fit], most: int) -> int:
        """The first size that every window finds enough in; more never makes one find too little."""
        low, high = 0, 1  # doubled until it fits, then halved in between: each try infers the whole graph's shapes
        while high < most and fits(high) is Fit.SHORT:
            if self._late():
                return most
            low, high = high, 2 * high
        high = min(high, most)
        while high - low > 1 and not self._late():
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) is Fit.SHORT else (low, middle)
        return high

    def _first_good(self, fits: Callable[[int], Fit], size: int, most: int) -> int:
        """The first size from one on that fits in all ways, where one is found."""
        for larger in range(size, min(most, size + _STEPS)):
            if self._late():
                break
            if fits(larger) is Fit.GOOD:
                return larger
        return size  # perhaps it depends on another input's in a way that is not guessed here

    def _resized(self, place: int, axis: int, size: int) -> tuple[_Sizes, Fit]:
        """One dimension of another size; where it does not go with the others then, all of them that are as large."""
        good = self._good
        alone = self._mapped(lambda i, a: size if (i, a) == (place, axis) else good[i][a])
        fit = self._fit(alone)
        if fit is not Fit.OTHER:
            return alone, fit
        together = self._mapped(lambda i, a: size if good[i][a] == good[place][axis] else good[i][a])
        return together, self._fit(together)

    def _fit(self, sizes: _Sizes) -> Fit:
        if sizes not in self._known:
            fit = self._shapes.fit(sizes)
            # Only a graph that looks by itself may be run to find out: others might answer with unset memory, or divide by zero.
            if fit is Fit.GOOD and self._shapes.checked and TOO_SHORT in (self._failure(sizes) or ""):
                fit = Fit.SHORT  # for a window behind a loop, say, whose length shapes do not tell
            self._known[sizes] = fit
        return self._known[sizes]

    def _late(self) -> bool:
        return time.monotonic() > self._until

    def _answers(self, sizes: _Sizes) -> bool:
        """Whether a part of the sample is answered."""
        return self._failure(sizes) is None

    def _failure(self, sizes: _Sizes) -> str | None:
        """Why the graph does not answer a part of the sample; asked where shapes see nothing wrong, so that it does no harm."""
        if self._executor is None:
            self._executor = self._graph.executor(self._signature)
        parts = [column[(slice(None), *map(slice, size))] for column, size in zip(self._sample, sizes, strict=True)]
        try:
            outputs = self._executor.run(parts)
        except (GraphError, OutOfMemory) as error:
            return str(error)
        fine = all(_valid(spec, output) for spec, output in zip(self._signature.outputs, outputs, strict=False))
        return None if fine else "no answer"


def _sizes(sample: GoldenSample) -> _Sizes:
    return tuple(column.shape[1:] for column in sample.inputs)


def _valid(spec: TensorSpec, output: Array) -> bool:
    suits = output.ndim == len(spec.shape) + 1 and all(
        want in (None, have) for have, want in zip(output.shape, (1, *spec.shape), strict=True)
    )
    numbers = spec.finite and spec.dtype != STRING and output.dtype.kind == "f"
    return suits and not (numbers and not np.isfinite(output).all())
