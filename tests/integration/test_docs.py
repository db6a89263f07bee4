"""Every command that the documentation shows is run, and prints what the documentation shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import tomlkit

from hoverboard.versions.serving import Recording, Serving
from tests.integration.documents import commands, difference, json_difference, session
from tests.integration.running import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/cookbook").glob("*.md"))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_a_page_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    with session(page, tmp_path) as running:
        for command in commands(page):
            status, printed = running.run(command)
            where = f"{name(page)}:{command.line}: {command.text.splitlines()[0]}"
            failure_is_shown = any("Error: " in line for line in command.shown)
            assert (status == 0) != failure_is_shown, f"{where}\nexit {status}\n{printed}"
            found = difference(command.shown, printed, figures=command.figures)
            assert found is None, f"{where}\n{found}\nprinted:\n{printed}"


def test_no_shell_command_escapes_by_standing_in_another_kind_of_block() -> None:
    for page in PAGES:
        for block in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            assert block[0] not in ("bash", "sh", "shell", ""), f"{name(page)}: use ```console or ```text"
            assert block[0] == "console" or not re.search(r"^\$ ", block[1], re.MULTILINE), name(page)


def test_every_script_of_a_page_is_a_file_that_is_named_before_it() -> None:
    """Then `commands` writes it, and the commands after it run it."""
    for page in PAGES:
        text = page.read_text()
        for before, language, file in re.findall(r"(.*\n)\n```(python|javascript|typescript)(.*)$", text, re.MULTILINE):
            assert file, f"{name(page)}: give the {language} block after {before!r} the name of its file"
            assert f"`{file.strip()}`" in before, f"{name(page)}: name {file} in the line before it"


def test_links_between_pages_lead_to_a_page_and_a_heading_that_are_there() -> None:
    linked = [*PAGES, *(ROOT / "docs").glob("*/*.md"), *(ROOT / "examples").glob("*/README.md")]
    for page in linked:
        for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if "://" in target:
                continue
            leads_to = page.parent / target if target else page
            assert leads_to.exists(), f"{name(page)}: {target}"
            assert not heading or heading in anchors(leads_to), f"{name(page)}: {target}#{heading}"


def anchors(page: Path) -> set[str]:
    """What links to a page's headings end in, by GitHub's rule: small letters, hyphens for spaces, no other signs."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: str, first_header: str) -> list[list[str]]:
    """The rows of the table whose first column has that header."""
    lines = iter((ROOT / page).read_text().splitlines())
    header = next(line for line in lines if line.startswith(f"| {first_header} |"))
    assert header
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def test_the_page_shows_every_key_of_serving_toml() -> None:
    page = (ROOT / "docs/versions.md").read_text().partition("## serving.toml")[2]
    shown = page.partition("```toml\n")[2].partition("```")[0]
    serving = Serving.parse(shown.encode())
    keys = tomlkit.parse(shown).unwrap()
    assert keys.keys() == set(Serving.__struct_fields__)
    for table_of in (serving.batching, serving.limits, serving.recording):
        assert keys[type(table_of).__name__.lower()].keys() == set(table_of.__struct_fields__)
    assert {row[0].strip("`") for row in table("docs/versions.md", "policy")} == set(
        get_args(get_type_hints(Recording)["policy"])
    )


def test_volatile_members_may_differ_and_others_may_not() -> None:
    shown = {"label": "7", "confidence": 0.98, "sample_id": "a", "top": [1, 2]}
    assert json_difference(shown, {**shown, "sample_id": "b", "confidence": 0.981}) is None
    for change in ({"label": "1"}, {"confidence": 0.5}, {"top": [1]}, {"top": [1, 3]}, {"label": None}):
        assert json_difference(shown, {**shown, **change})
    assert json_difference(shown, {**shown, "more": 1})


@pytest.mark.parametrize(
    "shown, printed, same",
    [
        (["a 1.5 ms", "..."], "a 2.25 ms\nb\nc", True),
        (["...", "c"], "a\nb\nc", True),
        (["a", "c"], "a\nb\nc", False),
        (["a"], "a\nb", False),
        (["a", "b"], "a", False),
        ([], "anything", True),
        (['{"sample_id": "x", "value": 1.0}'], '{"sample_id": "y", "value": 1.001}\n', True),
        (['{"value": 1.0}', '{"value": 2.0}'], '{"value": 1.0}\n{"value": 3.0}', False),
    ],
)
def test_lines_are_compared_but_for_numbers_and_what_is_left_out(shown: list[str], printed: str, same: bool) -> None:
    assert (difference(shown, printed) is None) is same


@pytest.mark.parametrize(
    "shown, printed, same",
    [
        (["Since 2026-11-30 11:57:48 UTC 14.3% of", "12 rows."], "Since 2026-11-29 01:07 UTC 9% of 1,200\nrows.", True),
        (["12 rows.", "..."], "7 rows.\nand more", True),
        (["...", "the cause is camera east."], "7 rows.\nthe cause\nis camera east.", True),
        (["...", "the cause is camera east."], "7 rows.\nthe cause\nis camera west.", False),
        (["12 rows."], "7 rows.\nand more", False),
        (["12 rows.", "...", "end"], "7 rows.\nend", True),
        (["end", "...", "12 rows."], "7 rows.\nend", False),
    ],
)
def test_where_figures_differ_the_words_are_compared(shown: list[str], printed: str, same: bool) -> None:
    assert (difference(shown, printed, figures=False) is None) is same
