from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from hoverboard.config import Settings
from hoverboard.journal.chunk import Position
from hoverboard.journal.finding import JournalInfo, journals
from hoverboard.recorder.cursor import Cursor
from hoverboard.recorder.journal_deletion import JournalDeletion
from tests.journaled import batch, open_journal, write


def here(settings: Settings) -> list[JournalInfo]:
    return journals(settings.data_dir / "journal")


def journal_of(settings: Settings, *, segments: int) -> JournalInfo:
    """A journal whose writer lives, of so many files."""
    journal = open_journal(settings.data_dir, segment_bytes=2048)
    while len(here(settings)[0].segments) < segments:
        write(journal, batch(8))
    return here(settings)[0]


def numbers(settings: Settings) -> list[int]:
    return [segment.number for segment in here(settings)[0].segments]


def cursor(journal: JournalInfo, segment: int, *, finished: bool = False) -> dict[object, Cursor]:
    return {journal.uuid: Cursor(journal.uuid, journal.process, Position(segment, 0, 0, 0), finished=finished)}


def run(tidy: JournalDeletion, settings: Settings, cursors: object, erased_at: float | None = None) -> list[Path]:
    return tidy.run(here(settings), cursors, erased_at=erased_at)  # type: ignore[arg-type]


def test_files_that_are_not_drained_stay(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(journal_keep_s=0.0)
    journal = journal_of(settings, segments=4)
    assert run(JournalDeletion(settings), settings, {}, time.time()) == []
    run(JournalDeletion(settings), settings, cursor(journal, 2), time.time())
    assert numbers(settings) == [2, 3]


def test_drained_files_are_kept_for_as_long_as_the_settings_say(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(journal_keep_s=0.2)
    journal = journal_of(settings, segments=3)
    tidy = JournalDeletion(settings)
    assert run(tidy, settings, cursor(journal, 2)) == []
    time.sleep(0.25)
    assert len(run(tidy, settings, cursor(journal, 2))) == 2
    assert numbers(settings) == [2]


def test_an_erasure_means_files_that_may_be_older_than_it(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    journal = journal_of(settings, segments=4)
    now = time.time()
    for segment, age_s in zip(journal.segments, (7200, 3600, 300, 0), strict=True):
        os.utime(journal.directory / f"{segment.number:08d}.seg", (now - age_s, now - age_s))
    run(JournalDeletion(settings), settings, cursor(journal, 3), now - 5000)
    assert numbers(settings) == [1, 2, 3]
    run(JournalDeletion(settings), settings, cursor(journal, 3), now - 100)
    assert numbers(settings) == [3]


def test_a_finished_journal_goes_altogether(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(journal_keep_s=0.0)
    journal = journal_of(settings, segments=3)
    run(JournalDeletion(settings), settings, cursor(journal, 2, finished=True))
    assert here(settings) == []
    assert not journal.directory.exists()
