"""`hoverboard gaps`: what is missing from the tables, why, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, console, emit, json_option, table
from hoverboard.cli.target import data_dir_option, database_url_option
from hoverboard.config import Settings

__all__ = ["NEXT_STEPS", "command"]

NEXT_STEPS: Final = {
    "journal budget": "Postgres was away or too slow: see `hoverboard_recorder_connected`, or raise journal_budget_mb.",
    "journal cannot be written": "The service's disk is full or broken: make room where the data directory is.",
    "redact": "serving.toml hides something that the model does not have: `hoverboard models` says what.",
    "quarantined": "Postgres never takes these: the files are below the data directory, the reasons in the table quarantine.",
    "expired": "They came after retention_days: raise it, or let the recorder run more often.",
    "damaged": "The service's disk has changed what was written: `hoverboard journal verify`, and look at the disk.",
    "missing": "Journal files were lost or removed: do not touch the journal directory.",
    "removed by hand": "Somebody removed or emptied a journal's files: do not touch them, erase with `hoverboard erase`.",
    "torn": "A process was killed as it wrote; no client saw the answer. Nothing to do.",
    "duplicate": "Bytes that were there twice. Nothing is lost.",
}
"""What to do, by the reason of a gap."""


@click.command(
    "gaps",
    cls=Command,
    short_help="List what is missing from the tables, why, and what to do.",
    examples={
        "What was lost in the last week": "hoverboard gaps",
        "In the last day, as JSON": "hoverboard gaps --days 1 --json",
    },
)
@click.option("--days", type=click.IntRange(1, 3650), default=7, show_default=True, help="How far to look back.")
@database_url_option
@data_dir_option
@json_option
def command(*, days: int, database_url: str | None, data_dir: Path | None, json_: bool | None) -> None:
    """List what is missing from the tables: records that were shed, lost, refused by Postgres or came too late.

    One line a reason, model and version, with the last detail and what to do next. The service may run or not; Postgres must.
    """
    gaps = asyncio.run(_read(Settings.load(data_dir=data_dir, database_url=database_url), days))
    if as_json(json_):
        emit({"gaps": gaps})
    elif gaps:
        console().print(_listed(gaps))
        for reason in dict.fromkeys(gap["reason"] for gap in gaps):
            click.echo(f"{reason}: {_next(reason)}")
    else:
        click.echo(f"Nothing is missing from the last {days} days.")


def _next(reason: str) -> str:
    otherwise = 'See "What is missing?" on the documentation page "Ask the database: is the record whole?".'
    return NEXT_STEPS.get(reason.removeprefix("rejections: "), otherwise)


async def _read(settings: Settings, days: int) -> list[dict[str, Any]]:
    from hoverboard.database.address import database_url
    from hoverboard.database.connect import connected
    from hoverboard.database.migrate import require_current
    from hoverboard.recorder.gaps import list_gaps

    async with connected(database_url(settings), application="hoverboard gaps", role=None) as connection:
        await require_current(connection)
        rows = await list_gaps(connection, days)
    return [dict(row) | {"next": _next(row["reason"])} for row in rows]


def _listed(gaps: Sequence[dict[str, Any]]) -> Any:
    names = ["reason", "model", "version", "records", "gaps", "last", "detail"]
    rows = [
        [
            gap["reason"],
            gap["model"] or "",
            "" if gap["version"] is None else str(gap["version"]),
            "unknown" if gap["records"] is None else f"{gap['records']:,}",
            f"{gap['gaps']:,}",
            f"{gap['last']:%Y-%m-%d %H:%M} UTC",
            gap["detail"] or "",
        ]
        for gap in gaps
    ]
    return table(names, rows, right=["version", "records", "gaps"])
