"""An engine that answers at once, and files of rows for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.contract.catalog import Catalog
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import ModelFailed, RpcError

LABELS = ("low", "middle", "high")


@dataclass
class ArithmeticEngine:
    """An `EnginePort` whose model is arithmetic: the class is the sum of a row's first input, modulo three.

    Attributes:
        poison: a call with a row of this sum is refused whole.
        refusals: raised one by one before anything is answered.
        delays: seconds to take for each call, in turn, so that calls finish out of order.
        calls: rows of each call, in order.
        stop_after: calls after which answering never ends; None answers all.
    """

    poison: float | None = None
    refusals: list[RpcError] = field(default_factory=list)
    delays: tuple[float, ...] = (0.0,)
    calls: list[int] = field(default_factory=list)
    stop_after: int | None = None
    catalog: Catalog = field(default_factory=Catalog)
    connected: bool = True

    def subscribe(self, listener: Callable[[Catalog], None]) -> Callable[[], None]:
        listener(self.catalog)
        return lambda: None

    async def admin(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"action": action, **params}

    async def predict(self, call: PredictCall) -> PredictAnswer:
        if self.refusals:
            raise self.refusals.pop(0)
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            await asyncio.Event().wait()
        self.calls.append(call.n)
        await asyncio.sleep(self.delays[len(self.calls) % len(self.delays)])
        sums = np.array([np.sum(row) for row in call.columns[0]], dtype=np.float64)
        if self.poison in sums:
            raise ModelFailed(details={"pointer": f"/instances/{int(np.argmax(sums == self.poison))}"})
        index = sums.astype(np.int32) % len(LABELS)
        scores = np.eye(len(LABELS), dtype=np.float32)[index]
        return PredictAnswer(
            version=call.version if isinstance(call.version, int) else 0,
            role=None,
            sample_ids=b"".join(int(total).to_bytes(16, "big") for total in sums),
            label_index=index,
            confidence=np.full(call.n, 0.75, dtype=np.float32),
            value=sums.astype(np.float32),
            outputs=(scores,) if call.want_outputs else None,
            p_value=None,
            queue_ms=0.0,
            infer_ms=0.0,
            batch=call.n,
        )


@pytest.fixture
def engine() -> ArithmeticEngine:
    return ArithmeticEngine()


@pytest.fixture
def pair() -> Signature:
    """A classifier of two floats."""
    return Signature(
        "classification",
        (TensorSpec("pair", "float32", (2,)),),
        (TensorSpec("scores", "float32", (3,)),),
        LABELS,
    )


@pytest.fixture
def gem() -> Signature:
    """A regression with a number and a word."""
    return Signature(
        "regression",
        (TensorSpec("carat", "float32", (1,)), TensorSpec("cut", "string", (1,))),
        (TensorSpec("price", "float32", (1,)),),
    )


@pytest.fixture
def ragged() -> Signature:
    """A classifier of any number of floats."""
    return Signature(
        "classification",
        (TensorSpec("series", "float32", (None,)),),
        (TensorSpec("scores", "float32", (3,)),),
        LABELS,
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file and return its path."""

    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write
