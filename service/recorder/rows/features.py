"""Features of samples as rows of `features`: Arrow, many records at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hoverboard.contract.times import times_ms
from hoverboard.database.known import KnownVersion, VersionKey, version_key
from hoverboard.journal.records import FeatureRecord
from hoverboard.recorder.rows.columns import BYTES, TIME, uuid_column
from hoverboard.recorder.rows.layout import Unencodable

__all__ = ["feature_rows"]


def feature_rows(records: Sequence[FeatureRecord], versions: Mapping[VersionKey, KnownVersion]) -> Any:
    """A record batch of all their samples; fields are named as the table's columns.

    Args:
        records: of at least one sample each, with as many bytes for each of its samples.
        versions: every version that they are of.

    Raises:
        Unencodable: a version is not known.
    """
    counts = np.array([len(record.sample_ids) // 16 for record in records], np.int64)
    widths = np.array([len(record.z) // count for record, count in zip(records, counts, strict=True)], np.int64)
    ids = np.frombuffer(b"".join([record.sample_ids for record in records]), "V16")
    version_ids = np.array([_version_id(record, versions) for record in records], np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.repeat(widths, counts))])
    data = b"".join([record.z for record in records])
    return pa.record_batch(
        {
            "at": pa.array(times_ms(ids) * 1000, TIME),
            "sample_id": uuid_column(ids),
            "version_id": pa.array(np.repeat(version_ids, counts)),
            "z": pa.LargeBinaryArray.from_buffers(BYTES, len(ids), [None, pa.py_buffer(offsets), pa.py_buffer(data)]),
        }
    )


def _version_id(record: FeatureRecord, versions: Mapping[VersionKey, KnownVersion]) -> int:
    known = versions.get(version_key(record))
    if known is None:
        raise Unencodable(f"features of {record.model} version {record.version}: that version is not known")
    return known.id
