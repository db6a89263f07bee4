"""`hoverboard replay`: what another version would have said to what was recorded."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from hoverboard.cli.framework import load_as_guest
from hoverboard.cli.help import Command
from hoverboard.cli.numbers import NUMBER
from hoverboard.cli.output import as_json, console, emit, json_option, plain, table
from hoverboard.cli.steps import steps
from hoverboard.cli.target import data_dir_option, database_url_option
from hoverboard.cli.window import EVERYTHING, choice_of, choice_options, window_of, window_options
from hoverboard.config import Settings
from hoverboard.errors import ConfigError

if TYPE_CHECKING:
    from hoverboard.postmortem.replay_result import ReplayResult

__all__ = ["command"]

_GATE_HOLDS: Final = 3
_STEPS: Final = {
    "read": "Reading samples",
    "incumbent": "The incumbent again",
    "candidate": "The candidate",
    "compare": "Comparing",
}


@click.command(
    "replay",
    cls=Command,
    short_help="Compare versions on recorded samples.",
    examples={
        "What version 3 would have said to the last day's samples": "hoverboard replay products --candidate 3",
        "A gate for CI: status 3 where more than 0.5% of the labelled samples break": (
            "hoverboard replay products --candidate 3 --labelled --fail-if 'broken>0.5%'"
        ),
        "An incident, on the version before; what became of each sample to a file": (
            "hoverboard replay products --candidate 1 --from 2026-11-30T07:00 --to 2026-11-30T08:00 --output incident.parquet"
        ),
    },
    statuses={
        "3": "A condition of --fail-if holds; stderr says which.",
        "130": "Stopped by Ctrl-C; the same command goes on from there.",
    },
)
@click.argument("model")
@click.option("--candidate", required=True, type=NUMBER, help="The version that is in question.")
@click.option(
    "--incumbent",
    type=NUMBER,
    help="The only version it is compared with.  [default: for each sample the one that answered it]",
)
@window_options
@choice_options
@click.option(
    "--noise-runs", type=click.IntRange(0, 20), default=1, show_default=True, help="How often the incumbent runs again."
)
@click.option(
    "--fail-if",
    multiple=True,
    metavar="CONDITION",
    help="Such as 'broken>0.5%' or 'differs>=10': then status 3. Repeatable.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the result as a page, too.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="A .parquet file: what became of each sample."
)
@click.option("--models", type=click.Path(path_type=Path), help="Models directory.  [default: models]")
@click.option(
    "--workspace",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what a killed run goes on with.  [default: below replays/ in the data directory]",
)
@click.option("--restart", is_flag=True, help="Throw away what an unfinished run left.")
@database_url_option
@data_dir_option
@json_option
def command(
    *,
    model: str,
    from_: str | None,
    to: str | None,
    where: tuple[str, ...],
    fail_if: tuple[str, ...],
    html: Path | None,
    output: Path | None,
    models: Path | None,
    workspace: Path | None,
    restart: bool,
    database_url: str | None,
    data_dir: Path | None,
    json_: bool | None,
    **options: Any,
) -> None:
    """Run recorded samples of MODEL through another version, and through those that answered them again.

    Each sample is told by kind: fixed or broken where a label says what is right, changed, the same, or noise, where the version that answered
    differs from its own record. Each is compared with the version that answered it; what the candidate answered itself is left out. Samples are held to the contracts and run by the code that serves, in this process, which gives way to others. A
    killed run goes on when the same command is run again, to the same answer.

    Without --from it is the last day; with --labelled or --issue all that is kept. The service may run or not; Postgres must. The result is
    kept in the table `replays` where the login may write.
    """
    from hoverboard.backends.backend import require_framework

    require_framework("hoverboard replay")
    from hoverboard.postmortem.replay_gate import parse_gate

    gates = [parse_gate(text) for text in fail_if]
    if output is not None and output.suffix.lower() not in (".parquet", ".pq"):
        raise ConfigError(f"{output}: the extension must be .parquet")
    for path in (html, output):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"there is no folder {path.absolute().parent} to write {path.name} to")
    settings = Settings.load(data_dir=data_dir, database_url=database_url, models=models)
    job = {"model": model, "from": from_, "to": to, "where": sorted(where), **options}
    result = _run(settings, job, workspace, output, restart=restart)
    kept = _kept(settings, result)
    if html is not None:
        from hoverboard.postmortem.replay_rendering import as_html
        from hoverboard.postmortem.written import write_page

        write_page(html, as_html(result))
    _show(result, kept, json_)
    holding = [gate.text for gate in gates if gate.holds(result)]
    if holding:
        click.echo(f"Error: --fail-if holds: {', '.join(holding)}", err=True)
        sys.exit(_GATE_HOLDS)


def _run(
    settings: Settings, job: Mapping[str, Any], workspace: Path | None, output: Path | None, *, restart: bool
) -> ReplayResult:
    from hoverboard.postmortem.export import blanked_inputs
    from hoverboard.postmortem.replay import Replay, ReplayRequest
    from hoverboard.postmortem.unfinished import gone_on_with
    from hoverboard.postmortem.written import room_for
    from hoverboard.recorder.erasure.work_files import REPLAYS

    whole = job["labelled"] or job["issue"] is not None
    window = window_of(
        job["model"], job["from"], job["to"], job["where"], since=EVERYTHING if whole else timedelta(days=1)
    )
    request = ReplayRequest(
        window=window,
        models=settings.models,
        candidate=job["candidate"],
        incumbent=job["incumbent"],
        choice=choice_of(job),
        noise_runs=job["noise_runs"],
        blanked=blanked_inputs(settings.models, job["model"]),
        job=job,
    )
    folder = workspace or settings.data_dir / REPLAYS / hashlib.sha256(msgspec.json.encode(job)).hexdigest()[:16]
    load_as_guest("replay")
    with steps(_STEPS) as report:
        replay = Replay(settings, request, folder, report)
        try:
            with room_for(folder, "the same command goes on from there"), gone_on_with(folder, "--workspace"):
                return asyncio.run(replay.run(output, restart=restart))
        except KeyboardInterrupt:
            click.echo("Stopped. The same command goes on from here.", err=True)
            sys.exit(130)


def _kept(settings: Settings, result: ReplayResult) -> int | None:
    """The id of its row in `replays`; None, and said why, where there is none."""
    from hoverboard.postmortem.replay_store import keep

    kept = asyncio.run(keep(settings, result))
    if isinstance(kept, int):
        return kept
    click.echo(f"Not kept in the table replays: {kept}", err=True)
    return None


def _show(result: ReplayResult, kept: int | None, json_: bool | None) -> None:
    if as_json(json_):
        emit({"replay": kept, **result.builtins()})
        return
    from hoverboard.postmortem.replay_rendering import sections, sentences

    for sentence in sentences(result):
        click.echo(sentence)
    for section in sections(result):
        click.echo(f"\n{section.title}")
        names = [name.removeprefix("#") for name in section.columns]
        numbers = [name.removeprefix("#") for name in section.columns if name.startswith("#")]
        console().print(table(names, plain(section.rows), right=numbers))
    if kept is not None:
        click.echo(f"\nKept as replay {kept}.")
