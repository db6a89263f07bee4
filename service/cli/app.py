"""The command group: names its commands without importing them, and turns every failure into one sentence."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import click

from hoverboard.cli.help import CommandGroup
from hoverboard.errors import HoverboardError, Unreachable
from hoverboard.version import __version__

__all__ = ["main"]

_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("hoverboard.cli.serve", "Serve every model of a directory over JSON-RPC."),
    "publish": ("hoverboard.cli.publish", "Write a Keras model as an immutable model version."),
    "models": ("hoverboard.cli.models", "List, describe, load, route and pin model versions."),
    "migrate": ("hoverboard.cli.migrate", "Bring the schema of the database up to date."),
    "journal": ("hoverboard.cli.journal", "Look into the journals of a data directory, and check them."),
    "predict": ("hoverboard.cli.predict", "Ask a server for predictions, or score a whole file without one."),
    "label": ("hoverboard.cli.label", "Say what samples truly were."),
    "alarms": ("hoverboard.cli.alarms", "List the alarms on outliers, and reset them."),
    "issues": ("hoverboard.cli.issues", "List kinds of outliers, and say what becomes of them."),
    "quality": ("hoverboard.cli.quality", "Tell how good a model's answers were, by labels and confidences."),
    "postmortem": (
        "hoverboard.cli.postmortem",
        "Explain what changed: since when, who, what differs, why.",
    ),
    "gaps": ("hoverboard.cli.gaps", "List what is missing from the tables, why, and what to do."),
    "replay": ("hoverboard.cli.replay", "Compare versions on recorded samples."),
    "export": ("hoverboard.cli.export", "Write recorded samples as Parquet files."),
    "erase": ("hoverboard.cli.erase", "Erase what was recorded of a sample, a subject or a time."),
    "psql": ("hoverboard.cli.psql", "Open a SQL shell on the embedded Postgres of a running service."),
}


_UNREACHED: Final = "; start it with `hoverboard serve`, or name another with --url"


class _Lazy(CommandGroup):
    """Commands are imported when they run; a failure is one sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if name not in _COMMANDS:
            return None
        # `hoverboard --help` lists all commands, and imports none: some take seconds, and some need what is not
        # installed.
        command: click.Command = importlib.import_module(_COMMANDS[name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        extra.setdefault("prog_name", "hoverboard")
        if os.environ.get("HOVERBOARD_DEBUG") == "1":
            return super().main(*args, **extra)
        try:
            return super().main(*args, **extra)
        except Unreachable as error:
            # Not where the call has left: then something is there, and another one would help nobody.
            _fail(f"{error}{'' if error.sent else _UNREACHED}")
        except HoverboardError as error:
            _fail(str(error))
        except OSError as error:
            # Files and sockets fail for reasons that the system puts into words; the path is what a person can act
            # on.
            place = error.filename2 or error.filename  # of two, the one that was to be written
            if error.strerror is None or place is None:
                _fail(f"{type(error).__name__}: {error} (HOVERBOARD_DEBUG=1 shows where)")
            _fail(f"{os.fsdecode(place)}: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence, no traceback
            if type(error).__module__.startswith("asyncpg"):
                from hoverboard.database.failures import sentence

                _fail(sentence(error))
            _fail(f"{type(error).__name__}: {error} (HOVERBOARD_DEBUG=1 shows where)")


def _fail(sentence: str) -> NoReturn:
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {sentence}", err=True)
    sys.exit(1)


@click.group(
    cls=_Lazy,
    examples={
        "Serve ./models on 127.0.0.1:8080": "hoverboard serve",
        "Publish a Keras model as its first version": "hoverboard publish model.keras --name digits --labels labels.txt",
        "See what is served": "hoverboard models",
        "Classify a text": "hoverboard predict products 'a chair with a high back'",
        "Score a file without a server": "hoverboard predict digits --input rows.parquet --output scored.parquet",
    },
)
@click.version_option(__version__, prog_name="hoverboard")
def main() -> None:
    """Serve versioned Keras models over JSON-RPC.

    Every command prints tables on a terminal and JSON in a pipe. Errors are one sentence on stderr. The exit
    status is 0 when it is done, 1 when something failed and 2 when the command line made no sense. `hoverboard COMMAND --help` shows examples.
    """
