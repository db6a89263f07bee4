"""`hoverboard models`: what there is, and the admin actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hoverboard.cli.help import Command, CommandGroup
from hoverboard.cli.numbers import NUMBER
from hoverboard.cli.output import as_json, console, emit, json_option, table
from hoverboard.cli.target import admin_token, admin_url, connected, data_dir, public_url
from hoverboard.contract.actions import VERSION_ACTIONS
from hoverboard.errors import ConfigError, RpcError, Unreachable, VersionRefused
from hoverboard.versions import Manifest

__all__ = ["command"]

_url = click.option("--url", help="The server.  [default: http://HOST:PORT of the settings]")
_models = click.option(
    "--models", type=click.Path(path_type=Path), help="Look at this models directory instead of asking a server."
)


@click.group(
    "models",
    cls=CommandGroup,
    invoke_without_command=True,
    short_help="List, describe, compare, load, route and pin model versions.",
    examples={
        "What a server on 127.0.0.1:8080 serves": "hoverboard models",
        "What a directory holds, without a server": "hoverboard models --models models",
        "Inputs, outputs and measured buckets of one version": "hoverboard models show digits 2",
        "What changed between two versions": "hoverboard models diff digits 1 2",
        "Roll back: version 1 answers from now on": "hoverboard models route digits 1",
        "Follow the highest version again": "hoverboard models route digits highest",
        "Keep a version in memory": "hoverboard models pin digits 1",
    },
)
@_url
@_models
@json_option
@click.pass_context
def command(context: click.Context, url: str | None, models: Path | None, json_: bool | None) -> None:
    """List every model, with its versions and roles.

    The list comes from a running server, or with --models from a directory. The actions (load, unload, route, pin,
    unpin, scan) go to the server's admin listener with the token that `hoverboard serve` wrote to its data directory.
    """
    if context.invoked_subcommand is not None:
        if url or models:
            raise click.UsageError(f"give --url and --models after `{context.invoked_subcommand}`")
        return
    listed = _called("models.list", {}, url) if models is None else _catalog().list_on_disk(models)
    if as_json(json_):
        emit(listed)
    else:
        console().print(_listed(listed["models"]))


def _called(method: str, params: Mapping[str, Any], url: str | None) -> Any:
    with connected(url or public_url()) as client:
        return client.call(method, params)


def _described(params: Mapping[str, Any], url: str | None) -> Any:
    """As the admin listener describes it, with why samples failed; as callers see it where that listener is not ours."""
    if url is None:
        with (
            suppress(ConfigError, Unreachable, RpcError),
            connected(admin_url(), token=admin_token(data_dir())) as client,
        ):
            return client.call("models.describe", params)
    return _called("models.describe", params, url)


def _catalog() -> Any:
    from hoverboard.cli import catalog

    return catalog


def _listed(models: list[dict[str, Any]]) -> Any:
    if not models:
        return "No models."
    rows = [
        [
            one["name"],
            one["task"] or "",
            ", ".join(f"{role} {version}" for role, version in one["roles"].items()) or "[red]none[/]",
            ", ".join(map(str, one["versions"])),
            one["problem"] or "",
        ]
        for one in models
    ]
    return table(["model", "task", "roles", "versions", "problem"], rows)


@command.command(
    "show",
    examples={
        "Every version of a model": "hoverboard models show digits",
        "One version as JSON": "hoverboard models show digits 2 --json",
        "Without a server": "hoverboard models show digits --models models",
    },
)
@click.argument("name")
@click.argument("version", type=NUMBER, required=False)
@_url
@_models
@json_option
def show(name: str, version: int | None, url: str | None, models: Path | None, json_: bool | None) -> None:
    """Describe a model: what its versions take, answer and cost, and why a version is refused.

    On the server's own machine it says too why a sample last failed in a version's graph.
    """
    if models is None:
        params = {"model": name} if version is None else {"model": name, "version": version}
        description = _described(params, url)
    else:
        description = _catalog().describe_on_disk(models, name, version)
    if as_json(json_):
        emit(description)
    else:
        from hoverboard.cli.descriptions import described_model

        console().print(described_model(description))


@command.command(
    "diff",
    examples={
        "What callers notice when version 2 takes over from 1": "hoverboard models diff digits 1 2",
        "Without a server, as JSON": "hoverboard models diff digits 1 2 --models models --json",
    },
)
@click.argument("name")
@click.argument("before", type=NUMBER)
@click.argument("after", type=NUMBER)
@_url
@_models
@json_option
def diff(name: str, before: int, after: int, *, url: str | None, models: Path | None, json_: bool | None) -> None:
    """Compare two versions of a model in what they take and answer.

    Differences that callers of BEFORE may break on come first. A version that has such differences is only published with
    --breaking.
    """
    from hoverboard.versions.compare import compare

    was, now = (_manifest(name, number, url, models) for number in (before, after))
    changes = compare(was, now)
    if as_json(json_):
        emit({"model": name, "before": before, "after": after, "differences": [asdict(one) for one in changes]})
    else:
        from hoverboard.cli.descriptions import differences

        console().print(differences(changes))


def _manifest(name: str, number: int, url: str | None, models: Path | None) -> Manifest:
    """A version's manifest as a server or a directory tells it, without checksums."""
    if models is None:
        description = _called("models.describe", {"model": name, "version": number}, url)
    else:
        description = _catalog().describe_on_disk(models, name, number)
    version = description["versions"][0]
    if version["manifest"] is None:
        raise VersionRefused(f"{name} version {number} cannot be compared: {version['reason']}", check="manifest")
    return Manifest.of_public(version["manifest"])


