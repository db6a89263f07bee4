from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hoverboard.codec.rows import RowsCodec
from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError, ModelNotFound
from hoverboard.offline.job import Job, Pace, RowRefused, Summary
from hoverboard.offline.parts import open_format
from hoverboard.offline.rows import RowPosition
from hoverboard.offline.scorer import Scorer
from hoverboard.offline.sources import open_source
from hoverboard.offline.workspace import Checkpoint, Workspace

ROWS = 103
SMALL = Pace(batch_rows=4, in_flight=3, part_rows=10)

Runner = Callable[..., Any]


@pytest.fixture(params=[".jsonl", ".parquet"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where predictions go, in each format."""
    return tmp_path / f"scored{request.param}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Rows whose sum is their number; row 50 is broken."""
    path = tmp_path / "rows.jsonl"
    lines = [f'{{"id": {n}, "pair": [{n}, 0]}}' if n != 50 else '{"id": 50, "pair": [1]}' for n in range(ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def run(source: Path, output: Path, pair: Signature) -> Runner:
    """Run a job as a fresh process would: all that it knows of earlier runs is on disk."""

    async def _run(engine: Any, pace: Pace = SMALL, *, strict: bool = False, progress: Any = None) -> Summary:
        codec = RowsCodec(pair, top_k=1, outputs=False)
        scorer = Scorer(engine, codec, "m", 3, pair.fingerprint, outputs=False)
        form = open_format(output, pair, outputs=False, prefix="", about={})
        workspace = Workspace(output)
        rows = open_source(source, pair, keep=["id"])
        job = Job(rows, scorer, form, workspace, pace, strict, progress or (lambda _: None))
        with workspace.locked():
            return await job.run(workspace.load() or Checkpoint({}, 3))

    return _run


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(output: Path) -> None:
    """Every row is there once, in order, answered for itself."""
    rows = read(output)
    assert [row["id"] for row in rows] == list(range(ROWS))
    for row in rows:
        if row["id"] == 50:
            assert row["error"]["message"] == "expected 2 numbers, got 1"
        else:
            assert row["label"] == ("low", "middle", "high")[row["id"] % 3]
            assert int(row["sample_id"].replace("-", ""), 16) == row["id"]


async def test_a_run_answers_every_row_in_order_and_leaves_nothing_else(
    run: Runner, engine: Any, output: Path, source: Path
) -> None:
    engine.delays = (0.003, 0.0, 0.001)
    summary = await run(engine)
    check(output)
    assert (summary.rows, summary.faults, summary.resumed_at) == (ROWS, 1, 0)
    assert {path.name for path in output.parent.iterdir()} == {source.name, output.name}


async def test_many_calls_are_under_way_at_once_but_no_more_than_allowed(run: Runner, engine: Any) -> None:
    under_way: set[int] = set()
    most = 0
    answer = engine.predict

    async def watched(call: Any) -> Any:
        nonlocal most
        under_way.add(id(call))
        most = max(most, len(under_way))
        try:
            return await answer(call)
        finally:
            under_way.discard(id(call))

    engine.predict = watched
    engine.delays = (0.002,)
    await run(engine, replace(SMALL, batch_rows=1, in_flight=5))
    assert most == 5


@pytest.mark.parametrize("after", [0, 1, 5, 9, 20])
async def test_a_stopped_run_goes_on_where_it_stopped(run: Runner, engine: Any, output: Path, after: int) -> None:
    engine.stop_after = after
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run(engine), 0.3)
    assert not output.exists()
    engine.calls.clear()
    engine.stop_after = None
    summary = await run(engine)
    check(output)
    assert summary.resumed_at <= after * 4
    assert sum(engine.calls) == ROWS - summary.resumed_at - 1 + (summary.resumed_at > 50)


def freeze_at_checkpoint(monkeypatch: pytest.MonkeyPatch, number: int, copy: Path) -> None:
    """Copy the folder of a run as it is before and after its n-th checkpoint, as a kill there would leave it."""
    save, count = Workspace.save, 0

    def frozen(self: Workspace, checkpoint: Checkpoint) -> None:
        nonlocal count
        count += 1
        if count == number:
            shutil.copytree(self.folder, copy / "before")
        save(self, checkpoint)
        if count == number:
            shutil.copytree(self.folder, copy / "after")

    monkeypatch.setattr(Workspace, "save", frozen)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 3, 9, 10])
async def test_a_kill_around_any_checkpoint_loses_and_repeats_nothing(
    run: Runner, engine: Any, output: Path, number: int, moment: str
) -> None:
    copy = output.parent / "copy"
    with pytest.MonkeyPatch.context() as patched:
        freeze_at_checkpoint(patched, number, copy)
        await run(engine)
    output.unlink()
    shutil.copytree(copy / moment, Workspace(output).folder)
    await run(engine)
    check(output)


async def test_a_kill_between_delivery_and_cleaning_up_is_made_good(run: Runner, engine: Any, output: Path) -> None:
    await run(engine)
    workspace = Workspace(output)
    workspace.folder.mkdir()
    workspace.save(Checkpoint({}, 3, 9, RowPosition(ROWS, 9), 1, complete=True))
    engine.calls.clear()
    summary = await run(engine)
    check(output)
    assert (summary.rows, engine.calls) == (ROWS, [])
    assert not workspace.folder.exists()


async def test_strict_stops_at_the_first_bad_row_and_names_it(run: Runner, engine: Any, output: Path) -> None:
    with pytest.raises(RowRefused, match=r"row 50 \(counted from 0\): expected 2 numbers, got 1"):
        await run(engine, strict=True)
    assert not output.exists()
    assert (await run(engine)).resumed_at == 48
    check(output)


async def test_what_was_answered_before_an_engine_error_is_kept(run: Runner, engine: Any, output: Path) -> None:
    answer = engine.predict

    async def failing(call: Any) -> Any:
        if len(engine.calls) >= 11:
            raise ModelNotFound
        return await answer(call)

    engine.predict = failing
    with pytest.raises(ModelNotFound):
        await run(engine)
    engine.predict = answer
    assert (await run(engine)).resumed_at >= 4 * 8
    check(output)


@pytest.mark.parametrize("pace", [replace(SMALL, part_bytes=1), replace(SMALL, part_seconds=0.0), Pace()])
async def test_parts_close_by_rows_bytes_or_time(run: Runner, engine: Any, output: Path, pace: Pace) -> None:
    await run(engine, pace)
    check(output)


async def test_progress_only_grows_and_ends_at_the_end(run: Runner, engine: Any, output: Path) -> None:
    seen: list[RowPosition] = []
    await run(engine, progress=seen.append)
    assert seen[0] == RowPosition()
    assert seen == sorted(seen, key=lambda position: position.rows)
    assert seen[-1].rows == ROWS


def test_two_runs_never_share_an_output(output: Path) -> None:
    with (
        Workspace(output).locked(),
        pytest.raises(ConfigError, match="another run is writing"),
        Workspace(output).locked(),
    ):
        pass


def test_a_workspace_without_anything_to_keep_leaves_no_folder(output: Path) -> None:
    with Workspace(output).locked():
        pass
    assert not Workspace(output).folder.exists()


def test_an_output_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"), Workspace(tmp_path / "no" / "o.jsonl").locked():
        pass


def test_a_checkpoint_survives_the_disk(output: Path) -> None:
    checkpoint = Checkpoint({"model": "m", "top_k": 1}, 3, 2, RowPosition(7, 99), 1)
    workspace = Workspace(output)
    with workspace.locked():
        workspace.save(checkpoint)
        assert workspace.load() == checkpoint
        assert [path.name for path in workspace.folder.iterdir()] == ["checkpoint.json"]
        workspace.clear()
        assert workspace.load() is None


def test_an_unreadable_checkpoint_is_refused_in_words(output: Path) -> None:
    workspace = Workspace(output)
    workspace.folder.mkdir()
    (workspace.folder / "checkpoint.json").write_text("{}")
    with pytest.raises(ConfigError, match="--restart"):
        workspace.load()
