import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hoverboard.config import TOKEN_FILE
from hoverboard.errors import VersionNotFound
from tests.unit.api.conftest import TOKEN, Service
from tests.unit.rpc.linear import LinearEngine


async def admin(
    service: Service,
    method: str,
    params: Any = None,
    *,
    authorization: str | None = f"Bearer {TOKEN}",
    body: bytes = b"",
) -> tuple[aiohttp.ClientResponse, Any]:
    headers = {"Content-Type": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    call = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
    async with service.session.post(service.admin_url, data=body or call, headers=headers) as response:
        return response, await response.json()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("load", {"model": "digits", "version": 2}),
        ("unload", {"model": "digits", "version": 2}),
        ("pin", {"model": "digits", "version": 2}),
        ("unpin", {"model": "digits", "version": 2}),
        ("route", {"model": "digits", "stable": 2}),
        ("route", {"model": "digits", "stable": None}),
        ("scan", {}),
    ],
)
async def test_admin_methods_are_carried_out_by_the_engine(
    service: Service, engine: LinearEngine, method: str, params: dict[str, Any]
) -> None:
    response, answer = await admin(service, f"models.{method}", params)
    assert response.status == 200
    assert answer["result"] == {"action": method, "params": params}
    assert engine.admin_calls == [(method, params)]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer caf\u00e9"],
)
async def test_without_the_token_nothing_is_read_or_done(
    service: Service, engine: LinearEngine, authorization: str | None
) -> None:
    response, answer = await admin(service, "models.scan", authorization=authorization, body=b"not even json")
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert answer["error"]["code"] == -32013
    assert "what admin.token in the service's data directory holds" in answer["error"]["message"]
    assert answer["id"] is None
    assert engine.admin_calls == []


async def test_a_listener_says_which_methods_the_other_one_has(service: Service) -> None:
    _, answer = await admin(service, "predict", {"model": "digits", "instances": []})
    assert answer["error"]["message"] == "Method not found: predict is on the public listener"
    async with service.session.post(service.url, json={"jsonrpc": "2.0", "method": "models.load", "id": 1}) as response:
        error = (await response.json())["error"]
    assert (error["code"], error["message"]) == (-32601, "Method not found: models.load is on the admin listener")


async def test_the_scheme_may_be_written_in_any_case(service: Service) -> None:
    assert (await admin(service, "models.scan", authorization=f"bearer {TOKEN}"))[0].status == 200


async def test_a_new_token_counts_at_once_and_no_token_lets_nobody_in(service: Service, tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_text("another")
    assert (await admin(service, "models.scan"))[0].status == 401
    assert (await admin(service, "models.scan", authorization="Bearer another"))[0].status == 200
    for useless in ("", "\n"):
        (tmp_path / TOKEN_FILE).write_text(useless)
        assert (await admin(service, "models.scan", authorization="Bearer "))[0].status == 401
    (tmp_path / TOKEN_FILE).unlink()
    assert (await admin(service, "models.scan", authorization="Bearer another"))[0].status == 401


async def test_admin_methods_are_unknown_on_the_public_face(service: Service, engine: LinearEngine) -> None:
    call = {"jsonrpc": "2.0", "method": "models.scan", "id": 1}
    _, answer = await service.post(call, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer["error"]["code"] == -32601
    assert engine.admin_calls == []


async def test_predict_is_unknown_on_the_admin_face_and_models_can_be_read(service: Service) -> None:
    assert (await admin(service, "predict", {}))[1]["error"]["code"] == -32601
    assert "models" in (await admin(service, "models.list"))[1]["result"]


async def test_what_the_engine_refuses_is_answered(service: Service, engine: LinearEngine) -> None:
    engine.failure = VersionNotFound(details={"model": "digits", "version": 9})
    _, answer = await admin(service, "models.load", {"model": "digits", "version": 9})
    assert answer["error"]["code"] == -32001
    assert answer["error"]["data"]["details"] == {"model": "digits", "version": 9}


async def test_discovery_names_the_face_it_describes(service: Service) -> None:
    for url, method in ((service.url, "predict"), (service.admin_url, "models.load")):
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {TOKEN}",
            "Accept-Encoding": "identity",
        }
        body = json.dumps({"jsonrpc": "2.0", "method": "rpc.discover", "id": 1})
        async with service.session.post(url, data=body, headers=headers) as response:
            document = (await response.json())["result"]
        assert document["servers"][0]["url"] == url + "/"
        assert method in {each["name"] for each in document["methods"]}
