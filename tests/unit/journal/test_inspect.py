from __future__ import annotations

from pathlib import Path

from hoverboard.journal.format import HEADER_BYTES, segment_name
from hoverboard.journal.inspect import WORDS, surveys
from hoverboard.journal.records import GapEntry
from tests.unit.journal.written import BATCH, REJECTION, copied, entry, open_writer, read_all


def test_every_kind_of_record_has_its_word() -> None:
    words = ["version", "batch", "rejection", "label", "deployment", "gap", "alarmreset", "supplement", "withdrawal"]
    words += ["feature", "process"]
    assert dict(enumerate(words, 1)) == WORDS


def test_frames_and_records_are_counted_by_kind(tmp_path: Path) -> None:
    living = open_writer(tmp_path, segment_bytes=300)
    for _ in range(5):
        living.append(BATCH, bytes(100), count=7, needs={"v": b"version"})
    living.append(99, b"of a later writer", count=2)
    living.shed([entry(3)])
    closed = open_writer(tmp_path, process="api-0")
    closed.append(REJECTION, b"x", count=1)
    closed.close()
    first, second = surveys(tmp_path)
    assert (first.info.process, first.info.alive, first.state) == ("engine-0", True, "waiting")
    assert first.frames == {"version": 5, "batch": 5, "kind 99": 1} and len(first.info.segments) == 6
    assert first.records == {"version": 0, "batch": 35, "kind 99": 2}
    assert first.pending == (entry(3),)
    assert first.bytes == sum(path.stat().st_size for path in living.directory.iterdir())
    assert (second.info.process, second.info.closed, second.state) == ("api-0", True, "finished")
    assert (second.frames, second.pending, second.damages) == ({"rejection": 1}, (), [])


def test_a_pending_gap_is_shown_until_it_is_a_frame(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal", segment_bytes=300)

    def pending(root: Path) -> tuple[GapEntry, ...]:
        (survey,) = surveys(root)
        return survey.pending

    assert pending(tmp_path / "journal") == ()
    writer.shed([entry(3)])
    assert pending(tmp_path / "journal") == (entry(3),)
    copied(writer.directory, tmp_path / "orphan")
    assert pending(tmp_path / "orphan") == (entry(3),)
    for _ in range(3):
        writer.append(BATCH, bytes(200), count=1)
    assert pending(tmp_path / "journal") == ()
    (writer.directory / segment_name(0)).unlink()  # the one with the gap's frame
    assert pending(tmp_path / "journal") == ()


def test_deleted_segments_are_no_damage_but_missing_ones_are(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=500)
    for _ in range(8):
        writer.append(BATCH, bytes(300), count=7)
    writer.close()
    (writer.directory / segment_name(0)).unlink()
    (survey,) = surveys(tmp_path)
    assert survey.damages == [] and survey.records == {"batch": 49}
    (writer.directory / segment_name(3)).unlink()
    (survey,) = surveys(tmp_path)
    assert [(one.reason, one.records) for one in survey.damages] == [("missing", 7)]
    header = writer.directory / segment_name(1)
    data = bytearray(header.read_bytes())
    data[HEADER_BYTES - 1] ^= 1
    header.write_bytes(data)
    (survey,) = surveys(tmp_path)
    assert [(one.reason, one.records) for one in survey.damages] == [("damaged", 0), ("missing", 7)]
    assert read_all(writer.directory).records == 42
