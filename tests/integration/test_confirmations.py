"""A likely cause is undone, and the rows are run once more: through real models, on what a real service recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.confirming import Confirmer
from hoverboard.postmortem.counting import RecordedShare
from hoverboard.postmortem.question import About
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import recorded_versions
from hoverboard.postmortem.table import Field, Table
from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows
from tests.integration.recorded import Recorded, until
from tests.postgres import Server

ROWS = 300
LABELS = ["light", "heavy"]


def drawn(seed: int, rows: int = ROWS, middle: float = 10.0) -> np.ndarray[Any, Any]:
    """Sizes and weights, float32 `(rows, 2)`."""
    draw = np.random.default_rng(seed)
    size = draw.normal(middle, 1, rows)
    return np.stack([size, 3 * size + draw.normal(0, 1, rows)], axis=1).astype(np.float32)


def _answered(answer: Any) -> bool:
    return "result" in answer


def scales() -> Any:
    import keras

    size, weight = (keras.Input((1,), name=name) for name in ("size", "weight"))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(keras.layers.Concatenate()([size, weight]))
    return keras.Model([size, weight], keras.layers.Dense(2, activation="softmax", name="p")(hidden))


@pytest.fixture(scope="module")
def published_scales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 3 know the usual rows; version 2 was calibrated on others, and finds the usual ones strange."""
    import keras

    root = tmp_path_factory.mktemp("scales")
    keras.utils.set_random_seed(1)
    model = scales()
    for middle in (10.0, 14.0, 10.0):
        rows = drawn(7, 800, middle)
        calibration = CalibrationRows((rows[:, :1], rows[:, 1:]))
        publish(
            model, name="scales", models_dir=root, labels=LABELS, calibration=calibration, alpha=0.02, breaking=True
        )
    return root


@dataclass(frozen=True, slots=True)
class Incidents:
    """A service and the times of what it was sent.

    Attributes:
        here: the service.
        times: the begin of each part, and the end of the last one.
    """

    here: Recorded
    times: list[datetime]


@pytest.fixture(scope="module")
def incidents(
    tmp_path_factory: pytest.TempPathFactory, published_scales: Path, postgres: Server, migrated_template: str
) -> Iterator[Incidents]:
    folder = tmp_path_factory.mktemp("confirmations")
    with Recorded.running(
        folder, published_scales, ["scales"], postgres, migrated_template, recorder_yield_s="0"
    ) as here:
        unit = drawn(2)
        unit[::2, 0] *= 100
        # Version 2 answers a half of its part, as a canary does.
        parts = [((1,), drawn(1)), ((1,), unit), ((1, 2), drawn(3)), ((3,), drawn(4, middle=30.0))]
        times = []
        for versions, rows in parts:
            time.sleep(0.3)
            times.append(datetime.now(UTC))
            for start in range(0, ROWS, 50):
                instances = [{"size": [size], "weight": [weight]} for size, weight in rows[start : start + 50].tolist()]
                version = versions[start // 50 % len(versions)]
                params = {"model": "scales", "version": version, "instances": instances}
                until(partial(here.call, "predict", params), _answered, 30)
        time.sleep(0.3)
        times.append(datetime.now(UTC))
        until(lambda: here.rows("select count(*) from predictions")[0]["count"], lambda count: count == 4 * ROWS)
        yield Incidents(here, times)


def tried(incidents: Incidents, cause: LikelyCause, part: int, **options: Any) -> LikelyCause:
    """What a run says of a cause of a part, made up by the test."""
    first, last = incidents.times[part], incidents.times[part + 1]
    rows = incidents.here.rows(
        "select s.id, s.at, v.version, (s.inputs ->> 'size')::float8 as size, exists (select from outliers o where o.sample_id = s.id) as bad from samples s "
        "join predictions p on p.sample_id = s.id join model_versions v on v.id = p.version_id "
        "where s.at < $1 or (s.at >= $2 and s.at < $3) order by s.id",
        *(incidents.times[1], first, last),
    )
    at = np.array([row["at"].timestamp() * 1e6 for row in rows]).astype(np.int64)
    base = np.array([row["at"] < incidents.times[1] for row in rows])
    versions = ("absent", "1", "2", "3")
    codes = np.array([versions.index(str(row["version"])) for row in rows], np.uint8)
    sizes = np.array([row["size"] for row in rows], np.float32)
    table = Table(
        at_us=at,
        bad=np.array([row["bad"] for row in rows]),
        base=base,
        weight=np.ones(len(rows)),
        client=np.zeros(len(rows), np.int32),
        fields=(
            Field("version", "version", versions, codes),
            Field(
                "input size", "input", ("absent", "below 100", "above 100"), (1 + (sizes > 100)).astype(np.uint8), sizes
            ),
        ),
        ids=np.frombuffer(b"".join(row["id"].bytes for row in rows), "V16"),
    )

    async def run() -> LikelyCause:
        settings = Settings.load(database_url=incidents.here.database)
        async with reading(settings, application="test") as connection:
            known = await recorded_versions(connection, "scales")
            recording = RecordedShare(connection, "scales", known, lambda *_: None)
            models = options.pop("models", incidents.here.service.folder / "models")
            confirmer = Confirmer(models, lambda: None, lambda *_: None, **options)
            return (await confirmer.confirmed(recording, About("outliers"), table, [cause]))[0]

    return asyncio.run(run())


def test_a_unit_that_is_turned_back_is_confirmed(incidents: Incidents) -> None:
    found = tried(
        incidents, LikelyCause("schema", "input size", 0.9, "many", None, "", (("input size", "above 100"),)), 1
    )
    assert found.confirmed is True and "with size divided by 100" in found.evidence, found.evidence


def test_a_version_whose_rows_are_usual_for_the_one_before_is_confirmed(incidents: Incidents) -> None:
    found = tried(incidents, LikelyCause("version", "2", 0.9, "many", None, "", (("version", "2"),)), 2)
    assert found.confirmed is True and "through version 1, which answered before" in found.evidence, found.evidence


BLAMED = LikelyCause("version", "3", 0.9, "many", None, "", (("version", "3"),))


def test_a_version_that_the_one_before_agrees_with_is_not_confirmed(incidents: Incidents) -> None:
    found = tried(incidents, BLAMED, 3)
    assert found.confirmed is False and "leaves a part of the rise" in found.evidence, found.evidence


def test_what_comes_out_here_as_it_did_there_is_no_fault_of_a_process(incidents: Incidents) -> None:
    cause = LikelyCause("machine", "engine-0", 0.9, "many", None, "", (("version", "3"),))
    found = tried(incidents, cause, 3)
    assert found.confirmed is False and "here through version 3" in found.evidence, found.evidence


def test_where_no_replay_can_tell_nothing_is_said(incidents: Incidents, tmp_path: Path) -> None:
    assert tried(incidents, BLAMED, 3, models=tmp_path) == BLAMED
    late = tried(incidents, BLAMED, 3, seconds=0.01)
    assert late.confirmed is None and "stopped after 0 s" in late.evidence
