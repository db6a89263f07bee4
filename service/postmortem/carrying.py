"""Issues carried over to a version with other weights: its features are other ones, so that nothing would join what is known.

The samples that lead the known issues run through the new version, and lead them there, too. What the new version has found by
then and would have joined one of them becomes part of that issue.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from hoverboard.backends.backend import configured
from hoverboard.contract.signature import Array
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.errors import IssueRefused
from hoverboard.offline.engine import resolve_version
from hoverboard.outliers import OUTLIERS_FILE, OutlierPackage, load_package
from hoverboard.outliers.features import half
from hoverboard.postmortem.recorded_values import RawInputs, decode_inputs
from hoverboard.versions import Manifest, read_version, scan
from hoverboard.watch.grouping import whitening_of
from hoverboard.watch.issue_links import merge_alike
from hoverboard.watch.issue_table import VISIBLE, regress

__all__ = ["CarriedIssues", "carry"]

_SQL: Final = statements(__file__)
_MOST: Final = 500
"""Leaders that are carried at once: a quarter of what a version may have."""


@dataclass(frozen=True, slots=True)
class CarriedIssues:
    """What became known to a version.

    Attributes:
        version: its number.
        leaders: samples that lead known issues there from now on.
        left_out: samples that it cannot be given: redacted, erased, or not its inputs.
        issues: whose leaders these are, ascending.
        merged: issues that the version had begun and that are part of a known one from now on, ascending.
    """

    version: int
    leaders: int
    left_out: int
    issues: Sequence[int]
    merged: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Embedded:
    """Leaders, and what the version makes of their samples: numbers, and z float16 `(n, d)`."""

    numbers: Sequence[int]
    z: Array


async def carry(connection: Connection, models: Path, model: str, version: int | None) -> CarriedIssues:
    """Make the issues of a model known to one of its versions. Done again, it carries what is new since.

    Args:
        connection: as `recorder`.
        models: the models directory.
        model: its name.
        version: a number; None for the one that is stable there.

    Raises:
        IssueRefused: the version has no outliers, nothing is recorded of it yet, or the model's inputs are hidden.
        NotFound, VersionRefused: it cannot be read.
    """
    number, _ = resolve_version(models, model, version)
    directory = models / model / str(number)
    manifest = read_version(directory)
    if not (directory / OUTLIERS_FILE).exists():
        raise IssueRefused(f"{model} version {number} was published without calibration: it finds no outliers")
    version_id = await connection.fetchval(_SQL["version_id"], model, number, manifest.weights_sha256)
    if version_id is None:
        raise IssueRefused(
            f"nothing is recorded of {model} version {number} yet; ask again once it has answered a call"
        )
    on_disk = scan(models).get(model)
    if on_disk is not None and on_disk.serving is not None and on_disk.serving.recording.hides:
        # The engine keeps no features of what it must not write down; those of older samples are made by the same rule.
        raise IssueRefused(
            f"serving.toml of {model} hides inputs from the records: no features are made of them, so that nothing could join"
        )
    package = await asyncio.to_thread(load_package, directory / OUTLIERS_FILE)
    rows = await connection.fetch(_SQL["leaders"], model, manifest.weights_sha256, VISIBLE, _MOST)
    embedded = await asyncio.to_thread(_embedded, directory, manifest, package, rows)
    # Only now: to load a model takes seconds, and the lock holds up the recorder.
    async with connection.transaction():
        await connection.execute(_SQL["begin_scope"], model, manifest.weights_sha256)
        scopes = await connection.fetch(_SQL["lock_model"], model)
        (scope,) = [each for each in scopes if each["backbone_sha256"] == manifest.weights_sha256]
        z = [each.tobytes() for each in embedded.z]
        carried = await connection.fetch(_SQL["carry"], scope["id"], version_id, embedded.numbers, z)
        await connection.execute(_SQL["carried"], scope["id"], secrets.randbits(62))
        merged = await _joined(connection, scope, package, carried, number) if carried else []
        issues = sorted({row["issue_id"] for row in carried})
        await connection.execute(_SQL["note"], issues, f"carried over to version {number}, which has other weights")
    return CarriedIssues(number, len(carried), len(rows) - len(embedded.numbers), issues, merged)


def _embedded(directory: Path, manifest: Manifest, package: OutlierPackage, rows: Sequence[Any]) -> _Embedded:
    raw = [RawInputs(row["inputs"], row["vector"], row["tensors"]) for row in rows]
    decoded = decode_inputs(manifest.signature, raw) if rows else None
    usable = [] if decoded is None else [place for place, why in enumerate(decoded.why_not) if not why]
    if decoded is None or not usable:
        return _Embedded([], np.empty((0, 0), np.float16))
    graph = configured(manifest.artifact, (0, 1)).load(directory, manifest)
    extract = graph.extractor(manifest.signature, package.layer, package.space)
    # One at a time: their lengths may differ, and they are few.
    found = []
    for place in usable:
        columns = [_one(decoded.columns[spec.name][place], spec.dtype) for spec in manifest.signature.inputs]
        features = extract(columns).z
        if features is None:
            raise IssueRefused(f"version {manifest.version} has no features to compare outliers by")
        found.append(half(features[0]))
    return _Embedded([rows[place]["id"] for place in usable], np.stack(found))


def _one(value: Any, dtype: str) -> Array:
    """A column of one row."""
    return np.asarray(value)[None] if isinstance(value, np.ndarray) else np.array([value], _dtype(dtype))


def _dtype(name: str) -> Any:
    return object if name == "string" else name


async def _joined(
    connection: Connection, scope: Any, package: OutlierPackage, carried: Sequence[Any], version: int
) -> list[int]:
    """Merge what began under these weights and lies within the radius of a carried leader, the nearest first."""
    # Without a radius nothing has begun here yet, and what comes will find these leaders.
    radius, size = scope["radius"], len(carried[0]["z"])
    here = await connection.fetch(_SQL["found_here"], scope["id"], size)
    whitening = whitening_of(package, size // 2)
    if radius is None or not here or not scope["whitened"]:
        return []
    mine, known = (whitening.apply(_z(rows, size)) for rows in (here, carried))
    limits = np.square(radius * whitening.stretch(known))
    merged = []
    for row, one in zip(here, mine, strict=True):
        # As if the carried leaders had been there first, by the rule of `grouping.group`.
        squares = np.square(known - one).sum(axis=1)
        nearest = int(np.where(squares <= limits, squares, np.inf).argmin())
        if squares[nearest] <= limits[nearest]:
            pair, why = (carried[nearest]["id"], row["id"]), f"version {version} finds them alike"
            whole = await merge_alike(connection, pair, why, version, row["last_seen"], joins=True)
            if whole is not None:
                await regress(connection, [whole], [row["last_seen"]], version)
                merged.append(int(row["id"]))
    return sorted(merged)


def _z(rows: Sequence[Any], size: int) -> Array:
    return np.frombuffer(b"".join([row["z"] for row in rows]), "<f2").reshape(len(rows), size // 2)
