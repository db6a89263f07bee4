from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import ConfigError, ModelNotFound, VersionNotFound, VersionRefused
from hoverboard.offline.engine import resolve_version
from hoverboard.offline.run import Plan, RunOptions, pace_for, prepare
from hoverboard.offline.workspace import Workspace
from hoverboard.versions import Manifest


@pytest.fixture
def models(tmp_path: Path, pair: Signature) -> Path:
    """Manifests of pair/1, pair/2 and pair/10: enough to plan a run."""
    for version in (1, 2, 10):
        folder = tmp_path / "models" / "pair" / str(version)
        folder.mkdir(parents=True)
        manifest = Manifest(
            name="pair",
            version=version,
            created="2026-01-01T00:00:00+00:00",
            artifact="model.keras",
            task=pair.task,
            inputs=pair.inputs,
            outputs=pair.outputs,
            labels=pair.labels,
            sha256={},
        )
        (folder / "manifest.json").write_bytes(manifest.to_json())
    return tmp_path / "models"


@pytest.fixture
def asked(tmp_path: Path, models: Path) -> RunOptions:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"pair": [1, 2], "id": 1}\n')
    return RunOptions("pair", rows, tmp_path / "scored.jsonl", models)


@pytest.fixture
def planned() -> Callable[[RunOptions], Plan]:
    """Plan a run as the command does, the folder beside the output locked."""

    def _planned(asked: RunOptions) -> Plan:
        workspace = Workspace(asked.output)
        with workspace.locked():
            return prepare(asked, workspace)

    return _planned


def unfinished(asked: RunOptions, plan: Plan) -> None:
    """Leave the folder as a kill after the first part would."""
    plan.workspace.folder.mkdir()
    plan.workspace.save(replace(plan.checkpoint, parts=1))


Planned = Callable[[RunOptions], Plan]


def test_the_highest_version_answers_unless_serving_toml_or_the_caller_says_otherwise(models: Path) -> None:
    assert resolve_version(models, "pair", None)[0] == 10
    (models / "pair" / "serving.toml").write_text("stable = 2\n")
    assert resolve_version(models, "pair", None)[0] == 2
    assert resolve_version(models, "pair", 1)[0] == 1


def test_an_unknown_model_or_version_is_named_with_those_there_are(models: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model 'pears' in .*; there is pair"):
        resolve_version(models, "pears", None)
    with pytest.raises(VersionNotFound, match=r"no version 3 in .*; it has 1, 2, 10"):
        resolve_version(models, "pair", 3)


def test_a_version_with_a_broken_manifest_is_refused(models: Path) -> None:
    (models / "pair" / "2" / "manifest.json").write_text("{}")
    with pytest.raises(VersionRefused):
        resolve_version(models, "pair", 2)


def test_an_output_that_is_there_is_only_replaced_when_told_so(asked: RunOptions, planned: Planned) -> None:
    asked.output.write_text("precious")
    with pytest.raises(ConfigError, match="--overwrite"):
        planned(asked)
    planned(replace(asked, overwrite=True))
    assert asked.output.read_text() == "precious"


def test_an_unfinished_run_keeps_its_version_when_the_stable_one_changed(asked: RunOptions, planned: Planned) -> None:
    unfinished(asked, planned(asked))
    (asked.models / "pair" / "serving.toml").write_text("stable = 1\n")
    plan = planned(asked)
    assert plan.resumed
    assert plan.checkpoint.version == 10


@pytest.mark.parametrize(
    "change, word",
    [
        ({"version": 2}, "version"),
        ({"top_k": 3}, "top k"),
        ({"outputs": True}, "outputs"),
        ({"keep": ("id",)}, "keep"),
        ({"prefix": "p_"}, "prefix"),
    ],
)
def test_an_unfinished_run_of_something_else_is_not_gone_on_with(
    asked: RunOptions, planned: Planned, change: dict[str, Any], word: str
) -> None:
    unfinished(asked, planned(asked))
    with pytest.raises(ConfigError, match=f"unfinished run with another {word}; --restart"):
        planned(replace(asked, **change))
    assert not planned(replace(asked, **change, restart=True)).resumed


def test_an_input_that_changed_since_is_not_gone_on_with(asked: RunOptions, planned: Planned) -> None:
    unfinished(asked, planned(asked))
    os.utime(asked.input, (1, 1))
    with pytest.raises(ConfigError, match="another input mtime"):
        planned(asked)


def test_a_run_that_cannot_begin_leaves_nothing_behind(asked: RunOptions, planned: Planned, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    for impossible in (
        replace(asked, input=tmp_path / "no.jsonl"),
        replace(asked, output=tmp_path / "scored.txt"),
        replace(asked, model="pears"),
        replace(asked, keep=("label",)),
    ):
        with pytest.raises((ConfigError, ModelNotFound)):
            planned(impossible)
    assert set(tmp_path.iterdir()) == before


def image(side: int | None) -> Signature:
    return Signature("raw", (TensorSpec("x", "float32", (side, side, 3)),), (TensorSpec("y", "float32", (1,)),))


def test_small_rows_travel_in_several_full_buckets(pair: Signature) -> None:
    assert pace_for(pair, 64).batch_rows == 512


def test_large_rows_travel_in_small_calls_that_still_fill_a_bucket_together() -> None:
    pace = pace_for(image(96), 64)
    assert pace.batch_rows * pace.in_flight >= 64
    assert pace.batch_rows * pace.in_flight * 96 * 96 * 3 <= 4_000_000
    assert pace_for(image(None), 64).batch_rows == 1


def test_rows_a_call_can_be_chosen(pair: Signature) -> None:
    assert pace_for(pair, 64, 7).batch_rows == 7
