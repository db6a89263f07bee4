"""The carrier process: carries issues over to versions with other weights, once, and ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import structlog

from hoverboard import children
from hoverboard.config import Settings
from hoverboard.database.address import DATABASE_VARIABLE
from hoverboard.database.connect import Connection, connected
from hoverboard.errors import HoverboardError
from hoverboard.postgres.endpoint import embedded_url
from hoverboard.postgres.passwords import RECORDER
from hoverboard.postmortem.carrying import carry
from hoverboard.watch.issue_reading import UnknownIssues, unknown_issues

__all__ = ["main"]

_NICE: Final = 10
_log = structlog.get_logger(__name__)


def main(runtime_dir: Path, index: int) -> None:
    """Carry what is unknown now; the recorder starts this, and it ends with that."""
    process = children.begin("carrier", runtime_dir, index, supervised=False)
    children.watch_parent()
    # Below the recorder, which starts it at its own priority.
    os.nice(_NICE)
    sys.exit(asyncio.run(_carry_all(process.settings)))


async def _carry_all(settings: Settings) -> int:
    url = os.environ.get(DATABASE_VARIABLE, "") or embedded_url(settings.data_dir, RECORDER)
    async with connected(url, application="hoverboard carrier") as connection:
        for unknown in await unknown_issues(connection, None):
            await _carry_one(connection, settings, unknown)
    return 0


async def _carry_one(connection: Connection, settings: Settings, unknown: UnknownIssues) -> None:
    try:
        found = await carry(connection, settings.models, unknown.model, unknown.version)
    except HoverboardError as error:
        # Of one model: the others are carried all the same. The command says the same to whoever types it.
        _log.warning(
            "issues_unknown_to_version",
            model=unknown.model,
            version=unknown.version,
            issues=unknown.issues,
            reason=str(error),
            next=unknown.next,
        )
        return
    _log.info(
        "issues_carried",
        model=unknown.model,
        version=found.version,
        issues=list(found.issues),
        leaders=found.leaders,
        left_out=found.left_out,
        merged=list(found.merged),
    )
