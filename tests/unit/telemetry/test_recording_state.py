"""What the parts of recording say of themselves, read by others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hoverboard.telemetry.recording_state import DATA, POSTGRES, RECORDER, Part, expect, journal, read


def test_it_works_once_every_part_that_was_expected_does(tmp_path: Path) -> None:
    assert read(tmp_path).state == "off"
    expect(tmp_path, [POSTGRES, RECORDER])
    assert read(tmp_path).as_json() == {"state": "starting", "why": "Postgres is starting"}
    assert Part(tmp_path, POSTGRES).say(None)
    assert read(tmp_path).why == "the recorder is starting"
    assert Part(tmp_path, RECORDER).say(None)
    assert read(tmp_path).as_json() == {"state": "working"}


def test_the_first_cause_is_told_and_told_once(tmp_path: Path) -> None:
    postgres, recorder, data = (Part(tmp_path, name) for name in (POSTGRES, RECORDER, DATA))
    recorder.say("nobody answers")
    assert read(tmp_path).why == "nobody answers"
    assert postgres.say("no room on disk")
    assert not postgres.say("no room on disk")
    assert read(tmp_path).why == "no room on disk"
    assert "wait in the journals" in (read(tmp_path).then or "")
    data.say("it is gone")
    assert read(tmp_path).why == "it is gone"
    assert "wait in the journals" not in (read(tmp_path).then or "")
    for part in (postgres, recorder, data):
        assert part.say(None)
    assert read(tmp_path).state == "working"


def test_a_killed_part_works_no_more_and_its_last_words_stay(tmp_path: Path) -> None:
    code = "import sys, pathlib; from hoverboard.telemetry.recording_state import Part; Part(pathlib.Path(sys.argv[1]), 'recorder').say(eval(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path), "None"], check=True)
    assert read(tmp_path).state == "starting"
    subprocess.run([sys.executable, "-c", code, str(tmp_path), "'no room'"], check=True)
    assert (read(tmp_path).state, read(tmp_path).why) == ("failing", "no room")


def test_with_recording_off_only_a_lost_data_directory_is_told(tmp_path: Path) -> None:
    data = Part(tmp_path, DATA)
    data.say(None)
    assert read(tmp_path).state == "off"
    data.say("it is gone")
    assert read(tmp_path).state == "failing"


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_file_that_nobody_can_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "recording-recorder.json").write_text(content)
    assert read(tmp_path).state == "off"


def test_records_that_are_dropped_are_counted_over_all_processes_and_another_cause_is_told_too(tmp_path: Path) -> None:
    engine, api, recorder = journal(tmp_path, "engine-0"), journal(tmp_path, "api-0"), Part(tmp_path, RECORDER)
    for part in (engine, api, recorder):
        part.say(None)
    assert read(tmp_path).as_json() == {"state": "working"}
    engine.say("the disk is full", then="make room", dropped=40)
    api.say("the disk is full", then="make room", dropped=2)
    assert read(tmp_path).state == "failing"
    assert read(tmp_path).why == "records are dropped, since the disk is full"
    then = "calls are answered, and records are dropped (42 so far, counted in the table gaps), since the disk is full; make room"
    assert read(tmp_path).then == then
    recorder.say("nobody answers")
    assert (read(tmp_path).why, read(tmp_path).then) == ("nobody answers", then)
