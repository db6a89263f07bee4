"""Versions are tried in a process of their own, which can reach nothing else, before anything loads them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from hoverboard.backends.tensorflow import device
from hoverboard.config import Settings
from hoverboard.engine.engine import Engine
from hoverboard.engine.models import proofs
from hoverboard.engine.models.proofs import Proofs, try_version
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing import publish
from hoverboard.versions import read_version
from tests.integration.running import ROOT

REACHING = """
import json, os, socket, subprocess, sys
from collections.abc import Callable
from pathlib import Path
from hoverboard.engine.models.sandbox import enter

mine, other, scratch = map(Path, sys.argv[1:])
held = enter([mine], [scratch], 8 << 30, 1 << 20)

def refused(action):
    try:
        action()
    except OSError:
        return True
    return False

print(json.dumps({
    "held": held,
    "own_file": refused(lambda: (mine / "file").read_text()),
    "own_scratch": refused(lambda: (scratch / "made").write_text("x")),
    "other_file": refused(lambda: (other / "file").read_text()),
    "other_folder": refused(lambda: os.listdir(other)),
    "passwords": refused(lambda: Path("/etc/passwd").read_text()),
    "write": refused(lambda: (mine / "made").write_text("x")),
    "large_file": refused(lambda: (scratch / "large").write_bytes(bytes(2 << 20))),
    "socket": refused(lambda: socket.socket()),
    "program": refused(lambda: subprocess.run(["/bin/true"])),
    "signal": refused(lambda: os.kill(os.getppid(), 0)),
}))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_process_that_entered_the_sandbox_reaches_only_what_it_was_given(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("mine", "other", "scratch")]
    for place in places:
        place.mkdir()
        (place / "file").write_text("content")
    script = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + REACHING
    command = [sys.executable, "-P", "-c", script, *map(str, places)]
    found = json.loads(subprocess.run(command, env=environment(), check=True, capture_output=True).stdout)
    assert not found["own_file"]
    assert not found["own_scratch"]
    assert found["large_file"]
    if "landlock" in found["held"]:
        assert found["other_file"] and found["other_folder"] and found["passwords"] and found["write"]
    if "seccomp" in found["held"]:
        assert found["socket"] and found["program"] and found["signal"]


HANGS, EATS = 1234.5, 4321.5


def looping() -> Any:
    """Never answers to one number, and takes 80 GB for another."""
    import tensorflow as tf

    class Looping(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32, name="number")])  # type: ignore[untyped-decorator]
        def serve(self, number: Any) -> dict[str, Any]:
            hangs = tf.reduce_any(tf.equal(number, HANGS))
            eats = tf.reduce_any(tf.equal(number, EATS))
            (turned,) = tf.while_loop(lambda x: hangs, lambda x: (x * 0.5,), (tf.constant(1.0),))
            size = tf.where(eats, tf.constant(20_000_000_000, tf.int64), tf.constant(1, tf.int64))
            return {"y": number + 0.0 * turned + 0.0 * tf.reduce_sum(tf.fill([size], 1.0))}

    return Looping()


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("loops")
    model = looping()
    tf.saved_model.save(model, str(folder / "saved"), signatures={"serving_default": model.serve})
    return publish(folder / "saved", name="loops", models_dir=folder / "models", task="raw", samples=[[1.0]])


def _asking(version: Path, number: float) -> Path:
    """The same version, whose golden sample is another one."""
    document = json.loads((version / "golden.json").read_text())
    for sample in document["samples"]:
        sample["inputs"]["number"] = [number]
    (version / "golden.json").write_text(json.dumps(document))
    return version


def test_a_version_that_never_answers_is_refused_once_its_time_is_up(loops: Path) -> None:
    started = time.monotonic()
    with pytest.raises(VersionRefused, match="not loaded and run within 8 s") as caught:
        try_version(_asking(loops, HANGS), 1, deadline_s=8)
    assert caught.value.check == "crash"
    assert time.monotonic() - started < 60
    assert try_version(_asking(loops, 1.0), 1).sandbox  # the next one is tried as if nothing had been


