"""`hoverboard postmortem` in every form that it prints, on a day that the test recorded."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from collections.abc import Callable
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hoverboard.cli.app import main
from hoverboard.cli.target import named
from hoverboard.database.connect import connected
from tests.integration.running import HOVERBOARD
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, Planted, fill

Run = Callable[..., Result]
TIMES = ("--from", f"{ONSET:%Y-%m-%dT%H:%M}", "--to", f"{END:%Y-%m-%dT%H:%M}")


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    async def recorded() -> None:
        async with connected(database, application="test", role=None) as connection:
            await fill(connection, Planted(customer="17"))

    asyncio.run(recorded())
    monkeypatch.setenv("HOVERBOARD_DATABASE_URL", database)
    return lambda *arguments: CliRunner().invoke(main, ["postmortem", *arguments])


class _Page(HTMLParser):
    """What a page would load, run or contain."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_it_prints_sentences_json_markdown_and_a_page(run: Run, tmp_path: Path) -> None:
    told = run(MODEL, *TIMES, "--pretty")
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[0].startswith("Since 2026-11-29 14:0")
    for title in ("Since when", "How much, and who", "What differs", "What cannot be known", "Next"):
        assert f"\n{title}\n" in told.output

    printed = run(MODEL, *TIMES, "--json")
    assert printed.exit_code == 0, printed.output
    report = json.loads(printed.output)
    assert {"onset", "bad", "causes", "slices", "examples", "unknown", "next", "sql"} <= report.keys()
    assert {"at", "earliest", "latest"} <= report["onset"].keys()
    assert {"rows", "share", "usual_share"} <= report["bad"].keys()
    assert all({"where", "rows", "explained"} <= each.keys() for each in report["slices"])

    markdown = run(MODEL, *TIMES, "--markdown").output
    assert markdown.startswith("# cups: outliers")
    assert "```sh\nhoverboard " in markdown

    file = tmp_path / "report.html"
    both = run(MODEL, *TIMES, "--json", "--html", str(file), "--sql")
    assert json.loads(both.stdout)["onset"] == report["onset"]
    assert both.stderr == f"Written to {file}.\n" and file.exists()
    both = run(MODEL, *TIMES, "--markdown", "--html", str(file))
    assert both.stdout.startswith("# cups: outliers") and both.stderr == f"Written to {file}.\n"
    assert run(MODEL, *TIMES, "--html", str(file)).stdout.endswith(f"\nWritten to {file}.\n")
    page = _Page()
    page.feed(file.read_text())
    assert "script" not in page.tags
    assert page.addresses == []


def test_what_it_says_to_type_next_works_when_it_is_pasted(run: Run, database: str, tmp_path: Path) -> None:
    told = run(MODEL, *TIMES, "--pretty", "--database-url", database).output
    pasted = told.partition("\nNext\n")[2]
    assert pasted.count("hoverboard ") == pasted.count('--database-url "$HOVERBOARD_DATABASE_URL"') == 3
    shell = f'set -e; hoverboard() {{ {shlex.join(HOVERBOARD)} "$@"; }}\n{pasted}'
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cups.html").exists()


def test_what_it_says_to_type_next_on_a_quiet_day_works_too(run: Run, database: str) -> None:
    asked = (MODEL, "--about", "outliers", *TIMES, "--where", "tag.customer=16", "--database-url", database)
    proposed = json.loads(run(*asked, "--models", "my models", "--json").output)["next"]
    assert len(proposed) == 3
    assert [" --models 'my models' " in command for command in proposed] == [True, False, False]
    for command in proposed:
        words = shlex.split(command)
        assert words[0] == "hoverboard"
        assert words[-2:] == ["--database-url", "$HOVERBOARD_DATABASE_URL"]
        done = CliRunner().invoke(main, words[1:-2])
        assert done.exit_code == 0, (command, done.output)


def test_a_password_stays_out_of_what_is_passed_on() -> None:
    assert named(Path("/srv/the data"), None) == "--data-dir '/srv/the data'"
    for url in ("postgresql://me:secret@db/h", "postgresql://me@db/h?password=secret"):
        assert named(None, url) == '--database-url "$HOVERBOARD_DATABASE_URL"'
    assert named(None, None) == ""


def test_the_sql_of_a_figure_gives_that_figure(run: Run, database: str) -> None:
    report = json.loads(run(MODEL, "--about", "outliers", *TIMES, "--json").output)

    async def ask(sql: str) -> float:
        async with connected(database, application="test", role=None) as connection:
            since = datetime.fromisoformat(report["onset"]["at"])
            return sum(float(row["rows"]) for row in await connection.fetch(sql) if row["bin"] >= since)

    counted = asyncio.run(ask(report["sql"]["bad: outliers"]))
    assert counted == report["bad"]["rows"] > 100


def test_what_makes_no_sense_is_told(run: Run) -> None:
    for arguments, words in (
        (("mugs",), "recorded models: cups"),
        ((MODEL, "--about", "sadness"), "expected one of outliers"),
        ((MODEL, "--to", "1h"), "need --from"),
        ((MODEL, "--from", "yesterday"), "is no time"),
        ((MODEL, "--from", "1h", "--against", "now"), "expected two times with .. between them"),
        ((MODEL, "--about", "errors", "--where", "version=1"), "of errors that is not recorded"),
        ((MODEL, "--where", "customer=17"), "expected tag.NAME=VALUE"),
        ((MODEL, "--html", "no-folder/page.html"), "there is no folder"),
        ((MODEL, "--json", "--markdown"), "a report is printed as one of them"),
        (
            (MODEL, "--about", "slow", "--from", "2026-11-29T06:00", "--to", "2026-11-29T18:00"),
            "name one with --against",
        ),
    ):
        done = run(*arguments)
        assert done.exit_code == 1
        assert words in done.output
