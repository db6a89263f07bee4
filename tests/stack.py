"""The files of the local stack, read the way Docker reads as much of them as we use."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["OUR_IMAGE", "ROOT", "Stage", "compose", "image", "let_in", "stages", "variables"]

ROOT = Path(__file__).parents[1]
OUR_IMAGE = "hoverboard:local"

_VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")


def compose(values: Mapping[str, str]) -> dict[str, Any]:
    """docker-compose.yml with its variables replaced.

    Args:
        values: what would be in .env.

    Raises:
        KeyError: the file uses another variable.
    """
    found: dict[str, Any] = _replaced(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), values)
    return found


def variables() -> set[str]:
    """The variables that docker-compose.yml takes from .env."""
    return set(_VARIABLE.findall((ROOT / "docker-compose.yml").read_text()))


def _replaced(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, values) for value in node]
    if not isinstance(node, str):
        return node
    text = _VARIABLE.sub(lambda found: values[found[1]], node)
    assert "$" not in text, f"not read here: {node}"
    return text


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the Dockerfile that begins with FROM.

    Attributes:
        base: the image that it begins with.
        instructions: what follows, as (keyword, arguments), continuation lines joined.
    """

    base: str
    instructions: Sequence[tuple[str, str]]

    def all(self, keyword: str) -> list[str]:
        """The arguments of every instruction of one kind."""
        return [arguments for found, arguments in self.instructions if found == keyword]

    def last(self, keyword: str) -> str:
        """The arguments that count, where an instruction replaces those before it."""
        return self.all(keyword)[-1]

    @property
    def copied(self) -> list[str]:
        """What it takes from the build context, by its name there."""
        copies = [shlex.split(arguments) for arguments in self.all("COPY")]
        ours = [copy for copy in copies if not any(part.startswith("--from=") for part in copy)]
        return [part for copy in ours for part in copy[:-1] if not part.startswith("--")]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets; one that extends another, such as PATH, is as it is written."""
        pairs = [part.partition("=") for arguments in self.all("ENV") for part in shlex.split(arguments)]
        return {name: value for name, _, value in pairs}

    @property
    def healthcheck(self) -> list[str]:
        """The argument list of its health check."""
        arguments: list[str] = json.loads(self.last("HEALTHCHECK").partition("CMD")[2])
        return arguments


def stages() -> list[Stage]:
    """The Dockerfile."""
    found: list[Stage] = []
    for keyword, arguments in _instructions((ROOT / "Dockerfile").read_text()):
        if keyword == "FROM":
            found.append(Stage(arguments.split()[0], []))
        else:
            found[-1] = Stage(found[-1].base, [*found[-1].instructions, (keyword, arguments)])
    return found


def image() -> Stage:
    """The stage that becomes the image."""
    return stages()[-1]


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            keyword, _, arguments = line.partition(" ")
            yield keyword, arguments.strip()


def let_in() -> set[str]:
    """The names that .dockerignore, which begins with excluding everything, lets into the build context."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return {line.removeprefix("!") for line in lines if line.startswith("!")}
