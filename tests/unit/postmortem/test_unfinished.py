"""What is left of an unfinished run is damaged, of another one, or somebody else's: the file is named, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hoverboard.errors import ConfigError
from hoverboard.postmortem.export_files import check_parts
from hoverboard.postmortem.export_summary import ExportSummary
from hoverboard.postmortem.replay_rows import ReplayRows
from hoverboard.postmortem.replay_scoring import ReplayScoring
from hoverboard.postmortem.unfinished import gone_on_with
from hoverboard.publishing.exported import EXPORT_KEY

ROWS = 20_000


def exported(folder: Path, rows: int = ROWS) -> None:
    """As an export leaves it."""
    folder.mkdir(parents=True)
    summary = ExportSummary(
        model="m",
        start=datetime(2026, 11, 30, 7, 0, 0, 123_000, tzinfo=UTC),
        end=datetime(2026, 11, 30, 8, tzinfo=UTC),
        where={"tag.a": "b"},
        unless={"version": ("3", "4")},
        labelled=False,
        issue=None,
        without_issues=(7,),
        without_outliers=False,
        versions=[1],
        other_versions=[],
        rows=rows,
        left_out={},
        outliers=0,
        open_issues={7: 3},
    )
    about = {EXPORT_KEY: msgspec.json.encode(summary)}
    for name in ("inputs.parquet", "answers.parquet"):
        table = pa.table({"sample_id": [f"{row:036}" for row in range(rows)], "model_version": pa.array([1] * rows)})
        pq.write_table(table.replace_schema_metadata(about), folder / name)
    (folder / "export.json").write_bytes(msgspec.json.encode(summary))


def scored(path: Path, version: int, rows: int = ROWS) -> None:
    """As a version's answers lie beside it."""
    about = {"hoverboard.model": "m", "hoverboard.version": str(version)}
    pq.write_table(pa.table({"value": pa.array([0.5] * rows)}).replace_schema_metadata(about), path)


def resumed(folder: Path) -> ExportSummary | None:
    """What a replay does first, and what it reads of all files."""
    with gone_on_with(folder, "--workspace"):
        rows = ReplayRows(folder, frozenset())
        summary = rows.resume()
        scoring = ReplayScoring(Path("models"), "m", rows, folder, {1: ROWS}, 1, lambda *_: None)
        scoring.check(2)
        for path in (rows.inputs, rows.answers, folder / "candidate.parquet"):
            pq.read_table(path)
        return summary


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def garbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:140] = b"\xff" * 40
    path.write_bytes(content)


def of_another_export(path: Path) -> None:
    exported(path.parent.parent / "other", 7)
    (path.parent.parent / "other" / path.name).replace(path)


def of_another_version(path: Path) -> None:
    scored(path, 3)


def of_other_rows(path: Path) -> None:
    scored(path, 2, 7)


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("recorded/inputs.parquet", truncated, "is damaged"),
        ("recorded/answers.parquet", garbled, "is damaged"),
        ("recorded/answers.parquet", Path.unlink, "is missing"),
        ("recorded/inputs.parquet", of_another_export, "is of another export"),
        ("recorded/answers.parquet", of_another_export, "is of another export"),
        ("recorded/export.json", truncated, "is damaged"),
        ("recorded/export.json", of_another_export, "is of another export"),
        ("candidate.parquet", truncated, "is damaged"),
        ("candidate.parquet", garbled, "is damaged"),
        ("candidate.parquet", of_another_version, "is not what version 2 answered"),
        ("candidate.parquet", of_other_rows, "has 7 rows where 20,000 were asked for"),
        ("again-1-of-1.parquet", of_other_rows, "is not what version 1 answered"),
    ],
)
def test_a_damaged_work_file_is_named_with_its_folder_and_what_to_do(
    tmp_path: Path, name: str, damage: Callable[[Path], None], told: str
) -> None:
    folder = tmp_path / "work"
    exported(folder / "recorded")
    scored(folder / "candidate.parquet", 2)
    scored(folder / "again-1-of-1.parquet", 1)
    summary = resumed(folder)
    assert summary is not None and summary.rows == ROWS
    damage(folder / name)
    with pytest.raises(ConfigError) as refused:
        resumed(folder)
    words = str(refused.value)
    named = folder / ("recorded/inputs.parquet" if name.endswith("export.json") and "another" in told else name)
    assert words.startswith(f"{named} {told}"), words
    assert words.endswith(f"what is unfinished in {folder} cannot be gone on with; --restart throws it away")
    assert "\n" not in words


def test_parts_of_an_export_are_held_against_each_other_and_against_their_count(tmp_path: Path) -> None:
    paths = [[tmp_path / f"{part}-{name}.parquet" for name in ("inputs", "answers")] for part in (0, 1)]
    for path in (path for part in paths for path in part):
        pq.write_table(pa.table({"a": [1, 2, 3]}), path)
    check_parts(paths, tmp_path / "state.json", 6)
    with pytest.raises(ConfigError, match=r"state\.json counts 7 rows where the parts have 6: .*--restart"):
        check_parts(paths, tmp_path / "state.json", 7)
    pq.write_table(pa.table({"a": [1]}), paths[1][0])
    with pytest.raises(ConfigError, match=r"1-inputs\.parquet has 1 rows where 1-answers\.parquet has 3: .*--restart"):
        check_parts(paths, tmp_path / "state.json", 6)


@contextmanager
def nobody() -> Iterator[None]:
    """As a user whose files these are not."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("reads", [True, False])
def test_what_belongs_to_another_user_is_named_with_another_way_out(tmp_path: Path, reads: bool) -> None:
    for parent in [tmp_path, *tmp_path.parents[:2]]:
        parent.chmod(0o755)
    folder = tmp_path / "work"
    exported(folder / "recorded")
    path = folder / "recorded" / "inputs.parquet"
    path.chmod(0o600)
    with nobody(), pytest.raises(ConfigError) as refused, gone_on_with(folder, "--workspace"):
        pq.read_table(path) if reads else (folder / "replay.json").write_text("{}")
    words = str(refused.value)
    assert words.startswith(str(path if reads else folder / "replay.json")) and "Permission denied" in words, words
    assert f"{folder} is where this command keeps" in words and "another folder with --workspace" in words


def test_what_is_no_matter_of_the_folder_is_told_as_it_is(tmp_path: Path) -> None:
    for error in (KeyError("x"), ValueError("x"), OSError(28, "No space left on device"), OSError("elsewhere")):
        with pytest.raises(type(error)) as told, gone_on_with(tmp_path, "--output"):
            raise error
        assert told.value is error
    apart = pytest.raises(ConfigError, match=r"the files in .* do not belong together \(other columns\): .*--restart")
    with apart, gone_on_with(tmp_path, "--output"):
        raise pa.ArrowInvalid("other columns.")
