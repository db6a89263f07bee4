"""Predictions, drawn for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from hoverboard.cli.output import bar, table

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["drawn"]

_LONGEST_OUTPUT = 60


def drawn(result: Mapping[str, Any]) -> RenderableType:
    """A table with one line a prediction (and one for each further class asked for), and what it took below it.

    Args:
        result: of `predict`.
    """
    from rich.console import Group
    from rich.markup import escape

    rows = [row for number, one in enumerate(result["predictions"]) for row in _rows(number, one)]
    columns = _columns(result["predictions"][0])
    timing = result["timing"]
    footer = (
        f"{escape(result['model'])} version {result['version']}: waited {timing['queue_ms']:.1f} ms, "
        f"ran {timing['infer_ms']:.1f} ms in a batch of {timing['batch']}"
    )
    cells = [[escape(cell) for cell in row] for row in rows]
    return Group(table(columns, cells, right=("#", "confidence", "value", "p_value")), "", f"[dim]{footer}[/]")


_NONE = {"label": "(no label)", "confidence": 0.0}


def _columns(prediction: Mapping[str, Any]) -> list[str]:
    columns = ["#"]
    if "label" in prediction or "labels" in prediction:
        columns += ["label", "confidence", ""]
    if "value" in prediction:
        columns.append("value")
    if prediction.get("p_value") is not None:  # null throughout where the version is not calibrated
        columns += ["p_value", "outlier"]
    if "outputs" in prediction:
        columns.append("outputs")
    return columns


def _rows(number: int, prediction: Mapping[str, Any]) -> list[list[str]]:
    rest = [f"{prediction['value']:.6g}"] if "value" in prediction else []
    if prediction.get("p_value") is not None:
        rest += [f"{prediction['p_value']:#.3g}", "outlier" if prediction["outlier"] else ""]
    if "outputs" in prediction:
        rest.append(_short(prediction["outputs"]))
    if "label" not in prediction and "labels" not in prediction:
        return [[str(number), *rest]]
    blank = [""] * len(rest)
    return [
        [str(number) if first else "", one["label"], f"{one['confidence']:.3f}", bar(one["confidence"]), *cells]
        for one, first, cells in _ranked(prediction, rest, blank)
    ]


def _ranked(
    prediction: Mapping[str, Any], rest: Sequence[str], blank: Sequence[str]
) -> list[tuple[Mapping[str, Any], bool, Sequence[str]]]:
    top = prediction.get("labels", prediction.get("top")) or [_NONE if "labels" in prediction else prediction]
    return [(one, index == 0, rest if index == 0 else blank) for index, one in enumerate(top)]


def _short(outputs: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name}: {msgspec.json.encode(value).decode()}" for name, value in outputs.items())
    return text if len(text) <= _LONGEST_OUTPUT else f"{text[:_LONGEST_OUTPUT]}..."
