"""Records as the bytes of binary COPY: Arrow record batches, encoded by pgpq, one stream for each table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pgpq
import pyarrow as pa
from pgpq.encoders import LargeStringEncoderBuilder
from pgpq.schema import Jsonb

from hoverboard.database.known import KnownVersion, VersionKey
from hoverboard.journal.records import BatchRecord, FeatureRecord, RejectionRecord
from hoverboard.recorder.rows.columns import TIME
from hoverboard.recorder.rows.features import feature_rows
from hoverboard.recorder.rows.layout import Unencodable
from hoverboard.recorder.rows.tables import rows_of
from hoverboard.recorder.rows.text import tags_column, text_column

__all__ = ["Copy", "encode_batches", "encode_features", "encode_rejections"]

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
            # By bytes and not by rows, so that samples of large tensors do not fill memory.
            step = max(1, _SLICE * batch.num_rows // max(1, batch.nbytes))
            for start in range(0, batch.num_rows, step):
                piece = encoder.write_batch(batch.slice(start, step))
                if piece:
                    yield piece
        yield encoder.finish()


def encode_batches(
    records: Iterable[BatchRecord], versions: Mapping[VersionKey, KnownVersion], process: str
) -> list[Copy]:
    """The rows of batches: at most one `Copy` for each of samples, predictions and outliers, none without rows.

    Args:
        records: any number; those without kept rows count for nothing.
        versions: every version that they ran on.
        process: that ran them, such as `engine-0`.

    Raises:
        Unencodable: a record cannot be put into rows. `split` and encode again to find it.
    """
    groups = list(rows_of(records, versions, process))
    tables = {
        "samples": [group.samples for group in groups],
        "predictions": [group.predictions for group in groups],
        "outliers": [group.outliers for group in groups if group.outliers is not None],
    }
    copies = [_copy(table, batches) for table, batches in tables.items() if batches]
    return [copy for copy in copies if copy.rows]


def encode_features(records: Sequence[FeatureRecord], versions: Mapping[VersionKey, KnownVersion]) -> list[Copy]:
    """The rows of features; nothing for none.

    Raises:
        Unencodable: as `feature_rows` does.
    """
    return [_copy("features", [feature_rows(records, versions)])] if records else []


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
