"""A day through the real recorder: batches into journals by the engine's own sink, drained into Postgres, and asked about.

Each day has a database of its own, made from a template that is migrated. Ids of samples come from the day's seed, so that a day is
the same whenever it is made: the recorder's draws go by them.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from benchmarks.incidents.served import Served
from benchmarks.incidents.traffic import DAY_US, HOUR_US, PROCESSES, SOURCES, START_US, Day
from benchmarks.outliers.studies import ROOT
from benchmarks.recorder import opened, postgres
from hoverboard.config import Settings
from hoverboard.contract.calls import ExecutedBatch, PredictCall, Source
from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus
from hoverboard.contract.signature import Array
from hoverboard.contract.times import time_of
from hoverboard.database.connect import connected
from hoverboard.database.partitions import AHEAD_DAYS
from hoverboard.engine.recording.sink import JournalSink
from hoverboard.journal.finding import JOURNALS
from hoverboard.journal.records import KINDS, DeploymentRecord, LabelRecord, ProcessRecord, Record, encode
from hoverboard.journal.writer import JournalWriter
from hoverboard.outliers import OUTLIERS_FILE, load_package, save_package
from hoverboard.postmortem import asking
from hoverboard.postmortem.choosing import Inquiry
from hoverboard.postmortem.comparing import compare
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.report import Report
from hoverboard.postmortem.table import Table
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from hoverboard.versions import Recording, read_version
from hoverboard.versions.baseline import BASELINE_FILE
from hoverboard.versions.manifest import MANIFEST_FILE

__all__ = ["Asked", "Recorders"]

VERSIONS: Final = (1, 2, 3)
SAMPLED: Final = 0.1
_MODELS: Final = "models"
_LEAST_MEMORY: Final = 4 << 30
_CONFIDENCE: Final = 0.9
_PATIENCE_S: Final = 60.0
_QUICK: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    # Each day is analyzed once, when it is whole.
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
_MEMORY: Final = Path("/dev/shm")  # noqa: S108
_MOST_ROWS: Final = 64
_SLOT_US: Final = 900_000_000
"""Of a batch: real ones are of a moment, but a row has its own time, and a tenth of the frames are as quick."""
_KEPT_DAYS: Final = 3650


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a postmortem said of a day.

    Attributes:
        report: the whole of it.
        table: the rows that it looked at, those outside of the incident counted to the usual time; None where it looked at none.
        rows: which of the day's rows those of the table are, intp.
    """

    report: Report
    table: Table | None
    rows: NDArray[np.intp]


