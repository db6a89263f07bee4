"""A sample that breaks its model's contract is counted by model, input and kind, once for each call it came with."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hoverboard.errors import Violation
from hoverboard.telemetry import metrics
from tests.unit.api.conftest import PIXELS, PREDICT, Service, Start
from tests.unit.rpc.linear import SERIES, LinearEngine, live, model

DIAMOND = {"carat": 1, "cut": "Good", "count": 1}
NAN = {"b64": base64.b64encode(np.full(64, np.nan, "<f4").tobytes()).decode(), "dtype": "float32", "shape": [64]}

CASES: dict[tuple[str, str, str], dict[str, Any]] = {
    ("diamonds", "cut", "missing_input"): {"instances": [{"carat": 1, "count": 1}]},
    ("diamonds", "unknown", "unknown_input"): {"instances": [{**DIAMOND, "made-up": 1}]},
    ("diamonds", "carat", "type"): {"inputs": {"carat": ["1"], "cut": ["Good"], "count": [1]}},
    ("diamonds", "unknown", "type"): {"instances": [3]},
    ("digits", "pixels", "shape"): {"instances": [[1.0] * 63]},
    ("diamonds", "cut", "shape"): {"inputs": {"carat": [1, 2], "cut": ["Good"], "count": [1, 2]}},
    ("digits", "pixels", "range"): {"instances": [{"pixels": [17] + [0] * 63}]},
    ("digits", "pixels", "not_finite"): {"instances": [NAN]},
    ("diamonds", "cut", "not_allowed"): {"instances": [{**DIAMOND, "cut": "Nice"}]},
    ("products", "text", "too_long"): {"instances": ["x" * 1001]},
    ("windows", "steps", "too_short"): {"instances": [[[1.0, 2.0]]]},
    ("products", "text", "encoding"): {"instances": [{"b64": "no base64!"}]},
}


@pytest.fixture
def engine() -> LinearEngine:
    engine = LinearEngine()
    steps = replace(SERIES.inputs[0], min_length=2)
    engine.publish(model("windows", live(1, replace(SERIES, inputs=(steps,)))))
    return engine


@pytest.fixture
async def service(start: Start) -> Service:
    metrics.init("api-0", None)  # what other tests have counted in this process
    return await start()


async def counted(service: Service) -> dict[tuple[str, str, str], float]:
    """(model, input, kind) -> calls, as a scraper reads it."""
    async with service.session.get(service.url + "/metrics") as response:
        text = await response.text()
    return {
        (sample.labels["model"], sample.labels["input"], sample.labels["kind"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "hoverboard_contract_violations_total"
    }


def named(model: str, samples: dict[str, Any]) -> dict[str, Any]:
    return {**PREDICT, "params": {"model": model, **samples}}


def positional(model: str, samples: dict[str, Any]) -> dict[str, Any]:
    """The same for the dispatcher: the fast lane takes named params only."""
    assert list(samples) == ["instances"]
    return {**PREDICT, "params": [model, samples["instances"]]}


def test_there_is_a_case_of_every_kind() -> None:
    assert {kind for _, _, kind in CASES} == set(get_args(Violation))


@pytest.mark.parametrize("case", CASES, ids="-".join)
async def test_each_kind_counts_once_by_the_fast_lane(service: Service, case: tuple[str, str, str]) -> None:
    _, answer = await service.post(named(case[0], CASES[case]))
    assert answer["error"]["code"] == -32602
    assert await counted(service) == {case: 1}


@pytest.mark.parametrize("case", [case for case in CASES if "instances" in CASES[case]], ids="-".join)
async def test_each_kind_counts_once_by_the_dispatcher(service: Service, case: tuple[str, str, str]) -> None:
    _, answer = await service.post(positional(case[0], CASES[case]))
    assert answer["error"]["data"]["details"]["pointer"].startswith("/1")
    assert await counted(service) == {case: 1}


@pytest.mark.parametrize("form", [named, positional])
async def test_items_of_a_batch_and_notifications_count_each(
    service: Service, form: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> None:
    case = ("digits", "pixels", "shape")
    bad = form(case[0], CASES[case])
    notification = {name: value for name, value in bad.items() if name != "id"}
    _, answers = await service.post([PREDICT, bad, {**bad, "id": 2}, notification])
    assert len(answers) == 3
    assert await counted(service) == {case: 3}


async def test_messages_of_a_websocket_count(service: Service) -> None:
    socket = await service.session.ws_connect(service.url + "/ws")
    for case, samples in CASES.items():
        await socket.send_str(json.dumps(named(case[0], samples)))
        assert json.loads(await socket.receive_str(timeout=5))["error"]["code"] == -32602
    await socket.close()
    assert await counted(service) == dict.fromkeys(CASES, 1)


async def test_a_call_counts_once_however_many_of_its_samples_are_bad(service: Service) -> None:
    await service.post(named("digits", {"instances": [[1]] * 40}))
    assert await counted(service) == {("digits", "pixels", "shape"): 1}


async def test_other_refusals_and_answers_are_no_violations(service: Service) -> None:
    good: dict[str, Any] = {"model": "digits", "instances": [PIXELS]}
    for params in (good, {**good, "top_k": 0}, {**good, "inputs": {}}, {**good, "model": "nope"}, {**good, "a": 1}):
        await service.post({**PREDICT, "params": params})
    assert await counted(service) == {}


async def test_names_that_clients_make_up_are_no_labels(service: Service) -> None:
    for number in range(50):
        await service.post(named("diamonds", {"instances": [{**DIAMOND, f"made-up-{number}": 1}]}))
        await service.post(named(f"made-up-{number}", {"instances": [1]}))
    assert await counted(service) == {("diamonds", "unknown", "unknown_input"): 50}
