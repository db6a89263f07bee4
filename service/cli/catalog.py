"""What lies in a models directory, told in the words that a server uses, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus, versions_in_words
from hoverboard.errors import ModelNotFound, VersionNotFound, VersionRefused
from hoverboard.rpc.methods.models_describe import describe
from hoverboard.rpc.methods.models_list import summaries
from hoverboard.versions import ModelOnDisk, Serving, VersionOnDisk, read_version, scan
from hoverboard.versions.roles import intended, lineage

__all__ = ["describe_on_disk", "list_on_disk"]


def list_on_disk(models: Path) -> dict[str, Any]:
    """What `models.list` would answer, as far as it can be told without loading anything."""
    catalog = Catalog({name: _model(on_disk) for name, on_disk in scan(models).items()})
    answer: dict[str, Any] = msgspec.to_builtins(summaries(catalog))
    return answer


def describe_on_disk(models: Path, name: str, version: int | None) -> dict[str, Any]:
    """What `models.describe` would answer, likewise.

    Raises:
        NotFound: no such model or version.
    """
    models_on_disk = scan(models)
    if name not in models_on_disk:
        raise ModelNotFound(f"no model {name!r} in {models}; there is {', '.join(models_on_disk) or 'none'}")
    status = _model(models_on_disk[name])
    if version is not None and status.version(version) is None:
        there = versions_in_words(each.version for each in status.versions)
        raise VersionNotFound(f"{name} has no version {version} in {models}; {there}")
    described = describe(status, version)
    for each in described.versions:
        each.last_failure = None  # nothing has run
    answer: dict[str, Any] = msgspec.to_builtins(described)
    return answer


def _model(on_disk: ModelOnDisk) -> ModelStatus:
    versions = tuple(_version(on_disk.versions[number]) for number in sorted(on_disk.versions))
    manifests = {each.version: read_version(on_disk.versions[each.version].path) for each in versions if each.signature}
    serving = on_disk.serving or Serving()
    roles = {
        role: each.version for role, each in intended(serving, lineage(manifests)).items() if each.version in manifests
    }
    problem = on_disk.problem or (None if roles else "no version can be stable")
    return ModelStatus(on_disk.name, roles, versions, problem, msgspec.to_builtins(serving))


def _version(place: VersionOnDisk) -> VersionStatus:
    try:
        manifest = read_version(place.path)
    except VersionRefused as error:
        return VersionStatus(place.number, "refused", reason=error.reason)
    return VersionStatus(place.number, "available", signature=manifest.signature, manifest=manifest.public())
