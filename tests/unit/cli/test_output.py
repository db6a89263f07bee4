from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hoverboard.cli.descriptions import described, described_model
from hoverboard.cli.output import bar, plain, table
from hoverboard.cli.predictions import drawn


def text(drawing: Any) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    console.print(drawing)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def result(*predictions: dict[str, Any]) -> dict[str, Any]:
    timing = {"queue_ms": 0.12, "infer_ms": 1.0, "batch": 2}
    return {"model": "m", "version": 3, "predictions": list(predictions), "timing": timing}


@pytest.mark.parametrize(
    ("least", "shown"), [(5, "min_length 5"), ([3, 12], "min_length [3, 12]"), (0, ""), (None, "")]
)
def test_the_least_length_is_shown_as_a_limit(least: Any, shown: str) -> None:
    spec = {"name": "picture", "dtype": "float32", "shape": [None, None, 3], "min_length": least, "allowed": None}
    lines = text(described({"task": "raw", "inputs": [spec], "outputs": []})).splitlines()
    assert lines[-1].partition("any x any x 3")[2].strip() == shown


def test_classes_are_listed_below_their_instance() -> None:
    top = [{"label": "chair", "confidence": 0.75}, {"label": "[red]", "confidence": 0.25}]
    lines = text(drawn(result({"label": "chair", "confidence": 0.75, "top": top}))).splitlines()
    assert lines[0].split() == ["#", "label", "confidence"]
    assert lines[2].split() == ["0", "chair", "0.750", "███████████████"]
    assert lines[3].split() == ["[red]", "0.250", "█████"]
    assert lines[-1] == "m version 3: waited 0.1 ms, ran 1.0 ms in a batch of 2"


def test_values_and_outputs_have_their_columns() -> None:
    lines = text(drawn(result({"value": 1234.5678}, {"value": 2.0}))).splitlines()
    assert [line.split() for line in lines[2:4]] == [["0", "1234.57"], ["1", "2"]]
    assert "y: [1,2]" in text(drawn(result({"outputs": {"y": [1, 2]}})))
    assert "..." in text(drawn(result({"outputs": {"y": list(range(1000))}})))


def test_p_values_and_outliers_are_shown_where_the_version_is_calibrated() -> None:
    usual = {"label": "chair", "confidence": 0.75, "p_value": 0.5, "outlier": False}
    strange = {"label": "tin", "confidence": 0.5, "p_value": 0.00019, "outlier": True}
    lines = text(drawn(result(usual, strange))).splitlines()
    assert lines[0].split() == ["#", "label", "confidence", "p_value", "outlier"]
    assert lines[2].split() == ["0", "chair", "0.750", "███████████████", "0.500"]
    assert lines[3].split() == ["1", "tin", "0.500", "██████████", "0.000190", "outlier"]
    value = {"value": 2.0, "p_value": 0.001, "outlier": True}
    assert text(drawn(result(value))).splitlines()[2].split() == ["0", "2", "0.00100", "outlier"]
    plain = {"value": 2.0, "p_value": None, "outlier": None}
    assert text(drawn(result(plain))).splitlines()[0].split() == ["#", "value"]


@pytest.mark.parametrize("share, drawing", [(0, ""), (0.5, "██"), (1, "████"), (2, "████"), (-1, ""), (1 / 32, "▏")])
def test_a_bar_is_as_long_as_its_share(share: float, drawing: str) -> None:
    assert bar(share, 4) == drawing


def version(**changes: Any) -> dict[str, Any]:
    spec = {"name": "pixels", "dtype": "float32", "shape": [None, 64], "min": 0, "max": 16, "allowed": None}
    base = {
        "version": 2,
        "state": "live",
        "reason": None,
        "task": "classification",
        "inputs": [spec],
        "outputs": [{"name": "p", "dtype": "float32", "shape": [], "allowed": ["a", 1]}],
        "labels": ["[bold]zero", "one"],
        "executor": "tf",
        "buckets": [{"size": 1, "mean_ms": 0.25, "p99_ms": 0.5}],
        "pinned": True,
        "memory_bytes": 2**21,
        "load_ms": 1500.0,
    }
    return {**base, **changes}


def model(*versions: dict[str, Any], problem: str | None = None) -> dict[str, Any]:
    return {"name": "digits", "roles": {"stable": 2}, "problem": problem, "versions": list(versions)}


def test_a_version_shows_its_contract_its_labels_and_its_costs() -> None:
    shown = text(described_model(model(version())))
    for words in (
        "digits: stable 2",
        "version 2: live, pinned",
        "any x 64",
        "min 0, max 16",
        "scalar",
        "one of a, 1",
        "2 labels: [bold]zero, one",
        "runs by tf; 2.00 MiB of weights; loaded in 1.5 s",
    ):
        assert words in shown
    assert "1     0.250    0.500" in shown


def test_a_refused_version_shows_why_and_nothing_else() -> None:
    refused = version(
        state="refused", reason="model.keras: sha256 differs", pinned=False, task=None, inputs=[], outputs=[]
    )
    shown = text(described_model(model(refused, problem="stable version 2 is refused")))
    assert "version 2: refused: model.keras: sha256 differs" in shown
    assert "stable version 2 is refused" in shown
    assert "task" not in shown


def test_an_input_that_may_be_missing_says_so_among_its_limits() -> None:
    spec = {"name": "age", "dtype": "float32", "shape": [], "min": 0, "finite": False}
    lines = text(described({"task": "raw", "inputs": [spec], "outputs": []})).splitlines()
    assert lines[-1].endswith("min 0, may be missing")


def test_numbers_stay_whole_where_a_terminal_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ["model", "version", "alarm", "flagged now", "bound", "e-value", "samples", "repeats"]
    row = ["the-model-of-the-topics", "12", "[red]raised[/]", "12.34%", "2.00%", "10^1234.5", "12,345,678", "1,234,567"]
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(table(names, [row], right=names[3:]))
    words = console.file.getvalue().split()  # type: ignore[attr-defined]
    assert {"raised", "12.34%", "10^1234.5", "12,345,678", "1,234,567"} <= set(words)


def test_a_table_too_wide_for_its_terminal_loses_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    names = [f"n{number}" for number in range(6)]
    console = Console(file=io.StringIO(), width=40, highlight=False)
    console.print(table(names, [["x" * 20, *["123,456,789"] * 5]], right=names[1:]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(name in shown for name in names)
    assert shown.count("x") == 20


def test_what_somebody_else_wrote_is_no_markup_and_reaches_no_terminal() -> None:
    assert plain([["see [/] here", "\x1b]0;title\x07", "stühle"]]) == [["see \\[/] here", "�]0;title�", "stühle"]]