class Recorders:
    """A Postgres for days, one database each.

    Args:
        url: of the database that each day's is a copy of, as the superuser.
        folder: for models and journals.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._sources: dict[str, Mapping[int, Source]] = {}

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Recorders]:
        """Start one, and stop it at the end."""
        # Where there is such memory, a day and its journals are made and dropped without a disk.
        memory = _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _LEAST_MEMORY else None
        with tempfile.TemporaryDirectory(prefix="incidents-", dir=memory) as name:
            folder = Path(name)
            with postgres(folder, _QUICK) as url:
                asyncio.run(_made(url))
                yield cls(url, folder)

    def ask(self, day: Day, *, sampled: bool = False) -> Asked:
        """Record a day and ask about it at its end, without a word about when.

        Args:
            day: what happened.
            sampled: whether one ordinary row in ten is recorded; outliers and errors always are.
        """
        return asyncio.run(self._ask(day, Recording(policy="sampled", share=SAMPLED) if sampled else Recording()))

    async def _ask(self, day: Day, recording: Recording) -> Asked:
        sources = self._sources.get(day.served.model)
        if sources is None:
            sources = self._sources[day.served.model] = _published(day.served, self._folder / _MODELS)
        name = f"day_{uuid.uuid4().hex}"
        url, data = _database(self._url, name), self._folder / name
        settings = Settings(
            data_dir=data, models=self._folder / _MODELS, database_url=SecretStr(url), retention_days=_KEPT_DAYS
        )
        await self._sql(f"create database {name} template {_path(self._url)}")
        try:
            ids = _write(day, sources, recording, data / JOURNALS)
            await _drained(settings, url)
            await self._sql("analyze", name)  # as Postgres does by itself within a minute
            return await _asked(settings, day, ids)
        finally:
            await self._sql(f"drop database {name} with (force)")
            shutil.rmtree(data, ignore_errors=True)

    async def _sql(self, statement: str, database: str = "postgres") -> None:
        url = _database(self._url, database)
        async with connected(url, application="incidents", role=None, command_timeout_s=None) as connection:
            await connection.execute(statement)


async def _made(url: str) -> None:
    connection = await opened(url)
    try:
        day, today = time_of(START_US).date(), datetime.now(UTC).date()
        # Those that a recorder would make, in each copy anew.
        for first, last in ((day, day), (today, today + timedelta(days=AHEAD_DAYS + 1))):
            await connection.execute("select make_partitions($1, $2)", first, last)
    finally:
        await connection.close()


def _published(served: Served, models: Path) -> Mapping[int, Source]:
    """The shipped version under several numbers, with the alpha that is asked about; without its weights, which nobody runs."""
    shipped = ROOT / "models" / served.name
    manifest = read_version(shipped)
    package = replace(load_package(shipped / OUTLIERS_FILE), alpha=served.alpha)
    found = {}
    for number in VERSIONS:
        directory = models / served.model / str(number)
        directory.mkdir(parents=True)
        shutil.copy(shipped / BASELINE_FILE, directory)
        save_package(package, directory / OUTLIERS_FILE)
        numbered = replace(manifest, version=number, parent=None, outliers=package.summary())
        (directory / MANIFEST_FILE).write_bytes(numbered.to_json())
        found[number] = Source(served.model, number, numbered.weights_sha256, numbered.signature, numbered.public())
    return found


def _write(day: Day, sources: Mapping[int, Source], recording: Recording, journals: Path) -> NDArray[np.void]:
    """Journals of a day: each process's batches, and what else there is to know; the rows' ids, V16 `(rows,)`."""
    words = day.generator.integers(0, 2**63, (len(day), 2), np.uint64).view(np.uint8).reshape(len(day), 16)
    words[:, :6] = (day.at // 1000).astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    words[:, 6] = words[:, 6] & 0x0F | 0x70
    words[:, 8] = words[:, 8] & 0x3F | 0x80
    batches = _Batches(day, sources, words)
    status = ModelStatus(
        day.served.model,
        {},
        tuple(VersionStatus(number, "live") for number in sources),
        serving={"recording": msgspec.to_builtins(recording)},
    )
    for process in range(PROCESSES):
        with _writer(journals, f"engine-{process}") as writer:
            sink = JournalSink(writer, b"")
            sink.follow(Catalog({day.served.model: status}))
            for batch, z in batches.of(process):
                glanced = sink.append(batch)
                assert batch.outlier is not None
                seen = np.flatnonzero(batch.outlier & batch.ok)
                seen = seen if glanced is None else np.union1d(seen, glanced)
                if len(seen):
                    ids = np.frombuffer(batch.sample_ids, "V16")[seen].tobytes()
                    sink.features(batch.source, ids, z[seen])
    with _writer(journals, "api-0") as writer:
        for record in _others(day, sources, words):
            writer.append(KINDS[type(record)], encode(record), count=record.count)
    return np.ascontiguousarray(words).view("V16").ravel()


@contextmanager
def _writer(journals: Path, process: str) -> Iterator[JournalWriter]:
    writer = JournalWriter(journals, process=process, segment_bytes=1 << 28, budget_bytes=1 << 34, fsync=False)
    try:
        yield writer
    finally:
        writer.close()


class _Batches:
    """A day's rows as batches: what one process ran of one version within a quarter of an hour, 64 rows at most."""

    def __init__(self, day: Day, sources: Mapping[int, Source], ids: NDArray[np.uint8]) -> None:
        self._day = day
        self._sources = sources
        self._ids = ids
        self._outputs = day.served.outputs(day.answer)
        self._tags = [{"customer": f"c{caller}"} for caller in range(int(day.caller.max()) + 1)]

    def of(self, process: int) -> Iterator[tuple[ExecutedBatch, Array]]:
        """A process's, with their features, in the order of time."""
        day = self._day
        rows = np.flatnonzero(day.process == process)
        key = (day.at[rows] // _SLOT_US) * 8 + day.version[rows]
        rows = rows[np.argsort(key, kind="stable")]
        key = np.sort(key)
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        for some in np.split(rows, starts[1:]):
            for start in range(0, len(some), _MOST_ROWS):
                yield self._batch(some[start : start + _MOST_ROWS])

    def _batch(self, rows: NDArray[np.intp]) -> tuple[ExecutedBatch, Array]:
        day, source = self._day, self._sources[int(self._day.version[rows[0]])]
        answer = day.answer[rows]
        classes = bool(day.served.classes)
        p = day.p[rows].astype(np.float32)
        last = float(day.at[rows[-1]]) / 1e6
        batch = ExecutedBatch(
            tuple(self._calls(rows, source)),
            source,
            tuple(day.columns[spec.name][rows] for spec in source.signature.inputs),
            (self._outputs[rows],),
            self._ids[rows].tobytes(),
            ~day.late[rows],
            label_index=answer.astype(np.int32) if classes else None,
            confidence=np.full(len(rows), _CONFIDENCE, np.float32) if classes else None,
            value=None if classes else answer.astype(np.float32),
            p_value=p,
            outlier=p <= day.served.alpha,
            queue_us=(day.queue_ms[rows] * 1000).astype(np.uint32),
            infer_us=700,
            bucket=int(day.bucket[rows[0]]),
            started_at=last,
        )
        return batch, day.z[rows]

    def _calls(self, rows: NDArray[np.intp], source: Source) -> Iterator[tuple[PredictCall, int, int]]:
        """Neighbours of one time and caller came in one call."""
        day = self._day
        role = "canary" if source.version in day.canaries else "stable"
        at, caller = day.at[rows], day.caller[rows]
        ends = [*np.flatnonzero((np.diff(at) != 0) | (np.diff(caller) != 0)) + 1, len(rows)]
        start = 0
        for end in ends:
            count = int(end) - start
            first = int(rows[start])
            tags = self._tags[int(caller[start])]
            yield PredictCall(source.model, role, "", (), count, 0.0, request_id=f"r-{first}", tags=tags), 0, count
            start = int(end)


def _others(day: Day, sources: Mapping[int, Source], ids: NDArray[np.uint8]) -> Iterator[Record]:
    """Starts, deployments, and labels where they are what is asked about."""
    model, source = day.served.model, sources[1]
    for process in range(PROCESSES):
        yield ProcessRecord(START_US, f"engine-{process}", "start")
    for event in day.events:
        if event.kind == "deployment":
            version = int(event.subject)
            role, share = ("canary", 0.2) if version in day.canaries else ("stable", 1.0)
            sha = source.weights_sha256
            yield DeploymentRecord(event.at_us, model, role, version, sha, share, event.detail, "admin")
        else:
            yield ProcessRecord(event.at_us, event.subject, "start", event.detail)
    if day.about != "wrong":
        return
    classes = day.served.classes
    for row in np.flatnonzero(day.labelled).tolist():
        truth = float(day.truth[row])
        label, value = (classes[int(truth)], None) if classes else (None, truth)
        at = int(day.at[row] + day.delay_h[row] * HOUR_US)
        yield LabelRecord(at, ids[row].tobytes(), label, value, SOURCES[day.source[row]], None, f"l-{row}")


async def _drained(settings: Settings, url: str) -> None:
    drain = Drain(settings, lambda: open_database(settings, url))
    try:
        await drain.empty(_PATIENCE_S)
    finally:
        drain.close()


async def _asked(settings: Settings, day: Day, ids: NDArray[np.void]) -> Asked:
    about = f"label={day.served.classes[day.label]}" if day.about == "label" else day.about
    question = Question(day.served.model, About.of(about))
    tables: list[Table] = []
    async with reading(settings, application="incidents") as connection:
        with _seen(tables):
            report = await asking.postmortem(connection, question, time_of(START_US + DAY_US), lambda *_: None)
    if not tables:
        return Asked(report, None, np.zeros(0, np.intp))
    order = np.argsort(ids)
    return Asked(report, tables[0], order[np.searchsorted(ids[order], tables[0].ids)])


@contextmanager
def _seen(tables: list[Table]) -> Iterator[None]:
    """Keep the table that is compared: a report has what is said of it, and not its rows."""

    def kept(looked: Inquiry, table: Table | None, *rest: Any) -> Any:
        if table is not None:
            tables.append(table)
        return compare(looked, table, *rest)

    with patch.object(asking, "compare", kept):
        yield


def _database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _path(url: str) -> str:
    return urlsplit(url).path.strip("/")
