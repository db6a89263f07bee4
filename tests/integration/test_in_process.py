"""An engine in the process of a test or a notebook, with the models that are shipped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hoverboard
from hoverboard.errors import (
    ConfigError,
    DataDirLocked,
    InvalidParams,
    ModelNotFound,
    PublishError,
    UnknownMethod,
    Unreachable,
)
from hoverboard.journal.finding import JOURNALS
from hoverboard.journal.inspect import surveys
from hoverboard.supervisor.claims import DataDir
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
        assert "label is not offered, since recording is off" in str(unknown.value)
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
    with pytest.raises(
        ConfigError, match=r"^max_bach \(an argument of serve_in_process\) is no setting; did you mean max_batch\?$"
    ):
        hoverboard.serve_in_process(models, max_bach=1)
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


def test_ctrl_c_while_it_loads_leaves_the_data_directory_free(models: Path, tmp_path: Path) -> None:
    with hoverboard.serve_in_process(models):
        pass  # what takes long to import is imported from here on
    data = tmp_path / "data"
    interrupt = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt), hoverboard.serve_in_process(models, recording=data):
        time.sleep(10)
    DataDir.claim(data).release()
    assert not [thread for thread in threading.enumerate() if thread.name == "hoverboard"]


async def test_giving_up_while_it_loads_leaves_the_data_directory_free(models: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    service = hoverboard.serve_in_process(models, recording=data)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.__aenter__(), 0.02)
    DataDir.claim(data).release()
    async with service as client:  # and it can be entered anew
        assert [model.name for model in await client.models()] == ["digits"]


async def test_entering_it_twice_is_refused_and_the_first_engine_goes_on(models: Path) -> None:
    service = hoverboard.serve_in_process(models)
    with service as client:
        with pytest.raises(RuntimeError, match="is entered already"), service:
            pass
        with pytest.raises(RuntimeError, match="is entered already"):
            async with service:
                pass
        assert client.models()
    with service as client:
        assert client.models()
    assert not [thread for thread in threading.enumerate() if thread.name == "hoverboard"]


def test_of_threads_that_enter_it_at_once_one_has_it_and_no_engine_is_left(models: Path) -> None:
    service, together = hoverboard.serve_in_process(models), threading.Barrier(4, timeout=60)
    outcomes: list[str] = []

    def enter() -> None:
        together.wait()
        try:
            with service as client:
                outcomes.extend(model.name for model in client.models())
                together.wait()
        except RuntimeError as error:
            outcomes.extend(re.findall("is entered already", str(error)))
            together.wait()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["digits", *["is entered already"] * 3]
    assert not [thread for thread in threading.enumerate() if thread.name == "hoverboard"]


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        (
            "model",
            None,
            "model: expected a built keras.Model, or the path of a .keras file or of a SavedModel directory, got None",
        ),
        ("model", [], "model: expected a built keras.Model, .*got list"),
        ("model", dict, "model: expected a built keras.Model, .*got the class dict"),
        ("name", None, "name: expected a text, got None"),
        ("models_dir", 3, "models_dir: expected the path of a directory, got int"),
        ("thresholds", [1], "thresholds: expected probabilities by label, got list"),
        ("parent", "x", "parent: expected a whole number, got str"),
        ("max_batch", True, "max_batch: expected a whole number, got bool"),
        ("breaking", "no", "breaking: expected True or False, got str"),
        ("alpha", "x", "alpha: expected a number, got str"),
        ("export", None, "export: expected True or False, got None"),
        ("progress", 3, "progress: expected a function of a step's name and the share that is done, got int"),
    ],
)
def test_publish_names_the_argument_that_is_of_another_type(
    argument: str, value: Any, words: str, tmp_path: Path
) -> None:
    given = {"model": "model.keras", "name": "a", "models_dir": tmp_path, argument: value}
    with pytest.raises(PublishError, match=words):
        hoverboard.publish(given.pop("model"), **given)
