from dataclasses import replace
from typing import Any

import pytest

from hoverboard.contract.catalog import Catalog, VersionStatus
from tests.unit.api.conftest import PREDICT, Service, Start
from tests.unit.rpc.linear import DIGITS, LinearEngine, live, model


async def got(service: Service, path: str, verb: str = "GET") -> tuple[int, Any]:
    async with service.session.request(verb, service.url + path) as response:
        return response.status, await response.json() if verb == "GET" else await response.read()


def serve_only(engine: LinearEngine, *names: str) -> None:
    engine.catalog = Catalog({name: model(name, live(1, DIGITS)) for name in names}, 2, ready=True)
    engine.publish()


async def test_the_process_is_healthy_whatever_the_engine_does(service: Service, engine: LinearEngine) -> None:
    engine.connected = False
    assert await got(service, "/healthz") == (200, {"status": "ok"})
    assert await got(service, "/healthz", "HEAD") == (200, b"")


async def test_ready_when_every_model_has_a_live_version(service: Service, engine: LinearEngine) -> None:
    serve_only(engine, "a", "b")
    assert await got(service, "/readyz") == (
        200,
        {"ready": True, "models": {"a": {"stable": 1}, "b": {"stable": 1}}, "missing": []},
    )


@pytest.mark.parametrize("needed", [{"served": True}, {"serving": {"stable": 1}}])
async def test_not_ready_names_each_model_that_is_needed_and_has_no_live_version(
    service: Service, engine: LinearEngine, needed: dict[str, Any]
) -> None:
    serve_only(engine, "a")
    engine.publish(replace(model("b", stable=None), **needed))
    status, body = await got(service, "/readyz")
    assert status == 503
    assert body["missing"] == [{"what": "model b", "why": "no version is live"}]


async def test_a_new_model_that_cannot_go_live_does_not_flip_readiness_and_is_reported(
    service: Service, engine: LinearEngine
) -> None:
    serve_only(engine, "a")
    refused = model("typo", VersionStatus(1, "refused", reason="no manifest.json"), stable=None)
    engine.publish(replace(refused, problem="no version can go live"))
    status, body = await got(service, "/readyz")
    assert (status, "reported" in body) == (200, False)
    status, body = await got(service, "/readyz?verbose")
    assert status == 200
    assert body["reported"] == [
        {"what": "model typo", "why": "no version can go live"},
        {"what": "model typo version 1", "why": "no manifest.json"},
    ]


async def test_probes_are_answered_on_the_admin_port_while_the_public_one_is_full(start: Start) -> None:
    service = await start(max_connections=2)
    held = [await service.session.ws_connect(service.url + "/ws") for _ in range(2)]
    assert (await got(service, "/readyz"))[0] == 503
    for path in ("/healthz", "/readyz"):
        async with service.session.get(service.admin_url + path) as response:
            assert response.status == 200
    for socket in held:
        await socket.close()


async def test_not_ready_without_an_engine(service: Service, engine: LinearEngine) -> None:
    engine.connected = False
    status, body = await got(service, "/readyz")
    assert status == 503
    assert body["missing"] == [{"what": "engine", "why": "not connected"}]


async def test_not_ready_before_the_first_scan_is_over(service: Service, engine: LinearEngine) -> None:
    engine.publish(ready=False)
    status, body = await got(service, "/readyz")
    assert status == 503
    assert body["missing"][0]["what"] == "engine"


async def test_a_refused_version_beside_a_live_one_does_not_flip_readiness(
    service: Service, engine: LinearEngine
) -> None:
    serve_only(engine)
    engine.publish(model("a", live(1, DIGITS), VersionStatus(2, "refused", reason="golden")))
    assert (await got(service, "/readyz"))[0] == 200


async def test_metrics_count_calls_by_method_model_version_role_and_code(service: Service) -> None:
    await service.post(PREDICT)
    await service.post({**PREDICT, "params": {"model": "digits", "instances": [[1]]}})
    async with service.session.get(service.url + "/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = [line for line in (await response.text()).splitlines() if 'model="digits"' in line]
    answered = [line for line in lines if 'code="0"' in line]
    refused = [line for line in lines if 'code="-32602"' in line]
    assert any('method="predict"' in line and 'version="1"' in line and 'role="stable"' in line for line in answered)
    assert refused
