"""Recorded samples back as the inputs of a model, with what was answered to them and what they truly were."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy as np

from hoverboard.contract.signature import Array, Signature
from hoverboard.contract.times import micros, times_ms
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.outliers.summary import OutlierSummary
from hoverboard.postmortem.blocks import BlockReader, rows_for
from hoverboard.postmortem.recorded_values import RawInputs, decode_inputs, decode_outputs
from hoverboard.postmortem.window import RecordedWindow, RowChoice

__all__ = [
    "RecordedAnswer",
    "RecordedVersion",
    "SampleBlock",
    "SampleKey",
    "Truth",
    "open_and_resolved",
    "read_samples",
    "recorded_versions",
    "rows_by_version",
    "uuid_at",
]

_SQL: Final = statements(__file__)
_MOST_LOOKED_AT: Final = 32_768

_EVERY_ROW: Final = RowChoice()

SampleKey = tuple[bytes, int]
"""Where reading goes on: the id of a sample, 16 bytes, and the `version_id` of the last row of it that was read."""


@dataclass(frozen=True, slots=True)
class RecordedVersion:
    """A version that answered at some time.

    Attributes:
        id: its `model_versions.id`.
        version: its number.
        weights_sha256: of its artifact.
        signature: its contract.
        alpha: at most this p-value is an outlier; None for a version without calibration.
        bound: of the share of normal samples that are outliers, as its alarm has it; None for one without calibration.
    """

    id: int
    version: int
    weights_sha256: str
    signature: Signature
    alpha: float | None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One row of `predictions`; fields as its columns, None where they are null.

    Attributes:
        outlier: whether the version found the sample strange.
        issue: the issue that it is of then.
        outputs: by name, where they were asked for.
    """

    version_id: int
    role: str | None
    process: str | None
    label: str | None
    confidence: float | None
    value: float | None
    p_value: float | None
    outlier: bool
    issue: int | None
    labels: Sequence[str] | None
    confidences: Sequence[float] | None
    queue_us: int
    infer_us: int
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Truth:
    """What somebody said last that a sample truly is: one row of `labels`."""

    label: str | None
    value: float | None
    labels: Sequence[str] | None
    source: str


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Some consecutive rows: a sample and one answer to it.

    Attributes:
        ids: of the samples, `(rows,)` of 16 bytes each (dtype V16).
        at_us: when they came, microseconds since the epoch, int64 `(rows,)`.
        columns: input -> `(rows, *shape)`; of inputs with variable dimensions an object array, an array a row.
        missing: input -> whether it is not there as it was sent, bool `(rows,)`; its column has zeros, or None, there.
        why_not: why a row is not what was sent (`redacted`, `hashed`, `lossy`, `other inputs`); "" where it is.
        unwanted: why a row is to be left out by the choice of rows (`outliers`, ...); "" where it is not.
        incl_prob: the probability with which such a sample is kept, float64 `(rows,)`.
        tags: what the caller said.
        callers: who called, where callers have keys.
        answers: None for a sample that was not answered.
        truths: None where nobody said.
        last: the key to go on after.
    """

    ids: Array
    at_us: Array
    columns: Mapping[str, Array]
    missing: Mapping[str, Array]
    why_not: Sequence[str]
    unwanted: Sequence[str]
    incl_prob: Array
    tags: Sequence[Mapping[str, str] | None]
    callers: Sequence[str | None]
    answers: Sequence[RecordedAnswer | None]
    truths: Sequence[Truth | None]
    last: SampleKey

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def usable(self) -> Array:
        """Which rows are what was sent, bool `(rows,)`: no other may be given to a model."""
        return np.array([not why for why in self.why_not], np.bool_)


async def recorded_versions(connection: Connection, model: str) -> list[RecordedVersion]:
    """Every version of a model that answered, by number: one number with other weights is another version."""
    return [
        RecordedVersion(
            row["id"],
            row["version"],
            row["weights_sha256"],
            msgspec.json.decode(row["manifest"], type=Signature),
            getattr(promised, "alpha", None),
            getattr(promised, "alarm_bound", None),
        )
        for row in await connection.fetch(_SQL["model_versions"], model)
        for promised in (OutlierSummary.in_json(row["manifest"]),)
    ]


async def rows_by_version(
    connection: Connection, window: RecordedWindow, versions: Sequence[RecordedVersion]
) -> dict[int, int]:
    """How many samples of the window's time each version answered, by `RecordedVersion.id`; conditions are not looked at."""
    ids = [version.id for version in versions]
    rows = await connection.fetch(_SQL["answered_rows"], ids, window.start, window.end)
    return {row["version_id"]: row["rows"] for row in rows}


async def open_and_resolved(connection: Connection, issues: Mapping[int, int]) -> tuple[dict[int, int], dict[int, int]]:
    """Of some issues and their rows those that are open, and those that are resolved; what is archived or ignored is neither."""
    found: dict[str, Counter[int]] = {"unresolved": Counter(), "resolved": Counter()}
    for row in await connection.fetch(_SQL["issues_decided"], list(issues)):
        found[row["state"]][row["whole"]] += issues[row["id"]]
    opened, resolved = (dict(sorted(each.items())) for each in found.values())
    return opened, resolved


