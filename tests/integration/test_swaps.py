"""Versions swapped under load: no answer lost or wrong, little delay, no memory left behind."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.digits import classifier, pixels, publish_all
from tests.integration.running import Service, running
from tests.load import Answer, Load, call, p99_ms, predict_params, report, until, wrong

VERSIONS = range(1, 7)
CONNECTIONS = 64
ANSWERS_BETWEEN = 200
CALM = 5000
AFTERMATH_S = 0.2
KIB = 1024

Move = tuple[str, int, Callable[[], Awaitable[Any]]]
"""What a swap is called, the version that it leads to, and how it is set off."""


@pytest.fixture(scope="module")
def classifiers() -> dict[int, Any]:
    """Version -> Keras model; any two differ on any sample."""
    return {version: classifier(version) for version in VERSIONS}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, classifiers: dict[int, Any]) -> Path:
    """All versions published, for tests to move into place."""
    return publish_all(tmp_path_factory.mktemp("staged"), classifiers)


@pytest.fixture
def probes() -> Any:
    return pixels(16)


class Swapper:
    """Ways to make another version stable.

    Args:
        service: that serves `digits`.
        staged: where versions wait that are not published yet.
    """

    def __init__(self, service: Service, staged: Path) -> None:
        self._service = service
        self._staged = staged / "digits"
        self._digits = service.folder / "models" / "digits"

    def publish(self, version: int) -> Move:
        """Rename a version's directory into place; with nothing in `serving.toml`, the highest version is stable."""

        async def act() -> None:
            (self._staged / str(version)).rename(self._digits / str(version))

        return f"publish {version}", version, act

    def edit(self, version: int) -> Move:
        """Rewrite `serving.toml`, as an editor does."""

        async def act() -> None:
            fresh = self._digits / ".serving.toml.new"
            fresh.write_text(f"stable = {version}\n")
            fresh.replace(self._digits / "serving.toml")

        return f"edit to {version}", version, act

    def route(self, stable: int | None, version: int) -> Move:
        """Call `models.route`."""

        async def act() -> None:
            params = {"model": "digits", "stable": stable}
            answer = await call(self._service.admin_url, "models.route", params, token=self._service.token)
            assert answer["roles"] == {"stable": version}, answer

        return f"route to {stable or 'the highest'}", version, act

    def cycle(self, newest: int) -> list[Move]:
        """Five swaps: a new version, back to the one before, to the first, forth and back again."""
        before = newest - 1
        return [
            self.publish(newest),
            self.edit(before),
            self.route(1, 1),
            self.edit(before),
            self.route(None, newest),
        ]


async def test_twenty_swaps_under_load_fail_no_call_and_delay_few(
    tmp_path: Path,
    staged: Path,
    classifiers: dict[int, Any],
    probes: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = {version: np.asarray(model(probes)) for version, model in classifiers.items()}
    assert min(abs(a - b).max(axis=1).min() for a in expected.values() for b in expected.values() if a is not b) > 1e-3
    digits = tmp_path / "models" / "digits"
    digits.mkdir(parents=True)
    for version in (1, 2):
        (staged / "digits" / str(version)).rename(digits / str(version))

    with running(tmp_path) as service:
        swapper = Swapper(service, staged)
        moves = [move for newest in VERSIONS[2:] for move in swapper.cycle(newest)]
        assert len(moves) == 20
        questions = [predict_params("digits", [probe.tolist()]) for probe in probes]
        async with Load(service.url, questions, connections=CONNECTIONS) as load:
            await until(lambda: len(load.answers) >= 1000, what="the first answers")
            calm_since = time.perf_counter()
            await until(lambda: len(fresh(load, calm_since)) >= CALM, what="a calm while")
            calm = fresh(load, calm_since)
            windows = []
            for what, version, act in moves:
                windows.append(await swap(load, what, version, act))
            await asyncio.sleep(AFTERMATH_S)

    answers = load.answers
    assert load.codes() == {0: len(answers)}
    assert load.opened == CONNECTIONS, "connections were lost"
    assert wrong(answers, expected) == []
    during = [answer for answer in answers if any(overlap(answer, window) for window in windows)]
    inside = set(map(id, during))
    outside = [answer for answer in answers if id(answer) not in inside]
    fractions = [p99_ms([a for a in answers if overlap(a, window)]) for window in windows]
    report(
        capsys,
        f"20 swaps, {CONNECTIONS} connections, {len(answers)} answers, none failed or wrong; "
        f"swap windows of {np.mean([end - start for start, end in windows]):.2f} s on average; p99 during a swap "
        f"{p99_ms(during):.1f} ms ({len(during)} answers; of single swaps {min(fractions):.0f} to {max(fractions):.0f} "
        f"ms), outside {p99_ms(outside):.1f} ms ({len(outside)} answers): {p99_ms(during) / p99_ms(outside):.2f} times; "
        f"in the calm while before all swaps {p99_ms(calm):.1f} ms ({len(calm)} answers)",
    )
    assert p99_ms(during) <= 3 * p99_ms(outside)


async def swap(load: Load, what: str, version: int, act: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """One swap; returns from its trigger to a moment after the first answer of the new version."""
    before = len(load.answers)
    start = time.perf_counter()
    await act()

    def new() -> list[Answer]:
        return [answer for answer in load.answers[before:] if answer.version == version]

    await until(new, 30, f"an answer after {what!r}")
    end = new()[0].arrived + AFTERMATH_S
    await until(lambda: len(fresh(load, end)) >= ANSWERS_BETWEEN, 30, "answers between two swaps")
    assert {answer.version for answer in fresh(load, end)} == {version}
    return start, end


def fresh(load: Load, since: float) -> list[Answer]:
    """Answers to what was asked after a moment."""
    found = []
    for answer in reversed(load.answers):
        if answer.arrived < since:
            break
        if answer.sent >= since:
            found.append(answer)
    return found


def overlap(answer: Answer, window: tuple[float, float]) -> bool:
    return answer.sent <= window[1] and answer.arrived >= window[0]


@pytest.mark.timeout(600)
async def test_a_hundred_swaps_leave_no_memory_behind(
    tmp_path: Path, probes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {version: classifier(version, 4096) for version in (1, 2)}  # 1.2 MB of weights each
    publish_all(tmp_path / "models", models)
    expected = {version: np.asarray(model(probes)) for version, model in models.items()}
    questions = [predict_params("digits", [probe.tolist()]) for probe in probes]
    resident = []
    with running(tmp_path) as service:
        (engine,) = service.children("_engine")
        swapper = Swapper(service, tmp_path)
        async with Load(service.url, questions, connections=4) as load:
            for number in range(1, 101):
                version = 1 + number % 2
                _, _, act = swapper.route(version, version)
                await act()
                resident.append(engine.memory_info().rss)
    executors = set(re.findall('"executor":"([^"]+)"', service.log.read_text()))
    assert load.codes() == {0: len(load.answers)}
    assert wrong(load.answers, expected) == []
    at = np.arange(10, 101)
    slope = float(np.polyfit(at, resident[9:], 1)[0])
    growth = resident[99] / resident[9] - 1
    report(
        capsys,
        f"100 swaps run by {', '.join(executors)} with {len(load.answers)} answers: resident memory {resident[9] // KIB} KiB after swap 10, "
        f"{resident[99] // KIB} KiB after swap 100 ({growth:+.1%}), slope {slope / KIB:.0f} KiB a swap",
    )
    assert growth < 0.1
