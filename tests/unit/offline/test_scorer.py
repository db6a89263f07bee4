from __future__ import annotations

from typing import Any

import pytest

from hoverboard.codec.rows import RowsCodec
from hoverboard.contract.signature import Signature
from hoverboard.errors import DeadlineExceeded, ModelNotFound, NotReady, Overloaded
from hoverboard.offline.rows import RowChunk, RowFault, RowPosition, ScoredChunk
from hoverboard.offline.scorer import Scorer


async def score(engine: Any, signature: Signature, *instances: Any, **options: Any) -> ScoredChunk:
    codec = RowsCodec(signature, top_k=1, outputs=options.pop("outputs", False))
    scorer = Scorer(engine, codec, "m", 3, signature.fingerprint, codec.wants_outputs, **options)
    return await scorer.score(RowChunk(instances, {"id": list(range(len(instances)))}, RowPosition(len(instances))))


def labels(chunk: ScoredChunk) -> list[str | None]:
    return [None if prediction is None else prediction["label"] for prediction in chunk.predictions]


async def test_good_rows_travel_in_one_call(engine: Any, pair: Signature) -> None:
    chunk = await score(engine, pair, [0, 0], [1, 0], [1, 1])
    assert labels(chunk) == ["low", "middle", "high"]
    assert engine.calls == [3]
    assert chunk.faults == [None, None, None]


async def test_bad_rows_are_named_and_their_neighbours_answered(engine: Any, pair: Signature) -> None:
    chunk = await score(engine, pair, [0, 0], [1, "x"], [1, 0], [1], RowFault("", "no JSON"), [1, 1])
    assert labels(chunk) == ["low", None, "middle", None, None, "high"]
    faults = {index: fault for index, fault in enumerate(chunk.faults) if fault}
    assert faults[1].pointer == "/1"
    assert "expected a number" in faults[1].message
    assert faults[3] == RowFault("", "expected 2 numbers, got 1")
    assert faults[4] == RowFault("", "no JSON")


async def test_a_missing_input_is_named_by_its_pointer(engine: Any, gem: Signature) -> None:
    chunk = await score(engine, gem, {"carat": 1.5, "cut": "Ideal"}, {"carat": 2})
    assert [prediction and prediction["value"] for prediction in chunk.predictions] == [1.5, None]
    assert chunk.faults[1] == RowFault("/cut", "expected a value for this input, got nothing")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
async def test_numbers_that_json_cannot_hold_are_told_apart_from_null(
    engine: Any, pair: Signature, number: float
) -> None:
    chunk = await score(engine, pair, [0, 0], [1, number])
    assert labels(chunk) == ["low", None]
    assert chunk.faults[1]
    assert "null" not in chunk.faults[1].message


async def test_a_row_that_the_model_fails_on_stands_alone(engine: Any, pair: Signature) -> None:
    engine.poison = 7
    chunk = await score(engine, pair, [0, 0], [1, 0], [3, 4], [1, 1], [0, 0])
    assert labels(chunk) == ["low", "middle", None, "high", "low"]
    assert chunk.faults[2] == RowFault("", "The model failed on this input")


async def test_rows_of_several_lengths_share_a_call_with_their_like(engine: Any, ragged: Signature) -> None:
    chunk = await score(engine, ragged, [1], [1, 1], [2], [1, 2, 3], [0, 1])
    assert labels(chunk) == ["middle", "high", "high", "low", "middle"]
    assert sorted(engine.calls) == [1, 2, 2]


async def test_only_faults_make_no_call(engine: Any, pair: Signature) -> None:
    chunk = await score(engine, pair, RowFault("", "one"), RowFault("", "two"))
    assert engine.calls == []
    assert [fault and fault.message for fault in chunk.faults] == ["one", "two"]


async def test_whole_outputs_come_when_asked_for(engine: Any, pair: Signature) -> None:
    chunk = await score(engine, pair, [1, 0], outputs=True)
    assert chunk.predictions[0]
    assert chunk.predictions[0]["outputs"]["scores"].tolist() == [0, 1, 0]


async def test_an_engine_that_is_busy_is_asked_again(engine: Any, pair: Signature) -> None:
    engine.refusals = [NotReady(), Overloaded(retry_after_ms=10), DeadlineExceeded()]
    assert labels(await score(engine, pair, [1, 0])) == ["middle"]


async def test_an_engine_that_stays_busy_ends_the_run(engine: Any, pair: Signature) -> None:
    engine.refusals = [NotReady() for _ in range(100)]
    with pytest.raises(NotReady):
        await score(engine, pair, [1, 0], patience_s=0.2)


async def test_an_error_that_is_no_rows_fault_ends_the_run(engine: Any, pair: Signature) -> None:
    engine.refusals = [ModelNotFound()]
    with pytest.raises(ModelNotFound):
        await score(engine, pair, [1, 0], [0, 0])
