import json
import time
from typing import Any
from uuid import UUID

import msgspec
import pytest

from hoverboard.errors import Overloaded
from hoverboard.journal.records import LabelRecord
from hoverboard.rpc.dispatch import Dispatcher
from tests.unit.rpc.conftest import Records, arrived, asked, public_dispatcher
from tests.unit.rpc.linear import LinearEngine

SAMPLE = "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718"
OTHER = "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60719"
LABEL = "a string of 1 to 256 characters or an array of 0 to 1000 elements"
NO_UUID7 = (
    "",
    "chair",
    SAMPLE[:-1],
    SAMPLE + "0",
    SAMPLE.replace("-", ""),
    "{" + SAMPLE + "}",
    "urn:uuid:" + SAMPLE,
    SAMPLE + "\n",
    SAMPLE.replace("-7cc0", "-4cc0"),
    SAMPLE.replace("-a1d2", "-c1d2"),
    SAMPLE.replace("0198", "\uff10198"),
    SAMPLE.replace("-", "_"),
)


@pytest.fixture
def face(engine: LinearEngine, records: Records) -> Dispatcher:
    return public_dispatcher(engine, recording=records)


def label(
    sample: bytes, label: str | None, value: float | None, source: str, author: str | None, *, labels: Any = None
) -> LabelRecord:
    """A record, but for when and by which request it came."""
    return LabelRecord(0, sample, label, value, source, author, "", labels)


def timeless(records: Records) -> list[LabelRecord]:
    return [msgspec.structs.replace(record, at_us=0, request_id="") for record in records.labels]


async def labelled(face: Dispatcher, params: Any) -> Any:
    reply = await face.handle(asked("label", params), arrived())
    assert reply.body is not None
    return json.loads(reply.body)


def fault(response: Any) -> tuple[str, str, str]:
    assert response["error"]["code"] == -32602, response
    details = response["error"]["data"]["details"]
    return details["pointer"], details["expected"], details["got"]


async def test_a_label_is_written_down_and_accepted(face: Dispatcher, records: Records) -> None:
    response = await labelled(face, {"sample_id": SAMPLE, "label": "chair", "source": "support", "author": "Ada"})
    assert response["result"] == {"accepted": 1}
    assert timeless(records) == [label(UUID(SAMPLE).bytes, "chair", None, "support", "Ada")]


@pytest.mark.parametrize(("given", "kept"), [(["toys", "books"], ["books", "toys"]), (["toys"], ["toys"]), ([], [])])
async def test_several_labels_of_a_sample_are_a_list_and_their_order_says_nothing(
    face: Dispatcher, records: Records, given: list[str], kept: list[str]
) -> None:
    for params in ({"sample_id": SAMPLE, "label": given}, {"labels": [{"sample_id": SAMPLE, "label": given}]}):
        assert (await labelled(face, params))["result"] == {"accepted": 1}
    assert timeless(records) == [label(UUID(SAMPLE).bytes, None, None, "api", None, labels=kept)] * 2


@pytest.mark.parametrize("value", [3, 3.5, -0.0, 1e300, 2**70])
async def test_a_value_does_for_a_regression(face: Dispatcher, records: Records, value: float) -> None:
    assert (await labelled(face, {"sample_id": SAMPLE, "value": value}))["result"] == {"accepted": 1}
    assert timeless(records) == [label(UUID(SAMPLE).bytes, None, float(value), "api", None)]


async def test_params_may_be_positional(face: Dispatcher, records: Records) -> None:
    assert (await labelled(face, [SAMPLE, "chair", None, "support"]))["result"] == {"accepted": 1}
    assert timeless(records) == [label(UUID(SAMPLE).bytes, "chair", None, "support", None)]
    assert fault(await labelled(face, [SAMPLE, "chair", None, ""]))[0] == "/3"
    assert fault(await labelled(face, [None, None, None, "x", None, [{"sample_id": "y"}]]))[0] == "/5/0/sample_id"


async def test_a_sample_id_in_capitals_is_the_same_one(face: Dispatcher, records: Records) -> None:
    await labelled(face, {"sample_id": SAMPLE.upper(), "label": "chair"})
    assert records.labels[0].sample_id == UUID(SAMPLE).bytes


