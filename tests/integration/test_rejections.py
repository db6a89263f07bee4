"""Calls that were refused, shed or timed out, through the journal and the recorder, into Postgres."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoverboard.publishing import publish
from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD
from tests.postgres import Server

FEATURES = [1, 2, 3, 4, 5, 6, 7, 8]
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
COLUMNS = "method, model, version, code, kind, pointer, excerpt, tags::text AS tags, traceparent"


@pytest.fixture(scope="module")
def recorded(
    published: Path,
    keras_models: dict[str, Any],
    postgres: Server,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("rejections")
    publish(keras_models["poisoned"], name="private", models_dir=folder / "models", samples=[[1], [9]])
    (folder / "models" / "private" / "serving.toml").write_text('[recording]\nredact = ["/index"]\n')
    hiding = folder / "models" / "mixed"
    hiding.mkdir(parents=True)
    (hiding / "serving.toml").write_text('[recording]\nredact = ["/word"]\n')
    (hiding / "1").symlink_to(published / "mixed" / "1")
    small = {"max_body_bytes": "100000", "max_concurrency": "4"}
    models = ("dense", "poisoned", "mixed", "logarithm")
    with Recorded.running(folder, published, models, postgres, migrated_template, **small) as recorded:
        yield recorded


def rejections(recorded: Recorded, request_id: str, count: int = 1) -> list[dict[str, Any]]:
    """The rejections of a request, once there are so many."""
    query = f"SELECT {COLUMNS} FROM rejections WHERE request_id = $1 ORDER BY at"
    return until(lambda: recorded.rows(query, request_id), lambda rows: len(rows) >= count)


def refused(recorded: Recorded, name: str, method: str, params: Any) -> dict[str, Any]:
    """The rejection of a call that must be refused."""
    answer = recorded.call(method, params, {"X-Request-ID": name, "traceparent": TRACE})
    (row,) = rejections(recorded, name)
    assert (row["code"], row["kind"]) == (answer["error"]["code"], answer["error"]["data"]["type"])
    assert row.pop("traceparent") == TRACE
    return row


def test_a_sample_that_breaks_its_contract_is_kept_with_its_place(recorded: Recorded) -> None:
    params = {
        "model": "dense",
        "instances": [FEATURES, [*FEATURES[:7], 99.5]],
        "tags": {"shop": "größe \N{SKATEBOARD}"},
    }
    assert refused(recorded, "contract", "predict", params) == {
        "method": "predict",
        "model": "dense",
        "version": "stable",
        "code": -32602,
        "kind": "invalid_params",
        "pointer": "/instances/1/7",
        "excerpt": "99.5",
        "tags": '{"shop": "größe \N{SKATEBOARD}"}',
    }


def test_what_a_model_hides_is_not_kept_when_it_is_refused_either(recorded: Recorded) -> None:
    samples = [{"word": "small", "size": 1}, {"word": "Ada Lovelace", "size": "Ada Lovelace"}]
    row = refused(recorded, "hidden", "predict", {"model": "mixed", "instances": samples})
    assert (row["model"], row["code"], row["pointer"], row["excerpt"]) == ("mixed", -32602, "/instances/1/size", None)
    surplus = {"word": "small", "size": 1, "Ada Lovelace": 1}
    row = refused(recorded, "hidden name", "predict", {"model": "mixed", "instances": [surplus]})
    assert (row["pointer"], row["excerpt"]) == ("/instances/0", None)


def test_a_model_and_version_that_are_not_there_are_kept_as_written(recorded: Recorded) -> None:
    row = refused(recorded, "model", "predict", {"model": "no\0such", "version": "canary\0", "instances": [1]})
    assert (row["model"], row["version"], row["kind"]) == ("no?such", "canary?", "model_not_found")
    row = refused(recorded, "version", "predict", {"model": "dense", "version": 99, "instances": [FEATURES]})
    assert (row["model"], row["version"], row["kind"]) == ("dense", "99", "version_not_found")


def test_a_sample_that_the_graph_fails_on_is_a_rejection_with_its_place_and_the_graphs_own_reason(
    recorded: Recorded,
) -> None:
    row = refused(recorded, "graph", "predict", {"model": "poisoned", "instances": [[1], [11]]})
    assert (row["model"], row["version"], row["code"], row["kind"]) == ("poisoned", "1", -32603, "model_failed")
    assert row["pointer"] == "/instances/1"
    assert row["excerpt"] == "indices[0,0] = 11 is not in [0, 10)"  # it was run alone by then
    row = refused(recorded, "not finite", "predict", {"model": "logarithm", "instances": [[0.0]]})
    assert (row["version"], row["kind"], row["pointer"]) == ("1", "non_finite_output", "/instances/0")
    assert row["excerpt"] == "output logarithm is NaN or infinite"
    row = refused(recorded, "private graph", "predict", {"model": "private", "instances": [[11]]})
    assert (row["version"], row["kind"], row["pointer"], row["excerpt"]) == ("1", "model_failed", "/instances/0", None)


def test_operators_are_shown_why_a_sample_last_failed_and_callers_are_not(recorded: Recorded) -> None:
    service = recorded.service
    for index in (12, 13):
        recorded.call("predict", {"model": "poisoned", "instances": [[index]]})
        recorded.call("predict", {"model": "private", "instances": [[index]]})

    def admin(model: str) -> dict[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "method": "models.describe", "params": [model], "id": 1}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {service.token}"}
        with urllib.request.urlopen(urllib.request.Request(service.admin_url, body, headers)) as response:
            return dict(json.loads(response.read())["result"]["versions"][-1])

    assert admin("poisoned")["last_failure"]["reason"] == "indices[0,0] = 13 is not in [0, 10)"
    assert admin("private")["last_failure"]["reason"] == "not shown, since serving.toml hides what callers send"
    assert admin("dense")["last_failure"] is None
    (public,) = recorded.call("models.describe", {"model": "poisoned"})["result"]["versions"]
    assert "last_failure" not in public
    for words, shown in (([], True), (["--url", service.url], False)):
        done = subprocess.run(
            [*HOVERBOARD, "models", "show", "poisoned", "--pretty", *words],
            cwd=service.folder,
            env=service.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert ("= 13 is not in [0, 10)" in " ".join(done.stdout.split())) is shown


def test_a_call_that_comes_too_late_is_a_rejection(recorded: Recorded) -> None:
    # 2,500 samples take longer to decode and to run than the millisecond that they are given.
    params = {"model": "dense", "instances": [FEATURES] * 2500, "deadline_ms": 1}
    row = refused(recorded, "late", "predict", params)
    assert (row["model"], row["code"], row["kind"]) == ("dense", -32012, "deadline_exceeded")


def test_calls_that_are_shed_are_rejections_and_their_neighbours_are_not(recorded: Recorded) -> None:
    call = {"jsonrpc": "2.0", "method": "predict", "params": {"model": "dense", "instances": [FEATURES]}}
    answers = recorded.post([{**call, "id": number} for number in range(7)], {"X-Request-ID": "shed"})
    assert sum("result" in answer for answer in answers) == 4
    rows = rejections(recorded, "shed", 3)
    assert [(row["model"], row["version"], row["code"]) for row in rows] == [("dense", "stable", -32005)] * 3
    query = "SELECT count(*) FROM samples WHERE request_id = 'shed'"
    assert until(lambda: recorded.rows(query)[0]["count"], lambda count: count >= 4) == 4


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("no json", b"chair", -32700),
        ("no utf-8", b'"\xff"', -32700),
        ("no call", b"7", -32600),
        ("too large", b"x" * 100_001, -32007),
    ],
)
def test_messages_that_are_no_calls_are_rejections(recorded: Recorded, name: str, body: bytes, code: int) -> None:
    assert recorded.post(body, {"X-Request-ID": name})["error"]["code"] == code
    (row,) = rejections(recorded, name)
    assert (row["code"], row["model"], row["version"], row["pointer"], row["tags"]) == (code, None, None, None, None)


def test_a_flood_of_refused_calls_is_kept_or_counted_to_the_last_one(recorded: Recorded) -> None:
    call = {"jsonrpc": "2.0", "method": "no.such", "id": 1}
    for _ in range(5):
        recorded.post([call] * 1000, {"X-Request-ID": "flood"})
    kept = "SELECT count(*) FROM rejections WHERE request_id = 'flood'"
    lost = "SELECT coalesce(sum(records), 0)::int AS count FROM gaps WHERE reason LIKE 'rejections over %'"
    counts = until(
        lambda: (recorded.rows(kept)[0]["count"], recorded.rows(lost)[0]["count"]),
        lambda counts: sum(counts) >= 5000,
    )
    assert sum(counts) == 5000
    assert counts[0] >= 400  # 500 a second, of which other refusals may have had some
    time.sleep(1.1)  # until refusals are written down again
    assert counts[1] > 0


def test_a_rejection_outlives_the_api_process(recorded: Recorded) -> None:
    (api,) = recorded.service.children("_api")
    recorded.call("no.such", {}, {"X-Request-ID": "last words"})
    api.kill()
    (row,) = rejections(recorded, "last words")
    assert (row["method"], row["code"]) == ("no.such", -32601)
    until(lambda: recorded.service.children("_api"), lambda found: bool(found) and found[0].pid != api.pid)
    until(recorded.answers, bool)


def test_admin_calls_and_answered_calls_are_no_rejections(recorded: Recorded) -> None:
    body = json.dumps({"jsonrpc": "2.0", "method": "models.load", "params": ["no-such", 1], "id": 1}).encode()
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {recorded.service.token}",
        "X-Request-ID": "admin",
    }
    with urllib.request.urlopen(urllib.request.Request(recorded.service.admin_url, body, headers)) as response:
        assert json.loads(response.read())["error"]["code"] == -32001
    recorded.call("predict", {"model": "dense", "instances": [FEATURES]}, {"X-Request-ID": "answered"})
    recorded.call("no.such", {}, {"X-Request-ID": "after"})
    rejections(recorded, "after")
    assert recorded.rows("SELECT * FROM rejections WHERE request_id IN ('admin', 'answered')") == []
