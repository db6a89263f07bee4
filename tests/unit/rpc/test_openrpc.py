import json
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it ships no annotations
import pytest

from hoverboard.codec.arrays import Codec
from hoverboard.contract.catalog import Catalog
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import BY_KIND
from hoverboard.rpc.call import CallLimits
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.examples import example_instance
from hoverboard.rpc.methods import admin_methods, public_methods, table
from hoverboard.rpc.openrpc import with_discovery
from tests.unit.rpc.conftest import Ledger, Records, arrived, asked
from tests.unit.rpc.linear import DIAMONDS, DIGITS, PRODUCTS, SERIES, LinearEngine, live, model

URL = "http://127.0.0.1:8080/"


def face(engine: LinearEngine, *, admin: bool = False) -> Dispatcher:
    book = CodecBook()
    engine.subscribe(book.update)
    methods = admin_methods(engine, book, Records()) if admin else public_methods(engine, book, CallLimits(), Records())
    return Dispatcher(table(with_discovery(methods, book, url=URL, title="Hoverboard")), CallLimits(), Ledger())


def check(value: Any, schema: Any, found: Any) -> None:
    """OpenRPC's schemas are JSON Schema draft 7; references go into the document."""
    jsonschema.Draft7Validator({**schema, "components": found["components"]}).validate(value)


async def document(dispatcher: Dispatcher) -> Any:
    reply = await dispatcher.handle(asked("rpc.discover"), arrived())
    assert reply.body is not None
    return json.loads(reply.body)["result"]


async def test_the_document_names_its_server_and_version(engine: LinearEngine) -> None:
    found = await document(face(engine))
    assert found["openrpc"] == "1.4.1"
    assert found["servers"][0]["url"] == URL


@pytest.mark.parametrize(
    ("admin", "names"),
    [
        (False, {"predict", "label", "models.list", "models.describe", "rpc.discover"}),
        (
            True,
            {
                *("models.list", "models.describe", "models.load", "models.unload", "models.route"),
                *("models.pin", "models.unpin", "models.scan", "alarms.reset", "rpc.discover"),
            },
        ),
    ],
)
async def test_each_face_documents_exactly_what_it_answers(engine: LinearEngine, admin: bool, names: set[str]) -> None:
    dispatcher = face(engine, admin=admin)
    found = await document(dispatcher)
    assert {method["name"] for method in found["methods"]} == names == set(dispatcher.names)


@pytest.mark.parametrize("admin", [False, True])
async def test_every_example_keeps_to_the_schemas_beside_it(engine: LinearEngine, admin: bool) -> None:
    found = await document(face(engine, admin=admin))
    for method in found["methods"]:
        (example,) = method["examples"]
        params = {param["name"]: param for param in method["params"]}
        given = {pair["name"]: pair["value"] for pair in example["params"]}
        assert {name for name, param in params.items() if param["required"]} <= set(given)
        for name, value in given.items():
            check(value, params[name]["schema"], found)
        check(example["result"]["value"], method["result"]["schema"], found)


async def test_examples_work_by_name_and_by_position_and_their_results_keep_to_the_schema(
    engine: LinearEngine,
) -> None:
    dispatcher = face(engine)
    found = await document(dispatcher)
    for method in found["methods"]:
        pairs = method["examples"][0]["params"]
        for params in ({pair["name"]: pair["value"] for pair in pairs}, [pair["value"] for pair in pairs]):
            reply = await dispatcher.handle(asked(method["name"], params), arrived())
            assert reply.body is not None
            check(json.loads(reply.body)["result"], method["result"]["schema"], found)


async def test_required_params_come_first(engine: LinearEngine) -> None:
    for admin in (False, True):
        for method in (await document(face(engine, admin=admin)))["methods"]:
            required = [param["required"] for param in method["params"]]
            assert required == sorted(required, reverse=True)


async def test_every_error_in_the_document_is_one_of_ours_and_codes_are_unique(engine: LinearEngine) -> None:
    for method in (await document(face(engine)))["methods"]:
        codes = [error["code"] for error in method["errors"]]
        assert len(codes) == len(set(codes))
        for error in method["errors"]:
            assert {BY_KIND[kind].code for kind in error["data"]["types"]} == {error["code"]}
            assert {BY_KIND[kind].retryable for kind in error["data"]["types"]} == {error["data"]["retryable"]}


async def test_the_example_is_the_golden_sample_where_the_manifest_has_one(engine: LinearEngine) -> None:
    golden = [float(number % 5) for number in range(64)]
    version = replace(live(1, DIGITS), manifest={"example_instance": golden})
    engine.publish(model("a-first-one", version))
    (predict,) = [method for method in (await document(face(engine)))["methods"] if method["name"] == "predict"]
    values = {pair["name"]: pair["value"] for pair in predict["examples"][0]["params"]}
    assert values == {"model": "a-first-one", "instances": [golden]}


async def test_the_document_follows_the_catalog(engine: LinearEngine) -> None:
    dispatcher = face(engine)
    before = await document(dispatcher)
    engine.publish()
    assert await document(dispatcher) == before
    engine.publish(model("aaa", live(1, PRODUCTS)))
    assert await document(dispatcher) != before


async def test_there_is_a_document_before_any_model_is_known() -> None:
    found = await document(face(LinearEngine(catalog=Catalog())))
    assert all(method["examples"] for method in found["methods"])


ODD = Signature(
    "raw",
    (
        TensorSpec("flag", "bool", (2,)),
        TensorSpec("late", "int8", (), min=5, max=7),
        TensorSpec("deep", "float64", (None, 2), max=-1.5),
        TensorSpec("code", "string", (), max_length=3),
        TensorSpec("size", "int64", (1,), allowed=(3, 4)),
    ),
    (TensorSpec("out", "float32", (1,)),),
)


@pytest.mark.parametrize("signature", [DIGITS, PRODUCTS, DIAMONDS, SERIES, ODD])
def test_made_up_samples_keep_to_their_signature(signature: Signature) -> None:
    _, n = Codec(signature).decode_instances([example_instance(signature)])
    assert n == 1
