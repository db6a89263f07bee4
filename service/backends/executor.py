"""How a version's graph is run: the seam between batching, which knows no framework, and the runtime, which does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hoverboard.contract.signature import Array

__all__ = ["Executor", "GraphError", "OutOfMemory", "run_in_pieces"]


class GraphError(Exception):
    """The graph raised on this batch: some sample in it is to blame, or the model."""


class OutOfMemory(Exception):
    """The accelerator or the host ran out of memory: the batch is too large, no sample is to blame."""


class Executor(Protocol):
    """One way to run one version's graph."""

    @property
    def name(self) -> str:
        """Such as `tf`, `tf-direct` or `tf-xla`; shown by `models.describe`."""

    def run(self, columns: Sequence[Array]) -> list[Array]:
        """Run one batch, blocking.

        Args:
            columns: one array per input, in the signature's order, each `(bucket, *shape)`.

        Returns:
            One array per output, in the signature's order, each `(bucket, *shape)`.

        Raises:
            GraphError: the graph raised.
            OutOfMemory: memory ran out.
        """

    def traces(self) -> int:
        """How often the graph has been traced; it must not grow once a version is live."""


def run_in_pieces(executor: Executor, columns: Sequence[Array], rows: int) -> list[Array]:
    """Run columns of any length at most `rows` at a time; arguments, answers and errors are those of `Executor.run`."""
    starts = range(0, len(columns[0]), rows)
    # All but the last piece have one size, so that a graph compiled by size is compiled twice at most.
    pieces = [executor.run([column[start : start + rows] for column in columns]) for start in starts]
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
