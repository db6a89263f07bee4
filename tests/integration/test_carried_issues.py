"""A version that was trained anew sees everything otherwise: what was known before it is known to it, too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.contract.signature import Array
from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows
from tests.integration.recorded import Recorded, until
from tests.postgres import Server

CLASSES = ("left", "middle", "right")
CENTRES = np.array([[2, 2, 2, 2, 8, 8, 8, 8], [5] * 8, [8, 8, 8, 8, 2, 2, 2, 2]], np.float32)


def usual(count: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, len(CLASSES), count)
    return (CENTRES[classes] + generator.normal(0, 0.6, (count, 8))).astype(np.float32), classes


def novel(count: int, seed: int) -> Array:
    """One kind of thing that no version has seen."""
    centre = np.array([12, 0, 12, 0, 12, 0, 12, 0])
    return (centre + np.random.default_rng(seed).normal(0, 0.6, (count, 8))).astype(np.float32)


def published(root: Path, seed: int) -> None:
    """A calibrated version, of other weights for each seed. Untrained: features that are drawn tell the usual from the novel, too."""
    import keras

    keras.utils.set_random_seed(seed)
    pixels = keras.Input((8,), name="x")
    hidden = keras.layers.Dense(24, activation="relu", name="hidden")(pixels)
    model = keras.Model(pixels, keras.layers.Dense(len(CLASSES), activation="softmax", name="p")(hidden))
    rows, classes = usual(600, 100)
    calibration = CalibrationRows((rows,), [CLASSES[each] for each in classes])
    publish(model, name="sorts", models_dir=root, labels=CLASSES, calibration=calibration, detector="mahalanobis")


@pytest.fixture
def service(tmp_path: Path, postgres: Server, migrated_template: str) -> Iterator[Recorded]:
    models = tmp_path / "models"
    published(models, 1)
    with running(tmp_path, postgres, migrated_template, carry_issues_s="0") as recorded:
        yield recorded


@contextmanager
def running(folder: Path, postgres: Server, template: str, **settings: str) -> Iterator[Recorded]:
    quick = {"recorder_yield_s": "0", "scan_interval_s": "0.1"}
    with Recorded.running(folder, folder / "models", (), postgres, template, **quick, **settings) as recorded:
        yield recorded


def typed(service: Recorded, *words: str) -> Any:
    """What a command prints; in this process, which has Keras already."""
    where = ["--json", "--database-url", service.database]
    with ThreadPoolExecutor(1) as thread:  # pytest-asyncio keeps a loop of its own in this one
        done = thread.submit(CliRunner().invoke, main, ["issues", *words, *where]).result()
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def send(service: Recorded, version: int, rows: Array) -> None:
    """Ask a version, and wait until what it found strange is grouped."""
    grouped = "select count(*) from outliers o join model_versions v on v.id = o.version_id where v.version = $1"
    before = service.rows(f"{grouped} and o.issue_id is not null", version)[0]["count"]
    params = {"model": "sorts", "version": version, "instances": rows.tolist()}
    answer = until(lambda: service.call("predict", params), lambda found: "result" in found)
    strange = sum(each["outlier"] for each in answer["result"]["predictions"])
    assert strange == len(rows)
    until(
        lambda: service.rows(f"{grouped} and o.issue_id is not null", version)[0]["count"],
        lambda count: count >= before + strange,
    )


def test_an_issue_is_known_to_a_version_that_was_trained_anew_and_regresses_by_it_alone(service: Recorded) -> None:
    models = service.service.folder / "models"
    send(service, 1, novel(60, 1))
    (known,) = typed(service)["issues"]
    typed(service, "resolve", str(known["id"]), "--in", "2", "--reason", "trained on it")
    published(models, 2)
    send(service, 2, novel(40, 2))
    (again,) = typed(service)["issues"]
    assert again["id"] != known["id"]
    unknown = {"model": "sorts", "version": 2, "issues": 1, "next": "hoverboard issues carry sorts --to 2"}
    assert typed(service)["unknown"] == typed(service, "show", str(known["id"]))["unknown"] == [unknown]
    # An older version says nothing of what the next one does.
    send(service, 1, novel(20, 3))
    every = {row["id"]: row["state"] for row in typed(service, "list", "--all")["issues"]}
    assert every[known["id"]] == "resolved"

    carried = typed(service, "carry", "sorts", "--to", "2", "--models", str(models))
    assert (carried["version"], carried["issues"], carried["left_out"]) == (2, [known["id"]], 0)
    assert again["id"] in carried["merged"]
    assert typed(service)["unknown"] == []
    (one,) = typed(service)["issues"]
    assert (one["id"], one["state"], one["substate"], one["members"]) == (known["id"], "unresolved", "regressed", 120)
    assert one["why"].startswith("version 2 found it again at ")
    # What comes of it from now on joins it, and says so of the version that is asked: first not, then of that one.
    typed(service, "resolve", str(known["id"]), "--in", "3")
    send(service, 2, novel(30, 4))
    assert typed(service)["issues"] == []
    typed(service, "resolve", str(known["id"]), "--in", "2")
    send(service, 2, novel(10, 5))
    (one,) = typed(service)["issues"]
    assert (one["id"], one["members"], one["first_version"], one["last_version"]) == (known["id"], 160, 1, 2)
    assert one["substate"] == "regressed"
    again = typed(service, "carry", "sorts", "--to", "2", "--models", str(models))
    assert again == {**carried, "leaders": 0, "issues": [], "merged": []}


def logged(service: Recorded, event: str) -> list[str]:
    return [line for line in service.service.log.read_text().splitlines() if event in line]


def test_a_deployment_carries_what_is_known_by_itself_and_nobody_types_anything(
    tmp_path: Path, postgres: Server, migrated_template: str
) -> None:
    models = tmp_path / "models"
    published(models, 1)
    with running(tmp_path, postgres, migrated_template, carry_issues_s="1") as service:
        send(service, 1, novel(60, 1))
        (known,) = typed(service)["issues"]
        typed(service, "resolve", str(known["id"]), "--in", "2", "--reason", "trained on it")
        published(models, 2)
        send(service, 2, novel(40, 2))
        (one,) = until(
            lambda: typed(service)["issues"], lambda found: [each["id"] for each in found] == [known["id"]], seconds=60
        )
        assert (one["state"], one["substate"], one["members"]) == ("unresolved", "regressed", 100)
        assert typed(service)["unknown"] == []
        (told,) = logged(service, "issues_carried")
        assert '"version":2' in told.replace(" ", "") and '"process":"carrier-0"' in told.replace(" ", "")
        # What is hidden from now on is not read, and who looks is told why; the recorder asks once.
        (models / "sorts" / "serving.toml").write_text('[recording]\nredact = ["/x/0"]\n')
        published(models, 3)
        hides = "select count(*) from model_versions where name = 'sorts' and version = 3"
        until(lambda: service.rows(hides)[0]["count"], bool)
        service.rows(
            "insert into issue_scopes (model, backbone_sha256) select name, weights_sha256 from model_versions where version = 3"
        )
        refused = until(lambda: logged(service, "issues_unknown_to_version"), bool, seconds=60)
        time.sleep(4)
        assert logged(service, "issues_unknown_to_version") == refused and len(refused) == 1
        assert "hides inputs" in refused[0] and "hoverboard issues carry sorts --to 3" in refused[0]
        leaders = (
            "select count(*) from issue_fingerprints f join issue_scopes s on s.id = f.scope_id join model_versions v "
        )
        leaders += "on v.weights_sha256 = s.backbone_sha256 where v.version = 3"
        assert service.rows(leaders)[0]["count"] == 0
