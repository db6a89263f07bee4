"""Whatever dies, and whenever: each sample that a client was given is in Postgres, once, and nothing that ran is missing.

CHAOS_BLOWS sets how many blows fall; `make chaos` deals fifty.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from hoverboard.journal.chunk import Position
from hoverboard.journal.finding import journals
from hoverboard.journal.reader import read
from hoverboard.journal.records import BatchRecord, GapRecord, decode
from hoverboard.postgres.endpoint import embedded_url
from tests.integration.running import Service, free_port, running
from tests.load import Load, report

BLOWS = int(os.environ.get("CHAOS_BLOWS", "6"))
CONNECTIONS = 16
BETWEEN_S = (0.5, 2.5)
BACKOFF_S = 0.05
"""Of a client that was refused: 16 of them stay below the rate above which refusals are only counted, in a gap."""
STALL_S = 10.0 if BLOWS > 6 else 3.0
DRAINED_WITHIN_S = 120.0

pytestmark = pytest.mark.timeout(180 + 30 * BLOWS)


def postgres(service: Service) -> list[psutil.Process]:
    """The postmaster, then its children; none while it is down."""
    for watcher in service.children("_postgres"):
        for child in watcher.children():
            if child.name().startswith("postgres"):
                return [child, *child.children(recursive=True)]
    return []


def kill(kind: str) -> Callable[[Service], None]:
    def blow(service: Service) -> None:
        for child in service.children(kind)[:1]:
            child.kill()

    return blow


def stop_immediately(service: Service) -> None:
    """What `pg_ctl stop -m immediate` does: no checkpoint, recovery at the next start."""
    for postmaster in postgres(service)[:1]:
        postmaster.send_signal(signal.SIGQUIT)


def stall(service: Service) -> None:
    """Postgres hangs, with the recorder in the middle of whatever it does."""
    processes = postgres(service)
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a backend whose client has left
            process.suspend()
    time.sleep(STALL_S)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def kill_supervisor(service: Service) -> None:
    service.process.kill()
    service.process.wait()


BLOW_KINDS: dict[str, Callable[[Service], None]] = {
    "engine": kill("_engine"),
    "recorder": kill("_recorder"),
    "api": kill("_api"),
    "postgres stopped": stop_immediately,
    "postgres stalled": stall,
    "supervisor": kill_supervisor,
}


def deal(count: int, seed: int) -> Iterator[str]:
    """Each kind of blow in turn, in random order."""
    generator = random.Random(seed)
    kinds = list(BLOW_KINDS)
    for place in itertools.islice(itertools.count(), count):
        if place % len(kinds) == 0:
            generator.shuffle(kinds)
        yield kinds[place % len(kinds)]


def journaled(data_dir: Path) -> tuple[int, int, int]:
    """What the journals on disk hold: rows that ran, rows that were recorded, rows that gaps count."""
    executed = recorded = missing = 0
    for journal in journals(data_dir / "journal"):
        position = Position(0, 0, 0, 0)
        while True:
            chunk = read(journal.directory, position, max_bytes=8 * 1024 * 1024)
            for frame in chunk.frames:
                record = decode(frame.payload) if frame.kind in (2, 6) else None
                if isinstance(record, BatchRecord):
                    executed += record.executed
                    recorded += record.rows
                elif isinstance(record, GapRecord):
                    missing += sum(entry.records for entry in record.entries)
            if chunk.end == position or chunk.state != "more":
                break
            position = chunk.end
    return executed, recorded, missing


async def stored(data_dir: Path, sample_ids: Sequence[str]) -> dict[str, int]:
    """What Postgres holds."""
    connection = await asyncpg.connect(embedded_url(data_dir), server_settings={"search_path": "hoverboard"})
    try:
        found = await connection.fetchrow(
            """
            SELECT (SELECT count(*) FROM samples) AS samples,
                   (SELECT count(DISTINCT id) FROM samples) AS ids,
                   (SELECT count(*) FROM predictions) AS predictions,
                   (SELECT count(DISTINCT sample_id) FROM predictions) AS predicted_ids,
                   (SELECT count(*) FROM samples WHERE id = ANY($1::uuid[])) AS answered,
                   (SELECT count(*) FROM rejections) AS rejections,
                   (SELECT coalesce(sum(executed), 0)::bigint FROM recorder_cursor) AS executed,
                   (SELECT coalesce(sum(records), 0)::bigint FROM gaps) AS missing,
                   (SELECT count(*) FROM quarantine) AS quarantined
            """,
            sample_ids,
        )
    finally:
        await connection.close()
    assert found is not None
    return dict(found)


async def drained(data_dir: Path, wanted: int, refused: int) -> None:
    """Wait until Postgres has every row that ran, and every call that was refused."""
    end = time.monotonic() + DRAINED_WITHIN_S
    found: Any = None
    while time.monotonic() < end:
        try:
            found = await stored(data_dir, [])
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            found = repr(error)
        else:
            if found["executed"] >= wanted and found["rejections"] >= refused:
                return
        await asyncio.sleep(0.5)
    raise AssertionError(
        f"{wanted} rows ran, {refused} calls were refused; after {DRAINED_WITHIN_S:.0f} s Postgres says {found}"
    )


async def test_every_answer_is_in_postgres_exactly_once_whatever_dies(
    folder: Path, questions: Sequence[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").symlink_to(folder / "models")
    port = free_port()
    settings = {"HOVERBOARD_RECORDING": "on", "HOVERBOARD_PORT": str(port), "HOVERBOARD_API_WORKERS": "2"}
    blows = list(deal(BLOWS, seed=BLOWS))
    pauses = random.Random(7)
    data_dir = tmp_path / "data"
    with ExitStack() as first:
        service = first.enter_context(running(tmp_path, settings, status=-signal.SIGKILL))
        async with Load(service.url, questions, connections=CONNECTIONS, backoff_s=BACKOFF_S) as load:
            remaining = iter(blows)
            while True:
                again = False
                for blow in remaining:
                    await asyncio.sleep(pauses.uniform(*BETWEEN_S))
                    await asyncio.to_thread(BLOW_KINDS[blow], service)
                    if blow == "supervisor":
                        again = True
                        break
                if not again:
                    break
                first.pop_all().close()
                service = first.enter_context(running(tmp_path, settings, status=-signal.SIGKILL))
            await load.more(200, 60)
        sample_ids = [sample_id for answer in load.results() for sample_id in answer.sample_ids]
        executed, recorded, missing = await asyncio.to_thread(journaled, data_dir)
        refused = sum(1 for answer in load.answers if answer.code is not None)
        await drained(data_dir, executed, refused)
        found = await stored(data_dir, sample_ids)
        kill_supervisor(service)
    report(
        capsys,
        f"{len(blows)} blows ({', '.join(blows)}): {len(sample_ids)} answers and {refused} refusals received, {executed} rows "
        f"ran, {recorded} journaled, {missing} counted as missing; Postgres: {found}",
    )
    assert load.codes()[0] == len(load.results()) > 0
    assert len(set(sample_ids)) == len(sample_ids)
    assert found["answered"] == len(sample_ids), "an answer left no trace"
    assert found["samples"] == found["ids"] == found["predictions"] == found["predicted_ids"]
    assert found["samples"] == executed == recorded == found["executed"]
    assert (missing, found["missing"], found["quarantined"]) == (0, 0, 0)
