"""`hoverboard label`: say what samples truly were."""

from __future__ import annotations

import itertools
import math
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, emit, json_option
from hoverboard.errors import ConfigError, HoverboardError, UnknownMethod, Unreachable

__all__ = ["command"]

_AT_ONCE: Final = 1000
_PLACE: Final = re.compile(r"/labels/(\d+)(?:/(.*))?")


@click.command(
    "label",
    cls=Command,
    short_help="Say what samples truly were.",
    examples={
        "A class, as somebody of support says": (
            "hoverboard label 0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718 --label chair --source support --author Ada"
        ),
        "All labels that hold, for a multi-label model (--none where none does)": (
            "hoverboard label 0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718 --label toys --label vehicles"
        ),
        "A number, for a regression": "hoverboard label 0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718 --value 326.5",
        "Many, one JSON object a line": "hoverboard label @labels.jsonl --source relabelling-2026-03",
        "From a pipe": (
            'printf \'{"sample_id": "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718", "label": "chair"}\\n\' | hoverboard label -'
        ),
    },
)
@click.argument("sample_id", metavar="SAMPLE_ID|-|@FILE")
@click.option("--label", multiple=True, help="What it truly was: a class; several times where several labels hold.")
@click.option("--none", "none", is_flag=True, help="None of a multi-label model's labels holds.")
@click.option("--value", type=float, help="What it truly was: a number.")
@click.option("--source", help="Who says so; the newest label of a sample and source counts.  [default: api]")
@click.option("--author", help="The person who says so.")
@click.option("--url", help="The server.  [default: http://HOST:PORT of the settings]")
@json_option
def command(
    sample_id: str,
    label: tuple[str, ...],
    *,
    none: bool,
    value: float | None,
    url: str | None,
    json_: bool | None,
    **by: str | None,
) -> None:
    """Say what a sample truly was, under the SAMPLE_ID that its prediction came with. Weeks later will do.

    `-` reads stdin, @FILE a file: one JSON object a line, with `sample_id` and either `label` or `value`. A multi-label
    model takes a list of all labels that hold as `label`. `source` and `author` are needed only where they differ from
    --source and --author. Lines are sent by the thousand, and each thousand is taken as a whole or refused as a whole.
    The same labels may be sent again without harm.
    """
    from hoverboard.cli.target import connected, public_url

    several = sample_id == "-" or sample_id.startswith("@")
    truths = bool(label) + none + (value is not None)
    if several and truths:
        raise click.UsageError("--label, --none and --value are for one SAMPLE_ID; lines have their own")
    if not several and truths != 1:
        raise click.UsageError("give --label or --value; or --none, where no label of a multi-label model holds")
    if value is not None and not math.isfinite(value):
        raise click.UsageError("--value: expected a finite number")
    by_whom = {name: text for name, text in by.items() if text is not None}
    with connected(url or public_url()) as client:
        if several:
            accepted = _many(client, sample_id, by_whom)
        else:
            said_labels = label[0] if len(label) == 1 else list(label)
            truth = {"label": said_labels} if value is None else {"value": value}
            accepted = _call(client, {"sample_id": sample_id, **truth, **by_whom})
    if as_json(json_):
        emit({"accepted": accepted})
    else:
        click.echo(f"Accepted {accepted} label{'' if accepted == 1 else 's'}.")


def _many(client: Any, argument: str, by_whom: dict[str, str]) -> int:
    """Send every line of a file or of stdin; answers how many were accepted."""
    accepted = 0
    chunk: list[tuple[int, Any]] = []
    with _opened(argument) as (lines, name):
        rows = _rows(lines, name)
        try:
            # The most that one call takes; and each call is taken or refused as a whole, so that a line can be named.
            while chunk := list(itertools.islice(rows, _AT_ONCE)):
                accepted += _call(client, {"labels": [row for _, row in chunk], **by_whom})
        except HoverboardError as error:
            if isinstance(error, Unreachable) and not accepted:
                raise  # about no line, and there is nothing to add
            raise _placed(error, name, [number for number, _ in chunk], accepted) from error
    if not accepted:
        raise ConfigError(f"{name}: holds no label")
    return accepted


def _call(client: Any, params: dict[str, Any]) -> int:
    try:
        answer: dict[str, int] = client.call("label", params)
    except UnknownMethod as error:
        raise ConfigError(f"{client.url} takes no labels: it serves with recording = off") from error
    return answer["accepted"]


def _placed(error: HoverboardError, name: str, numbers: list[int], accepted: int) -> HoverboardError:
    """An error that says which line it is about, and how much was accepted before it."""
    before = f"; the first {accepted} labels were accepted" if accepted else ""
    details = getattr(error, "details", None) or {}
    place = _PLACE.fullmatch(str(details.get("pointer", "")))
    if place is None:
        return HoverboardError(f"{error}{before}")
    member = f": {place[2]}" if place[2] else ""
    reason = f"expected {details.get('expected')}, got {details.get('got')}"
    return ConfigError(f"{name}, line {numbers[int(place[1])]}{member}: {reason}{before}")


@contextmanager
def _opened(argument: str) -> Iterator[tuple[IO[bytes], str]]:
    if argument == "-":
        yield sys.stdin.buffer, "stdin"
        return
    path = Path(argument[1:])
    try:
        with path.open("rb") as file:
            yield file, str(path)
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or '').lower()}") from error


def _rows(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, Any]]:
    """Each line that is not blank, decoded, with its number from 1."""
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            yield number, msgspec.json.decode(line.removeprefix(BOM_UTF8) if number == 1 else line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}, line {number}: {error}") from error
