"""The reference pages are what the code says, and say something of everything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from docs.generate import ROOT, pages
from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.errors import BY_KIND, VIOLATIONS, Violation
from hoverboard.telemetry import families

PAGES = pages()
REFERENCE = {path.name: text for path, text in PAGES.items() if path.suffix == ".md"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_committed_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path], f"{path.relative_to(ROOT)} is out of date: run `make docs`"


def test_the_folder_holds_nothing_else() -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").iterdir()} == set(REFERENCE)


@pytest.mark.parametrize(
    "name", ["settings.md", "errors.md", "metrics.md", "tables.md", "commands.md", "methods.md", "python.md"]
)
def test_everything_is_explained(name: str) -> None:
    rows = re.findall(r"^\| `.*\|$", REFERENCE[name], re.MULTILINE)
    assert rows
    mute = [row for row in rows if re.search(r"\|\s*\|$", row)]
    assert not mute


def test_links_lead_somewhere() -> None:
    for name, text in REFERENCE.items():
        for target, anchor in re.findall(r"\]\(([^)#]+\.md)(?:#([^)]*))?\)", text):
            page = ROOT / "docs" / "reference" / target
            assert page.exists(), f"{name}: {target}"
            headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in slugs, f"{name}: {target}#{anchor}"


def rows(name: str, first_header: str) -> list[list[str]]:
    """The rows of all tables of a page whose first column has that header."""
    tables = re.findall(rf"^\| {first_header} \|.*\n\|-.*\n((?:\|.*\n)+)", REFERENCE[name], re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in "".join(tables).splitlines()]


def test_every_setting_is_there_in_its_order() -> None:
    assert [row[0] for row in rows("settings.md", "setting")] == [f"`{name}`" for name in Settings.model_fields]


def test_every_error_that_is_ever_sent_is_there_with_its_code_and_status() -> None:
    assert {row[1]: row[:4] for row in rows("errors.md", "code")} == {
        f"`{kind}`": [str(cls.code), f"`{kind}`", str(cls.http_status), "yes" if cls.retryable else "no"]
        for kind, cls in BY_KIND.items()
    }


def test_every_way_to_break_a_contract_is_explained() -> None:
    assert set(VIOLATIONS) == set(get_args(Violation))


def test_every_metric_is_there_with_its_labels() -> None:
    shown = {row[0].strip("`"): row[2].replace("`", "").split(", ") for row in rows("metrics.md", "metric")}
    declared = [each.family for each in families.ALL]
    total = {"counter": "_total"}
    assert shown == {one._name + total.get(one._type, ""): list(one._labelnames) or ["-"] for one in declared}


def test_every_method_is_there_once() -> None:
    methods = re.findall(r"^### (.*)$", REFERENCE["methods.md"], re.MULTILINE)
    assert sorted(methods) == sorted({*methods})
    assert set(methods) == {
        *("predict", "label", "models.list", "models.describe", "rpc.discover"),
        *("models.load", "models.unload", "models.route", "models.pin", "models.unpin", "models.scan", "alarms.reset"),
    }


@pytest.mark.parametrize("name", ["samples", "predictions", "outliers", "rejections", "labels", "gaps", "alarms"])
def test_every_table_has_its_columns_with_types_and_says_whether_null_is_allowed(name: str) -> None:
    dump = (ROOT / "tests" / "integration" / "schema.sql").read_text(encoding="utf-8")
    body = re.search(rf"^CREATE TABLE hoverboard\.{name} \((.*?)^\)", dump, re.MULTILINE | re.DOTALL)
    assert body
    section = REFERENCE["tables.md"].partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \| \S.*? \| (yes|no) \| \S", section, re.MULTILINE)
    lines = [line for line in body[1].splitlines() if re.match(r'    "?[a-z]', line)]
    assert listed == [
        (line.split()[0].strip('"'), "no" if line.rstrip(",").endswith("NOT NULL") else "yes") for line in lines
    ]


def test_every_command_has_its_section_with_its_options() -> None:
    listed = CliRunner().invoke(main, ["--help"]).stdout.partition("Commands:")[2].partition("\n\n")[0]
    sections = set(re.findall(r"^## (.*)$", REFERENCE["commands.md"], re.MULTILINE))
    assert {f"hoverboard {line.split()[0]}" for line in listed.splitlines() if line.strip()} <= sections
    assert "`--alpha`" in REFERENCE["commands.md"]
