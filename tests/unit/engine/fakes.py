"""An executor that computes in NumPy, and a version around it: the batching under test is the real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from hoverboard.backends.executor import GraphError, OutOfMemory
from hoverboard.contract.calls import PredictCall
from hoverboard.contract.signature import Array, TensorSpec
from hoverboard.engine.buckets import CostModel
from hoverboard.engine.live import LiveVersion
from hoverboard.versions import Manifest

INPUT = TensorSpec("x", "float32", (2,))
OUTPUT = TensorSpec("y", "float32", (2,))


class Doubling:
    """y = 2x; raises for a row that holds 666, runs out of memory above `memory` rows."""

    name = "numpy"

    def __init__(self, memory: int = 10**9) -> None:
        self.memory = memory
        self.batches: list[int] = []

    def run(self, columns: Sequence[Array]) -> list[Array]:
        (x,) = columns
        self.batches.append(len(x))
        if len(x) > self.memory:
            raise OutOfMemory("too many rows")
        if (x == 666).any():
            raise GraphError("poison")
        return [2 * x]

    def traces(self) -> int:
        return 1


def version(
    executor: Doubling | None = None, timings: dict[int, float] | None = None, number: int = 1, name: str = "m"
) -> LiveVersion:
    manifest = Manifest(
        name=name,
        version=number,
        created="2026-01-01T00:00:00+00:00",
        artifact="model.keras",
        task="raw",
        inputs=(INPUT,),
        outputs=(OUTPUT,),
        sha256={},
    )
    costs = CostModel(timings or {1: 0.001, 4: 0.0018, 16: 0.0035})
    return LiveVersion(manifest, executor or Doubling(), costs, (), 8, 1.0)


def call(
    live: LiveVersion,
    n: int = 1,
    deadline: float = 10.0,
    wanted: int | str = "stable",
    fill: float = 1.0,
    *,
    source: int = 0,
) -> PredictCall:
    column = np.full((n, 2), fill, np.float32)
    return PredictCall(live.key[0], wanted, live.fingerprint, (column,), n, deadline, want_outputs=True, source=source)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()