def test_what_is_wanted_while_a_version_hangs_is_tried_beside_it(loops: Path, models: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(try_version, _asking(loops, HANGS), 1, 20)
        time.sleep(1)
        assert try_version(models / "constant" / "1", 1).sandbox
        assert not hung.done()
        with pytest.raises(VersionRefused):
            hung.result()
    _asking(loops, 1.0)


def test_a_version_that_eats_all_memory_is_refused(loops: Path) -> None:
    with pytest.raises(VersionRefused, match="memory"):
        try_version(_asking(loops, EATS), 1)
    assert try_version(_asking(loops, 1.0), 1).sandbox


def _forks() -> list[psutil.Process]:
    process = proofs._provers[0]._process
    return psutil.Process(process.pid).children() if process is not None else []


@pytest.mark.parametrize(("number", "words"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSTOP, "was stopped")])
def test_a_trial_that_is_killed_or_stopped_from_outside_says_nothing_of_the_version(
    loops: Path, tmp_path: Path, number: signal.Signals, words: str
) -> None:
    manifest = read_version(_asking(loops, HANGS))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(Proofs(tmp_path / "proofs", 8).require, loops, manifest, device.software())
        until = time.monotonic() + 60
        while not (forks := _forks()):
            assert time.monotonic() < until
            time.sleep(0.1)
        forks[0].send_signal(number)
        with pytest.raises(VersionRefused, match=words) as caught:
            asking.result()
    assert caught.value.passing
    assert not (tmp_path / "proofs").exists()
    _asking(loops, 1.0)


def test_where_no_trial_can_be_made_the_version_is_not_to_blame(models: Path) -> None:
    script = (
        "import os, resource, sys; from pathlib import Path; from hoverboard.engine.models.proofs import try_version\n"
        "from hoverboard.errors import VersionRefused\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')),) * 2)\n"
        "try: try_version(Path(sys.argv[1]), 1)\n"
        "except VersionRefused as refusal: print(refusal.passing, refusal)"
    )
    command = [sys.executable, "-P", "-c", script, str(models / "constant" / "1")]
    done = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    assert done.stdout.startswith("True it could not be tried in a process of its own: Too many open files"), done


def test_whoever_asked_takes_the_trial_along_when_it_dies(loops: Path) -> None:
    script = f"from pathlib import Path; from hoverboard.engine.models.proofs import try_version; try_version(Path({str(_asking(loops, HANGS))!r}), 1)"
    asking = subprocess.Popen([sys.executable, "-P", "-c", script], env=environment())
    until = time.monotonic() + 60
    while len(tried := psutil.Process(asking.pid).children(recursive=True)) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    asking.kill()
    asking.wait()
    _, alive = psutil.wait_procs(tried, timeout=10)
    assert not alive
    _asking(loops, 1.0)


def test_what_was_tried_on_this_machine_is_not_tried_again(models: Path, tmp_path: Path) -> None:
    place = models / "constant" / "1"
    manifest = read_version(place)
    proofs._known.clear()
    Proofs(tmp_path / "proofs").require(place, manifest, device.software())
    proofs._known.clear()
    proofs._provers[0].close()
    Proofs(tmp_path / "proofs").require(place, manifest, device.software())
    assert proofs._provers[0]._process is None
    Proofs(tmp_path / "proofs").require(place, manifest, {**device.software(), "keras": "4"})
    assert proofs._provers[0]._process is not None


@pytest.fixture
def own_layer() -> Any:
    import keras

    @keras.saving.register_keras_serializable("tests")
    class Tripling(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return 3 * x

    yield Tripling
    keras.saving.get_custom_objects().pop("tests>Tripling")


def test_publishing_says_what_the_server_will_say_of_a_layer_of_ones_own(own_layer: Any, tmp_path: Path) -> None:
    import keras

    number = keras.Input((1,), name="number")
    model = keras.Model(number, own_layer()(keras.layers.Dense(1)(number)))
    with pytest.raises(PublishError, match=r"would refuse this version: .*Python code of your own.*export=True"):
        publish(model, name="own", models_dir=tmp_path)
    assert not (tmp_path / "own").exists()
    place = publish(model, name="own", models_dir=tmp_path, export=True)
    assert read_version(place).artifact == "saved_model"
    assert read_version(place).inputs[0].name == "number"


async def test_what_held_while_a_version_was_tried_is_told_to_whoever_asks(
    models: Path, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings()
    for name in ("poisoned", "lengths", "mixed", "dense", "logarithm"):
        shutil.rmtree(settings.models / name)
    async with Engine(settings) as engine:
        await engine.settled()
        status = engine.catalog.models["constant"].version(2)
    assert status is not None and status.state == "live"
    assert status.sandbox in ("landlock+seccomp", "landlock", "seccomp", "none")
    (remembered,) = (settings.data_dir / "proofs").iterdir()
    assert json.loads(remembered.read_text())["sandbox"] == status.sandbox
