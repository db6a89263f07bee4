"""What somebody wants left out stays out, also where it was written wrongly: then nothing is recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.recorded import Recorded, until
from tests.postgres import Server

SAMPLE = {"word": "Ada Lovelace", "size": 1}
WRONG = {
    "mistyped": '[recording]\nredact = ["/wrod"]\n',
    "too-far": '[recording]\nredact = ["/features/2"]\n',
    "malformed": '[recording]\nredact = ["/word"\n',
}
RIGHT = {"mistyped": "/word", "too-far": "/features/1", "malformed": "/word"}


@pytest.fixture(scope="module")
def recorded(
    published: Path, postgres: Server, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("redaction")
    for name, text in WRONG.items():
        source = published / ("constant" if name == "too-far" else "mixed") / "1"
        directory = folder / "models" / name
        directory.mkdir(parents=True)
        (directory / "serving.toml").write_text(text)
        renamed(source, directory / "1", name)
    with Recorded.running(folder, published, ["dense"], postgres, migrated_template, scan_interval_s="0.2") as recorded:
        yield recorded


def renamed(source: Path, target: Path, name: str) -> None:
    """A version under another model's name."""
    shutil.copytree(source, target)
    manifest = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(manifest | {"name": name}))


def asked(recorded: Recorded, model: str) -> Any:
    sample = [3, 4] if model == "too-far" else SAMPLE
    return recorded.call("predict", {"model": model, "instances": [sample]})["result"]["predictions"][0]


def problem(recorded: Recorded, model: str) -> str:
    models = recorded.call("models.list", {})["result"]["models"]
    (found,) = (each for each in models if each["name"] == model)
    return str(found["problem"])


@pytest.mark.parametrize("model", WRONG)
def test_nothing_of_a_model_is_recorded_until_what_it_hides_is_said_rightly(recorded: Recorded, model: str) -> None:
    assert asked(recorded, model), "it is answered all the same"
    gaps = until(
        lambda: recorded.rows("select reason, records, executed, version from gaps where model = $1", model),
        lambda rows: len(rows) > 0,
    )
    assert gaps == [{"reason": "redact", "records": 1, "executed": 1, "version": 1}]
    assert "serving.toml" in problem(recorded, model) or "nothing of version 1 is recorded" in problem(recorded, model)
    log = recorded.service.log.read_text()
    assert [line for line in log.splitlines() if "nothing_recorded" in line and model in line]

    (recorded.service.folder / "models" / model / "serving.toml").write_text(
        f'[recording]\nredact = ["{RIGHT[model]}"]\n'
    )
    until(lambda: problem(recorded, model), lambda said: said == "None")
    sample = asked(recorded, model)["sample_id"]
    rows = until(
        lambda: recorded.rows("select id::text, inputs, vector from samples where model = $1", model),
        lambda rows: len(rows) > 0,
    )
    assert [row["id"] for row in rows] == [sample]
    assert "Lovelace" not in str(rows)
    assert len(recorded.rows("select from gaps where model = $1", model)) == 1
