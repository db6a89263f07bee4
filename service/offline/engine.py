"""An engine in this process that serves exactly one version of one model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from hoverboard.config import Settings
from hoverboard.contract.calls import EnginePort
from hoverboard.contract.catalog import STABLE, Catalog, VersionStatus, versions_in_words
from hoverboard.contract.signature import Signature
from hoverboard.engine.engine import Engine
from hoverboard.errors import ModelNotFound, NotReady, VersionNotFound, VersionRefused
from hoverboard.versions import ModelOnDisk, Serving, read_version, scan
from hoverboard.versions.roles import intended, lineage
from hoverboard.versions.serving import SERVING_FILE, rewrite

__all__ = ["one_version", "resolve_version"]


def resolve_version(models: Path, name: str, version: int | None) -> tuple[int, Signature]:
    """The version that answers and its signature, read from disk.

    Args:
        models: the models directory.
        name: the model's.
        version: a number; None for the one `serving.toml` calls stable, or else the highest that would be.

    Raises:
        NotFound: no such model or version.
        VersionRefused: its manifest is no good.
    """
    model = _model(models, name)
    number = version or _stable(model)
    if number not in model.versions:
        raise VersionNotFound(f"{name} has no version {number} in {models}; {versions_in_words(model.versions)}")
    return number, read_version(model.versions[number].path).signature


def _stable(model: ModelOnDisk) -> int:
    """The version that a server would make stable; where none can be read, the highest, whose reading says why."""
    manifests = {}
    for number, place in model.versions.items():
        with suppress(VersionRefused):
            manifests[number] = read_version(place.path)
    roles = intended(model.serving or Serving(), lineage(manifests))
    return roles[STABLE].version if STABLE in roles else max(model.versions, default=0)


def _model(models: Path, name: str) -> ModelOnDisk:
    models_on_disk = scan(models)
    if name not in models_on_disk:
        raise ModelNotFound(f"no model {name!r} in {models}; there is {', '.join(models_on_disk) or 'none'}")
    return models_on_disk[name]


@asynccontextmanager
async def one_version(models: Path, name: str, version: int) -> AsyncIterator[tuple[EnginePort, int]]:
    """An engine with one version live, and the size of its largest batch bucket.

    Raises:
        VersionRefused: the version did not pass its checks.
    """
    with tempfile.TemporaryDirectory(prefix="hoverboard-") as folder:
        _select(models, name, version, Path(folder))
        # A data directory of its own: what a running server keeps in the real one is not to be touched from here.
        async with Engine(Settings.load(models=Path(folder), data_dir=Path(folder, "data"))) as engine:
            status = await _live(engine, name, version)
            yield engine, max(bucket.size for bucket in status.buckets)


def _select(models: Path, name: str, version: int, folder: Path) -> None:
    """Make `folder` a models directory with that version alone, and with the model's batching limits."""
    model, chosen = models.resolve() / name, folder / name
    chosen.mkdir()
    # A link, not a copy: weights may be gigabytes.
    (chosen / str(version)).symlink_to(model / str(version), target_is_directory=True)
    if (model / SERVING_FILE).exists():
        shutil.copyfile(model / SERVING_FILE, chosen / SERVING_FILE)
        # Else the engine would look for a stable version that this folder does not have.
        rewrite(chosen, stable=None, pins=None)


async def _live(engine: EnginePort, name: str, version: int) -> VersionStatus:
    changed: asyncio.Queue[Catalog] = asyncio.Queue()
    stop = engine.subscribe(changed.put_nowait)
    try:
        while True:
            catalog = await changed.get()
            model = catalog.models.get(name)
            status = model and model.version(version)
            if status and status.state == "live":
                return status
            if status and status.state == "refused":
                raise VersionRefused(f"{name} version {version}: {status.reason}", check="load")
            if catalog.ready:
                raise NotReady(f"{name} version {version} did not come up")
    finally:
        stop()
