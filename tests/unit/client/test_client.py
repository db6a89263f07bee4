from __future__ import annotations

import os
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.cli.target import admin_token
from hoverboard.client.retries import Retries
from hoverboard.client.sync import Client
from hoverboard.errors import (
    ConfigError,
    DeadlineExceeded,
    InvalidParams,
    NotFound,
    Overloaded,
    RpcError,
    Unreachable,
)
from tests.unit.client.canned import OK, refusal, serving


def test_a_call_is_one_json_rpc_request() -> None:
    with serving((200, OK)) as (url, seen), Client(url, token="secret") as client:
        assert client.call("predict", {"model": "m"}) == {"x": 1}
    assert seen[0]["headers"]["Content-Type"] == "application/json"
    assert seen[0]["headers"]["Authorization"] == "Bearer secret"
    assert (seen[0]["method"], seen[0]["params"], seen[0]["path"]) == ("predict", {"model": "m"}, "/")


def test_a_retryable_error_is_tried_again_after_the_time_the_server_names() -> None:
    busy = refusal(-32005, retryable=True, after=20)
    with serving((503, busy), (503, busy), (200, OK)) as (url, seen), Client(url) as client:
        assert client.call("predict", {}) == {"x": 1}
    assert len(seen) == 3


def test_an_error_that_is_for_good_is_not_tried_again() -> None:
    said = pytest.raises(RpcError, match=r"^Overloaded \(-32602 overloaded\)$")
    with serving((200, refusal(-32602, retryable=False))) as (url, seen), Client(url) as client, said:
        client.call("predict", {})
    assert len(seen) == 1


def test_trying_again_ends_and_says_how_often_it_tried() -> None:
    busy = refusal(-32005, retryable=True, after=1)
    with serving(*[(503, busy)] * 6) as (url, seen), Client(url) as client, pytest.raises(Overloaded) as raised:
        client.call("predict", {})
    assert len(seen) == 6
    assert any(note.startswith("predict was tried 6 times in ") for note in raised.value.__notes__)


def test_no_try_comes_after_the_deadline() -> None:
    busy = refusal(-32005, retryable=True, after=60_000)
    with serving((503, busy)) as (url, seen), Client(url) as client, pytest.raises(Overloaded):
        client.call("predict", {}, deadline_s=5)
    assert len(seen) == 1


def test_each_try_tells_the_server_how_much_time_is_left() -> None:
    busy = refusal(-32005, retryable=True, after=50)
    with serving((503, busy), (200, OK)) as (url, seen), Client(url) as client:
        client.call("predict", {"model": "m"}, deadline_s=5)
    first, second = (call["params"]["deadline_ms"] for call in seen)
    assert 4000 < second <= first - 50 < 5000


@pytest.mark.alone
def test_a_server_that_is_silent_past_the_deadline_is_a_deadline_exceeded() -> None:
    with serving((200, OK), pause_s=1.0) as (url, _), Client(url) as client:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=rf"{url} did not answer predict within 0.2 s"):
            client.call("predict", {}, deadline_s=0.2)
        assert time.monotonic() - begun < 0.8


def test_the_pause_follows_the_server_and_is_bounded() -> None:
    retries = Retries()
    for _ in range(100):
        assert 1.0 <= (retries.pause_s(1, Overloaded(retry_after_ms=1000), "predict") or 0) <= 1.25
    assert retries.pause_s(1, Overloaded(retry_after_ms=10**9), "predict") == 10.0


@pytest.mark.parametrize("after", [-(10**9), -1, 0])
def test_a_pause_of_nothing_or_less_is_none_that_the_server_names(after: int) -> None:
    drawn = [Retries().pause_s(2, Overloaded(retry_after_ms=after), "predict") or 0.0 for _ in range(100)]
    assert 0.0 <= min(drawn) < max(drawn) <= 0.2
    assert max(drawn) > 0.05