@pytest.mark.parametrize("sample_id", NO_UUID7)
async def test_what_is_no_uuid7_is_refused_by_pointer(face: Dispatcher, records: Records, sample_id: str) -> None:
    assert fault(await labelled(face, {"sample_id": sample_id, "label": "x"}))[:2] == ("/sample_id", "a UUIDv7")
    several = {"labels": [{"sample_id": SAMPLE, "label": "x"}, {"sample_id": sample_id, "label": "x"}]}
    assert fault(await labelled(face, several))[:2] == ("/labels/1/sample_id", "a UUIDv7")
    assert timeless(records) == []


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({}, ""),
        ({"label": "x"}, ""),
        ({"sample_id": 7, "label": "x"}, "/sample_id"),
        ({"sample_id": SAMPLE}, ""),
        ({"sample_id": SAMPLE, "label": "x", "value": 1}, ""),
        ({"sample_id": SAMPLE, "label": None, "value": None}, ""),
        ({"sample_id": SAMPLE, "label": ""}, "/label"),
        ({"sample_id": SAMPLE, "label": "x" * 257}, "/label"),
        ({"sample_id": SAMPLE, "label": 3}, "/label"),
        ({"sample_id": SAMPLE, "label": "a\0b"}, "/label"),
        ({"sample_id": SAMPLE, "label": ["a"], "value": 1}, ""),
        ({"sample_id": SAMPLE, "label": {"a": 1}}, "/label"),
        ({"sample_id": SAMPLE, "label": ["a", 3]}, "/label/1"),
        ({"sample_id": SAMPLE, "label": ["a", ""]}, "/label/1"),
        ({"sample_id": SAMPLE, "label": ["a", "b\0"]}, "/label/1"),
        ({"sample_id": SAMPLE, "label": ["a", "b", "a"]}, "/label/2"),
        ({"sample_id": SAMPLE, "label": [f"{n}" for n in range(1001)]}, "/label"),
        ({"sample_id": SAMPLE, "value": "3"}, "/value"),
        ({"sample_id": SAMPLE, "value": True}, "/value"),
        ({"sample_id": SAMPLE, "label": "x", "source": ""}, "/source"),
        ({"sample_id": SAMPLE, "label": "x", "source": "s" * 129}, "/source"),
        ({"sample_id": SAMPLE, "label": "x", "source": None}, "/source"),
        ({"sample_id": SAMPLE, "label": "x", "source": "\0"}, "/source"),
        ({"sample_id": SAMPLE, "label": "x", "author": ""}, "/author"),
        ({"sample_id": SAMPLE, "label": "x", "author": "A\0"}, "/author"),
        ({"sample_id": SAMPLE, "label": "x", "colour": "red"}, "/colour"),
        ({"labels": []}, "/labels"),
        ({"labels": {}}, "/labels"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}] * 1001}, "/labels"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}], "sample_id": SAMPLE}, "/sample_id"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}], "label": "x"}, "/label"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}], "value": 0}, "/value"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}], "source": "s\0"}, "/source"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}, 7]}, "/labels/1"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}, [SAMPLE, "x"]]}, "/labels/1"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}, {"label": "x"}]}, "/labels/1/sample_id"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}, {"sample_id": SAMPLE}]}, "/labels/1"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x", "value": 1}]}, "/labels/0"),
        ({"labels": [{"sample_id": SAMPLE, "label": 5}]}, "/labels/0/label"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x\0"}]}, "/labels/0/label"),
        ({"labels": [{"sample_id": SAMPLE, "label": ["x", 5]}]}, "/labels/0/label/1"),
        ({"labels": [{"sample_id": SAMPLE, "label": ["x", "x"]}]}, "/labels/0/label/1"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x", "source": "\0"}]}, "/labels/0/source"),
        ({"labels": [{"sample_id": SAMPLE, "label": "x", "a/b": 1}]}, "/labels/0/a~1b"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_pointer_and_nothing_is_written(
    face: Dispatcher, records: Records, params: Any, pointer: str
) -> None:
    assert fault(await labelled(face, params))[0] == pointer
    assert timeless(records) == []


@pytest.mark.parametrize("value", ["1e400", "-1e400", "NaN", "Infinity"])
async def test_a_value_is_finite(face: Dispatcher, records: Records, value: str) -> None:
    body = f'{{"jsonrpc":"2.0","method":"label","params":{{"sample_id":"{SAMPLE}","value":{value}}},"id":1}}'
    reply = await face.handle(body.encode(), arrived())
    assert reply.error is not None
    assert reply.error.code == (-32602 if value[-1].isdigit() else -32700)
    assert timeless(records) == []


async def test_errors_say_what_was_expected_and_what_came(face: Dispatcher) -> None:
    pairs: list[tuple[Any, tuple[str, str]]] = [
        ({"sample_id": "chair"}, ("a UUIDv7", "chair")),
        ({"sample_id": 7}, ("a UUIDv7 or null", "7")),
        ({}, ("either sample_id or labels", "neither")),
        ({"sample_id": SAMPLE}, ("either label or value", "neither")),
        ({"sample_id": SAMPLE, "label": "x", "value": 1}, ("either label or value", "both")),
        ({"sample_id": SAMPLE, "label": "ab\0"}, ("a string without NUL", "NUL at index 2")),
        ({"sample_id": SAMPLE, "label": ["a", 7]}, ("a string of 1 to 256 characters", "7")),
        ({"sample_id": SAMPLE, "label": ["a", "a"]}, ("each label once", "a")),
        ({"sample_id": SAMPLE, "label": "x" * 300}, (f"{LABEL} or null", "300 characters")),
        ({"labels": [{"label": "x"}]}, ("a UUIDv7", "nothing")),
        ({"labels": [7]}, ("an object", "a number")),
        (
            {"labels": [{"sample_id": SAMPLE, "label": "x"}] * 1001},
            ("an array of 1 to 1000 elements or null", "1001 elements"),
        ),
        ({"labels": [{"sample_id": SAMPLE, "label": "x"}], "label": "x"}, ("nothing beside labels", "a label")),
    ]
    for params, words in pairs:
        assert fault(await labelled(face, params))[1:] == words


async def test_a_thousand_labels_are_written_at_once_in_order(face: Dispatcher, records: Records) -> None:
    given = [{"sample_id": SAMPLE, "label": f"class {number}"} for number in range(1000)]
    before = time.time_ns() // 1000
    response = await labelled(face, {"labels": given, "source": "relabelling", "author": "Ada"})
    assert response["result"] == {"accepted": 1000}
    assert [label.label for label in records.labels] == [item["label"] for item in given]
    assert {(label.source, label.author) for label in records.labels} == {("relabelling", "Ada")}
    times = [label.at_us for label in records.labels]
    assert before <= times[0]
    assert times == sorted(set(times))


async def test_each_of_several_may_have_its_own_source_and_author(face: Dispatcher, records: Records) -> None:
    items = [
        {"sample_id": SAMPLE, "label": "chair", "source": "support"},
        {"sample_id": OTHER, "value": 3, "author": "Bob"},
    ]
    await labelled(face, {"labels": items, "source": "import", "author": "Ada"})
    assert timeless(records) == [
        label(UUID(SAMPLE).bytes, "chair", None, "support", "Ada"),
        label(UUID(OTHER).bytes, None, 3.0, "import", "Bob"),
    ]


async def test_what_cannot_be_written_down_is_not_accepted(face: Dispatcher, records: Records) -> None:
    records.failure = Overloaded(retry_after_ms=1000)
    response = await labelled(face, {"sample_id": SAMPLE, "label": "chair"})
    assert response["error"]["code"] == -32005
    assert response["error"]["data"]["retryable"] is True


async def test_without_a_recording_there_is_no_such_method(engine: LinearEngine) -> None:
    dispatcher = public_dispatcher(engine)
    response = await labelled(dispatcher, {"sample_id": SAMPLE, "label": "chair"})
    assert response["error"]["code"] == -32601
    assert "label" not in dispatcher.names


async def test_a_notification_is_written_down_too(face: Dispatcher, records: Records) -> None:
    body = {"jsonrpc": "2.0", "method": "label", "params": {"sample_id": SAMPLE, "label": "chair"}}
    reply = await face.handle(json.dumps(body).encode(), arrived())
    assert reply.body is None
    assert len(records.labels) == 1


# -- where the model is named ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("products", {"label": "Furniture"}, "a class of products: Tools, Toys, Vehicles"),
        ("products", {"label": "vehicles"}, "a class of products: Tools, Toys, Vehicles"),
        ("products", {"label": ["Toys"]}, "one label: products answers one class"),
        ("products", {"value": 1}, "a label: products answers classes"),
        ("diamonds", {"label": ["Toys"]}, "a value: diamonds answers numbers"),
        ("diamonds", {"label": "Toys"}, "a value: diamonds answers numbers"),
    ],
)
async def test_what_cannot_be_true_of_the_model_that_is_named_is_refused(
    face: Dispatcher, records: Records, model: str, given: Any, expected: str
) -> None:
    place = f"/{next(iter(given))}"
    params = {"sample_id": SAMPLE, "model": model, **given}
    assert fault(await labelled(face, params))[:2] == (place, expected)
    several = {"model": model, "labels": [{"sample_id": SAMPLE, **given}]}
    assert fault(await labelled(face, several))[0] == f"/labels/0{place}"
    of_version = {**params, "version": 1}
    assert "version 1" in fault(await labelled(face, of_version))[1]
    assert timeless(records) == []


@pytest.mark.parametrize(
    ("model", "given"), [("products", {"label": "Toys"}), ("diamonds", {"value": 1.5}), ("digits", {"label": "9"})]
)
@pytest.mark.parametrize("version", [None, 1, "stable"])
async def test_what_can_be_true_of_it_is_accepted(
    face: Dispatcher, records: Records, model: str, given: Any, version: Any
) -> None:
    params = {"sample_id": SAMPLE, "model": model, "version": version, **given}
    assert (await labelled(face, params))["result"] == {"accepted": 1}
    assert len(records.labels) == 1


async def test_a_model_or_version_that_is_not_there_is_said_so(face: Dispatcher, records: Records) -> None:
    given = {"sample_id": SAMPLE, "label": "Toys"}
    assert (await labelled(face, {**given, "model": "toys"}))["error"]["code"] == -32001
    assert (await labelled(face, {**given, "model": "products", "version": 9}))["error"]["code"] == -32001
    assert fault(await labelled(face, {**given, "version": 1}))[0] == "/model"
    assert timeless(records) == []
