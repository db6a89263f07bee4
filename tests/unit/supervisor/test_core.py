"""Which processes a service has, and which of them learns the database's password."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hoverboard.config import Settings
from hoverboard.database.address import DATABASE_VARIABLE
from hoverboard.errors import ConfigError, PortInUse
from hoverboard.supervisor.child import Child, ChildSpec
from hoverboard.supervisor.claims import address_of, reserve
from hoverboard.supervisor.core import Supervisor
from hoverboard.supervisor.processes import ChildSpecs, service_children

URL = "postgresql://writer:secret@db/records"


def names(specs: ChildSpecs) -> Sequence[str]:
    return [spec.name for kind in (specs.databases, specs.recorders, specs.engines, specs.apis) for spec in kind]


def test_recording_adds_a_database_and_a_recorder(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    def of(**settings: Any) -> Sequence[str]:
        return names(service_children(make_settings(**settings), tmp_path))

    assert of(api_workers=2) == ["postgres-0", "recorder-0", "engine-0", "api-0", "api-1"]
    assert of(database_url=URL) == ["recorder-0", "engine-0", "api-0"]
    assert of(recording="off") == ["engine-0", "api-0"]
    assert of(recording="off", database_url=URL) == ["engine-0", "api-0"]


def test_only_the_recorder_is_told_the_database(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    specs = service_children(make_settings(database_url=URL), tmp_path)
    (recorder,) = specs.recorders
    assert recorder.environment[DATABASE_VARIABLE] == URL
    for spec in (*specs.engines, *specs.apis):
        assert DATABASE_VARIABLE not in spec.environment
    embedded = service_children(make_settings(), tmp_path)
    for spec in (*embedded.databases, *embedded.recorders, *embedded.engines, *embedded.apis):
        assert DATABASE_VARIABLE not in spec.environment
        assert "secret" not in " ".join(spec.command)


@pytest.mark.parametrize("inherited", [DATABASE_VARIABLE, DATABASE_VARIABLE.lower()])
async def test_a_child_does_not_inherit_the_databases_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: str
) -> None:
    monkeypatch.setenv(inherited, "inherited")
    shows = "import json, os; print(json.dumps({n.upper(): v for n, v in os.environ.items()}), flush=True); input()"

    async def shown(environment: dict[str, str]) -> dict[str, str]:
        output = io.BytesIO()
        child = Child(ChildSpec("api-0", [sys.executable, "-c", shows], environment), tmp_path, output=output)
        keeping = asyncio.create_task(child.keep())
        async with asyncio.timeout(20):
            while b"\n" not in output.getvalue():
                await asyncio.sleep(0.01)
        await child.stop(5, asyncio.Event())
        await keeping
        said: dict[str, str] = json.loads(output.getvalue().splitlines()[0])
        return said

    assert DATABASE_VARIABLE not in await shown({})
    assert (await shown({DATABASE_VARIABLE: "given"}))[DATABASE_VARIABLE] == "given"


def test_an_embedded_postgres_that_cannot_run_is_a_sentence_before_anything_starts(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    settings = make_settings()
    (settings.data_dir / "postgres").mkdir(mode=0o700)
    (settings.data_dir / "postgres" / "PG_VERSION").write_text("12\n")

    def children(_: Settings, __: Path) -> ChildSpecs:
        raise AssertionError("nothing is to be started")

    with pytest.raises(ConfigError, match=r"belongs to user root|made by Postgres 12"):
        Supervisor(settings, children=children).run()


@pytest.mark.parametrize("setting", ["port", "admin_port", "models"])
def test_a_service_that_is_refused_leaves_no_data_folder_behind(
    make_settings: Callable[..., Settings], tmp_path: Path, setting: str
) -> None:
    (tmp_path / "models").mkdir()
    with reserve("127.0.0.1", 0) as taken:
        value = tmp_path / "nowhere" if setting == "models" else address_of(taken)
        settings = make_settings(**{"data_dir": tmp_path / "new" / "data", "recording": "off", setting: value})
        with pytest.raises((PortInUse, ConfigError)):
            Supervisor(settings).run()
    assert not (tmp_path / "new").exists()