def test_tries_are_never_as_fast_as_they_can_be_sent() -> None:
    assert (Retries().pause_s(1, Overloaded(retry_after_ms=1), "predict") or 0) >= 0.01


@pytest.mark.parametrize(
    ("model", "n", "version"), [("m", 1, 1), ("m", 3, 1), ("m", 0, 1), ("other", 2, 1), ("m", 2, 2)]
)
def test_predictions_of_other_samples_or_of_another_model_or_version_are_no_answer(
    model: str, n: int, version: int
) -> None:
    timing = {"queue_ms": 0, "infer_ms": 0, "batch": 1}
    result = {"model": model, "version": version, "predictions": [{"sample_id": "a"}] * n, "timing": timing}
    said = pytest.raises(
        Unreachable, match=f"no Hoverboard .* {n} predictions of '{model}' version {version} for 2 samples"
    )
    answers = [(200, {"jsonrpc": "2.0", "result": result})]
    with serving(*answers) as (url, _), Client(url, retries=Retries(attempts=1)) as client, said:
        client.predict("m", ["a", "b"], version=1)


def test_where_the_server_names_no_time_pauses_are_drawn_from_a_range_that_doubles() -> None:
    drawn = [[Retries().pause_s(attempt, Overloaded(), "predict") or 0.0 for _ in range(400)] for attempt in (1, 2, 5)]
    assert [max(each) <= limit for each, limit in zip(drawn, (0.1, 0.2, 1.6), strict=True)] == [True] * 3
    assert max(drawn[0]) < max(drawn[1]) < max(drawn[2])
    assert min(drawn[2]) < 0.1


@pytest.mark.parametrize(
    ("method", "sent", "again"),
    [
        ("predict", True, True),
        ("label", True, True),
        ("models.route", True, False),
        ("models.route", False, True),
    ],
)
def test_what_may_have_been_done_is_only_asked_again_where_twice_does_no_harm(
    method: str, sent: bool, again: bool
) -> None:
    assert (Retries().pause_s(1, Unreachable("gone", sent=sent), method) is not None) is again


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"3", b"{}"])
def test_what_is_no_json_rpc_is_said_to_be_none(answer: bytes) -> None:
    said = pytest.raises(Unreachable, match="answered HTTP 502 without JSON-RPC")
    once = Retries(unreachable=False)
    with serving((502, answer)) as (url, _), Client(url, retries=once) as client, said:
        client.call("predict", {})


def test_a_proxy_without_a_service_behind_it_is_tried_again() -> None:
    with serving((503, b"<html>"), (502, b""), (200, OK)) as (url, seen), Client(url) as client:
        assert client.call("predict", {}) == {"x": 1}
    assert len(seen) == 3


def test_nobody_at_the_address_is_one_sentence() -> None:
    with serving() as (url, _):
        pass
    said = pytest.raises(Unreachable, match=rf"no server answers at {url} \(connection refused\)")
    with Client(url, retries=Retries(attempts=1)) as client, said:
        client.call("predict", {})


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "http://x:many", "http://x:99999", "http://[::1"]
)
def test_an_impossible_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected something like http"):
        Client(url)


def test_neither_a_token_nor_a_password_is_shown() -> None:
    with Client("http://ada:secret@127.0.0.1:9", token="secret", retries=Retries(attempts=1)) as client:
        assert repr(client) == "Client('http://127.0.0.1:9')"
        with pytest.raises(Unreachable) as raised:
            client.models()
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigError) as refused:
        Client("ftp://ada:secret@host")
    assert "secret" not in str(refused.value)


def test_this_machine_is_never_reached_by_way_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving((200, OK)) as (url, _), Client(url) as client:
        assert client.call("predict", {}) == {"x": 1}


def test_other_machines_are_reached_by_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving((200, OK)) as (url, seen):
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Client("http://hoverboard.example:8080") as client:
            assert client.call("predict", {}) == {"x": 1}
    assert seen[0]["path"] == "http://hoverboard.example:8080/"


