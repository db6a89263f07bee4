"""The TypeScript client: what the document says now, compiled strictly, and calling a running service."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clients.typescript.generate import TARGET, document, written
from tests.integration.running import ROOT, running
from tests.unit.client.canned import OK, refusal, serving

TSC = ROOT / ".make/typescript/node_modules/.bin/tsc"
needs_node = pytest.mark.skipif(
    not TSC.exists() or shutil.which("node") is None, reason="`make test` installs the compiler"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as JavaScript."""
    folder = tmp_path_factory.mktemp("typescript")
    done = subprocess.run(
        [TSC, "-p", ROOT / "clients/typescript", "--outDir", folder / "client"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def node(folder: Path, code: str, **variables: str) -> str:
    """What a script prints that has the client's names."""
    script = folder / "script.js"
    script.write_text(f'import * as hoverboard from "./client/client.js";\n{code}')
    done = subprocess.run(
        ["node", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_committed_client_is_what_the_document_says() -> None:
    assert TARGET.read_text() == written(document()), "run: python -m clients.typescript.generate"


@needs_node
def test_what_is_wrongly_typed_does_not_compile(compiled: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.ts").write_text(
        'import { Client } from "./src/client.js";\n'
        'void new Client("http://localhost").predict({ model: 3 });\n'
        'void new Client("http://localhost").predict({ model: "m" }).then((answer) => answer.version.length);\n'
    )
    shutil.copytree(ROOT / "clients/typescript/src", tmp_path / "src")
    flags = ("--strict", "--noEmit", "--module", "NodeNext", "--target", "ES2022", "--lib", "ES2022,DOM")
    done = subprocess.run([TSC, *flags, tmp_path / "wrong.ts"], capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if "error" in line]
    assert len(found) == 2, done.stdout
    assert "'number' is not assignable to type 'string'" in found[0]
    assert "'length' does not exist on type 'number'" in found[1]


@needs_node
def test_it_calls_a_running_service(compiled: Path, tmp_path: Path) -> None:
    for name in ("digits", "products"):
        shutil.copytree(ROOT / "models" / name, tmp_path / "models" / name)
    code = """
const client = new hoverboard.Client(process.env.URL);
const texts = await client.predict({ model: "products", instances: ["a chair with a high back"] }, { deadlineMs: 20000 });
const request = JSON.parse(process.env.REQUEST).params.instances[0];
const pixels = hoverboard.tensor(new Float32Array([...request, ...request]), [2, 64]);
const [input] = (await client.modelsDescribe({ model: "digits" })).versions.at(-1).inputs;
const digits = await client.predict({ model: "digits", inputs: { [input.name]: pixels } });
let refused;
try { await client.predict({ model: "digits", instances: [[1]] }); } catch (error) { refused = error; }
let missing;
try { await client.predict({ model: "nothing", instances: [[1]] }); } catch (error) { missing = error; }
const admin = new hoverboard.Client(process.env.ADMIN_URL, { token: process.env.TOKEN });
console.log(JSON.stringify({
  label: texts.predictions[0].label,
  digits: digits.predictions.map((each) => each.label),
  refused: refused instanceof hoverboard.InvalidParams && refused.details.pointer,
  missing: missing instanceof hoverboard.NotFound && missing.constructor.name,
  models: (await client.modelsList()).models.map((model) => model.name),
  scanned: (await admin.modelsScan()).models,
}));
"""
    with running(tmp_path) as service:
        printed = node(
            compiled,
            code,
            URL=service.url,
            ADMIN_URL=service.admin_url,
            TOKEN=service.token,
            REQUEST=(ROOT / "examples/digits/request.json").read_text(),
        )
    assert json.loads(printed) == {
        "label": "furniture",
        "digits": ["9", "9"],
        "refused": "/instances/0",
        "missing": "ModelNotFound",
        "models": ["digits", "products"],
        "scanned": ["digits", "products"],
    }


@needs_node
def test_it_tries_again_as_the_python_client_does(compiled: Path) -> None:
    busy = refusal(-32005, retryable=True, after=20)
    call = "console.log(JSON.stringify(await new hoverboard.Client(process.env.URL).predict({ model: 'm' })));"
    with serving((503, busy), (502, b"<html>"), (200, OK)) as (url, seen):
        assert json.loads(node(compiled, call, URL=url)) == {"x": 1}
    assert len(seen) == 3
    caught = """
const client = new hoverboard.Client(process.env.URL);
for (const run of [
  () => client.predict({ model: "m" }, { deadlineMs: 300 }),
  () => client.modelsScan(),
]) await run().catch((error) => console.log(error.constructor.name, error.message));
"""
    late = refusal(-32005, retryable=True, after=60_000)
    with serving((503, late), (502, b"")) as (url, seen):
        first, second = node(compiled, caught, URL=url).splitlines()
    assert first == "Overloaded Overloaded (-32005 overloaded)"
    assert second == f"Unreachable {url} answered HTTP 502 without JSON-RPC"
    assert len(seen) == 2


@needs_node
def test_nobody_at_the_address_and_no_answer_in_time_are_told_apart(compiled: Path) -> None:
    with serving() as (url, _):
        pass
    caught = """
const client = new hoverboard.Client(process.env.URL, { attempts: 1 });
await client.predict({ model: "m" }, { deadlineMs: 100 }).catch((error) => console.log(error.constructor.name, error.message));
"""
    assert node(compiled, caught, URL=url) == f"Unreachable no server answers at {url} (ECONNREFUSED)"
    with serving((200, OK), pause_s=0.6) as (url, _):
        printed = node(compiled, caught, URL=url)
    assert printed.startswith(f"DeadlineExceeded {url} did not answer predict in time")


@needs_node
def test_numbers_that_json_does_not_have_are_refused_with_their_place_and_never_sent_as_missing_ones(
    compiled: Path,
) -> None:
    caught = """
const client = new hoverboard.Client(process.env.URL);
for (const params of [
  { model: "m", instances: [[0, null], [1, NaN]] },
  { model: "m", inputs: { "a/b~": [null, -Infinity] } },
]) await client.predict(params).catch((error) => console.log(error.name, error.message));
await client.predict({ model: "m", instances: [{ age: null, plan: "null" }] });
"""
    with serving((200, OK)) as (url, seen):
        first, second = node(compiled, caught, URL=url).splitlines()
    assert first.startswith("RangeError /instances/1/1: expected a number that JSON has, got NaN; send null")
    assert second.startswith("RangeError /inputs/a~1b~0/1: expected a number that JSON has, got -Infinity; send null")
    assert len(seen) == 1
