"""The two files of an export, which have the same rows: put together part by part, without samples that are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Final, Self
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.contract.signature import Array
from hoverboard.database.connect import Connection
from hoverboard.database.on_record import gone
from hoverboard.files import synchronise
from hoverboard.offline.parquet_source import streamed
from hoverboard.postmortem.export_columns import unified
from hoverboard.postmortem.unfinished import unfit

__all__ = ["FILES", "RowsOnRecord", "check_parts", "joined", "merge"]

FILES: Final = ("inputs.parquet", "answers.parquet")
_ID: Final = "sample_id"


@dataclass(frozen=True, slots=True)
class RowsOnRecord:
    """Which exported rows may be handed on.

    Attributes:
        gone: samples that are no longer on record -> why.
        rows: others.
        outliers: of these, those that were found strange when they came.
        issues: issues of these -> rows.
    """

    gone: Mapping[str, str]
    rows: int
    outliers: int
    issues: Mapping[int, int]

    @classmethod
    async def of(cls, connection: Connection, answers: Sequence[Path]) -> Self:
        """Hold the rows of some files of answers against the database.

        Raises:
            asyncpg.PostgresError: the database cannot answer.
        """
        away: dict[str, str] = {}
        rows = outliers = 0
        issues: Counter[int] = Counter()
        for path in answers:
            with streamed(path) as file:
                for batch in file.iter_batches(columns=[_ID, "outlier", "issue"]):
                    table = batch.to_pydict()
                    found = await gone(connection, [UUID(id_) for id_ in table[_ID]])
                    away |= {str(id_): why for id_, why in found.items()}
                    here = [id_ not in away for id_ in table[_ID]]
                    rows += sum(here)
                    there = compress(zip(table["outlier"], table["issue"], strict=True), here)
                    flagged = [issue for outlier, issue in there if outlier or issue is not None]
                    outliers += len(flagged)
                    issues.update(issue for issue in flagged if issue is not None)
        return cls(away, rows, outliers, issues)

    def left_out(self, others: Mapping[str, int]) -> dict[str, int]:
        """What was left out before, and why -> how many, with those that are gone."""
        return dict(sorted((Counter(others) + Counter(self.gone.values())).items()))


def check_parts(parts: Sequence[Sequence[Path]], state: Path, rows: int) -> None:
    """Hold parts that an earlier run may have written against each other, and against what its state counts.

    Args:
        parts: the inputs and the answers of each.
        state: the file that counts them.
        rows: as many as it says that all have.

    Raises:
        ConfigError: one is of another run.
    """
    total = 0
    for inputs, answers in parts:
        here, beside = pq.read_metadata(inputs).num_rows, pq.read_metadata(answers).num_rows
        if here != beside:
            raise unfit(state.parent, inputs, f"has {here:,} rows where {answers.name} has {beside:,}")
        total += here
    if total != rows:
        raise unfit(state.parent, state, f"counts {rows:,} rows where the parts have {total:,}")


def merge(
    parts: Sequence[Sequence[Path]],
    without: Mapping[str, str],
    nothing: Sequence[pa.Schema],
    about: Mapping[str, bytes],
    whole: Sequence[Path],
) -> None:
    """Write parts as one file each of inputs and of answers, durably.

    Args:
        parts: the inputs and the answers of each.
        without: samples that are left out.
        nothing: the schemas where there is no part.
        about: metadata of both files.
        whole: what is written, likewise.
    """
    for place, path in enumerate(whole):
        schema = unified([pq.read_schema(part[place]) for part in parts] or [nothing[place]]).with_metadata(about)
        with pq.ParquetWriter(path, schema) as writer:
            for part in parts:
                for table in _tables(part[place], part[1], without):
                    writer.write_table(table.cast(schema))
        synchronise(path)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same columns as one, in one piece."""
    schema = unified([table.schema for table in tables])
    return pa.concat_tables([table.cast(schema) for table in tables]).combine_chunks()


def _tables(path: Path, answers: Path, without: Mapping[str, str]) -> Iterator[pa.Table]:
    """A file's rows that stay, group by group: it takes the memory of one. Both files of a part have the same groups."""
    with pq.ParquetFile(path) as file, pq.ParquetFile(answers) as beside:
        for group in range(file.num_row_groups):
            stays = _staying(beside.read_row_group(group, columns=[_ID]), without) if without else None
            table = file.read_row_group(group)
            yield table if stays is None or stays.all() else table.filter(pa.array(stays))


def _staying(answers: pa.Table, without: Mapping[str, str]) -> Array:
    return np.array([id_ not in without for id_ in answers.column(_ID).to_pylist()], np.bool_)