def test_an_error_is_of_the_class_that_the_server_raised() -> None:
    details = {"pointer": "/instances/0", "expected": "64 numbers", "got": "3"}
    data = {"type": "invalid_params", "retryable": False, "request_id": "r-1", "details": details}
    error = {"code": -32602, "message": "Invalid params: ...", "data": data}
    refused = 200, {"jsonrpc": "2.0", "id": 1, "error": error}
    with serving(refused) as (url, _), Client(url) as client, pytest.raises(InvalidParams) as raised:
        client.predict("digits", [[1, 2, 3]])
    assert (raised.value.details, raised.value.request_id) == (details, "r-1")
    assert str(raised.value) == "Invalid params: ... (-32602 invalid_params)"


def test_an_error_that_this_version_does_not_know_is_of_the_nearest_class() -> None:
    assert type(RpcError.received({"code": -32001, "message": "", "data": {"type": "tenant_not_found"}})) is NotFound
    unknown = RpcError.received({"code": -31999, "message": "Odd", "data": {"type": "odd", "retryable": True}})
    assert type(unknown) is RpcError
    assert (unknown.code, unknown.kind, unknown.retryable, str(unknown)) == (-31999, "odd", True, "Odd (-31999 odd)")
    assert type(RpcError.received({"code": 7, "message": "No data", "data": None})) is RpcError


def test_labels_go_by_the_thousand_and_an_error_says_how_many_were_accepted() -> None:
    def accepted(count: int) -> tuple[int, object]:
        return 200, {"jsonrpc": "2.0", "id": 1, "result": {"accepted": count}}

    pairs = [(f"0198c2f4-7b6a-7cc0-a1d2-{number:012x}", "chair") for number in range(1500)]
    with serving(accepted(1000), accepted(500)) as (url, seen), Client(url) as client:
        assert client.label_many(iter(pairs), source="s") == 1500
    assert [len(call["params"]["labels"]) for call in seen] == [1000, 500]
    assert {call["params"]["source"] for call in seen} == {"s"}
    refused = 200, refusal(-32602, retryable=False)
    with serving(accepted(1000), refused) as (url, _), Client(url) as client, pytest.raises(RpcError) as raised:
        client.label_many(pairs)
    assert "the first 1000 labels were accepted" in raised.value.__notes__


def test_what_a_sample_truly_was_is_a_label_several_or_a_number() -> None:
    answer = 200, {"jsonrpc": "2.0", "id": 1, "result": {"accepted": 1}}
    sample = "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718"
    with serving(*[answer] * 4) as (url, seen), Client(url) as client:
        client.label(sample, "chair", author="Ada")
        client.label(sample, ["toys", "books"])
        client.label(sample, np.float32(1.5))
        client.label(sample, np.str_("chair"))
    assert [call["params"] for call in seen] == [
        {"sample_id": sample, "label": "chair", "author": "Ada"},
        {"sample_id": sample, "label": ["toys", "books"]},
        {"sample_id": sample, "value": 1.5},
        {"sample_id": sample, "label": "chair"},
    ]


def test_a_missing_token_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file.*hoverboard serve"):
        admin_token(tmp_path)


def test_a_client_may_be_shared_by_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    count = 4 * (os.cpu_count() or 1)
    with serving(*[(200, OK)] * count) as (url, seen), Client(url) as client, ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: client.call("predict", {}), range(count)))
    assert done == [{"x": 1}] * count
    assert len({call["id"] for call in seen}) == count


