"""The model versions that were served: which `model_versions` row a record belongs to, and what its manifest says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import structlog

from hoverboard.contract.signature import Signature
from hoverboard.database.connect import Connection
from hoverboard.database.failures import doubtful, refused, sentence
from hoverboard.database.statements import statements
from hoverboard.database.text import storable_json
from hoverboard.errors import VersionRefused
from hoverboard.journal.records import BatchRecord, FeatureRecord, VersionRecord, WithdrawalRecord
from hoverboard.outliers import OutlierSummary
from hoverboard.versions import read_version

__all__ = ["KnownVersion", "KnownVersions", "NewVersion", "VersionKey", "bound_of", "version_key"]

VersionKey = tuple[str, int, str]
"""(model, version, weights_sha256): one version for good."""

_SQL: Final = statements(__file__)
_MOST: Final = 2**63 - 1
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A version that is in `model_versions`.

    Attributes:
        id: its `model_versions.id`.
        key: what identifies it.
        signature: how the columns of its batches are read.
        bound: of the share of outliers that its alarm tests against; None for a version without calibration.
    """

    id: int
    key: VersionKey
    signature: Signature
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that a chunk speaks of, and that is not known yet.

    Attributes:
        key: what identifies it.
        manifest: as its `VersionRecord` has it; None where that record is lost.
        first_served_at: time of the first record of it in that chunk.
    """

    key: VersionKey
    manifest: bytes | None
    first_served_at: datetime


class _Descendant(msgspec.Struct):
    """A manifest, as far as its parent goes."""

    parent: int | None = None


def version_key(record: BatchRecord | FeatureRecord | VersionRecord | WithdrawalRecord) -> VersionKey:
    """What identifies the version that a record is of."""
    return record.model, record.version, record.weights_sha256


def bound_of(manifest: str) -> float | None:
    """The share of outliers that a version's alarm tests against; None for a version without calibration."""
    summary = OutlierSummary.in_json(manifest)
    return None if summary is None else summary.alarm_bound


class KnownVersions:
    """Every version looked up so far. One that is found nowhere is remembered as such until its record comes.

    Args:
        models: the models directory, where a version's manifest is looked for when its record is lost.
    """

    def __init__(self, models: Path) -> None:
        self._models = models
        self._known: dict[VersionKey, KnownVersion] = {}
        # Whether its record was at hand when it was looked for in vain: only that is news worth another look.
        self._lost: dict[VersionKey, bool] = {}

    @property
    def found(self) -> Mapping[VersionKey, KnownVersion]:
        """Those that are in `model_versions`."""
        return self._known

    def missing(self, versions: Iterable[NewVersion]) -> list[NewVersion]:
        """Those worth looking up."""
        return [version for version in versions if version.key not in self._known and self._worthwhile(version)]

    async def learn(self, connection: Connection, version: NewVersion) -> None:
        """Look a version up, and insert it where it is new. Not within a transaction: other recorders may wait for it.

        A version that cannot be looked up or inserted for a reason of its own counts as found nowhere: what it answered is
        put aside, and other versions are recorded.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: it is not the version's fault.
        """
        known, again = None, False
        try:
            # Looked up first: nearly always it is there, and `insert ... on conflict` would use up a number each time.
            known = await _find(connection, version.key)
            if known is None:
                # The journal's first: what is on disk may have been removed, and must have the same checksum.
                manifest = version.manifest or self._on_disk(version.key)
                known = None if manifest is None else await _insert(connection, version, manifest)
        except VersionRefused as refusal:  # this machine is at fault: it is looked for again with the next records
            again = True
            _log.warning("version_unreadable", model=version.key[0], version=version.key[1], reason=refusal.reason)
        except (ValueError, RecursionError, asyncpg.PostgresError) as error:
            if isinstance(error, asyncpg.PostgresError) and not (refused(error) or doubtful(error)):
                raise
            _log.error("version_unusable", model=version.key[0], version=version.key[1], reason=_reason(error))
        if known is not None:
            self._known[version.key] = known
            return
        if not again:
            self._lost[version.key] = version.manifest is not None
        _log.error("version_unknown", model=version.key[0], version=version.key[1])

    def _worthwhile(self, version: NewVersion) -> bool:
        """Whether more is known of it than at the last, vain attempt."""
        return version.key not in self._lost or (version.manifest is not None and not self._lost[version.key])

    def _on_disk(self, key: VersionKey) -> bytes | None:
        model, number, weights = key
        try:
            manifest = read_version(self._models / model / str(number))
        except VersionRefused as refusal:
            if refusal.passing:
                raise
            return None
        except (OSError, ValueError):  # a name that is no file's
            return None
        return msgspec.json.encode(manifest.public()) if manifest.weights_sha256 == weights else None


async def _find(connection: Connection, key: VersionKey) -> KnownVersion | None:
    row = await connection.fetchrow(_SQL["find_version"], *key)
    if row is None:
        return None
    manifest = row["manifest"]
    return KnownVersion(row["id"], key, msgspec.json.decode(manifest, type=Signature), bound_of(manifest))


async def _insert(connection: Connection, version: NewVersion, manifest: bytes) -> KnownVersion | None:
    parent = msgspec.json.decode(manifest, type=_Descendant).parent
    # A manifest that somebody wrote: what no column holds is as good as none.
    if parent is not None and not 0 < parent <= _MOST:
        parent = None
    text = storable_json(manifest).decode()
    await connection.execute(_SQL["insert_version"], *version.key, text, parent, version.first_served_at)
    # Whoever inserted it: it may have been another recorder, a moment ago.
    return await _find(connection, version.key)


def _reason(error: Exception) -> str:
    """In words, and without the value that asyncpg's own text quotes."""
    return type(error).__name__ if isinstance(error, asyncpg.InterfaceError) else sentence(error)