async def read_samples(
    connection: Connection,
    signature: Signature,
    window: RecordedWindow,
    version_ids: Sequence[int],
    *,
    after: SampleKey | None = None,
    answered: bool = True,
    choice: RowChoice = _EVERY_ROW,
    outputs: bool = False,
    blanked: Collection[str] = (),
    block_rows: int | None = None,
    ids: Sequence[UUID] | None = None,
) -> AsyncIterator[SampleBlock]:
    """Samples of a window in the order of their ids, so of their time, block by block.

    Args:
        connection: as of `reading`.
        signature: of the versions: they must have the same inputs.
        window: which samples.
        version_ids: whose answers; a sample that several of them answered comes once for each.
        after: go on after this row.
        answered: only samples with an answer. Others are read as if they were this signature's, which most of them are.
        choice: of rows; what it leaves out is read and told by `SampleBlock.unwanted`, so that it can be counted.
        outputs: with whole outputs, too.
        blanked: see `decode_inputs`.
        block_rows: most rows of a block; by the signature where it is left out.
        ids: only these samples.

    Raises:
        asyncpg.PostgresError: the database cannot answer; `reading` says so in words.
    """
    limit = page = block_rows or rows_for(signature)
    at, version_id = (uuid_at(window.start), -1) if after is None else (UUID(bytes=after[0]), after[1])
    reader = BlockReader(limit)
    while page_ids := await _next(connection, window, choice, at, page, only=ids):
        blocks = reader.read(
            *(connection, _SQL["read_samples"]),
            *(window.model, window.start, window.end, *window.conditions),
            *(list(version_ids), answered, choice.labelled, choice.issue, at, outputs, version_id, page_ids, limit),
            *(*window.excluded, list(choice.without_issues) or None, choice.without_outliers),
            *(list(choice.label_sources) or None, list(choice.without_label_sources) or None),
        )
        # Whole blocks, however many pages they took: who goes on after one finds the same ones that follow.
        async for rows in blocks:
            yield _block(rows, signature, blanked)
        if reader.rows < limit:
            at, version_id = UUID(int=page_ids[-1].int + 1), -1
        else:
            at, version_id = reader.last["id"], reader.last["version_id"] or 0
        # Where few are meant many are looked at, so that a rare one is found in time.
        page = min(2 * page, _MOST_LOOKED_AT) if reader.rows < limit // 4 else max(page // 2, limit)
    if rest := reader.rest():
        yield _block(rest, signature, blanked)


async def _next(
    connection: Connection,
    window: RecordedWindow,
    choice: RowChoice,
    at: UUID,
    most: int,
    *,
    only: Sequence[UUID] | None,
) -> list[UUID]:
    """Ids of the next samples that may be meant, by what names the fewest; conditions are not looked at."""
    ids, time = (at, uuid_at(window.end, round_up=True), most), (window.start, window.end)
    if only is not None:
        return sorted(each for each in only if each >= at)[:most]
    if choice.issue is not None:
        rows = await connection.fetch(_SQL["next_of_issue"], choice.issue, *time, *ids)
    elif choice.labelled:
        rows = await connection.fetch(_SQL["next_labelled"], *ids)
    else:
        rows = await connection.fetch(_SQL["next_samples"], window.model, *time, *ids)
    return [row["id"] for row in rows]


def _block(rows: Sequence[Any], signature: Signature, blanked: Collection[str]) -> SampleBlock:
    raw = [RawInputs(row["inputs"], row["vector"], row["tensors"]) for row in rows]
    decoded = decode_inputs(signature, raw, blanked=blanked)
    data = b"".join([row["id"].bytes for row in rows])
    return SampleBlock(
        ids=np.frombuffer(data, "V16"),
        at_us=times_ms(data) * 1000,
        columns=decoded.columns,
        missing=decoded.missing,
        why_not=decoded.why_not,
        unwanted=[row["unwanted"] or "" for row in rows],
        incl_prob=np.array([row["incl_prob"] for row in rows], np.float32).astype(np.float64),
        tags=[row["tags"] and msgspec.json.decode(row["tags"]) for row in rows],
        callers=[row["caller"] for row in rows],
        answers=[_answer(row, signature) for row in rows],
        truths=[_truth(row) for row in rows],
        last=(data[-16:], rows[-1]["version_id"] or 0),
    )


def _answer(row: Any, signature: Signature) -> RecordedAnswer | None:
    if row["version_id"] is None:
        return None
    return RecordedAnswer(
        version_id=row["version_id"],
        role=row["role"],
        process=row["process"],
        label=row["label"],
        confidence=row["confidence"],
        value=row["value"],
        p_value=row["p_value"],
        outlier=row["outlier"],
        issue=row["issue_id"],
        labels=row["labels"],
        confidences=row["confidences"],
        queue_us=row["queue_us"],
        infer_us=row["infer_us"],
        outputs=decode_outputs(signature, row["outputs"], row["output_tensors"]),
    )


def _truth(row: Any) -> Truth | None:
    if not row["labelled"]:
        return None
    return Truth(row["true_label"], row["true_value"], row["true_labels"], row["true_source"])


def uuid_at(at: datetime, *, round_up: bool = False) -> UUID:
    """The least id that a sample of that time, or of the next whole millisecond, can have."""
    milliseconds = -(-micros(at) // 1000) if round_up else micros(at) // 1000
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)
