"""From the embedded Postgres to one of your own, as docs/embedded.md tells: also to an older one, which reads no dump of a newer one."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from pathlib import Path

import pytest

from hoverboard.database.connect import connected
from hoverboard.database.logins import prepare
from hoverboard.database.migrate import require_current
from tests.integration.running import HOVERBOARD, ROOT, environment
from tests.integration.test_embedded import database, made, template
from tests.integration.test_older_postgres import INSTALLED, server

__all__ = ["made", "template"]


def steps() -> list[str]:
    """The commands of the page's section, a block each."""
    page = (ROOT / "docs/embedded.md").read_text()
    section = page.partition("## Move to a Postgres of your own\n")[2].partition("\n## ")[0]
    return re.findall(r"```text\n(.*?)```", section, re.DOTALL)


def follow(block: str, folder: Path, programs: Path, owner: str) -> None:
    """Run a block as the page's reader does, with the programs of the Postgres that is moved to."""
    (folder / "bin").mkdir(exist_ok=True)
    shim = folder / "bin/hoverboard"
    shim.write_text(f'#!/bin/sh\nexec {" ".join(HOVERBOARD)} "$@"\n')
    shim.chmod(0o755)
    variables = {"PATH": f"{shim.parent}:{programs}:{os.environ['PATH']}", "OWNER_URL": owner}
    command = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(
        command, cwd=folder, env=environment() | variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("major", INSTALLED)
async def test_what_was_recorded_moves_to_an_older_postgres(major: str, made: Path) -> None:
    dump, load, bring_up_to_date = steps()
    ids = [uuid.uuid4() for _ in range(3)]
    with server(made / "server", INSTALLED[major]) as own:
        owner, service = own.url("hoverboard_owner"), own.url("hoverboard_service")
        with database(made) as embedded:
            await (await embedded.connect()).close()
            await prepare(embedded.data_dir)
            connection = await embedded.connect()
            await connection.execute("select hoverboard.make_partitions('2025-12-31', '2026-01-01')")
            await connection.executemany(
                "insert into hoverboard.samples (at, id, model, incl_prob, why, vector)"
                " values ('2025-12-31 12:00', $1, 'm', 1, 'all', '{0.5, 1}')",
                [(each,) for each in ids],
            )
            await connection.close()
            follow(dump, made, INSTALLED[major], owner)
        follow(load, made, INSTALLED[major], owner)
        follow(bring_up_to_date, made, INSTALLED[major], owner)
        async with connected(service, application="test") as connection:
            await require_current(connection)
            rows = await connection.fetch("select id, vector, tableoid::regclass::text from samples")
            assert sorted(row["id"] for row in rows) == sorted(ids)
            assert {(tuple(row["vector"]), row["tableoid"]) for row in rows} == {((0.5, 1.0), "samples_2025_12_31")}
            assert await connection.fetchval("select make_partitions('2026-01-02', '2026-01-02')") == 5
            await connection.execute(
                "insert into labels (sample_id, labelled_at, source) values (gen_random_uuid(), now(), 's')"
            )
        async with connected(own.url("alice"), application="test", role=None) as connection:
            assert await connection.fetchval("select count(*) from samples") == 3
            assert await connection.fetchval("select count(*) from samples_2026_01_02") == 0
