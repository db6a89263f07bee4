from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from hoverboard.journal.chunk import Frame
from hoverboard.journal.records import KINDS, BatchRecord, Record, encode
from hoverboard.recorder.sorting import Piece, Sorted, sort_out
from tests.journaled import MODEL, WEIGHTS, batch, deployment, ids_of, label, rejection, version

NOW = datetime.now(UTC)
KEY = (MODEL, 1, WEIGHTS)


def frames(*records: Record) -> list[Frame]:
    return [Frame(KINDS[type(each)], encode(each), seq, 0, 1, 0, 100 * seq) for seq, each in enumerate(records)]


def sort(*records: Record) -> Sorted:
    return sort_out(frames(*records), now=NOW, retention_days=30)


def test_pieces_keep_their_order_and_versions_are_found_with_their_manifest() -> None:
    first, second = batch(2, at=NOW - timedelta(hours=2)), batch(3)
    found = sort(version(), first, rejection(), label(ids_of(first)[0]), second, deployment())
    assert [type(piece.record).__name__ for piece in found.pieces] == [
        "BatchRecord",
        "RejectionRecord",
        "LabelRecord",
        "BatchRecord",
        "DeploymentRecord",
    ]
    (known,) = found.versions
    assert (known.key, known.manifest) == (KEY, version().manifest)
    assert abs(known.first_served_at - (NOW - timedelta(hours=2))) < timedelta(milliseconds=2)
    assert found.executed == 5
    assert found.drained is not None
    assert found.drained.sample_ids == first.sample_ids + second.sample_ids
    assert found.drained.labelled == [ids_of(first)[0]]
    assert found.drained.first <= NOW - timedelta(hours=2) <= found.drained.last


def test_a_version_whose_record_is_lost_comes_without_a_manifest() -> None:
    assert [(each.key, each.manifest) for each in sort(batch(1)).versions] == [(KEY, None)]


def test_expired_rows_are_cut_out_wherever_they_stand() -> None:
    old, new = batch(1, at=NOW - timedelta(days=31)).sample_ids, [batch(1).sample_ids for _ in range(4)]
    template = batch(6)
    mixed = msgspec.structs.replace(template, sample_ids=b"".join([new[0], old, new[1], new[2], old, new[3]]))
    found = sort(mixed)
    kept = [each for piece in found.pieces if isinstance(piece.record, BatchRecord) for each in ids_of(piece.record)]
    assert [each.bytes for each in kept] == new
    assert [piece.row for piece in found.pieces] == [0, 2, 3, 5]
    assert [(gap.reason, gap.records) for gap in found.expired] == [("expired", 2)]
    assert found.executed == 6


def test_a_piece_halves_down_to_single_rows_that_know_where_they_stood() -> None:
    (piece,) = sort(batch(5)).pieces
    left = [piece]
    single: list[Piece] = []
    while left:
        halves = left.pop(0).halves()
        if halves is None:
            raise AssertionError
        for half in halves:
            (left if half.rows > 1 else single).append(half)
    assert sorted(each.row or 0 for each in single) == [0, 1, 2, 3, 4]
    assert isinstance(piece.record, BatchRecord)
    told = ids_of(piece.record)
    assert all(isinstance(each.record, BatchRecord) and ids_of(each.record) == [told[each.row or 0]] for each in single)
    assert all(each.halves() is None for each in single)


def test_what_cannot_be_read_is_told_apart_and_takes_nothing_with_it() -> None:
    whole = batch(2)
    (bad,) = frames(msgspec.structs.replace(batch(2), sample_ids=b"short"))
    torn = Frame(2, b"\xc1", 7, 0, 3, 0, 0)
    found = sort_out([*frames(whole), bad, torn], now=NOW, retention_days=30)
    assert [piece.record for piece in found.pieces] == [whole]
    assert [each.frame for each in found.unreadable] == [bad, torn]
    assert found.executed == 2


def test_a_late_row_leaves_all_others_of_its_chunk_as_they_are() -> None:
    current: list[Record] = [version(), batch(2), rejection(), label(ids_of(batch(1))[0]), batch(3), deployment()]
    alone, found = sort(*current), sort(*current, batch(1, at=NOW - timedelta(days=31)))
    assert [piece.record for piece in found.pieces] == [piece.record for piece in alone.pieces] == current[1:]
    assert (found.days, found.versions) == (alone.days, alone.versions)
    assert (alone.executed, found.executed) == (5, 6)
    assert [len(each.batches) for each in (alone, found)] == [2, 3]
    assert [(gap.reason, gap.records) for gap in found.expired] == [("expired", 1)]
    assert (alone.expired, alone.implausible, found.implausible) == ([], 0, 0)


def test_clocks_that_run_ahead_are_counted_and_need_no_partition() -> None:
    found = sort(batch(2, at=NOW + timedelta(days=3)), batch(1, at=NOW + timedelta(hours=1)))
    assert found.implausible == 2
    assert found.days == {(NOW + timedelta(hours=1)).date()}
