"""What it looks like: the strangest and the most typical bad rows, each with the recorded rows that are most like it and not bad.

Alike is what is near in the features z, which the model's own layers made; where too few were recorded, in the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy as np
from numpy.typing import NDArray

from hoverboard.database.statements import statements
from hoverboard.postmortem.counting import RecordedShare
from hoverboard.postmortem.pictures import image_of, picture
from hoverboard.postmortem.recorded_values import RawInputs, decode_inputs
from hoverboard.postmortem.report import ReportedExample
from hoverboard.postmortem.table import EXOGENOUS, Table
from hoverboard.postmortem.wording import in_short

__all__ = ["examples"]

_SQL: Final = statements(__file__)
_MOST_BAD: Final = 1000
_MOST_OTHERS: Final = 2000
_EACH: Final = 3
_SHOWN: Final = 200
_ENOUGH: Final = 0.9  # of rows that have z, for z to say who is alike
Rows = NDArray[np.intp]
Numbers = NDArray[np.float32]


async def examples(
    recording: RecordedShare, table: Table, time: tuple[datetime, datetime]
) -> Mapping[str, Sequence[ReportedExample]]:
    """`strangest` and `typical` bad rows; empty where no bad row has a sample.

    Args:
        recording: of the model.
        table: its rows, those of the usual time told apart.
        time: begin and end of all its rows.
    """
    named = table.ids != np.void(bytes(16))  # a refused call has no sample
    bad = _some(np.flatnonzero(table.bad & ~table.base & named), _MOST_BAD)
    others = _some(np.flatnonzero(~table.bad & named), _MOST_OTHERS)
    if not len(bad) or not len(others):
        return {}
    both = np.concatenate([bad, others])
    z = await _features(recording, table.ids[both], time)
    known, numbers = (np.arange(len(both)), _inputs(table, both)) if z is None else z
    if not numbers.shape[1]:
        return {}
    is_bad = known < len(bad)
    chosen = _chosen(_scaled(numbers, ~is_bad), is_bad)
    wanted = {int(row) for rows in chosen.values() for row, near in rows for row in (row, *(each for each, _ in near))}
    found = await _rows(recording, table.ids[both[known[sorted(wanted)]]], time)
    ids = [bytes(each) for each in table.ids[both[known]]]
    return {
        name: [
            msgspec.structs.replace(
                found[ids[row]],
                neighbours=[
                    msgspec.structs.replace(found[ids[each]], distance=away)
                    for each, away in near
                    if ids[each] in found
                ],
            )
            for row, near in rows
            if ids[row] in found
        ]
        for name, rows in chosen.items()
    }


def _some(rows: Rows, most: int) -> Rows:
    """Evenly spread ones, so that all of the time is among them."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)]


async def _features(recording: RecordedShare, ids: Any, time: tuple[datetime, datetime]) -> tuple[Rows, Numbers] | None:
    """Which rows have z of the version that most of them have z of, and that; None where too few have one."""
    wanted = [UUID(bytes=bytes(each)) for each in ids]
    rows = await recording.connection.fetch(_SQL["features"], *time, wanted)
    versions = [row["version_id"] for row in rows]
    version = max(set(versions), key=versions.count, default=None)
    z = {row["sample_id"]: row["z"] for row in rows if row["version_id"] == version}
    places = [place for place, each in enumerate(wanted) if each in z]
    if len(places) < _ENOUGH * len(wanted):
        return None
    data = [np.frombuffer(z[wanted[place]], "<f2") for place in places]
    return np.array(places, np.intp), np.stack(data).astype(np.float32)


def _inputs(table: Table, rows: Rows) -> Numbers:
    """Numbers as they were sent, and 0 or 1 for each frequent value of what is none; `(rows, columns)`."""
    columns = []
    for field in table.fields:
        if field.kind not in EXOGENOUS or field.kind == "cluster":
            continue
        if field.numbers is not None:
            columns.append(np.nan_to_num(field.numbers[rows], nan=0.0, posinf=3e38, neginf=-3e38))
        else:
            codes = field.codes[rows]
            columns += [(codes == code).astype(np.float32) for code in range(1, min(len(field.values), 12))]
    return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), np.float32)


