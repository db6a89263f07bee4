"""docs/architecture.md is of the tree as it is, and fits on a screen."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_path_that_it_names_exists() -> None:
    paths = re.findall(r"`((?:service|tests|benchmarks|examples|migrations|clients)/[\w/.]*)`", PAGE)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_it_lists_the_folders_in_the_order_in_which_they_may_import() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    in_order = [name.strip().removeprefix("hoverboard.") for layer in layers for name in layer.split(":")]
    section = PAGE.partition("## Folders")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == in_order


def test_it_lists_every_folder_and_module() -> None:
    there = {
        path.stem for path in (ROOT / "service").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert there - listed <= {"__init__", "__main__"}


def test_each_folder_opens_with_some_sentences_on_what_comes_in_and_what_goes_out() -> None:
    for folder in (ROOT / "service").rglob("*/__init__.py"):
        docstring = ast.get_docstring(ast.parse(folder.read_text(encoding="utf-8")))
        assert docstring, folder
        prose = " ".join(line for line in docstring.splitlines() if not line.startswith("|"))  # without a drawn tree
        assert 25 < len(prose.split()) < 120, folder


def test_it_fits_on_a_screen() -> None:
    assert len(PAGE.splitlines()) <= 80
