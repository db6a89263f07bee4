from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from hoverboard import __version__
from hoverboard.cli import main
from hoverboard.cli.serve import setting_options
from hoverboard.config import ENV_PREFIX, Settings


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and subcommand."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def command_at(path: tuple[str, ...]) -> Any:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


EVERY = [(), *commands()]


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_explains_itself_with_examples(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert "\nExamples:\n  # " in result.stdout
    assert all(option.help for option in command_at(path).params if isinstance(option, click.Option))


EXAMPLES = [(what, line) for path in EVERY for what, line in command_at(path).examples.items()]


@pytest.mark.parametrize("what, line", EXAMPLES)
def test_every_example_is_a_command_line_that_makes_sense(
    what: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.keras", "better.keras", "labels.txt", "rows.jsonl", "contract.toml"):
        Path(name).touch()
    for name in ("export", "data"):
        Path(name).mkdir()
    words = [word for word in shlex.split(line.rpartition("|")[2]) if not word.startswith(ENV_PREFIX)]
    assert words.pop(0) == "hoverboard"
    command: click.Command = main
    context = None
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command, info_name=words[0], parent=context)
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command = found
    command.make_context("hoverboard", words, parent=context)
    assert what


def test_serve_has_a_flag_for_every_setting_with_its_meaning_default_and_variable() -> None:
    options = {option.name: option for option in setting_options()}
    assert list(options) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        option = options[name]
        flag = name.replace("_", "-")
        assert option.opts == [f"--{flag}"]
        assert option.secondary_opts == ([f"--no-{flag}"] if field.annotation is bool else [])
        assert option.default is None
        assert field.description
        default = "empty" if field.annotation is SecretStr else field.default
        assert option.help == f"{field.description}  [default: {default}; HOVERBOARD_{name.upper()}]"


def test_every_setting_given_as_a_flag_arrives_as_that_setting() -> None:
    other = {"host": "::1", "xla": "off", "log_level": "debug", "log_format": "json", "models": "m", "data_dir": "d"}
    other |= {"recording": "off", "database_url": "postgresql://somewhere/else"}
    given = {
        name: str(other.get(name) or (field.default + 1 if isinstance(field.default, int) else 0.5))
        for name, field in Settings.model_fields.items()
        if field.annotation is not bool
    }
    flags = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    context = command_at(("serve",)).make_context("serve", [*flags, "--journal-fsync"])
    settings = Settings.load(**context.params)
    assert settings.journal_fsync
    assert settings.database_url.get_secret_value() == given.pop("database_url")
    for name, value in given.items():
        assert str(getattr(settings, name)) in (value, f"{value}.0")


def test_a_flag_that_is_not_given_leaves_the_environment_its_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOVERBOARD_PORT", "9123")
    context = command_at(("serve",)).make_context("serve", ["--host", "::1"])
    settings = Settings.load(**context.params)
    assert (settings.port, settings.host) == (9123, "::1")


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"hoverboard, version {__version__}\n"


def test_help_is_quick_because_it_imports_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, json\nfrom hoverboard.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stderr))
    assert "click" in modules
    assert not modules & {"tensorflow", "keras", "numpy", "pyarrow", "pydantic", "aiohttp", "rich", "asyncio"}


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["sevre"])
    assert result.exit_code == 2
    assert "No such command 'sevre'" in result.stderr
