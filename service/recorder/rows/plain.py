"""Records as Python values, where they are rare or must be looked at by SQL before they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from asyncpg.pgproto import pgproto

from hoverboard.contract.times import time_of
from hoverboard.database.known import KnownVersion, VersionKey
from hoverboard.database.text import storable
from hoverboard.journal.records import DeploymentRecord, LabelRecord, ProcessRecord
from hoverboard.recorder.rows.layout import Unencodable

__all__ = ["DEPLOYMENT_COLUMNS", "PROCESS_COLUMNS", "deployment_rows", "label_columns", "process_rows", "uuids"]

DEPLOYMENT_COLUMNS: Final = ("at", "model", "role", "version_id", "share", "reason", "actor", "process")
PROCESS_COLUMNS: Final = ("at", "process", "kind", "detail")


def label_columns(records: Sequence[LabelRecord]) -> tuple[Sequence[Any], ...]:
    """The arguments of `insert_labels`, one array each: sample_id, labelled_at, label, value, source, author, labels."""
    return (
        [
            pgproto.UUID(record.sample_id) for record in records
        ],  # asyncpg's own are made and sent in a tenth of the time
        [time_of(record.at_us) for record in records],
        [storable(record.label) for record in records],
        [record.value for record in records],
        [storable(record.source) for record in records],
        [storable(record.author) for record in records],
        [None if record.labels is None else _array(record.labels) for record in records],
    )


def deployment_rows(
    records: Iterable[DeploymentRecord], versions: Mapping[VersionKey, KnownVersion], process: str
) -> list[tuple[Any, ...]]:
    """`DEPLOYMENT_COLUMNS` of changes that `process` journaled.

    Raises:
        Unencodable: a version is not known.
    """
    return [
        (
            time_of(record.at_us),
            storable(record.model),
            storable(record.role),
            None if record.version is None else _version_id(record, record.version, versions),
            record.share,
            storable(record.reason),
            storable(record.actor),
            process,
        )
        for record in records
    ]


def process_rows(records: Iterable[ProcessRecord]) -> list[tuple[Any, ...]]:
    """`PROCESS_COLUMNS` of starts and ends."""
    return [
        (
            time_of(record.at_us),
            storable(record.process),
            record.kind,
            None if record.detail is None else storable(record.detail),
        )
        for record in records
    ]


def uuids(ids: bytes) -> list[UUID]:
    """Ids of 16 bytes each as asyncpg sends them fastest.

    Raises:
        ValueError: the last one is not whole.
    """
    return [pgproto.UUID(ids[start : start + 16]) for start in range(0, len(ids), 16)]


def _version_id(record: DeploymentRecord, version: int, versions: Mapping[VersionKey, KnownVersion]) -> int:
    known = versions.get((record.model, version, record.weights_sha256))
    if known is None:
        raise Unencodable(f"deployment of {record.model} version {version}: that version is not known")
    return known.id


def _array(texts: Iterable[str]) -> str:
    """`text[]` as Postgres writes it: asyncpg takes arrays of arrays only where each is as long as the others."""
    quoted = [storable(text).replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return "{" + ",".join([f'"{each}"' for each in quoted]) + "}"