def _scaled(numbers: Numbers, usual: NDArray[np.bool_]) -> NDArray[np.float64]:
    """In standard deviations of the usual rows, and no farther out than 100 of them: one column must not hide all others."""
    wide = numbers.astype(np.float64)
    middle, spread = wide[usual].mean(axis=0), wide[usual].std(axis=0)
    # What never varied among the usual rows says by one whole unit that it does now.
    return np.asarray(np.clip((wide - middle) / np.where(spread > 0, spread, 1.0), -100, 100))


def _chosen(
    points: NDArray[np.float64], is_bad: NDArray[np.bool_]
) -> dict[str, list[tuple[int, list[tuple[int, float]]]]]:
    """Rows by name, each with its nearest rows that are not bad and how far away they are, a dimension."""
    bad, others = np.flatnonzero(is_bad), np.flatnonzero(~is_bad)
    if not len(bad) or not len(others):
        return {}
    away = _distances(points[bad], points[others])
    nearest = np.argsort(away, axis=1, kind="stable")[:, :_EACH]
    strangest = np.argsort(-away.min(axis=1), kind="stable")[:_EACH]
    typical = np.argsort(_distances(points[bad], points[bad]).mean(axis=1), kind="stable")[:_EACH]

    def with_near(place: int) -> tuple[int, list[tuple[int, float]]]:
        near = [(int(others[each]), round(float(away[place, each]), 3)) for each in nearest[place].tolist()]
        return int(bad[place]), near

    return {
        "strangest": [with_near(place) for place in strangest.tolist()],
        "typical": [with_near(place) for place in typical.tolist()],
    }


def _distances(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square of the differences, `(some, others)`: it does not grow with the number of columns."""
    squares = (some**2).sum(axis=1)[:, np.newaxis] + (others**2).sum(axis=1) - 2 * some @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0) / some.shape[1]))


async def _rows(recording: RecordedShare, ids: Any, time: tuple[datetime, datetime]) -> dict[bytes, ReportedExample]:
    versions = {version.id: version.version for version in recording.versions}
    wanted = [UUID(bytes=bytes(each)) for each in ids]
    rows = await recording.fetch("examples", _SQL["example_rows"], recording.model, *time, wanted)
    pictures = await _pictures(recording, {row["id"]: row["version_id"] for row in rows}, time)
    return {row["id"].bytes: _example(row, versions, pictures.get(row["id"])) for row in rows}


async def _pictures(
    recording: RecordedShare, answered_by: Mapping[UUID, int | None], time: tuple[datetime, datetime]
) -> dict[UUID, str]:
    """Of samples whose version takes an image; not of those whose image was hidden."""
    found: dict[UUID, str] = {}
    for version in recording.versions:
        spec = image_of(version.signature)
        wanted = [each for each, by in answered_by.items() if by == version.id]
        if spec is None or not wanted:
            continue
        rows = await recording.connection.fetch(_SQL["example_inputs"], recording.model, *time, wanted)
        raw = [RawInputs(row["inputs"], row["vector"], row["tensors"]) for row in rows]
        decoded = decode_inputs(version.signature, raw, blanked=recording.blanked)
        for at, row in enumerate(rows):
            if not decoded.why_not[at] and not decoded.missing[spec.name][at]:
                found[row["id"]] = picture(spec, decoded.columns[spec.name][at])
    return found


def _example(row: Any, versions: Mapping[int, int], seen: str | None) -> ReportedExample:
    truth = row["true_label"] if row["true_value"] is None else f"{row['true_value']:g}"
    return ReportedExample(
        sample_id=str(row["id"]),
        at=row["at"],
        version=versions.get(row["version_id"]),
        label=row["label"],
        value=row["value"],
        p_value=row["p_value"],
        true_label=truth,
        tags=msgspec.json.decode(row["tags"]) if row["tags"] else None,
        inputs=_told(row),
        picture=seen,
    )


def _told(row: Any) -> str | None:
    """The inputs in one short line."""
    parts = [row["inputs"]] if row["inputs"] else []
    if row["vector"]:
        parts.append(in_short(row["vector"], more=row["elements"] > len(row["vector"])))
    text = " ".join(parts)
    return None if not text else text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
