from __future__ import annotations

import os
import stat
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hoverboard.journal.records import encode
from hoverboard.recorder.erasure.put_aside import purge
from hoverboard.recorder.erasure.tombstones import Tombstone, digest_of
from hoverboard.recorder.quarantine import Quarantine
from tests.journaled import batch, ids_of, label

JOURNAL = uuid.uuid4()
NOW = datetime.now(UTC)


def test_files_are_named_for_their_place_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    whole, part = quarantine.put(JOURNAL, 12, None, b"frame"), quarantine.put(JOURNAL, 12, 3, b"row")
    assert (whole, part) == (f"quarantine/{JOURNAL}-00000012.frame", f"quarantine/{JOURNAL}-00000012.3.frame")
    assert (tmp_path / whole).read_bytes() == b"frame"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "quarantine").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "quarantine").stat().st_mode) == 0o700


def test_the_same_record_put_aside_again_is_one_file(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    assert quarantine.put(JOURNAL, 1, None, b"frame") == quarantine.put(JOURNAL, 1, None, b"frame")
    assert len(quarantine.files()) == 1
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_what_was_erased_goes_and_so_does_what_nobody_can_read(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    record = batch(2, tags={"customer": "17"})
    quarantine.put(JOURNAL, 1, None, encode(record))
    quarantine.put(JOURNAL, 2, None, encode(batch(2, tags={"customer": "18"})))
    quarantine.put(JOURNAL, 3, None, b"\xc1")
    quarantine.put(JOURNAL, 4, None, encode(label(ids_of(record)[0])))
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert purge(quarantine, []) == []
    tag = Tombstone(1, later, "tag", tag_key="customer", tag_digest=digest_of("17"))
    assert [path.name[-14:] for path in purge(quarantine, [tag])] == ["00000001.frame", "00000003.frame"]
    sample = Tombstone(2, later, "sample", sample_id=ids_of(record)[0])
    assert [path.name[-14:] for path in purge(quarantine, [sample])] == ["00000004.frame"]
    assert len(quarantine.files()) == 1


def test_what_was_put_aside_too_long_ago_goes(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    old, new = (tmp_path / quarantine.put(JOURNAL, seq, None, b"frame") for seq in (1, 2))
    os.utime(old, times=(NOW.timestamp() - 31 * 86_400,) * 2)
    assert quarantine.expire(NOW - timedelta(days=30)) == [old]
    assert quarantine.files() == [new]


def test_without_a_quarantine_there_is_nothing_to_purge(tmp_path: Path) -> None:
    assert purge(Quarantine(tmp_path), [Tombstone(1, NOW, "age", before=NOW)]) == []
    assert Quarantine(tmp_path).expire(NOW) == []
