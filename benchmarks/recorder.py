"""`python -m benchmarks.recorder`: from journal frames in memory to Postgres, samples a second.

Rows like those of `digits`: a `vector` of 64 and `outputs` of 10 floats, into the real tables, partitioned and indexed. What
the recorder does (decode the frames, encode them, COPY) beside `copy_records_to_table` of the same rows, which are ready as
Python values in one case and made from the same frames in the other, and beside a COPY of bytes that are ready. They take
turns in every round, each in one transaction into empty tables; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.database.connect import connect
from hoverboard.database.known import KnownVersion
from hoverboard.database.migrate import migrate
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.errors import DatabaseUnavailable
from hoverboard.journal.columns import column_array, pack_column
from hoverboard.journal.records import BatchRecord, CallPart, decode, encode
from hoverboard.postgres.cluster import Cluster
from hoverboard.postgres.programs import environment
from hoverboard.recorder.rows.encode import encode_batches

DIGITS: Final = Signature(
    "classification",
    (TensorSpec("pixels", "float32", (64,)),),
    (TensorSpec("probabilities", "float32", (10,)),),
    tuple("0123456789"),
)
KEY: Final = ("digits", 1, "a" * 64)
VERSIONS: Final = {KEY: KnownVersion(1, KEY, DIGITS)}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

SAMPLES: Final = ("at", "id", "model", "vector", "request_id", "incl_prob", "why")
PREDICTIONS: Final = (
    *("at", "sample_id", "version_id", "role", "predicted_at", "label", "confidence", "outputs"),
    *("batch_id", "batch_size", "bucket", "queue_us", "infer_us"),
)

RECORDER: Final = "the recorder"
READY: Final = "copy_records_to_table, rows ready"
FROM_FRAMES: Final = "copy_records_to_table, from the frames"
RAW: Final = "COPY of bytes that are ready"

Way = Callable[[], Awaitable[None]]
Table = tuple[str, tuple[str, ...], Sequence[tuple[Any, ...]]]


@contextmanager
def postgres(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of a server with the settings of the embedded one, and some others."""
    cluster = Cluster.of(data_dir)
    cluster.make(settings)
    with cluster.socket_directory() as socket_dir, (data_dir / "postgres.log").open("wb") as log:
        server = subprocess.Popen(cluster.command(socket_dir), env=environment(), stdout=log, stderr=log)
        try:
            yield cluster.url(socket_dir)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(120)


