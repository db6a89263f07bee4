from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hoverboard.journal.chunk import Position
from hoverboard.journal.finding import JournalInfo, journals
from hoverboard.journal.reader import read
from hoverboard.recorder.cursor import Cursor
from hoverboard.recorder.lag import Behind, Lag
from tests.journaled import batch, ids_of, label, open_journal, write

NOW = datetime.now(UTC)


def here(data_dir: Path) -> list[JournalInfo]:
    return journals(data_dir / "journal")


def at(journal: JournalInfo, position: Position, *, finished: bool = False) -> Cursor:
    return Cursor(journal.uuid, journal.process, position, finished=finished)


def test_without_cursors_everything_counts(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    write(journal, batch(5, at=NOW - timedelta(seconds=30)), first := batch(2), label(ids_of(first)[0]))
    behind = Lag().measure(here(tmp_path), {}, now=NOW)
    assert behind.rows == 8
    assert behind.bytes == here(tmp_path)[0].segments[0].bytes
    assert 29 < behind.seconds < 31


def test_what_is_drained_does_not_count_and_what_is_new_does(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, segment_bytes=4096)
    write(journal, *[batch(8) for _ in range(20)])
    (info,) = here(tmp_path)
    assert len(info.segments) > 2
    lag = Lag()
    halfway = read(info.directory, Position(), max_bytes=5000).end
    assert lag.measure([info], {info.uuid: at(info, halfway)}, now=NOW).rows == 160 - halfway.rows
    end = read(info.directory, Position(), max_bytes=1 << 20).end
    assert lag.measure([info], {info.uuid: at(info, end)}, now=NOW) == Behind(0, 0, 0.0)
    write(journal, batch(3))
    info = here(tmp_path)[0]
    assert lag.measure([info], {info.uuid: at(info, end)}, now=NOW).rows == 3


def test_a_finished_journal_is_not_behind(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    write(journal, batch(5))
    journal.close()
    (info,) = here(tmp_path)
    assert Lag().measure([info], {info.uuid: at(info, Position(), finished=True)}, now=NOW) == Behind(0, 0, 0.0)
