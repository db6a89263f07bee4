"""`hoverboard journal`: what the journals of a data directory hold, and whether all of it can be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from hoverboard.cli.help import CommandGroup
from hoverboard.cli.output import as_json, console, emit, json_option, table
from hoverboard.cli.target import data_dir as default_data_dir

if TYPE_CHECKING:
    from hoverboard.journal.chunk import Damage
    from hoverboard.journal.inspect import Survey

__all__ = ["command"]

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


def _data_dir(function: Callable[..., None]) -> Callable[..., None]:
    """The data directory, as an argument or, as elsewhere, as an option."""
    argument = click.argument("data_dir", required=False, type=_DIRECTORY)
    option = click.option(
        "--data-dir",
        "option",
        type=_DIRECTORY,
        help="Data directory of the service, instead of DATA_DIR.  [default: data_dir of the settings]",
    )
    return argument(option(function))


@click.group(
    "journal",
    cls=CommandGroup,
    short_help="Look into the journals of a data directory, and check them.",
    examples={
        "What has been journaled, and not yet been deleted": "hoverboard journal inspect data",
        "Whether all of it can be read": "hoverboard journal verify data",
        "The damages as JSON": "hoverboard journal verify data --json",
    },
)
def command() -> None:
    """Look into the journals of a data directory, and check them.

    Journals hold what was answered until it is in Postgres. Both commands only read, and may run beside a server.
    """


@command.command("inspect", examples={"The journals below ./data": "hoverboard journal inspect data"})
@_data_dir
@json_option
def inspect(data_dir: Path | None, option: Path | None, json_: bool | None) -> None:
    """List the journals of DATA_DIR (or of the settings' data directory) and count what they hold."""
    root, found = _surveys(data_dir, option)
    if as_json(json_):
        emit({"journals": [_described(survey) | {"damages": len(survey.damages)} for survey in found]})
    elif found:
        console().print(_listed(found))
    else:
        click.echo(f"No journals in {root}.")


@command.command(
    "verify",
    examples={"The journals below ./data": "hoverboard journal verify data"},
    statuses={"1": "A journal is damaged."},
)
@_data_dir
@json_option
def verify(data_dir: Path | None, option: Path | None, json_: bool | None) -> None:
    """Read every frame of DATA_DIR's journals (or of the settings' data directory), and list what is damaged.

    Checksums are checked, and that no frame is missing between two others. That the end of a journal is missing whose
    writer was killed cannot be seen; an incomplete last frame can.
    """
    root, found = _surveys(data_dir, option)
    damages = [(survey, damage) for survey in found for damage in survey.damages]
    if as_json(json_):
        listed = [
            {"journal": str(survey.info.uuid), "process": survey.info.process, **msgspec.to_builtins(damage)}
            for survey, damage in damages
        ]
        emit({"journals": [_described(survey) for survey in found], "damages": listed})
    else:
        for survey, damage in damages:
            click.echo(
                f"{survey.info.directory.name} ({survey.info.process or 'unknown process'}): {_in_words(damage)}"
            )
        frames = sum(sum(survey.frames.values()) for survey in found)
        records = sum(sum(survey.records.values()) for survey in found)
        click.echo(
            f"{root}: {len(found)} journals, {frames:,} frames with {records:,} records are whole; "
            f"{len(damages)} damages."
        )
    if damages:
        # So that a job notices.
        sys.exit(1)


def _surveys(data_dir: Path | None, option: Path | None) -> tuple[Path, list[Survey]]:
    if data_dir is not None and option is not None:
        raise click.UsageError("give the data directory once, as DATA_DIR or with --data-dir")
    from hoverboard.journal.finding import JOURNALS
    from hoverboard.journal.inspect import surveys

    root = (data_dir or option or default_data_dir()) / JOURNALS
    return root, list(surveys(root))


def _described(survey: Survey) -> dict[str, Any]:
    info = survey.info
    return {
        "journal": str(info.uuid),
        "process": info.process,
        "writer": _writer(survey),
        "segments": len(info.segments),
        "bytes": survey.bytes,
        "frames": sum(survey.frames.values()),
        "frames_by_kind": survey.frames,
        "records": sum(survey.records.values()),
        "records_by_kind": survey.records,
        "pending_gap": msgspec.to_builtins([msgspec.structs.asdict(entry) for entry in survey.pending]),
    }


def _writer(survey: Survey) -> str:
    if survey.info.alive:
        return "alive"
    return "closed" if survey.info.closed else "orphan"


def _listed(found: list[Survey]) -> Any:
    right = ["segments", "MiB", "frames", "damages", "pending gap"]
    rows = [
        [
            str(survey.info.uuid),
            survey.info.process or "[red]unknown[/]",
            _writer(survey),
            f"{len(survey.info.segments)}",
            f"{survey.bytes / 2**20:,.1f}",
            f"{sum(survey.frames.values()):,}",
            "\n".join(f"{kind} {count:,}" for kind, count in survey.records.items() if count) or "none",
            f"[red]{len(survey.damages)}[/]" if survey.damages else "0",
            f"{sum(entry.records for entry in survey.pending):,}",
        ]
        for survey in found
    ]
    names = ["journal", "process", "writer", "segments", "MiB", "frames", "records", "damages", "pending gap"]
    return table(names, rows, right=right)


def _in_words(damage: Damage) -> str:
    place = f"segment {damage.segment}, byte {damage.offset:,}: {damage.reason}, {damage.bytes:,} bytes"
    if damage.frames is None:
        return f"{place}; what was lost with them, if anything, is unknown"
    return f"{place}; frames lost: {damage.frames:,}, records lost: {damage.records:,}"