def _admin_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of everything that goes to the admin listener."""
    for option in (
        json_option,
        click.option("--data-dir", type=click.Path(path_type=Path), help="Where the token is.  [default: data]"),
        click.option("--url", help="The admin listener.  [default: http://ADMIN_HOST:ADMIN_PORT of the settings]"),
    ):
        function = option(function)
    return function


def _act(action: str, params: Mapping[str, Any], url: str | None, data: Path | None, json_: bool | None) -> None:
    with connected(url or admin_url(), token=admin_token(data or data_dir())) as client:
        answer = client.call(f"models.{action}", params)
    if as_json(json_):
        emit(answer)
    elif action == "scan":
        click.echo(f"Scanned: {', '.join(answer['models']) or 'no models'}.")
    else:
        roles = ", ".join(f"{role} {version}" for role, version in answer["roles"].items()) or "no role filled"
        live = ", ".join(map(str, answer["live"])) or "none"
        click.echo(f"{answer['model']}: {roles}; in memory: {live}.")


def _action(action: str, summary: str) -> click.Command:
    @click.command(
        action,
        cls=Command,
        help=f"{summary}\n\nGoes to the admin listener.",
        short_help=summary,
        examples={"Version 1 of digits": f"hoverboard models {action} digits 1"},
    )
    @click.argument("name")
    @click.argument("version", type=NUMBER)
    @_admin_options
    def run(name: str, version: int, url: str | None, data_dir: Path | None, json_: bool | None) -> None:
        _act(action, {"model": name, "version": version}, url, data_dir, json_)

    return run


# They differ in nothing but their names, as their methods do.
for _name, _summary in VERSION_ACTIONS.items():
    command.add_command(_action(_name, _summary))


@command.command(
    "route",
    examples={
        "Version 1 answers calls that name no version": "hoverboard models route digits 1",
        "The highest version that passes its checks answers, now and later": "hoverboard models route digits highest",
    },
)
@click.argument("name")
@click.argument("version", metavar="VERSION|highest")
@_admin_options
def route(name: str, version: str, url: str | None, data_dir: Path | None, json_: bool | None) -> None:
    """Choose the version that answers in the role `stable`.

    The choice is written to the model's serving.toml; calls in flight finish on the version that took them. Goes to the
    admin listener.
    """
    if version != "highest" and not version.isdecimal():
        raise click.UsageError(f"{version}: expected a version's number, or highest")
    stable = None if version == "highest" else int(version)
    _act("route", {"model": name, "stable": stable}, url, data_dir, json_)


@command.command("scan", examples={"Do not wait for the next scan": "hoverboard models scan"})
@_admin_options
def scan(url: str | None, data_dir: Path | None, json_: bool | None) -> None:
    """Look at the models directory now, and try refused versions again. Goes to the admin listener."""
    _act("scan", {}, url, data_dir, json_)
