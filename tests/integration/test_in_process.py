"""An engine in the process of a test or a notebook, with the models that are shipped."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import hoverboard
from hoverboard.errors import ConfigError, DataDirLocked, InvalidParams, ModelNotFound, UnknownMethod, Unreachable
from hoverboard.journal.finding import JOURNALS
from hoverboard.journal.inspect import surveys
from tests.integration.running import ROOT


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with one model, so that it is loaded in a moment."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "digits").mkdir()
    (folder / "digits" / "3").symlink_to(ROOT / "models" / "digits" / "3")
    return folder


@pytest.fixture(scope="module")
def image() -> NDArray[np.float64]:
    request = json.loads((ROOT / "examples/digits/request.json").read_text())
    return np.array(request["params"]["instances"])[:1]


def test_plain_code_calls_it_as_it_would_a_service(models: Path, image: NDArray[np.float64]) -> None:
    before = threading.active_count()
    with hoverboard.serve_in_process(models) as client:
        answer = client.predict("digits", np.repeat(image, 20, axis=0))
        assert answer.labels.tolist() == ["9"] * 20
        assert client.describe("digits").roles == {"stable": 3}
        assert [model.name for model in client.models()] == ["digits"]
        assert client.pin("digits", 3)["live"] == [3]
        with pytest.raises(InvalidParams) as refused:
            client.predict("digits", [[1, 2]])
        assert (refused.value.details or {})["pointer"] == "/instances/0"
        with pytest.raises(ModelNotFound):
            client.predict("nothing", [1])
        with pytest.raises(UnknownMethod) as unknown:
            client.label(answer[0].sample_id, "9")
        assert 'serve_in_process(models, recording="data")' in unknown.value.__notes__[0]
    with pytest.raises(Unreachable, match="has been shut down"):
        client.predict("digits", image, deadline_s=1)
    assert not [thread for thread in threading.enumerate() if thread.name == "hoverboard"]
    assert threading.active_count() <= before + 2  # TensorFlow's own stay


def test_a_folder_that_is_none_is_refused_at_once_and_so_is_a_call_without_with(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "nope", tmp_path / "file"):
        with pytest.raises(ConfigError, match="does not exist or is no directory"):
            hoverboard.serve_in_process(folder)
    with pytest.raises(AttributeError, match=r"`with hoverboard.serve_in_process\(\.\.\.\) as client:`"):
        hoverboard.serve_in_process(models).predict("digits", [1])  # type: ignore[attr-defined]


async def test_an_event_loop_that_runs_already_calls_it_too(models: Path, image: NDArray[np.float64]) -> None:
    async with hoverboard.serve_in_process(models) as client:
        answers = await asyncio.gather(*(client.predict("digits", image) for _ in range(20)))
        assert {answer[0].label for answer in answers} == {"9"}
    with hoverboard.serve_in_process(models) as plain:  # as in a cell of a notebook
        assert plain.predict_one("digits", image[0]).label == "9"


def test_two_at_once_keep_to_themselves(models: Path, image: NDArray[np.float64], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with hoverboard.serve_in_process(models) as one, hoverboard.serve_in_process(tmp_path / "none") as other:
        assert one.predict("digits", image).labels[0] == "9"
        with pytest.raises(ModelNotFound):
            other.predict("digits", image)


def test_with_recording_everything_is_in_the_journals(models: Path, image: NDArray[np.float64], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with hoverboard.serve_in_process(models, recording=data) as client:
        answer = client.predict("digits", image, tags={"of": "a test"})
        client.label(answer[0].sample_id, "9", model="digits")
        client.reset_alarm("digits", 3, "a new kind of camera")
        with pytest.raises(DataDirLocked), hoverboard.serve_in_process(models, recording=data):
            pass
    with hoverboard.serve_in_process(models, recording=data) as client:  # and it can be used again
        assert client.predict("digits", image).labels[0] == "9"
    records = sum((Counter(one.records) for one in surveys(data / JOURNALS)), Counter())
    assert {"batch": 2, "label": 1, "alarmreset": 1}.items() <= records.items()