async def opened(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to a migrated database with partitions for today, once the server is up."""
    end = time.monotonic() + 60
    while True:
        try:
            await migrate(url)
            connection = await connect(url, application="benchmark", role=None, command_timeout_s=None)
            await connection.execute("select make_partitions(current_date - 1, current_date + 1)")
        except DatabaseUnavailable:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)
        else:
            return connection


def frame(rows: int, numbers: np.random.Generator) -> bytes:
    """What an engine journals of one batch; one row a call."""
    ids = sample_ids(rows)
    pixels = numbers.integers(0, 17, (rows, 64)).astype(np.float32)
    probabilities = numbers.dirichlet(np.full(10, 0.1), rows).astype(np.float32)
    record = BatchRecord(
        *KEY,
        policy="all",
        batch_id=ids[:16],
        started_us=time.time_ns() // 1000,
        executed=rows,
        flagged=0,
        failed=0,
        bucket=rows,
        infer_us=650,
        rows=rows,
        sample_ids=ids,
        failed_rows=[],
        columns=[pack_column(pixels)],
        outputs=[pack_column(probabilities)],
        label_index=probabilities.argmax(axis=1).astype(np.int32).tobytes(),
        confidence=probabilities.max(axis=1).tobytes(),
        value=None,
        p_value=None,
        outlier=None,
        queue_us=numbers.integers(0, 5000, rows, np.uint32).tobytes(),
        incl_prob=None,
        why=None,
        redacted=[],
        calls=[CallPart(1, "stable", uuid.uuid4().hex, None, None) for _ in range(rows)],
    )
    return encode(record)


def records(frames: Sequence[bytes]) -> list[BatchRecord]:
    """The frames' records."""
    found = [decode(each) for each in frames]
    return [record for record in found if isinstance(record, BatchRecord)]


def rows(frames: Sequence[bytes]) -> list[Table]:
    """The same rows as Python values, made in the plain way."""
    samples: list[tuple[Any, ...]] = []
    predictions: list[tuple[Any, ...]] = []
    for record in records(frames):
        pixels, probabilities = column_array(record.columns[0]).tolist(), column_array(record.outputs[0]).tolist()
        labels = np.frombuffer(record.label_index or b"", np.int32).tolist()
        confidences = np.frombuffer(record.confidence or b"", np.float32).tolist()
        waits = np.frombuffer(record.queue_us, np.uint32).tolist()
        batch, started = uuid.UUID(bytes=record.batch_id), EPOCH + timedelta(microseconds=record.started_us)
        said = record.executed, record.bucket
        for i, call in enumerate(record.calls):
            id_ = uuid.UUID(bytes=record.sample_ids[16 * i : 16 * i + 16])
            at = EPOCH + timedelta(milliseconds=id_.int >> 80)
            samples.append((at, id_, record.model, pixels[i], call.request_id, 1.0, "all"))
            answer = (str(labels[i]), confidences[i], probabilities[i])
            predictions.append((at, id_, 1, call.role, started, *answer, batch, *said, waits[i], record.infer_us))
    return [("samples", SAMPLES, samples), ("predictions", PREDICTIONS, predictions)]


async def ready(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    """A stream of what is there."""
    for piece in pieces:
        yield piece


class Ways:
    """What is compared, each on the same connection and the same frames."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], frames: Sequence[bytes]) -> None:
        self._connection = connection
        self._frames = frames
        self._copies = encode_batches(records(frames), VERSIONS, "engine-0")
        self._data = [list(copy.pieces()) for copy in self._copies]
        self._rows = rows(frames)
        # All ways send the same columns: those that hold anything.
        assert [(copy.table, copy.columns) for copy in self._copies] == [each[:2] for each in self._rows]

    def all(self) -> Mapping[str, Way]:
        """By name."""
        return {RECORDER: self._recorder, READY: self._ready, FROM_FRAMES: self._from_frames, RAW: self._raw}

    async def _recorder(self) -> None:
        async with self._connection.transaction():
            for copy in encode_batches(records(self._frames), VERSIONS, "engine-0"):
                await self._connection.copy_to_table(
                    copy.table, source=copy.stream(), columns=copy.columns, format="binary"
                )

    async def _ready(self) -> None:
        await self._copy_records(self._rows)

    async def _from_frames(self) -> None:
        await self._copy_records(rows(self._frames))

    async def _raw(self) -> None:
        async with self._connection.transaction():
            for copy, pieces in zip(self._copies, self._data, strict=True):
                await self._connection.copy_to_table(
                    copy.table, source=ready(pieces), columns=copy.columns, format="binary"
                )

    async def _copy_records(self, tables: Sequence[Table]) -> None:
        async with self._connection.transaction():
            for table, columns, each in tables:
                await self._connection.copy_records_to_table(table, columns=columns, records=each)


async def measure(url: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Samples a second of every way in every round."""
    numbers = np.random.default_rng(1)
    frames = [frame(arguments.batch, numbers) for _ in range(arguments.rows // arguments.batch)]
    count = len(frames) * arguments.batch
    connection = await opened(url)
    try:
        ways = list(Ways(connection, frames).all().items())
        figures: dict[str, list[float]] = {name: [] for name, _ in ways}
        for round_ in range(arguments.rounds + 1):
            turn = round_ % len(ways)
            for name, way in ways[turn:] + ways[:turn]:
                await connection.execute("truncate samples, predictions")
                await connection.execute("checkpoint")
                start = time.perf_counter()
                await way()
                seconds = time.perf_counter() - start
                assert await connection.fetchval("select count(*) from samples") == count
                assert await connection.fetchval("select count(*) from predictions") == count
                if round_:  # the first one warms up
                    figures[name].append(count / seconds)
    finally:
        await connection.close()
    return figures


def table(figures: Mapping[str, Sequence[float]]) -> list[str]:
    """Medians over the rounds, as Markdown."""
    lines = ["| way | samples/s | the recorder's, times this (rounds) |", "|---|---|---|"]
    for name, each in figures.items():
        ratios = [ours / theirs for ours, theirs in zip(figures[RECORDER], each, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {statistics.median(each):.0f} | {ratio} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorder", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=16_384, help="in one transaction")
    parser.add_argument("--batch", type=int, default=64, help="rows of a frame")
    parser.add_argument(
        "--database-url", help="a database to use, whose samples are deleted; the embedded one when left out"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if arguments.database_url:
            figures = asyncio.run(measure(arguments.database_url, arguments))
        else:
            with postgres(Path(directory)) as url:
                figures = asyncio.run(measure(url, arguments))
    print(f"{arguments.rows} samples a transaction, frames of {arguments.batch}, {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, {arguments.rounds} rounds, medians, ratios within a round\n")
    print("\n".join(table(figures)))


if __name__ == "__main__":
    main()
