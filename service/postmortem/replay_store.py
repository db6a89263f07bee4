"""Replays are kept in the table `replays`, where the login may write: so that a decision can be looked up with its evidence."""

from __future__ import annotations

import getpass
from typing import Final

import asyncpg
import msgspec

from hoverboard.config import Settings
from hoverboard.database.address import database_url
from hoverboard.database.connect import connected
from hoverboard.database.failures import sentence
from hoverboard.database.migrate import require_current
from hoverboard.database.on_record import forget_conditions, share_erasing
from hoverboard.database.statements import statements
from hoverboard.errors import ConfigError, DatabaseUnavailable, MigrationRefused
from hoverboard.postmortem.replay_result import ReplayResult

__all__ = ["keep"]

_SQL: Final = statements(__file__)


async def keep(settings: Settings, result: ReplayResult) -> int | str:
    """Insert a result.

    Examples are left out: they quote inputs, and an erasure would not find them here.

    Returns:
        Its id; or why it could not be kept, in a sentence.
    """
    kept = result.builtins()
    del kept["examples"]
    conditions = {
        "where": result.where,
        "unless": result.unless,
        "labelled": result.labelled_only,
        "issue": result.issue,
        "without_issues": result.without_issues,
        "without_outliers": result.without_outliers,
        "label_sources": result.label_sources,
        "without_label_sources": result.without_label_sources,
    }
    try:
        async with connected(database_url(settings), application="hoverboard replay") as connection:
            await require_current(connection)
            async with connection.transaction():
                # What was erased since its samples were read must not be named by the conditions either.
                await share_erasing(connection)
                id_: int = await connection.fetchval(
                    _SQL["insert_replay"],
                    getpass.getuser(),
                    result.model,
                    *(result.incumbent.version, result.incumbent.weights_sha256),
                    *(result.candidate.version, result.candidate.weights_sha256),
                    *(result.start, result.end, msgspec.json.encode(conditions).decode()),
                    *(result.rows, result.noise_floor.quantile, result.noise_floor.runs),
                    *(result.kinds[kind].rows for kind in ("fixed", "broken", "changed", "noise", "failed")),
                    msgspec.json.encode(kept).decode(),
                )
                await forget_conditions(connection)
            return id_
    except (ConfigError, DatabaseUnavailable, MigrationRefused) as error:
        return str(error)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        return sentence(error)
