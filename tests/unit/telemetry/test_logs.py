import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import structlog

from hoverboard.telemetry import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was, whatever a test configured."""
    root = logging.getLogger()
    handlers, level, ours = list(root.handlers), root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**ours)
    logging.captureWarnings(capture=False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_json_line_holds_event_level_time_process_logger_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", process="engine-0")
    logs.get("registry").info("version_live", model="digits", version=2)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "version_live",
        "level": "info",
        "logger": "registry",
        "process": "engine-0",
        "model": "digits",
        "version": 2,
    }


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    logs.get("x").info("unimportant")
    logging.getLogger("aiohttp").info("unimportant")
    logs.get("x").warning("important")
    assert [line["event"] for line in lines(capsys)] == ["important"]


def test_a_command_that_people_read_has_no_line_in_between(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("critical", "json")
    logs.get("engine").error("batch_failed")
    own = logging.getLogger("tensorflow")
    before = own.level
    own.setLevel("WARNING")  # as TensorFlow does when it is imported
    own.error("retracing")
    own.setLevel(before)
    assert lines(capsys) == []


def test_lines_within_a_request_carry_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    token = logs.request_id.set("req-1")
    logs.get("api").info("inside")
    logs.request_id.reset(token)
    logs.get("api").info("outside")
    inside, outside = lines(capsys)
    assert inside["request_id"] == "req-1"
    assert "request_id" not in outside


@pytest.mark.parametrize("key", sorted(logs.PAYLOAD_KEYS))
@pytest.mark.parametrize("form", ["json", "console"])
def test_payloads_are_left_out_whoever_passes_them(
    key: str,
    form: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", form)
    logs.get("api").info("call", **{key: "very private"})
    written = capsys.readouterr().err
    assert "private" not in written
    assert "left out" in written


def test_an_array_is_named_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.get("engine").info("odd", found=np.full(3, 12345.0))
    (line,) = lines(capsys)
    assert line["found"] == "(ndarray)"


def test_a_long_text_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.get("engine").info("odd", text="x" * 100_000)
    (line,) = lines(capsys)
    assert len(line["text"]) < 2100


def test_an_exception_is_one_line_of_json_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logs.get("engine").exception("broken")
    (line,) = lines(capsys)
    assert "ZeroDivisionError" in line["exception"]


def test_the_standard_library_and_warnings_come_out_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", process="api-0")
    logging.getLogger("aiohttp.server").error("refused %s", "it")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    error, warning = lines(capsys)
    assert (error["event"], error["logger"], error["level"], error["process"]) == (
        "refused it",
        "aiohttp.server",
        "error",
        "api-0",
    )
    assert "old" in warning["event"]


def test_configuring_again_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        logs.configure("info", "json")
    logging.getLogger("aiohttp").error("once")
    assert len(lines(capsys)) == 1


def test_the_console_form_is_text_without_colours_in_a_pipe(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    logs.configure("info", "console")
    logs.get("registry").info("version_live", version=2)
    written = capsys.readouterr().err
    assert "version_live" in written
    assert "version=2" in written
    assert "\x1b" not in written


def test_before_any_configuration_standard_output_stays_clean() -> None:
    code = "from hoverboard.telemetry import logs; logs.get('x').info('quiet'); logs.get('x').warning('loud')"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert "loud" in done.stderr
    assert "quiet" not in done.stderr
