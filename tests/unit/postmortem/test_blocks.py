"""What readers of samples need is bounded in bytes, whatever a sample is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from hoverboard.config import Settings
from hoverboard.contract.signature import TensorSpec
from hoverboard.database.connect import Connection, connected
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.postmortem import drawing
from hoverboard.postmortem.blocks import MOST_BYTES, rows_for
from hoverboard.postmortem.counting import RecordedShare
from hoverboard.postmortem.drawing import Drawn, draw
from hoverboard.postmortem.question import About
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import SampleKey, read_samples, recorded_versions
from hoverboard.postmortem.window import RecordedWindow
from tests.recorded_tables import WINDOW, Tables
from tests.records import NOW, record, signature, texts
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, START, Planted, fill

MIB = 1 << 20
MOST = 5 * MOST_BYTES
"""A block, what it was read from, what becomes of it, and the one before it."""


@contextmanager
def within(most: int) -> Iterator[None]:
    """Hold what is allocated meanwhile to a number of bytes."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.0f} MiB"


def test_blocks_of_long_texts_are_cut_by_their_bytes(database: str) -> None:
    tables = Tables(database)
    known = signature(TensorSpec("page", "string", ()))
    ids = b"".join(sample_ids(1, NOW + row / 1000) for row in range(60))
    number = tables.filled(known, record(texts(*[b"hover board " * (MIB // 12 - 10)] * 60), sample_ids=ids))

    async def read(connection: Connection, after: SampleKey | None = None) -> list[tuple[SampleKey, int]]:
        async with connection.transaction(readonly=True):
            blocks = read_samples(connection, known, WINDOW, [number], after=after)
            return [(block.last, len(block)) async for block in blocks]

    try:
        with within(MOST):
            found = tables.of(read)
        assert sum(rows for _, rows in found) == 60
        assert {rows for _, rows in found} == {MOST_BYTES // (4 * MIB)}
        # Who goes on after one finds the same ones that follow.
        assert tables.of(lambda connection: read(connection, found[2][0])) == found[3:]
    finally:
        tables.close()


async def drawn(connection: Connection, kind: str) -> Drawn:
    versions = await recorded_versions(connection, MODEL)
    recording = RecordedShare(connection, MODEL, versions, lambda _what, _share: None)
    usual, window = RecordedWindow(MODEL, START, ONSET), RecordedWindow(MODEL, ONSET, END)
    about, width = About(kind), timedelta(hours=1)
    counts = [(each, (await recording.count(about, each, width)).counts) for each in (usual, window)]
    found = await draw(recording, about, None, counts[0], counts[1])
    assert found is not None
    return found


@pytest.mark.parametrize("narrow", [True, False])
async def test_long_texts_are_looked_at_a_few_at_a_time(
    database: str, monkeypatch: pytest.MonkeyPatch, narrow: bool
) -> None:
    async with connected(database, application="test", role=None) as connection:
        await fill(connection, Planted(customer="17"), per_minute=1)
        await connection.execute(
            "update samples set inputs = inputs || jsonb_build_object('note', repeat('two free refills ', 61000)) "
            "where at >= $1 and at < $1 + interval '1 hour'",
            ONSET,
        )
    monkeypatch.setattr(drawing, "_narrow", lambda *_: narrow)
    async with reading(Settings.load(database_url=database), application="test") as connection:
        with within(MOST):
            found = await drawn(connection, "outliers")
        assert len(found.table) == 720
        # Of rows so wide a part says as much, and takes no minutes.
        monkeypatch.setattr(drawing, "_FEWEST", 10)
        monkeypatch.setattr(drawing, "MOST_BYTES", 100 * MIB)
        found = await drawn(connection, "outliers")
        assert 0 < found.other_share < 0.5


def test_a_block_has_as_many_rows_as_its_signature_promises_room_for() -> None:
    assert rows_for(signature(TensorSpec("x", "float32", ()))) == 4096
    assert rows_for(signature(TensorSpec("image", "float32", (1024, 1024, 4)))) == 1
    assert 1 < rows_for(signature(TensorSpec("words", "string", (None,)))) < 4096
