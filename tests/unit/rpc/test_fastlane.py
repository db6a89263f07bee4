"""The lane must never answer otherwise than the dispatcher: proved on generated requests, good and bad."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hoverboard.rpc.call import CallLimits, RpcRequest
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.fastlane import FastLane
from hoverboard.rpc.methods import Method
from tests.unit.rpc.conftest import asked, public_dispatcher
from tests.unit.rpc.linear import LinearEngine

PIXELS = [float(number % 17) for number in range(64)]
LIMITS = CallLimits(max_response_bytes=3000, max_deadline_ms=5000)

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
samples = st.sampled_from(
    [
        PIXELS,
        PIXELS[:-1],
        [*PIXELS[:-1], "x"],
        [*PIXELS[:-1], 17],
        [*PIXELS[:-1], True],
        {"pixels": PIXELS},
        "a kettle",
        "ein Kännchen",
        {"carat": 1, "cut": "Ideal", "count": 3},
        {"carat": [1], "cut": "Ideal", "count": 3.0},
        {"carat": 1, "cut": "Awful", "count": 3},
        {"b64": "aGk="},
        [[1, 2], [3, 4]],
    ]
)
values: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["digits", "products", "diamonds", "series", "broken", "nope"]) | junk,
    "instances": st.lists(samples | junk, max_size=3) | junk,
    "inputs": st.fixed_dictionaries({"pixels": st.lists(samples, max_size=2)}) | junk,
    "version": st.sampled_from([1, 2, 9, "stable", "canary"]) | junk,
    "deadline_ms": st.sampled_from([1, 2500, 5000, 5001]) | junk,
    "top_k": st.integers(1, 12) | junk,
    "outputs": st.booleans() | junk,
    "tags": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3) | junk,
    "surplus": junk,
}
likely = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["digits", "products", "diamonds"]),
        "instances": st.lists(samples, min_size=1, max_size=3),
    },
    optional={
        "version": values["version"],
        "top_k": values["top_k"],
        "outputs": values["outputs"],
        "tags": values["tags"],
    },
)
params = likely | st.fixed_dictionaries({}, optional=values) | st.lists(junk, max_size=4) | junk
envelopes = st.fixed_dictionaries(
    {
        "jsonrpc": st.sampled_from(["2.0", "2.0", "2.0", "1.0", 2.0]),
        "method": st.sampled_from(["predict", "predict", "predict", "models.list", 7]),
        "params": params,
    },
    optional={"id": scalars | st.sampled_from([[], {}]), "extra": junk},
)
texts = st.builds(
    lambda call, indent, ascii_only: json.dumps(call, indent=indent, ensure_ascii=ascii_only, allow_nan=False).encode(),
    envelopes,
    st.sampled_from([None, None, 1]),
    st.booleans(),
)


def faces() -> tuple[Dispatcher, Dispatcher]:
    return public_dispatcher(LinearEngine(), LIMITS, lane=True), public_dispatcher(LinearEngine(), LIMITS, lane=False)


async def both(body: bytes) -> tuple[Any, Any]:
    request = RpcRequest("r", 10.0)
    with_lane, without = faces()
    one = await with_lane.handle(body, request)
    other = await without.handle(body, request)
    assert type(one.error) is type(other.error)
    return one.body, other.body


@settings(max_examples=400)
@given(body=texts)
def test_lane_and_dispatcher_answer_alike(body: bytes) -> None:
    one, other = asyncio.run(both(body))
    assert one == other


@settings(max_examples=200)
@given(body=texts, at=st.integers(0, 400), change=st.binary(max_size=2))
def test_lane_and_dispatcher_answer_alike_to_damaged_bytes(body: bytes, at: int, change: bytes) -> None:
    damaged = body[:at] + change + body[at + 1 :]
    one, other = asyncio.run(both(damaged))
    assert one == other


def lane() -> FastLane[Any]:
    return FastLane(_predict())


def _predict() -> Method[Any]:
    return public_dispatcher(LinearEngine())._methods["predict"]


def test_a_plain_predict_takes_the_lane() -> None:
    fast = lane().parse(asked("predict", {"model": "digits", "instances": [PIXELS]}, call_id="x"))
    assert fast is not None
    assert fast.id == b'"x"'
    assert fast.params.model == "digits"


def test_everything_else_goes_to_the_dispatcher() -> None:
    good = {"model": "digits", "instances": [PIXELS]}
    call = json.loads(asked("predict", good))
    others: list[Any] = [
        {**call, "method": "models.list"},
        {**call, "jsonrpc": "1.0"},
        {**call, "id": True},
        {**call, "extra": 1},
        {**call, "params": ["digits", [PIXELS]]},
        {**call, "params": {**good, "surplus": 1}},
        {**call, "params": {**good, "top_k": 0}},
        {key: value for key, value in call.items() if key != "id"},
        [call],
        7,
    ]
    assert [lane().parse(json.dumps(other).encode()) for other in others] == [None] * len(others)
