"""How good recorded answers in exported files were, by the labels beside them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from hoverboard.offline.parquet_source import streamed
from hoverboard.postmortem.replay_answers import AnswerReader

__all__ = ["JudgedAnswers", "judged"]

_COLUMNS: Final = {
    "classification": ("label",),
    "multi-label": ("labels",),
    "regression": ("value",),
}
_TRUTHS: Final = ("true_label", "true_labels", "true_value")
_BATCH_ROWS: Final = 8192


class JudgedAnswers(msgspec.Struct, frozen=True):
    """Answers with a label that they can be held against, none of which weighs more than another.

    Attributes:
        rows: how many.
        right: share that is right; None of numbers, or where there are none.
        error: mean absolute error of numbers; None of labels.
    """

    rows: int = 0
    right: float | None = None
    error: float | None = None


def judged(reader: AnswerReader, answers: Sequence[Path], without: Collection[str]) -> JudgedAnswers:
    """Hold the answers of an export against their labels.

    Args:
        reader: of their versions.
        answers: the files.
        without: samples that are left out.
    """
    columns = _COLUMNS.get(reader.signature.task)
    if columns is None:
        return JudgedAnswers()
    rows, good, error = 0, 0, 0.0
    for path in answers:
        with streamed(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=["sample_id", *columns, *_TRUTHS]):
                table = pa.Table.from_batches([batch])
                here = [id_ not in without for id_ in table.column("sample_id").to_pylist()]
                truths, said = reader.truths(table), reader.labels(table) or reader.numbers(table)
                known = [
                    (one, true)
                    for one, true, there in zip(said, truths, here, strict=True)
                    if there and true is not None
                ]
                if reader.signature.task == "regression":
                    errors = np.array([abs(float(one[0]) - true) for one, true in known if one is not None], np.float64)
                    errors = errors[np.isfinite(errors)]
                    rows, error = rows + len(errors), error + float(errors.sum())
                else:
                    rows, good = rows + len(known), good + sum(one == true for one, true in known)
    if not rows:
        return JudgedAnswers()
    return (
        JudgedAnswers(rows, error=error / rows)
        if reader.signature.task == "regression"
        else JudgedAnswers(rows, right=good / rows)
    )
