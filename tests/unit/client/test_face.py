"""`import hoverboard` as a user does it: quick, without the engine, beside a package of the user's own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hoverboard
from hoverboard import errors

ROOT = Path(__file__).parents[3]


def python(code: str, folder: Path = ROOT, *, path: Path = ROOT) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_name_is_there_and_told_by_dir() -> None:
    assert set(hoverboard.__all__) == set(dir(hoverboard))
    assert all(getattr(hoverboard, name) is not None for name in hoverboard.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = hoverboard.nothing  # type: ignore[attr-defined]


def test_every_error_that_a_service_answers_with_is_there() -> None:
    assert {cls.__name__ for cls in errors.BY_KIND.values()} <= set(hoverboard.__all__)


def test_what_type_checkers_see_is_what_there_is() -> None:
    source = (ROOT / "service" / "__init__.py").read_text()
    seen = source.partition("if TYPE_CHECKING:")[2].partition("__all__ =")[0]
    assert all(f"{name}\n" in seen or f"{name}," in seen for name in hoverboard.__all__ if name != "__version__")
    assert (ROOT / "service" / "py.typed").exists()


@pytest.mark.alone
def test_importing_it_is_quick_and_imports_nothing_else() -> None:
    before = "import sys; before = set(sys.modules); import hoverboard; "
    new = python(f"{before}print(*sorted(set(sys.modules) - before))").split()
    assert [name for name in new if name.startswith("hoverboard")] == ["hoverboard", "hoverboard.version"]
    assert not {name.partition(".")[0] for name in new} - {"hoverboard", "__future__", "importlib", "warnings"}
    timed = "import time; begun = time.perf_counter(); import hoverboard; print(time.perf_counter() - begun)"
    assert min(float(python(timed)) for _ in range(5)) < 0.05


def test_a_client_imports_neither_the_engine_nor_what_it_does_not_use() -> None:
    loaded = python("import sys, hoverboard; hoverboard.Client; hoverboard.RpcError; print(*sys.modules)").split()
    for module in ("keras", "numpy", "tensorflow", "aiohttp", "asyncpg", "pyarrow", "pydantic"):
        assert module not in loaded


def test_a_package_named_service_of_the_users_own_does_not_collide(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("mine = True\n")
    (tmp_path / "service" / "errors.py").write_text("mine = True\n")
    code = """
import service, service.errors, hoverboard, hoverboard.errors, hoverboard.rpc.methods, hoverboard.cli
assert service.mine and service.errors.mine
assert hoverboard.Client("http://127.0.0.1:9").url == "http://127.0.0.1:9"
import sys
print([name for name in sys.modules if name.partition(".")[0] == "service"])
"""
    assert python(code, tmp_path) == "['service', 'service.errors']"


def _of_the_base() -> set[str]:
    """Distributions that `pip install hoverboard-server` brings, by canonical name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = list(project["dependencies"]), set[str]()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += metadata.requires(requirement.name) or []
    return found


def test_without_the_extras_it_is_client_and_command_line_and_says_what_to_type(tmp_path: Path) -> None:
    # What only extras bring cannot be imported here: a virtual environment without it takes half a minute to fill.
    base = _of_the_base()
    hidden = [
        module
        for module, owners in metadata.packages_distributions().items()
        if not any(canonicalize_name(owner) in base for owner in owners) and module != "hoverboard"
    ]
    assert {"keras", "tensorflow", "pyarrow", "jsonrpcserver", "prometheus_client", "uvloop"} <= set(hidden)
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import sys

class Hidden:
    names = frozenset({hidden!r})

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if path is None and name in self.names else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Hidden, sys.meta_path)
"""
    )
    (tmp_path / "hoverboard").symlink_to(ROOT / "service")
    (tmp_path / "models").mkdir()
    (tmp_path / "rows.jsonl").write_text("[1]\n")
    say = "needs TensorFlow, which is not installed here: pip install 'hoverboard-server[cpu]'"
    code = f"""
import hoverboard
from click.testing import CliRunner
from hoverboard.cli import main

def run(*words):
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output

hoverboard.Client; hoverboard.AsyncClient
from hoverboard.rpc.methods.models_describe import ModelDescription
assert run("--version")[0] == 0
assert run("models", "--models", "models") == (0, '{{\\n  "models": []\\n}}\\n'), run("models", "--models", "models")
for name in ("serve", "publish", "predict", "label", "models", "journal", "migrate", "alarms", "gaps", "erase", "psql"):
    assert run(name, "--help")[0] == 0, (name, run(name, "--help"))
for words in (["serve", "--recording", "off"], ["predict", "m", "--input", "rows.jsonl", "--output", "out.jsonl"]):
    code, said = run(*words)
    assert code == 1 and {say!r} in said, (words, said)
for call in (
    lambda: hoverboard.publish("model.keras", name="m", models_dir="models"),
    lambda: hoverboard.serve_in_process("models").__enter__(),
):
    try:
        call()
    except hoverboard.EngineMissing as error:
        assert {say!r} in str(error), error
    else:
        raise AssertionError(call)
needed = "pip install 'hoverboard-server[cpu,local]', or 'hoverboard-server[gpu,local]'"
assert needed in run("serve")[1], run("serve")
print("held")
"""
    assert python(code, tmp_path, path=tmp_path) == "held"
