"""Models and versions, drawn for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hoverboard.cli.output import table
from hoverboard.rpc.outlier_promise import promise

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hoverboard.versions.compare import Difference

__all__ = ["described", "described_model", "differences"]

_LIMITS = ("min", "max", "max_length")


def described(manifest: Mapping[str, Any]) -> RenderableType:
    """A table of inputs and outputs, and the labels below it.

    Args:
        manifest: or anything else with `task`, `inputs`, `outputs` and `labels`.
    """
    from rich.console import Group

    rows = [("input", *_row(spec)) for spec in manifest["inputs"]]
    rows += [("output", *_row(spec)) for spec in manifest["outputs"]]
    drawn: list[RenderableType] = [table(["", "name", "dtype", "shape", "limits"], rows)]
    labels = manifest.get("labels")
    if labels:
        drawn += ["", escape(f"{len(labels)} labels: {', '.join(labels)}")]
    drawn += _outliers(manifest)
    return Group(f"task: {manifest['task']}", "", *drawn)


def _outliers(manifest: Mapping[str, Any]) -> list[RenderableType]:
    """What is promised: said already by `models.describe`, or by a manifest's own figures."""
    outliers = manifest.get("outliers")
    words = outliers if isinstance(outliers, str) else promise(manifest) if outliers else None
    return ["", escape(f"outliers: {words}")] if words else []


def described_model(model: Mapping[str, Any]) -> RenderableType:
    """A model and each of its versions.

    Args:
        model: what `models.describe` answers.
    """
    from rich.console import Group

    roles = ", ".join(f"{role} {version}" for role, version in model["roles"].items()) or "no version answers"
    head = [f"[bold]{escape(model['name'])}[/]: {roles}"]
    if model["problem"]:
        head.append(f"[red]{escape(model['problem'])}[/]")
    return Group(*head, *(_version(version) for version in model["versions"]))


def _version(version: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group

    title = f"\n[bold]version {version['version']}[/]: {version['state']}"
    if version["pinned"]:
        title += ", pinned"
    if version["reason"]:
        return f"{title}: [red]{escape(version['reason'])}[/]"
    return Group(title, described(version), *_costs(version), *_failure(version))


def _costs(version: Mapping[str, Any]) -> list[RenderableType]:
    if not version["buckets"]:
        return []
    rows = [[f"{one['size']}", f"{one['mean_ms']:.3f}", f"{one['p99_ms']:.3f}"] for one in version["buckets"]]
    names = ["batch bucket", "mean ms", "p99 ms"]
    memory, load = version["memory_bytes"] or 0, version["load_ms"] or 0
    return [
        "",
        table(names, rows, right=names),
        "",
        f"runs by {version['executor']}; {memory / 2**20:.2f} MiB of weights; loaded in {load / 1000:.1f} s",
    ]


def _failure(version: Mapping[str, Any]) -> list[RenderableType]:
    last = version.get("last_failure")
    if not last:
        return []
    return ["", f"[red]{escape('last sample that failed, {at}: {reason}'.format(**last))}[/]"]


def differences(changes: Sequence[Difference]) -> RenderableType:
    """What two versions do not have in common, as a table."""
    if not changes:
        return "They take and answer the same."
    rows = [
        [escape(one.what), escape(one.before), escape(one.after), "[red]yes[/]" if one.breaking else "no"]
        for one in changes
    ]
    return table(["what", "before", "after", "callers may break"], rows)


def _row(spec: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return escape(spec["name"]), spec["dtype"], _shape(spec["shape"]), escape(_limits(spec))


def _shape(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if dim is None else str(dim) for dim in shape) or "scalar"


def _limits(spec: Mapping[str, Any]) -> str:
    limits = [f"{name} {spec[name]:g}" for name in _LIMITS if spec.get(name) is not None]
    if spec.get("min_length"):  # a list where dimensions differ; 0 limits nothing
        limits.append(f"min_length {spec['min_length']}")
    if spec.get("finite") is False:
        limits.append("may be missing")
    if spec.get("allowed"):
        limits.append(f"one of {', '.join(map(str, spec['allowed']))}")
    return ", ".join(limits)
