"""What a folder of `backends/` offers, and which one runs a version.

To add one: write the folder, end its `backend.py` with `BACKEND = Backend(...)`, and give its kind of artifact a row in
`versions.manifest.ARTIFACTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hoverboard.backends.authoring import Authoring
from hoverboard.backends.graph import Graph
from hoverboard.errors import EngineMissing
from hoverboard.versions.manifest import ARTIFACTS, Manifest

__all__ = ["Backend", "backend_of", "configured", "installed", "require_framework"]


@dataclass(frozen=True, slots=True)
class Backend:
    """One framework.

    Attributes:
        load: a version's directory and manifest -> its graph, without running code of the model's own. Raises VersionRefused
            where it cannot be loaded safely, or is not what its manifest says.
        configure: threads within an operation, and operations at once; called once, before anything runs.
        device_kind: `gpu` or `cpu`, what graphs run on.
        software: versions of what a graph computes with, by package.
        packages: modules whose files it reads while it loads a version: the sandbox of trials lets it.
        executors: names of all its ways to run a graph. Timings are remembered for as long as these stay the same.
        authoring: what publishing asks of it; None for a framework whose models are not published from here.
    """

    load: Callable[[Path, Manifest], Graph]
    configure: Callable[[int, int], None]
    device_kind: Callable[[], str]
    software: Callable[[], dict[str, str]]
    packages: tuple[str, ...]
    executors: tuple[str, ...]
    authoring: Authoring | None = None


def backend_of(artifact: str) -> Backend:
    """The backend of a kind of artifact. Imports it, which takes seconds the first time."""
    return _imported(ARTIFACTS[artifact])


def configured(artifact: str, threads: tuple[int, int]) -> Backend:
    """The backend of a kind of artifact, ready to run with so many threads; see `Backend.configure`."""
    return _configured(ARTIFACTS[artifact], threads)


def require_framework(what: str, *, extra: str | None = None) -> None:
    """Pass where some framework is installed, without importing it.

    Args:
        what: needs one.
        extra: another extra of ours that is missing for it, to be named in the same breath.

    Raises:
        EngineMissing: there is none.
    """
    if not any(map(find_spec, ARTIFACTS.values())):  # a folder is called as the package that it is for
        raise EngineMissing(what, extra=extra)


def installed() -> Iterator[Backend]:
    """Each backend whose framework can be imported here."""
    for folder in dict.fromkeys(ARTIFACTS.values()):
        with suppress(EngineMissing):
            yield _imported(folder)


@cache
def _configured(folder: str, threads: tuple[int, int]) -> Backend:
    backend = _imported(folder)
    backend.configure(*threads)
    return backend


def _imported(folder: str) -> Backend:
    # By its name, and late: no process imports a framework for versions that it does not have.
    try:
        found: Backend = import_module(f"hoverboard.backends.{folder}.backend").BACKEND
    except ModuleNotFoundError as error:
        raise EngineMissing("Running or publishing models") from error
    return found
