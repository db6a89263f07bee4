"""What was erased, as rules that later rows are held against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec
import numpy as np

from hoverboard.contract.times import times_ms
from hoverboard.journal.records import (
    BatchRecord,
    FeatureRecord,
    LabelRecord,
    Record,
    RejectionRecord,
    SupplementRecord,
    WithdrawalRecord,
)

__all__ = ["Kind", "Tombstone", "digest_of", "means", "samples_of"]

Kind = Literal["sample", "tag", "age"]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One row of `erasures`.

    Attributes:
        id: in the order they were asked for.
        at: when; what arrives later is not meant.
        kind: `sample`, `tag` or `age`.
        sample_id: for `sample`.
        tag_key, tag_digest: for `tag`: the name, and the SHA-256 of the value in hex.
        model: only of this model; None for all.
        before: for `age`: all before this time.
        actor: who asked.
    """

    id: int
    at: datetime
    kind: Kind
    sample_id: UUID | None = None
    tag_key: str | None = None
    tag_digest: str | None = None
    model: str | None = None
    before: datetime | None = None
    actor: str = ""

    @classmethod
    def of(cls, row: asyncpg.Record) -> Tombstone:
        """A row as Postgres gives it."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


def digest_of(value: str) -> str:
    """What stands for a tag's value in a tombstone, which must not name the subject."""
    return hashlib.sha256(value.encode()).hexdigest()


def samples_of(record: Record | None) -> list[bytes]:
    """Sample ids that a journaled record names, 16 bytes each."""
    if isinstance(record, (BatchRecord, FeatureRecord, SupplementRecord, WithdrawalRecord)):
        ids = record.sample_ids
    elif isinstance(record, LabelRecord):
        ids = record.sample_id
    else:
        return []
    return [ids[start : start + 16] for start in range(0, len(ids) - len(ids) % 16, 16)]


def means(tombstone: Tombstone, record: Record) -> bool:
    """Whether anything in a journaled record was erased by this."""
    ids = samples_of(record)
    if isinstance(record, BatchRecord):
        tags = [call.tags for call in record.calls]
    elif isinstance(record, (FeatureRecord, SupplementRecord, WithdrawalRecord, LabelRecord)):
        tags = []
    elif isinstance(record, RejectionRecord):
        tags = [record.tags]
    else:
        return False
    # A label names no model; where only one is meant, the erasure leaves a tombstone for each sample.
    model = None if isinstance(record, LabelRecord) else record.model
    if tombstone.model is not None and model != tombstone.model:
        return False
    if tombstone.kind == "sample":
        return tombstone.sample_id is not None and tombstone.sample_id.bytes in ids
    times = np.array([record.at_us / 1000]) if isinstance(record, RejectionRecord) else times_ms(b"".join(ids))
    if tombstone.kind == "tag":
        return bool((times <= _ms(tombstone.at)).any()) and _tagged(tombstone, tags)
    return tombstone.before is not None and bool((times < _ms(tombstone.before)).any())


def _ms(at: datetime) -> float:
    return at.timestamp() * 1000


def _tagged(tombstone: Tombstone, tags: Iterable[bytes | None]) -> bool:
    values = [_decode(each).get(tombstone.tag_key or "") for each in tags if each]
    return any(isinstance(value, str) and digest_of(value) == tombstone.tag_digest for value in values)


def _decode(tags: bytes) -> dict[str, Any]:
    try:
        values = msgspec.json.decode(tags)
    except msgspec.DecodeError:
        return {}
    return values if isinstance(values, dict) else {}
