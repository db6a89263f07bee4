"""How a model and its versions are shown to everybody: what goes into the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hoverboard.contract.catalog import ModelStatus, VersionStatus
from hoverboard.contract.signature import Signature
from hoverboard.engine.models.state import Model, Version
from hoverboard.engine.recording.policy import redact_problem

__all__ = ["status_of"]


def status_of(model: Model, only: int | None = None) -> ModelStatus:
    """What everybody may know of a model.

    Args:
        model: of which.
        only: the one version to tell of, where it is known; None for all.
    """
    shown = model.versions if only is None else {only: model.versions[only]} if only in model.versions else {}
    versions = tuple(_version_status(model, n, version) for n, version in sorted(shown.items()))
    problem = "; ".join(_problems(model)) or None
    return ModelStatus(
        model.name, model.filled(), versions, problem, _serving_json(model), model.routed_by, served=model.served
    )


def _problems(model: Model) -> Iterator[str]:
    """What keeps the wished-for configuration from being in force, most severe first."""
    yield from filter(None, (model.disk_problem, model.route_problem, _waiting_problem(model), _redact_problem(model)))
    yield from model.passed_over


def _waiting_problem(model: Model) -> str | None:
    waiting = model.lineage().waiting
    if model.serving.stable is not None or not waiting:
        return None
    newest = max(waiting)
    if newest < (model.stable or 0) or model.versions[newest].refused:
        return None
    return waiting[newest].sentence(model.name, newest)


def _redact_problem(model: Model) -> str | None:
    """Why nothing of a version that answers is recorded; of the stable one first."""
    for number in sorted(model.alive(), key=lambda each: each != model.stable):
        manifest = model.versions[number].manifest
        problem = None if manifest is None else redact_problem(model.serving.recording.redact, manifest.signature)
        if problem is not None:
            return f"{problem}; nothing of version {number} is recorded until this is right"
    return None


def _serving_json(model: Model) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(model.serving)
    return values if model.serving_read else values | {"unread": True}


def _version_status(model: Model, number: int, version: Version) -> VersionStatus:
    """What everybody may know of one version."""
    live = version.live
    signature: Signature | None = version.manifest.signature if version.manifest else None
    if live is not None:
        signature = live.signature  # it knows the least lengths that an old manifest does not say
    state = "live" if live else "loading" if version.loading else "refused" if version.refused else "available"
    return VersionStatus(
        number,
        state,  # type: ignore[arg-type]  # one of the four literals above
        reason=_reason(model, number, version),
        signature=signature,
        manifest=version.public,
        executor=live.executor.name if live else None,
        buckets=live.timings if live else (),
        pinned=number in model.serving.pins,
        memory_bytes=live.memory_bytes if live else None,
        load_ms=round(live.load_ms, 1) if live else None,
        sandbox=live.sandbox if live else None,
        passing=version.waits,
    )


def _reason(model: Model, number: int, version: Version) -> str | None:
    if version.refused is not None:
        return version.refused.reason
    if version.gone:
        return "its directory is gone"
    waiting = model.lineage().waiting.get(number)
    return waiting.sentence(model.name, number) if waiting is not None and version.live is None else None
