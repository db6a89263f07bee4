"""`hoverboard erase`: what was recorded of a sample, of a subject, or of a time."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, emit, json_option
from hoverboard.cli.target import data_dir_option, database_url_option, whoever_asks
from hoverboard.config import Settings
from hoverboard.errors import DatabaseUnavailable, HoverboardError

if TYPE_CHECKING:
    from hoverboard.recorder.erasure.erase import ErasureRequest
    from hoverboard.recorder.erasure.everywhere import ErasureReport

__all__ = ["command"]

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE: Final = re.compile(r"(\d{1,6})([mhdw])")
_FILES: Final = (
    "Files: exports, pages and other files that commands wrote, finished or not, lie where somebody wanted them, and so do versions "
    "that were published from them: nobody can find them from here. An export that is gone on with leaves out what was erased; an "
    "unfinished one that nobody goes on with is a hidden folder beside its files."
)
_POSTGRES: Final = (
    "Postgres: deleted rows stay in its files until it vacuums them, and in its write-ahead log and your backups for "
    "as long as you keep those."
)
_OLDEST: Final = timedelta(days=36_500)


class _Age(click.ParamType[timedelta]):
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _AGE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r}: expected a number and a unit, such as 90m, 12h, 30d or 8w", param, ctx)
        age = timedelta(**{_UNITS[match[2]]: int(match[1])})
        if age > _OLDEST:
            self.fail(f"{value!r}: expected at most {_OLDEST.days}d; nothing that was recorded is older", param, ctx)
        return age


class _Tag(click.ParamType[tuple[str, str]]):
    name = "tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, subject = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r}: expected NAME=VALUE, such as customer=17", param, ctx)
        if not _is_text(f"{key}{subject}"):
            self.fail(f"{value!r}: expected UTF-8 without NUL, as every recorded tag is", param, ctx)
        return key, subject


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8
        return False


@click.command(
    "erase",
    cls=Command,
    short_help="Erase what was recorded of a sample, a subject or a time.",
    examples={
        "What would go, before it goes": 'hoverboard erase --tag customer=17 --reason "asked to be forgotten" --dry-run',
        "One sample": 'hoverboard erase --sample 0198f2f0-7c1b-7a52-9d0e-3f6f3c1f9a11 --reason "ticket 4711"',
        "Everything that was tagged with this customer": 'hoverboard erase --tag customer=17 --reason "asked to be forgotten"',
        "Everything of one model that is older than thirty days": (
            'hoverboard erase --older-than 30d --model digits --reason "end of the trial"'
        ),
    },
    statuses={"1": "It failed, or the question was answered with no: nothing was erased."},
)
@click.option("--sample", type=click.UUID, metavar="ID", help="A sample_id, as the client was told.")
@click.option(
    "--tag", type=_Tag(), metavar="NAME=VALUE", help="A tag of predict calls: a subject's key, such as customer=17."
)
@click.option("--older-than", type=_Age(), metavar="AGE", help="Everything older than this: 90m, 12h, 30d or 8w.")
@click.option("--model", help="Only of this model; with --tag or --older-than.")
@click.option("--reason", required=True, help="Why. It is kept, so do not name the subject in it.")
@click.option("--dry-run", is_flag=True, help="Say what would be erased, and erase nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; without a terminal nobody is asked.")
@database_url_option
@data_dir_option
@json_option
def command(
    *,
    sample: UUID | None,
    tag: tuple[str, str] | None,
    older_than: timedelta | None,
    model: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
    data_dir: Path | None,
    database_url: str | None,
    json_: bool | None,
) -> None:
    """Erase samples, their predictions, outliers and labels, and refused calls.

    Rows are deleted at once, in one transaction. A tombstone stays that names no subject: what was answered before it
    and is not in Postgres yet is erased when it comes. Journal files that hold copies go as soon as they are
    drained. The service may run or not; Postgres must.
    """
    if sum(choice is not None for choice in (sample, tag, older_than)) != 1:
        raise click.UsageError("give just one of --sample, --tag and --older-than")
    if not reason.strip():
        raise click.UsageError("--reason is empty: say why; it is kept with the erasure")
    if sample is not None and model is not None:
        raise click.UsageError("--model goes with --tag or --older-than: a sample is of one model")
    # Late, as everything that needs Postgres: `--help` works where its client is missing.
    from hoverboard.recorder.erasure.erase import ErasureRequest

    now = datetime.now(UTC)
    # A moment from here on: the time that a person takes to confirm must not move it.
    before = None if older_than is None else now - older_than
    request = ErasureRequest(sample_id=sample, tag=tag, before=before, model=model, actor=whoever_asks(), reason=reason)
    settings = Settings.load(data_dir=data_dir, database_url=database_url)
    # Without a terminal nobody can be asked; a job that erases has decided already.
    if not (dry_run or yes) and sys.stdin.isatty() and sys.stderr.isatty():
        click.echo(_would(asyncio.run(_erase(settings, request, dry_run=True))), err=True)
        if not click.confirm("Erase this? It cannot be undone", err=True):
            click.echo("Nothing was erased.", err=True)
            sys.exit(1)
    report = asyncio.run(_erase(settings, request, dry_run=dry_run))
    if as_json(json_):
        emit(_values(report, dry_run=dry_run))
    else:
        click.echo(_would(report) if dry_run else "\n".join(_sentences(report)))


async def _erase(settings: Settings, request: ErasureRequest, *, dry_run: bool) -> ErasureReport:
    from hoverboard.database.address import database_url
    from hoverboard.recorder.erasure.everywhere import erase_everywhere

    try:
        return await erase_everywhere(database_url(settings), settings.data_dir, request, dry_run=dry_run)
    except HoverboardError as error:
        raise DatabaseUnavailable(f"nothing was erased: {error}") from error


def _values(report: ErasureReport, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "erasure": None if dry_run else report.erased.id,
        "at": report.erased.at,
        "database": report.place,
        "rows": dict(report.erased.rows),
        "quarantined_files_removed": report.quarantined,
        "unfinished_replays_removed": [str(path) for path in report.work.removable],
        "unfinished_replays_running": [str(path) for path in report.work.running],
        "unfinished_replays_left": [str(path) for path in report.work.left],
        "kept_replays_changed": report.erased.replays,
        "mentions": [{"table": table, "id": id_} for table, id_ in report.erased.mentions],
        "journal_files": report.journal_files,
        "journal_bytes": report.journal_bytes,
        "remains": _remains(report),
    }


def _would(report: ErasureReport) -> str:
    journals = ""
    if report.journal_files:
        journals = (
            f" What is still in {report.journal_files} journal file(s) ({report.journal_bytes} bytes) is not counted; it "
            "goes when it is drained."
        )
    return (
        f"In {report.place} this would delete {sum(report.erased.rows.values())} rows ({_parts(report)}), and remove "
        f"{report.quarantined} quarantined file(s) and {len(report.work.removable)} unfinished replay(s).{journals}"
    )


def _parts(report: ErasureReport) -> str:
    return ", ".join(f"{count} {table}" for table, count in report.erased.rows.items())


def _sentences(report: ErasureReport) -> Sequence[str]:
    rows = report.erased.rows
    parts = _parts(report)
    done = f"Erasure {report.erased.id} in {report.place}: deleted {sum(rows.values())} rows ({parts})."
    if report.quarantined:
        done += f" Removed {report.quarantined} quarantined file(s)."
    if report.work.removable:
        done += f" Removed {len(report.work.removable)} unfinished replay(s): run again, they begin anew."
    if report.erased.replays:
        done += f" Forgot whose samples {report.erased.replays} kept replay(s) were about."
    return [done, *_remains(report)]


def _remains(report: ErasureReport) -> list[str]:
    """What is not gone yet, and when it goes or who removes it."""
    return [*_journals(report), *_replays(report), *_texts(report), _FILES, _POSTGRES]


def _journals(report: ErasureReport) -> Iterator[str]:
    if not report.journal_bytes:
        return
    yield (
        f"Journals: {report.journal_bytes} bytes of files may hold copies. A file goes as soon as it is complete and the "
        "recorder has drained it: about ten minutes after its first record, while the service and Postgres run."
    )


def _replays(report: ErasureReport) -> Iterator[str]:
    running, left = (", ".join(map(str, paths)) for paths in (report.work.running, report.work.left))
    if running:
        yield (
            f"Replays that run now hold copies in {running}. They leave out what was erased before they say anything, and "
            "remove their files when they end."
        )
    if left:
        yield f"Replays: {left} could not be looked into, or not be removed. Remove it as the user who ran the replay."


def _texts(report: ErasureReport) -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for table, id_ in report.erased.mentions:
        places.setdefault(table, []).append(id_)
    if places:
        where = "; ".join(f"{table} where id in ({', '.join(ids)})" for table, ids in places.items())
        yield (
            f"Texts: somebody wrote this value into the column reason of {where}. Nobody changes what people wrote: as the owner "
            "of the schema, `update` it by hand."
        )
