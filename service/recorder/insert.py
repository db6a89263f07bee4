"""Records of one journal into the tables, within the transaction that moves its cursor."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import numpy as np

from hoverboard.database.connect import Connection
from hoverboard.database.known import KnownVersion, VersionKey, version_key
from hoverboard.database.statements import statements
from hoverboard.journal.records import (
    BatchRecord,
    DeploymentRecord,
    FeatureRecord,
    GapRecord,
    LabelRecord,
    ProcessRecord,
    Record,
    RejectionRecord,
    SupplementRecord,
    WithdrawalRecord,
)
from hoverboard.recorder.gaps import Gap, gaps_of, insert_gaps
from hoverboard.recorder.rows.encode import Copy, encode_batches, encode_features, encode_rejections
from hoverboard.recorder.rows.layout import Unencodable
from hoverboard.recorder.rows.plain import (
    DEPLOYMENT_COLUMNS,
    PROCESS_COLUMNS,
    deployment_rows,
    label_columns,
    process_rows,
    uuids,
)

__all__ = ["UNFIT", "Inserts", "RecordsByType", "Unfit"]

_SQL: Final = statements(__file__)
_COPY_TIMEOUT_S: Final = 120.0
_OneRecord = TypeVar("_OneRecord", bound=Record)


class Unfit(Exception):
    """No rows can be made of some records; its cause says why."""


UNFIT: Final = (Unfit, ArithmeticError, TypeError, ValueError)
"""What is raised where no rows can be made, here or by asyncpg as it encodes a value."""


class RecordsByType:
    """Records by their type; of each type in order."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_type: defaultdict[Any, list[Any]] = defaultdict(list)
        for record in records:
            self._by_type[type(record)].append(record)

    @property
    def types(self) -> set[type[Record]]:
        """That are among them."""
        return set(self._by_type)

    def of(self, kind: type[_OneRecord]) -> list[_OneRecord]:
        """Those of one type."""
        return self._by_type.get(kind, [])


class _Encoded(NamedTuple):
    """All rows of some records, as they are sent."""

    copies: Sequence[Copy]
    labels: Sequence[Sequence[Any]]
    deployments: Sequence[tuple[Any, ...]]
    processes: Sequence[tuple[Any, ...]]
    gaps: Sequence[Gap]


@dataclass(frozen=True, slots=True)
class Inserts:
    """What one journal's records are inserted with.

    Attributes:
        connection: in a transaction.
        journal: whose records.
        process: that wrote them.
        versions: every version that could be found.
    """

    connection: Connection
    journal: UUID
    process: str
    versions: Mapping[VersionKey, KnownVersion]

    async def insert(self, records: RecordsByType) -> Counter[str]:
        """Insert all of these records; returns how many rows, by table.

        Raises:
            UNFIT: some of them cannot be put into rows.
            asyncpg.PostgresError, OSError: Postgres refuses some of them, or fails.
        """
        # In a thread: it takes a while, and the event loop has to say meanwhile that the recorder lives.
        encoded = await asyncio.to_thread(self._encode, records)
        rows = await self._send(encoded)
        # Supplements and withdrawals come after the rows that they change, which may be of the same chunk.
        for supplement in records.of(SupplementRecord):
            await self._supplement(supplement)
        for withdrawal in records.of(WithdrawalRecord):
            await self._withdraw(withdrawal)
        return rows

    def _encode(self, records: RecordsByType) -> _Encoded:
        try:
            return _Encoded(
                encode_batches(records.of(BatchRecord), self.versions, self.process)
                + encode_features(records.of(FeatureRecord), self.versions)
                + encode_rejections(records.of(RejectionRecord)),
                label_columns(records.of(LabelRecord)),
                deployment_rows(records.of(DeploymentRecord), self.versions, self.process),
                process_rows(records.of(ProcessRecord)),
                gaps_of(records.of(GapRecord)),
            )
        except MemoryError:
            raise
        except Exception as error:
            raise Unfit from error

    async def _send(self, encoded: _Encoded) -> Counter[str]:
        connection, rows = self.connection, Counter[str]()
        for copy in encoded.copies:
            await connection.copy_to_table(
                copy.table, source=_stream(copy), columns=copy.columns, format="binary", timeout=_COPY_TIMEOUT_S
            )
            rows[copy.table] += copy.rows
        if encoded.labels[0]:
            # Not by COPY: of a source that says the same again only the first label is stored.
            done = await connection.execute(_SQL["insert_labels"], *encoded.labels, timeout=_COPY_TIMEOUT_S)
            rows["labels"] = int(done.rpartition(" ")[2])
        for table, columns, plain in (
            ("deployments", DEPLOYMENT_COLUMNS, encoded.deployments),
            ("process_events", PROCESS_COLUMNS, encoded.processes),
        ):
            if plain:
                await connection.copy_records_to_table(table, records=plain, columns=columns, timeout=_COPY_TIMEOUT_S)
                rows[table] = len(plain)
        if encoded.gaps:
            await insert_gaps(connection, self.journal, self.process, encoded.gaps, clip=False)
            rows["gaps"] = len(encoded.gaps)
        return rows

    async def _supplement(self, record: SupplementRecord) -> None:
        """What the other detectors say of outliers that are in their table already, or were erased."""
        try:
            scores = {name: np.frombuffer(data, "<f4").tolist() for name, data in record.scores.items()}
            ids = uuids(record.sample_ids)
            texts = [
                msgspec.json.encode({name: values[row] for name, values in scores.items()}).decode()
                for row in range(len(ids))
            ]
        except (ValueError, IndexError) as error:
            raise Unfit from error
        await self.connection.execute(_SQL["supplement_outliers"], record.detector, ids, texts)

    async def _withdraw(self, record: WithdrawalRecord) -> None:
        """Predictions that no caller got; they are in their table already, or were not kept."""
        known = self.versions.get(version_key(record))
        # Looked at first: a part of an id would be a complaint of asyncpg's that names no record.
        if known is None or len(record.sample_ids) % 16:
            raise Unfit from Unencodable(f"withdrawal of {record.model} version {record.version}")
        await self.connection.execute(
            _SQL["withdraw_predictions"], known.id, uuids(record.sample_ids), timeout=_COPY_TIMEOUT_S
        )


async def _stream(copy: Copy) -> AsyncIterator[bytes]:
    try:
        async for piece in copy.stream():
            yield piece
    except MemoryError:
        raise
    except Exception as error:
        raise Unfit from error
