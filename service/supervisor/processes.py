"""Which processes a service runs: the command and the environment of each."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hoverboard.children import IMPORT_PATH
from hoverboard.config import Settings
from hoverboard.database.address import DATABASE_VARIABLE
from hoverboard.supervisor.child import ChildSpec
from hoverboard.telemetry import recording_state

__all__ = ["ChildSpecs", "service_children"]


@dataclass(frozen=True, slots=True)
class ChildSpecs:
    """The processes of one service.

    They stop in the reverse of this order, each kind when the one before has ended.

    Attributes:
        databases: the embedded Postgres, or none; the last to stop.
        recorders: carry over what the others have journaled until they stopped.
        engines: answer everything that the api processes accepted.
        apis: the first to stop.
    """

    databases: Sequence[ChildSpec]
    recorders: Sequence[ChildSpec]
    engines: Sequence[ChildSpec]
    apis: Sequence[ChildSpec]

    @property
    def recording(self) -> Sequence[str]:
        """The parts that have a say in whether recording works."""
        kinds = ((recording_state.POSTGRES, self.databases), (recording_state.RECORDER, self.recorders))
        return [name for name, specs in kinds if specs]


def service_children(settings: Settings, runtime: Path) -> ChildSpecs:
    """One engine, as many api processes as the settings say, and where they record a recorder and a database."""
    environment = _environment()
    database = settings.database_url.get_secret_value()
    recording = settings.recording == "on"

    def spec(kind: str, index: int, **extra: str) -> ChildSpec:
        # -P: a folder named `service` in the working directory must not stand in for this package
        command = (
            sys.executable,
            "-P",
            "-m",
            "hoverboard",
            f"_{kind}",
            "--runtime",
            str(runtime),
            "--index",
            str(index),
        )
        return ChildSpec(f"{kind}-{index}", command, environment | extra)

    at = {DATABASE_VARIABLE: database} if database else {}
    return ChildSpecs(
        databases=[spec("postgres", 0)] if recording and not database else [],
        # One thread: its products are small, and threads of BLAS that wait for a core by spinning take it from those who answer.
        recorders=[spec("recorder", 0, OPENBLAS_NUM_THREADS="1", **at)] if recording else [],
        engines=[spec("engine", 0)],
        apis=[spec("api", index) for index in range(settings.api_workers)],
    )


def _environment() -> dict[str, str]:
    environment = {"PYTHONUNBUFFERED": "1"}
    # glibc gives each busy thread a heap of its own, and weights freed in one of them are not reused by another:
    # swaps of versions would grow the engine.
    environment["MALLOC_ARENA_MAX"] = os.environ.get("MALLOC_ARENA_MAX", "2")
    root = IMPORT_PATH
    if "site-packages" not in root.parts:  # run from a checkout, installed or not
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    if sys.stderr.isatty():  # their stderr is a pipe, but ours, where it ends, is a terminal
        environment["FORCE_COLOR"] = "1"
    return environment
