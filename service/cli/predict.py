"""`hoverboard predict`: ask a server, or score a file in this process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, console, emit, json_option
from hoverboard.errors import ConfigError

__all__ = ["command"]


@click.command(
    "predict",
    cls=Command,
    short_help="Ask a server for predictions, or score a whole file without one.",
    examples={
        "A text; what is no JSON is taken as text": "hoverboard predict products 'a chair with a high back'",
        "The three likeliest classes": "hoverboard predict products 'a tin whistle' --top-k 3",
        "A request, params or a list of instances in a file": "hoverboard predict digits @examples/digits/request.json",
        "One instance a line from a pipe": "tail -n 5 rows.jsonl | hoverboard predict digits -",
        "Score a file without a server; run it again to go on after a kill": (
            "hoverboard predict digits --input rows.parquet --output scored.parquet --keep id"
        ),
    },
    statuses={
        "3": "The file was scored, but rows of it could not be read; stderr names the first.",
        "130": "Stopped by Ctrl-C while it scored a file; the same command goes on from there.",
    },
)
@click.argument("model")
@click.argument("instances", metavar="[INSTANCE|-|@FILE]...", nargs=-1)
@click.option("--version", help="A version's number, or a role.  [default: stable]")
@click.option("--top-k", type=click.IntRange(min=1), help="Classes to name for each instance.  [default: 1]")
@click.option("--outputs", is_flag=True, help="Answer with the model's whole outputs, too.")
@click.option("--url", help="The server.  [default: http://HOST:PORT of the settings]")
@click.option("--deadline-ms", type=click.IntRange(min=1), help="Milliseconds that the server may take.")
@click.option("--input", "input_", type=click.Path(path_type=Path), help="Rows to score: .parquet, .jsonl or .csv.")
@click.option("--output", type=click.Path(path_type=Path), help="Where predictions go: .parquet or .jsonl.")
@click.option("--models", type=click.Path(path_type=Path), help="With --input: models directory.  [default: models]")
@click.option("--keep", multiple=True, metavar="COLUMN", help="With --input: carry this column over. Repeatable.")
@click.option("--keep-all", is_flag=True, help="With --input: carry every column over.")
@click.option("--prefix", default="", help="With --input: put before the names of the columns that are added.")
@click.option("--strict", is_flag=True, help="With --input: stop at the first row without a prediction.")
@click.option("--overwrite", is_flag=True, help="With --input: replace an output that is there already.")
@click.option("--restart", is_flag=True, help="With --input: throw away what an unfinished run left.")
@click.option(
    "--batch-rows", type=click.IntRange(1, 65536), help="With --input: rows a call.  [default: by the size of a row]"
)
@json_option
def command(
    model: str, instances: Sequence[str], input_: Path | None, output: Path | None, json_: bool | None, **options: Any
) -> None:
    """Ask MODEL for predictions, or score a file with it.

    Against a server: each INSTANCE is JSON (an array, a number, an object by input name) or plain text (a text in
    brackets is quoted for JSON, '"[draft]"'); `-` reads stdin, @FILE a file. Files hold a JSON-RPC request, its params, a list of instances, or one instance a line
    (always so in a .jsonl file). Errors that the server calls retryable are retried, after as long as it asks for.

    With --input and --output: no server. The file streams through the engine in this process, however large it is. A
    row without a prediction has an `error` instead, and the run goes on. A killed run continues when the same command is
    run again, and the output appears whole or not at all. Columns are matched by input name; a one-input model also
    takes the only column there is.
    """
    if (input_ is None) != (output is None):
        raise click.UsageError("--input and --output go together: rows from the one become predictions in the other")
    if input_ is None or output is None:
        _online(model, instances, json_, options)
    elif instances:
        raise click.UsageError("give instances or --input, not both")
    else:
        from hoverboard.backends.backend import require_framework

        require_framework("hoverboard predict --input")  # before what reads files, which comes with it
        from hoverboard.cli.offline import score_file

        score_file(model, input_, output, json_, options)


_BRACKETS = (("{", "}"), ("[", "]"))
_OFFLINE_ONLY = ("models", "keep", "keep_all", "prefix", "strict", "overwrite", "restart", "batch_rows")


def _online(model: str, instances: Sequence[str], json_: bool | None, options: dict[str, Any]) -> None:
    from hoverboard.cli.target import connected, public_url

    for name in _OFFLINE_ONLY:
        if options[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --input and --output")
    params = {**_gathered(instances), "model": model}
    for name in ("top_k", "deadline_ms"):
        if options[name] is not None:
            params[name] = options[name]
    if options["outputs"]:
        params["outputs"] = True
    if options["version"] is not None:
        params["version"] = _version(options["version"])
    with connected(options["url"] or public_url()) as client:
        result = client.call("predict", params)
    if as_json(json_):
        emit(result)
    else:
        from hoverboard.cli.predictions import drawn

        console().print(drawn(result))


def _gathered(arguments: Sequence[str]) -> dict[str, Any]:
    if not arguments and sys.stdin.isatty():
        raise click.UsageError("give an INSTANCE, @FILE, or - for stdin")
    if len(arguments) <= 1 and (not arguments or arguments[0] == "-" or arguments[0].startswith("@")):
        return _read(arguments[0] if arguments else "-")
    for argument in arguments:
        if argument == "-" or argument.startswith("@"):
            raise click.UsageError(f"{argument} goes alone, not among other instances")
    return {"instances": [_instance(argument) for argument in arguments]}


def _read(argument: str) -> dict[str, Any]:
    from hoverboard.cli.files import read_request

    if argument == "-":
        return read_request(sys.stdin.buffer.read(), "stdin")
    path = Path(argument[1:])
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or '').lower()}") from error
    return read_request(text, str(path), lines=path.suffix.lower() in (".jsonl", ".ndjson"))


def _instance(text: str) -> Any:
    """JSON, or else a text; what was meant as JSON and is none is not passed on as a text that the model never saw."""
    from hoverboard.cli.files import NUMBERS, decoded

    stripped = text.strip()
    meant = stripped in NUMBERS or (stripped[:1], stripped[-1:]) in _BRACKETS
    try:
        return decoded(text.encode(), text)
    except ConfigError as error:
        if meant:
            quoted = msgspec.json.encode(text).decode()
            raise ConfigError(f"{error}; if it is a text, quote it for JSON, too: {shlex.quote(quoted)}") from error
        return text


def _version(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() else text
