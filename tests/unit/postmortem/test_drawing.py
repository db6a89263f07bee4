"""Which rows are looked at: the same ones, whether they are found in narrow tables first or all rows of a time are joined."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.database.connect import Connection, connected
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.postmortem import counting, drawing
from hoverboard.postmortem.counting import CountedErrors, RecordedShare, draw_of
from hoverboard.postmortem.question import About
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import recorded_versions
from hoverboard.postmortem.window import RecordedWindow
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, START, Planted, fill

WIDTH = timedelta(minutes=10)


async def drawn(connection: Connection, about: About) -> dict[bytes, tuple[bool, bool, float]]:
    """id -> whether it is bad, of the usual time, and its weight."""
    versions = await recorded_versions(connection, MODEL)
    recording = RecordedShare(connection, MODEL, versions, lambda _what, _share: None)
    usual, window = RecordedWindow(MODEL, START, ONSET), RecordedWindow(MODEL, ONSET, END)
    limited = await recording.limited(about, usual)
    assert limited is not None
    counts = [(each, (await recording.count(limited, each, WIDTH)).counts) for each in (usual, window)]
    found = await drawing.draw(recording, limited, None, counts[0], counts[1])
    assert found is not None
    table = found.table
    columns = (table.bad.tolist(), table.base.tolist(), table.weight.tolist())
    rows = dict(zip(map(bytes, table.ids), zip(*columns, strict=True), strict=True))
    assert len(rows) == len(table)
    return rows


@pytest.mark.parametrize("most", [200, 10**6])
async def test_rows_found_first_are_those_of_a_join_of_all(
    database: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    async with connected(database, application="test", role=None) as connection:
        await fill(connection, Planted(customer="17", failed="18"), per_minute=5)
        slow = "update predictions set queue_us = 90000 where at >= $1 and get_byte(uuid_send(sample_id), 15) < 20"
        await connection.execute(slow, ONSET)
        await connection.execute(
            "insert into labels (sample_id, labelled_at, label, source) "
            "select sample_id, at, 'small', 'review' from predictions where get_byte(uuid_send(sample_id), 15) < 99"
        )
    monkeypatch.setattr(drawing, "MOST_BAD", most)
    monkeypatch.setattr(drawing, "MOST_OTHERS", most)
    monkeypatch.setattr(counting, "_MOST_ERRORS", 4 * most)
    async with reading(Settings.load(database_url=database), application="test") as connection:
        for kind in ("outliers", "errors", "slow", "wrong", "label=small", "refusals"):
            found: list[Any] = []
            for narrow in (True, False):
                monkeypatch.setattr(drawing, "_narrow", lambda *_, way=narrow: way)
                found.append(await drawn(connection, About.of(kind)))
            assert found[0] == found[1], kind
            assert any(bad for bad, _, _ in found[0].values()) == (kind != "refusals"), kind


def test_of_many_errors_a_part_is_kept_that_holds_all_that_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_MOST_ERRORS", 1000)
    ids = [uuid.UUID(bytes=each) for each in np.frombuffer(sample_ids(9000, START.timestamp()), "V16").tolist()]
    errors = CountedErrors()
    for first in range(0, len(ids), 100):
        errors.add([each for each in ids[first : first + 100] if draw_of(each) < errors.below])
        assert len(errors.ids) <= 1000
    limit = counting.WHOLE * 250 // len(ids)
    assert errors.between(START, END, limit) == {each for each in ids if draw_of(each) < limit}
    assert errors.between(ONSET, END, limit) == set()
