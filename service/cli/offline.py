"""`predict --input --output`: the run as a person watches it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hoverboard.cli.framework import load_framework
from hoverboard.cli.output import as_json, console, emit
from hoverboard.cli.target import models_dir
from hoverboard.offline.run import Plan, RunOptions, prepare, run
from hoverboard.offline.workspace import Workspace
from hoverboard.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from hoverboard.offline.job import Summary
    from hoverboard.offline.rows import RowPosition

__all__ = ["score_file"]

_ROWS_LOST: Final = 3
"""Exit status of a finished run whose input held rows that could not be read; the output is there."""


def score_file(model: str, input_: Path, output: Path, json_: bool | None, options: Mapping[str, Any]) -> None:
    """Score a file and print what was done.

    Raises:
        HoverboardError: what was asked for cannot be done, in one sentence.
    """
    run_options = _options(model, input_, output, options)
    workspace = Workspace(output.absolute())
    with workspace.locked():
        plan = prepare(run_options, workspace)
        _say_where_it_begins(plan)
        load_framework()
        logs.configure("warning", process="predict")
        try:
            with _progress(plan) as progress:
                summary = asyncio.run(run(plan, progress))
        except KeyboardInterrupt:
            click.echo("Stopped. The same command goes on from here.", err=True)
            sys.exit(130)
    _report(plan, summary, json_)
    if summary.lost:
        lost = f"{summary.lost:,} row{'' if summary.lost == 1 else 's'} of {input_} could not be read"
        click.echo(f"Error: {lost}. The first: {summary.first_lost}", err=True)
        sys.exit(_ROWS_LOST)


def _options(model: str, input_: Path, output: Path, options: Mapping[str, Any]) -> RunOptions:
    for name in ("url", "deadline_ms"):
        if options[name] is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} is for a server; --input scores in this process")
    return RunOptions(
        model=model,
        input=input_,
        output=output,
        models=options["models"] or models_dir(),
        version=_number(options["version"]),
        top_k=options["top_k"] or 1,
        outputs=options["outputs"],
        keep=options["keep"],
        keep_all=options["keep_all"],
        prefix=options["prefix"],
        strict=options["strict"],
        overwrite=options["overwrite"],
        restart=options["restart"],
        batch_rows=options["batch_rows"],
    )


def _number(version: str | None) -> int | None:
    if version in (None, "stable"):
        return None
    if version.isascii() and version.isdecimal():
        return int(version)
    raise click.UsageError(f"--version {version}: expected a number or stable")


def _say_where_it_begins(plan: Plan) -> None:
    if plan.resumed:
        rows = plan.checkpoint.position.rows
        click.echo(f"Going on after {rows:,} rows with version {plan.checkpoint.version}.", err=True)


@contextmanager
def _progress(plan: Plan) -> Iterator[Callable[[RowPosition], None]]:
    """A bar on stderr where that is a terminal, else nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    total = plan.source.total
    columns = (
        TextColumn(f"{plan.options.model} {plan.checkpoint.version}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    terminal = console(stderr=True)
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("", total=total, rows=plan.checkpoint.position.rows)
        yield lambda position: bar.update(task, completed=plan.source.reached(position), rows=position.rows)


def _report(plan: Plan, summary: Summary, json_: bool | None) -> None:
    scored = summary.rows - summary.resumed_at
    rate = round(scored / summary.seconds) if summary.seconds else None
    if as_json(json_):
        emit(
            {
                "model": plan.options.model,
                "version": plan.checkpoint.version,
                "output": str(plan.options.output),
                "rows": summary.rows,
                "errors": summary.faults,
                "unreadable": summary.lost,
                "resumed_at": summary.resumed_at,
                "seconds": round(summary.seconds, 3),
                "rows_per_s": rate,
            }
        )
        return
    click.echo(f"{summary.rows:,} rows in {plan.options.output}, {summary.faults:,} of them with an error.")
    click.echo(f"This run: {scored:,} rows in {summary.seconds:.1f} s ({rate or 0:,} rows/s).")
