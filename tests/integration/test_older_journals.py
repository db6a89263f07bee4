"""A day's traffic that version 0.1.0 journaled, drained by this version.

`journals_of_0_1_0/` was written by that version: `engine-0` and `api-0` of a running service whose Postgres was away, and a
journal with what it lacks (a gap, scores of all detectors, a row that failed, the policy `sampled`). `rows.json` beside it
is what that version's own recorder made of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hoverboard.config import Settings
from hoverboard.database.connect import connected
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database

JOURNALS = Path(__file__).parent / "journals_of_0_1_0"
COLUMNS = {
    "model_versions": "name, version, weights_sha256, manifest, first_served_at",
    "deployments": "at, model, role, v.version, share, reason, actor, process",
    "samples": "at, id, why, tags, model, inputs, vector, tensors, incl_prob, request_id, traceparent",
    "predictions": (
        "at, sample_id, v.name, v.version, role, predicted_at, label, confidence, value, outputs, output_tensors, p_value, "
        "batch_id, batch_size, bucket, queue_us, infer_us"
    ),
    "outliers": "at, sample_id, v.version, detector, scores, p_value",
    "rejections": "r.*",
    "labels": "sample_id, labelled_at, label, value, source, author",
    "gaps": "journal, process, model, g.version, reason, frames, records, executed, flagged, first_at, last_at, detail",
    "recorder_cursor": "journal, process, seq, records, executed, recorded, finished_at is not null as finished",
    "quarantine": "file, error",
    "alarm_events": "at, v.name, v.version, kind, actor, reason",
}
"""Everything but when it was recorded, and ids that a database counts itself."""


async def rows_of(connection: Any) -> dict[str, list[str]]:
    """Every table as JSON, row by row, in an order of their own."""
    found = {}
    for table, columns in COLUMNS.items():
        joined = f"{table} {table[0]}" + (
            f" left join model_versions v on v.id = {table[0]}.version_id" if "v." in columns else ""
        )
        rows = await connection.fetch(f"select to_jsonb(x)::text as row from (select {columns} from {joined}) x")
        found[table] = sorted(row["row"] for row in rows)
    return found


async def test_what_version_0_1_0_has_journaled_is_recorded_as_that_version_would_have(
    database: str, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(retention_days=3650)
    shutil.copytree(JOURNALS, settings.data_dir / "journal", ignore=shutil.ignore_patterns("*.json"))
    drain = Drain(settings, lambda: open_database(settings, database))
    await drain.empty()
    drain.close()
    async with connected(database, application="test", role=None) as connection:
        found = await rows_of(connection)
        several = await connection.fetchval(
            "select (select count(labels) from labels) + (select count(labels) + count(confidences) from predictions)"
        )
        processes = await connection.fetch("select distinct process from predictions")
        callers = await connection.fetchval("select count(caller) from samples")
    assert several == callers == 0  # it knew one label a sample, and no callers
    assert [row["process"] for row in processes] == ["engine-0"]  # each journal says whose it is
    assert found == json.loads((JOURNALS / "rows.json").read_text(encoding="utf-8"))
