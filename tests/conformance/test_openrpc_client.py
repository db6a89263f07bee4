"""`@open-rpc/test-coverage`: a client that reads the document, checks it against OpenRPC's own schema, and calls every
method with its examples. `make test` installs it; without it these tests are skipped."""

import asyncio
import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from hoverboard.api.app import running
from hoverboard.api.listener import listening_socket
from hoverboard.config import Settings
from hoverboard.contract.catalog import Catalog
from tests.unit.rpc.conftest import Records
from tests.unit.rpc.linear import DIAMONDS, DIGITS, PRODUCTS, SERIES, LinearEngine, live, model

CLIENT = Path(__file__).parents[2] / ".make/npm/node_modules/@open-rpc/test-coverage/bin/cli.js"
SIGNATURES = {"digits": DIGITS, "products": PRODUCTS, "diamonds": DIAMONDS, "series": SERIES}


@pytest.mark.skipif(not CLIENT.exists() or shutil.which("node") is None, reason="`make test` installs the client")
@pytest.mark.parametrize("name", SIGNATURES)
async def test_a_client_built_from_the_document_succeeds_on_every_method(name: str, tmp_path: Path) -> None:
    engine = LinearEngine(catalog=Catalog({name: model(name, live(1, SIGNATURES[name]))}, 1, ready=True))
    public = listening_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{public.getsockname()[1]}/"
    async with running(Settings.load(data_dir=tmp_path), engine, public=public, recording=Records()):
        document = await asyncio.to_thread(_discover, url)
        # The client knows OpenRPC up to 1.2.6; what it checks has not changed since.
        (tmp_path / "openrpc.json").write_text(json.dumps({**document, "openrpc": "1.2.6"}))
        process = await asyncio.create_subprocess_exec(
            *("node", str(CLIENT), "--schema", str(tmp_path / "openrpc.json"), "--reporters", "console"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert "label" in {method["name"] for method in document["methods"]}
    for method in document["methods"]:
        assert f"{method['name']}:" in output.decode()


def _discover(url: str) -> dict[str, list[dict[str, str]]]:
    body = json.dumps({"jsonrpc": "2.0", "method": "rpc.discover", "id": 1}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as response:
        document: dict[str, list[dict[str, str]]] = json.loads(response.read())["result"]
    return document
