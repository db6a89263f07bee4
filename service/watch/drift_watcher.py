"""Watches whether what versions are asked, and what they answer, is still like their baselines."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from hoverboard.config import Settings
from hoverboard.database.connect import Connection
from hoverboard.database.failures import sentence
from hoverboard.database.known import KnownVersion, VersionKey
from hoverboard.errors import VersionRefused
from hoverboard.journal.records import Record
from hoverboard.telemetry import families
from hoverboard.versions import read_version
from hoverboard.versions.baseline import Baseline, read_baseline
from hoverboard.watch import drift_table
from hoverboard.watch.drift import Finding, Reference
from hoverboard.watch.watcher import News, Ran

__all__ = ["Drift"]

_AGAIN_S: Final = 60.0
"""A window may close twice a second, and drift lasts: the log is told once in a while."""

_log = structlog.get_logger(__name__)
# Of the process and not of a watcher: those are made anew with every connection, and the log would hear everything again.
_logged_at: dict[VersionKey, float] = {}
_unreadable: dict[int, str] = {}


class Drift:
    """Counts recorded samples for the drift of versions with a baseline.

    Args:
        settings: the service's.
    """

    kinds: Collection[type[Record]] = ()

    def __init__(self, settings: Settings) -> None:
        self._models = settings.models
        self._window_rows = settings.drift_window_rows
        self._references: dict[int, Reference | None] = {}

    async def show(self, connection: Connection) -> None:
        features: dict[tuple[str, int], dict[str, tuple[float, bool]]] = {}
        for row in await drift_table.latest_findings(connection):
            features.setdefault((row["model"], row["version"]), {})[row["feature"]] = (row["js"], row["drifted"])
        for name, by_feature in features.items():
            divergences = {feature: js for feature, (js, _) in by_feature.items()}
            _show(*name, divergences, sum(drifted for _, drifted in by_feature.values()))

    async def follow(self, connection: Connection, ran: Sequence[Ran], _: Sequence[Record]) -> Sequence[News]:
        news: list[News] = []
        for each in ran:
            reference = await self._reference(connection, each.known)
            if reference is None or not any(batch.rows for batch in each.batches):
                continue
            full = await drift_table.follow(connection, each.known.id, reference, each.batches, self._window_rows)
            # Only the last one: a recorder that catches up closes many at once, and metrics hold one value.
            if full:
                news.append(partial(_tell, each.known.key, full[-1]))
        return news

    async def expire(self, connection: Connection, before: datetime) -> None:
        await drift_table.expire_windows(connection, before)

    async def _reference(self, connection: Connection, known: KnownVersion) -> Reference | None:
        """What a version is held against; None without a baseline."""
        if known.id in self._references:
            return self._references[known.id]
        reference = None
        try:
            baseline = await self._baseline(connection, known)
            reference = None if baseline is None else Reference(baseline, known.signature)
        except VersionRefused as error:
            if _unreadable.get(known.id) != error.reason:
                _unreadable[known.id] = error.reason
                _log.warning("no_baseline", model=known.key[0], version=known.key[1], reason=sentence(error))
            if error.passing:  # such as a disk that is not mounted yet: it is looked for again with the next rows
                return None
        self._references[known.id] = reference
        return reference

    async def _baseline(self, connection: Connection, known: KnownVersion) -> Baseline | None:
        """As it was when this version was first seen: its bins are frozen from then on, as its windows rely on them."""
        baseline = await drift_table.find_baseline(connection, known.id)
        if baseline is None:
            published = await asyncio.to_thread(_on_disk, self._models, known.key)
            if published is not None:
                await drift_table.insert_baseline(connection, known.id, published)
                baseline = await drift_table.find_baseline(connection, known.id)
        return baseline


def _show(model: str, version: int, divergences: Mapping[str, float], drifted: int) -> None:
    for feature, divergence in divergences.items():
        families.drift_js.labels(model, version, feature).set(divergence)
    families.drifted_features.labels(model, version).set(drifted)


def _tell(key: VersionKey, findings: Sequence[Finding]) -> None:
    model, version, _ = key
    drifted = [finding.feature for finding in findings if finding.drifted]
    _show(model, version, {finding.feature: finding.js for finding in findings}, len(drifted))
    now = time.monotonic()
    if drifted and now - _logged_at.get(key, -math.inf) >= _AGAIN_S:
        _logged_at[key] = now
        _log.info("drifted", model=model, version=version, features=drifted[:10], of=len(findings))


def _on_disk(models: Path, key: VersionKey) -> Baseline | None:
    """The baseline of the version with this checksum, and no other that was put in its place."""
    model, version, weights = key
    directory = models / model / str(version)
    baseline = read_baseline(directory)
    return baseline if baseline is not None and read_version(directory).weights_sha256 == weights else None
