"""`hoverboard publish`: from a Keras model to an immutable model version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import click

from hoverboard.cli.files import read_contract, read_labels, read_samples
from hoverboard.cli.framework import load_framework
from hoverboard.cli.help import Command
from hoverboard.cli.numbers import NUMBER
from hoverboard.cli.output import as_json, console, emit, json_option
from hoverboard.cli.steps import steps
from hoverboard.cli.stopping import stoppable
from hoverboard.cli.target import models_dir
from hoverboard.contract.signature import Head, Task

__all__ = ["command"]

_STEPS: Final = {
    "reading": "Reading the model",
    "golden": "Golden samples",
    "comparing": "Comparing the graph with Keras",
    "features": "Calibration: features",
    "choosing": "Calibration: choosing a detector",
    "fitting": "Calibration: fitting detectors",
    "trial": "Trial in a clean process (up to 4 minutes)",
    "writing": "Writing the version",
}
_COMPARED: Final = "calibration: "
_STOPPED: Final = "Stopped. What was unfinished is removed."
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _thresholds(context: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, float] | None:
    """`name=0.7` pairs; a label may hold `=` itself."""
    thresholds = {}
    for pair in pairs:
        label, sign, number = pair.rpartition("=")
        try:
            thresholds[label] = float(number)
        except ValueError:
            sign = ""
        if not sign:
            raise click.BadParameter(f"{pair}: expected LABEL=P, such as chair=0.7", context, option)
    return thresholds or None


@click.command(
    "publish",
    cls=Command,
    short_help="Write a Keras model as an immutable model version.",
    examples={
        "A first version, its class names one a line": "hoverboard publish model.keras --name digits --labels labels.txt",
        "The next one, with golden samples drawn from real rows": (
            "hoverboard publish better.keras --name digits --labels labels.txt --samples rows.jsonl"
        ),
        "With a promise on outliers, from samples that it was not trained on": (
            "hoverboard publish model.keras --name digits --labels labels.txt --calibration rows.jsonl"
        ),
        "A model of several outputs, one of which is the answer": (
            "hoverboard publish model.keras --name fraud --labels labels.txt --output verdict"
        ),
        "A TensorFlow SavedModel, with limits its callers must keep": (
            "hoverboard publish export/ --name diamonds --task regression --contract contract.toml"
        ),
    },
    statuses={"128+N": "Stopped by signal N, such as 130 by Ctrl-C; nothing was published."},
)
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--name", required=True, help="The model's name: its directory below --models.")
@click.option("--samples", type=_FILE, help="Rows to draw golden samples from: .jsonl, .json, .npz, .csv or .parquet.")
@click.option("--labels", type=_FILE, help="Class names by index: one a line, or a JSON list.")
@click.option("--task", type=click.Choice(get_args(Task)), help="What it answers.  [default: told from the model]")
@click.option(
    "--output",
    metavar="NAME",
    help="The output that is the answer.  [default: the only one with a column for each label, else the first]",
)
@click.option(
    "--head", type=click.Choice(get_args(Head)), help="What the answer's output holds.  [default: read from the graph]"
)
@click.option(
    "--threshold",
    "thresholds",
    metavar="LABEL=P",
    multiple=True,
    callback=_thresholds,
    help="Multi-label: from which probability on a label holds; may be repeated.  [default: 0.5]",
)
@click.option(
    "--contract",
    type=_FILE,
    help="Limits by input name (.toml or .json): min, max, min_length, max_length, allowed, ...",
)
@click.option(
    "--calibration",
    type=_FILE,
    help="Samples with labels that the model was not trained on (.npz, .parquet, .csv or .jsonl): outliers are told by them.",
)
@click.option(
    "--ignore-column",
    "ignore_columns",
    multiple=True,
    metavar="NAME",
    help="A column of the calibration file that is neither an input nor the label; may be repeated.",
)
@click.option("--alpha", type=float, help="Share of normal samples that may be called outliers.  [default: 0.01]")
@click.option(
    "--feature-layer", help="Layer whose output detectors look at.  [default: the one before the last dense layer]"
)
@click.option(
    "--detector", help="Detector of outliers, such as energy.  [default: the best at telling left-out classes]"
)
@click.option(
    "--export",
    is_flag=True,
    help="Write a .keras file as a SavedModel, which servers of other Keras versions load, too.",
)
@click.option(
    "--signature",
    metavar="NAME",
    help="The signature of a SavedModel that answers.  [default: serving_default, or the only one]",
)
@click.option(
    "--allow-op",
    "allow_ops",
    multiple=True,
    metavar="NAME",
    help="An operation the graph may hold beside the usual ones; may be repeated.",
)
@click.option("--version", type=NUMBER, help="The version's number.  [default: the next one]")
@click.option("--parent", type=NUMBER, help="The version this one was made from.")
@click.option("--notes", help="A sentence to keep in the manifest.")
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    help="Largest batch bucket; 1 where rows of a batch change each other's answers.  [default: the server's]",
)
@click.option(
    "--breaking", is_flag=True, default=None, help="Publish it although callers of the version before may break."
)
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="Models directory.  [default: models]")
@json_option
def command(model: Path, models: Path | None, json_: bool | None, **options: Any) -> None:
    """Write MODEL, a .keras file or a SavedModel directory, as a version of NAME.

    The version is written beside its place and renamed there, so that a running server sees it whole or not at all; it
    goes live there within a scan, once its checks pass. A published version never changes: publish the next number.

    A version that takes or answers something else than the one before it (inputs, task, labels, outputs, limits that are
    gone, no calibration any more) is refused: each difference is named. --breaking publishes it all the same.

    Golden samples (a few inputs with the outputs they must give) are drawn from --samples, or else from the
    signature. A row is the bare value of a one-input model, or an object by input name.

    Calibration samples have a column per input and one named `label`. Half of them chooses among detectors of outliers,
    half sets the level at which at most --alpha of normal samples are called outliers; answers then have a p_value.
    """
    for option, read in (("samples", read_samples), ("labels", read_labels), ("contract", read_contract)):
        options[option] = options[option] and read(options[option])
    if options["calibration"] is None:
        for option in ("ignore_columns", "alpha", "feature_layer", "detector"):
            if options[option] not in (None, ()):
                raise click.UsageError(
                    f"--{option.removesuffix('s').replace('_', '-')} is about outliers: give --calibration, too"
                )
    options = {name: value for name, value in options.items() if value is not None}
    load_framework()
    from hoverboard.publishing import publish
    from hoverboard.versions import read_version

    with stoppable(_STOPPED, _clean_up), steps(_STEPS) as progress:
        path = publish(model, models_dir=models or models_dir(), progress=progress, **options)
    manifest = read_version(path).public()
    if as_json(json_):
        emit({"path": str(path), **manifest})
    else:
        _show(path, manifest)


def _clean_up() -> None:
    from hoverboard.engine.models.proofs import stop_trials
    from hoverboard.versions import remove_unfinished

    stop_trials()
    remove_unfinished()


def _show(path: Path, manifest: Mapping[str, Any]) -> None:
    from hoverboard.cli.descriptions import described

    console().print(f"Published [bold]{manifest['name']}[/] version [bold]{manifest['version']}[/] to {path}")
    console().print(described(manifest))
    compared = [note.removeprefix(_COMPARED) for note in _notes(manifest) if note.startswith(_COMPARED)]
    if said := [note for note in compared if note.startswith("the model ")]:
        # Beside what versions before it said to the same rows, where an export tells.
        others = [note for note in compared if note.startswith("version")]
        told = "; ".join([*said, *others])
        click.echo(f"{told[:1].upper()}{told[1:]}.")


def _notes(manifest: Mapping[str, Any]) -> Sequence[str]:
    return (manifest.get("outliers") or {}).get("notes") or ()
