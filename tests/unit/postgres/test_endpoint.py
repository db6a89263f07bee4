"""Where the embedded Postgres is reached: said while it runs, and by nobody else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg
import pytest

from hoverboard.errors import ConfigError
from hoverboard.postgres.endpoint import Endpoint, embedded_url, endpoint, libpq_variables
from tests.postgres import Server


async def test_its_url_is_found_only_while_it_runs(postgres: Server) -> None:
    data_dir = postgres.cluster.data_dir
    with pytest.raises(ConfigError, match="does not run"):
        embedded_url(data_dir)
    with Endpoint(postgres.socket_dir, postgres.pid).announced(data_dir):
        url = embedded_url(data_dir)
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select current_database() || current_user") == "hoverboardhoverboard"
        await connection.close()
    with Endpoint(data_dir / "nowhere", postgres.pid).announced(data_dir), pytest.raises(ConfigError, match="not run"):
        embedded_url(data_dir)
    assert not (data_dir / "postgres.json").exists()


def test_libpq_gets_the_same_place_without_an_argument(postgres: Server) -> None:
    variables = libpq_variables(postgres.url("hoverboard"))
    psql = [str(postgres.cluster.programs / "psql"), "-X", "-t", "-A", "-c", "select current_database()"]
    assert subprocess.check_output(psql, env=dict(variables), text=True) == "hoverboard\n"


def test_the_end_of_an_old_server_does_not_hide_the_new_one(tmp_path: Path) -> None:
    old, new = Endpoint(tmp_path / "old", 1), Endpoint(tmp_path / "new", 2)
    with old.announced(tmp_path):
        taken_over = new.announced(tmp_path)
        taken_over.__enter__()
    assert endpoint(tmp_path) == new
    taken_over.__exit__(None, None, None)
    assert endpoint(tmp_path) is None


@pytest.mark.parametrize("name, removed", [("hoverboard-pg-abc", True), ("precious", False)])
def test_forgetting_a_killed_one_removes_its_socket_directory_and_no_other(
    tmp_path: Path, name: str, removed: bool
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with Endpoint(folder, 1).announced(tmp_path):
        Endpoint.forget(tmp_path)
        assert folder.exists() != removed
        assert endpoint(tmp_path) is None
        Endpoint.forget(tmp_path)
