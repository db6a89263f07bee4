"""Records as the bytes of binary COPY: Arrow record batches, encoded by pgpq, one stream for each table.

What comes in numbers is a `Copy`. What is rare, or must be looked at before it is stored, is plain rows, in the order of
the columns named beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pgpq
import pyarrow as pa
from asyncpg.pgproto import pgproto
from pgpq.encoders import LargeStringEncoderBuilder
from pgpq.schema import Jsonb

from hoverboard.database.known import KnownVersion, VersionKey
from hoverboard.database.text import storable
from hoverboard.journal.records import BatchRecord, DeploymentRecord, GapRecord, LabelRecord, RejectionRecord
from hoverboard.recorder.rows.layout import Unencodable
from hoverboard.recorder.rows.tables import TIME, rows_of
from hoverboard.recorder.rows.text import tags_column, text_column

__all__ = [
    "DEPLOYMENT_COLUMNS",
    "GAP_COLUMNS",
    "LABEL_COLUMNS",
    "Copy",
    "deployment_rows",
    "encode_batches",
    "encode_rejections",
    "gap_rows",
    "label_rows",
    "time_of",
]

Row = tuple[Any, ...]

LABEL_COLUMNS: Final = ("sample_id", "labelled_at", "label", "value", "source", "author", "labels")
DEPLOYMENT_COLUMNS: Final = ("at", "model", "role", "version_id", "share", "reason", "actor", "process")
GAP_COLUMNS: Final = (
    "at",
    "journal",
    "process",
    "model",
    "version",
    "reason",
    "records",
    "executed",
    "flagged",
    "first_at",
    "last_at",
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JSONB: Final = frozenset({"inputs", "tags"})
_SLICE: Final = 512 * 1024  # bytes of Arrow that are encoded at once


@dataclass(frozen=True, slots=True)
class Copy:
    """Rows for one COPY: `connection.copy_to_table(copy.table, source=copy.stream(), columns=copy.columns, format="binary")`.

    Attributes:
        table: its name.
        columns: in the order of the data; the table's others stay null.
        rows: how many.
        batches: the rows as Arrow.
    """

    table: str
    columns: tuple[str, ...]
    rows: int
    batches: tuple[Any, ...]

    async def stream(self) -> AsyncIterator[bytes]:
        """The bytes of the COPY, header and trailer included: while Postgres stores a piece, the next is encoded."""
        for piece in self.pieces():
            yield piece

    def pieces(self) -> Iterator[bytes]:
        """The same; pgpq hands over what it has when that is above 1 MiB, so pieces are a little larger."""
        encoder = _encoder(self.batches[0].schema)
        yield encoder.write_header()
        for batch in self.batches:
            step = max(1, _SLICE * batch.num_rows // max(1, batch.nbytes))
            for start in range(0, batch.num_rows, step):
                piece = encoder.write_batch(batch.slice(start, step))
                if piece:
                    yield piece
        yield encoder.finish()


def encode_batches(records: Iterable[BatchRecord], versions: Mapping[VersionKey, KnownVersion]) -> list[Copy]:
    """The rows of batches: at most one `Copy` for each of samples, predictions and outliers, none without rows.

    Args:
        records: any number; those without kept rows count for nothing.
        versions: every version that they ran on.

    Raises:
        Unencodable: a record cannot be put into rows. `split` and encode again to find it.
    """
    groups = list(rows_of(records, versions))
    tables = {
        "samples": [group.samples for group in groups],
        "predictions": [group.predictions for group in groups],
        "outliers": [group.outliers for group in groups if group.outliers is not None],
    }
    copies = [_copy(table, batches) for table, batches in tables.items() if batches]
    return [copy for copy in copies if copy.rows]


def encode_rejections(records: Sequence[RejectionRecord]) -> list[Copy]:
    """The rows of refused calls; nothing for none.

    Raises:
        Unencodable: tags that are no JSON.
    """
    if not records:
        return []
    try:
        tags = tags_column([record.tags for record in records])
    except ValueError as error:
        raise Unencodable(f"tags of a rejection: {type(error).__name__}") from error
    columns = {
        "at": pa.array([record.at_us for record in records], TIME),
        "request_id": text_column([record.request_id for record in records]),
        "traceparent": text_column([record.traceparent for record in records]),
        "method": text_column([record.method or None for record in records]),
        "model": text_column([record.model for record in records]),
        "version": text_column([record.version for record in records]),
        "code": pa.array([record.code for record in records], pa.int32()),
        "kind": text_column([record.kind for record in records]),
        "pointer": text_column([record.pointer for record in records]),
        "excerpt": text_column([record.excerpt for record in records]),
        "tags": tags,
    }
    return [_copy("rejections", [pa.record_batch(columns)])]


def label_rows(records: Iterable[LabelRecord]) -> list[Row]:
    """`LABEL_COLUMNS` of labels, in the order they were given in; `labels` as Postgres writes `text[]`."""
    return [
        (
            pgproto.UUID(record.sample_id),  # asyncpg's own are made and sent in a tenth of the time
            time_of(record.at_us),
            storable(record.label),
            record.value,
            storable(record.source),
            storable(record.author),
            None if record.labels is None else _array(record.labels),
        )
        for record in records
    ]


def deployment_rows(
    records: Iterable[DeploymentRecord], versions: Mapping[VersionKey, KnownVersion], process: str
) -> list[Row]:
    """`DEPLOYMENT_COLUMNS` of changes that `process` journaled.

    Raises:
        Unencodable: a version is not known.
    """
    return [
        (
            time_of(record.at_us),
            storable(record.model),
            storable(record.role),
            None if record.version is None else _known(record, record.version, versions).id,
            record.share,
            storable(record.reason),
            storable(record.actor),
            process,
        )
        for record in records
    ]


def gap_rows(record: GapRecord, *, at: datetime, journal: UUID, process: str) -> list[Row]:
    """`GAP_COLUMNS` of what a journal says is missing from it.

    Args:
        at: now.
        journal: whose.
        process: that wrote it.
    """
    return [
        (
            at,
            journal,
            process,
            storable(entry.model),
            entry.version,
            storable(entry.reason),
            entry.records,
            entry.executed,
            entry.flagged,
            time_of(entry.first_us),
            time_of(entry.last_us),
        )
        for entry in record.entries
    ]


def time_of(microseconds: int) -> datetime:
    """A time of the journal's, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _known(record: DeploymentRecord, version: int, versions: Mapping[VersionKey, KnownVersion]) -> KnownVersion:
    known = versions.get((record.model, version, record.weights_sha256))
    if known is None:
        raise Unencodable(f"deployment of {record.model} version {version}: that version is not known")
    return known


def _array(texts: Iterable[str]) -> str:
    """As text: asyncpg takes arrays of arrays only where each is as long as the others."""
    quoted = [storable(text).replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return "{" + ",".join([f'"{each}"' for each in quoted]) + "}"


def _copy(table: str, batches: Sequence[Any]) -> Copy:
    """Without the columns that are null in every row: they are so when they are left out, too."""
    names = [
        name
        for name in batches[0].schema.names
        if any(each.column(name).null_count < each.num_rows for each in batches)
    ]
    rows = sum(batch.num_rows for batch in batches)
    return Copy(table, tuple(names), rows, tuple([batch.select(names) for batch in batches]))


def _encoder(schema: Any) -> Any:
    encoders = {
        field.name: LargeStringEncoderBuilder.new_with_output(field, Jsonb())
        if field.name in _JSONB
        else pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
        for field in schema
    }
    return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, encoders)
