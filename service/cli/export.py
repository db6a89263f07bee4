"""`hoverboard export`: recorded samples as Parquet files, for the next training, calibration or look."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, emit, json_option
from hoverboard.cli.steps import steps
from hoverboard.cli.target import data_dir_option, database_url_option
from hoverboard.cli.window import EVERYTHING, choice_of, choice_options, window_of, window_options
from hoverboard.config import Settings

__all__ = ["command"]


@click.command(
    "export",
    cls=Command,
    short_help="Write recorded samples as Parquet files.",
    examples={
        "What was asked in the last day, and what was answered": "hoverboard export digits --output digits-today",
        "All that somebody labelled, as a calibration file": "hoverboard export digits --labelled --output digits-labelled",
        "What a calibration should not hold left out: an incident's issue, and what one client sent": (
            "hoverboard export digits --labelled --without-issue 3 --where 'tag.customer!=17' --output digits-usual"
        ),
        "One customer's samples of an hour": (
            "hoverboard export digits --from 2026-11-30T07:00 --to 2026-11-30T08:00 --where tag.customer=17 --output digits-17"
        ),
    },
    statuses={"130": "Stopped by Ctrl-C; the same command goes on from there."},
)
@click.argument("model")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder for the files."
)
@window_options
@choice_options
@click.option("--incomplete", is_flag=True, help="Also samples whose inputs were redacted or hashed: null there.")
@click.option(
    "--models", type=click.Path(path_type=Path), help="Models directory, for what it redacts.  [default: models]"
)
@click.option("--overwrite", is_flag=True, help="Replace an export that is there already.")
@click.option("--restart", is_flag=True, help="Throw away what an unfinished run left.")
@database_url_option
@data_dir_option
@json_option
def command(
    *,
    model: str,
    output: Path,
    from_: str | None,
    to: str | None,
    where: tuple[str, ...],
    database_url: str | None,
    data_dir: Path | None,
    models: Path | None,
    overwrite: bool,
    restart: bool,
    json_: bool | None,
    **options: Any,
) -> None:
    """Write recorded samples of MODEL as Parquet files, in the types of its inputs.

    The folder then holds inputs.parquet, which `predict --input` and `publish --calibration` take as it is, and answers.parquet with the
    same rows in the same order: what was answered and when, labels, tags, and `incl_prob`, of which 1 / incl_prob says
    for how many samples a row stands. export.json says what was meant and what was left out. With --labelled the label is a column of inputs.parquet.

    A version learns to take for normal what it is calibrated on. So leave out what it should find strange: --without-issue for an incident,
    'tag.NAME!=VALUE' for a client, --without-outliers for all that was found strange.

    Without --from it is the last day; with --labelled or --issue all that is kept. Redacted inputs stay redacted: samples without all of their
    inputs are left out and counted. The service may run or not; Postgres must. A killed run continues when the same command is run
    again.
    """
    from hoverboard.postmortem.export import Exporter, ExportRequest, blanked_inputs, versions_with_the_same_inputs
    from hoverboard.postmortem.unfinished import gone_on_with
    from hoverboard.postmortem.written import room_for

    settings = Settings.load(data_dir=data_dir, database_url=database_url, models=models)
    whole = options["labelled"] or options["issue"] is not None
    request = ExportRequest(
        window=window_of(model, from_, to, where, since=EVERYTHING if whole else timedelta(days=1)),
        choice=choice_of(options),
        incomplete=options["incomplete"],
        blanked=blanked_inputs(settings.models, model),
        job={"model": model, "from": from_, "to": to, "where": sorted(where), **options},
    )
    with steps({"read": "Reading samples"}) as report:
        exporter = Exporter(
            settings, request, output, versions_with_the_same_inputs, lambda share: report("read", share)
        )
        try:
            with room_for(output, "the same command goes on from there"), gone_on_with(exporter.work, "--output"):
                summary = asyncio.run(exporter.run(overwrite=overwrite, restart=restart))
        except KeyboardInterrupt:
            click.echo("Stopped. The same command goes on from here.", err=True)
            sys.exit(130)
    from hoverboard.publishing.exported import largest

    if as_json(json_):
        emit({"output": str(output), **_members(summary)})
        return
    click.echo(f"{summary.rows:,} samples in {output}.")
    for reason, rows in summary.left_out.items():
        click.echo(f"Left out: {rows:,}, {reason}.")
    for state, issues in (("open", summary.open_issues), ("resolved", summary.resolved_issues)):
        if issues:
            named, told = largest(issues)
            without = " ".join(f"--without-issue {issue}" for issue in named)
            which = "them" if len(named) == len(issues) else "the largest"
            click.echo(f"Among them are outliers of {state} issues, {told}; {without} leaves {which} out.")
    if summary.other_versions:
        others = ", ".join(map(str, summary.other_versions))
        click.echo(
            f"Left out: what was answered by {others}, which take other inputs; --where version={summary.other_versions[-1]}."
        )


def _members(summary: Any) -> dict[str, Any]:
    import msgspec

    members: dict[str, Any] = msgspec.to_builtins(summary)
    return members