@pytest.mark.parametrize("own", [True, False], ids=["of the call", "of the client"])
def test_a_deadline_of_zero_has_passed_before_anything_is_sent(own: bool) -> None:
    with serving() as (url, seen), Client(url, deadline_s=None if own else 0) as client:
        with pytest.raises(DeadlineExceeded, match=r"predict was not sent to http.*: its deadline has passed"):
            client.predict("digits", [1.0], deadline_s=0 if own else None)
        if own:
            with pytest.raises(DeadlineExceeded):
                client.label("0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718", "9", deadline_s=0)
    assert not seen


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
def test_a_deadline_that_is_none_is_a_value_error_that_names_the_argument(seconds: float) -> None:
    with serving() as (url, seen), Client(url) as client:
        said = "deadline_s: expected 0 seconds or more"
        with pytest.raises(ValueError, match=said):
            client.predict("digits", [1.0], deadline_s=seconds)
        with pytest.raises(ValueError, match=said):
            client.predict_many("digits", [1.0], deadline_s=seconds)
        with pytest.raises(ValueError, match=said):
            client.label("0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718", "9", deadline_s=seconds)
        with pytest.raises(ValueError, match=said):
            Client(url, deadline_s=seconds)
        with pytest.raises(ValueError, match="patience_s: expected 0 seconds or more"):
            Client(url, patience_s=seconds)
        with pytest.raises(ValueError, match="batch: expected 1 or more, got 0"):
            client.predict_many("digits", [1.0], batch=0)
    assert not seen


def test_a_call_with_a_deadline_is_tried_until_that() -> None:
    busy = refusal(-32005, retryable=True, after=1)
    with serving(*[(503, busy)] * 20, (200, OK)) as (url, seen), Client(url) as client:
        assert client.call("predict", {}, deadline_s=30) == {"x": 1}
    assert len(seen) == 21


def test_tries_until_a_deadline_are_at_most_a_second_apart_and_a_number_of_them_holds() -> None:
    drawn = [Retries().pause_s(at, Overloaded(), "predict", has_deadline=True) for at in range(1, 3000)]
    assert all(pause is not None and pause <= 1.0 for pause in drawn)
    assert len({pause for pause in drawn[10:] if pause is not None and pause > 0.5}) > 100
    assert Retries(attempts=3).pause_s(3, Overloaded(), "predict", has_deadline=True) is None
    assert Retries().pause_s(6, Overloaded(), "predict") is None


@pytest.mark.parametrize(
    ("truth", "got"),
    [
        (b"x", "bytes"),
        (True, "bool"),
        (np.True_, "bool"),
        (None, "NoneType"),
        ({"a": 1}, "dict"),
        (object(), "object"),
        ([1.5], "float in a list"),
        ([None], "NoneType in a list"),
        ([True], "bool in a list"),
        ([b"x"], "bytes in a list"),
    ],
)
def test_a_truth_of_another_type_is_refused_before_anything_is_sent(truth: Any, got: str) -> None:
    sample = "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718"
    said = rf"truth: expected a text .*, a list of texts .* or a number .*, got {got}$"
    with serving() as (url, seen), Client(url) as client:
        with pytest.raises(TypeError, match=said):
            client.label(sample, truth)
        with pytest.raises(TypeError, match=said):
            client.label_many({sample: truth})
    assert not seen


def test_numpys_texts_and_numbers_are_truths() -> None:
    answer = 200, {"jsonrpc": "2.0", "id": 1, "result": {"accepted": 1}}
    truths: list[Any] = [np.int64(3), np.array(1.5), Decimal("1.5"), np.array(["toys", "books"]), [np.str_("toys")]]
    with serving(*[answer] * 5) as (url, seen), Client(url) as client:
        for truth in truths:
            client.label("0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718", truth)
    sent = [call["params"].get("value", call["params"].get("label")) for call in seen]
    assert sent == [3.0, 1.5, 1.5, ["toys", "books"], ["toys"]]


def test_a_client_that_is_closed_says_so() -> None:
    with serving() as (url, _), Client(url) as client:
        pass
    with pytest.raises(RuntimeError, match=rf"Client\('{url}'\) has been closed"):
        client.predict_one("digits", [1.0])


def test_an_option_that_is_misspelt_is_refused() -> None:
    with serving() as (url, _), Client(url) as client, pytest.raises(TypeError, match="tpo_k"):
        client.predict_one("digits", [1.0], tpo_k=3)  # type: ignore[call-arg]
