"""Sees to it that a version with other weights learns the issues that are known: starts the process that carries them over."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from hoverboard.config import Settings
from hoverboard.database.connect import connected
from hoverboard.database.failures import transient
from hoverboard.postgres.endpoint import embedded_url
from hoverboard.postgres.passwords import RECORDER
from hoverboard.watch.issue_reading import UnknownIssues, unknown_issues

__all__ = ["keep_issues_known"]

_PATIENCE_S: Final = 600.0
_log = structlog.get_logger(__name__)


async def keep_issues_known(settings: Settings, runtime_dir: Path, url: str) -> None:
    """Look now and then, until cancelled, whether the latest version of a model does not know its issues.

    Its features come from other weights, so that somebody has to run samples through it, and the recorder has no framework. Whoever
    does it is a process of a few seconds: what it takes of memory is free again afterwards.

    Args:
        settings: the service's.
        runtime_dir: likewise.
        url: of a Postgres; empty for the embedded one.
    """
    tried: Sequence[UnknownIssues] = ()
    while True:
        await asyncio.sleep(settings.carry_issues_s)
        try:
            async with connected(
                url or embedded_url(settings.data_dir, RECORDER), application="hoverboard recorder"
            ) as connection:
                unknown = await unknown_issues(connection, None)
        except Exception as error:  # noqa: BLE001 - recording goes on, whatever becomes of this
            # Whoever drains says so where Postgres is away.
            if not transient(error):
                _log.exception("issues_not_looked_for")
            continue
        # What could not be carried stays unknown: again only once there is something else.
        if unknown and unknown != tried:
            await _carry(runtime_dir)
        tried = unknown


async def _carry(runtime_dir: Path) -> None:
    command = (sys.executable, "-P", "-m", "hoverboard", "_carrier", "--runtime", str(runtime_dir), "--index", "0")
    # A few samples are no work for a GPU, whose memory is the engine's.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    # It ends with this process, which holds the other end of its standard input.
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, env=environment)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            status = await process.wait()
        if status:
            _log.error(
                "issues_not_carried", status=status, then="`hoverboard issues` says what is unknown to which version"
            )
    except TimeoutError:
        _log.error("issues_not_carried", reason=f"it took longer than {_PATIENCE_S:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
