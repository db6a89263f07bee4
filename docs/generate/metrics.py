"""docs/reference/metrics.md, from the metric families."""

from __future__ import annotations

from typing import Final

from docs.generate.markdown import sentence, table
from hoverboard.telemetry import families

__all__ = ["page"]

_UNITS: Final = {"seconds": "seconds", "bytes": "bytes", "js": "bits"}


def page() -> str:
    """Every metric with its labels and unit."""
    rows = []
    for family in (each.family for each in families.ALL):
        name = family._name + ("_total" if family._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in family._labelnames) or "-"
        unit = next((unit for end, unit in _UNITS.items() if family._name.endswith(f"_{end}")), "")
        rows.append([f"`{name}`", family._type, labels, unit, sentence(family._documentation)])
    return f"""# Metrics

`/metrics` on either listener answers with these in Prometheus' text format, summed over all processes.
A label that a client could make up (a method, model or input) is `unknown` where the service does not know it.
[Operate](../operate.md#metrics) says which to watch, and the [glossary](../glossary.md) has the words.

{table(["metric", "type", "labels", "unit", "meaning"], rows)}"""
