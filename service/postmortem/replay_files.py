"""What of a replay is shown or written row by row: examples, and a file with what became of each sample."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.contract.signature import Array
from hoverboard.offline.parquet_source import streamed
from hoverboard.postmortem.replay_answers import AnswerReader, aligned
from hoverboard.postmortem.replay_compare import Compared, Comparison
from hoverboard.postmortem.replay_result import KINDS, ReplayExample
from hoverboard.postmortem.wording import in_short

__all__ = ["examples_of", "write_outcomes"]

_LONGEST: Final = 80  # characters of one input in an example
_SHOWN: Final = (
    *("sample_id", "at", "model_version", "role", "caller", "tags", "incl_prob"),
    *("true_label", "true_labels", "true_value"),
)
_PREDICTED: Final = ("label", "confidence", "labels", "value", "p_value", "outlier", "outputs", "error")


def examples_of(found: Sequence[Comparison], inputs: Path, answers: Path, names: Sequence[str]) -> list[ReplayExample]:
    """Compared rows with what was sent.

    Args:
        inputs, answers: of the export.
        names: of the inputs.
    """
    if not found:
        return []
    rows = [each.row for each in found]
    said = _rows_of(answers, ["sample_id", "at"], rows)
    sent = _rows_of(inputs, names, rows)
    return [
        ReplayExample(
            sample_id=str(uuid.UUID(said[each.row]["sample_id"])),
            at=said[each.row]["at"],
            kind=each.kind,
            recorded=each.recorded,
            again=each.again,
            candidate=each.candidate,
            truth=each.truth,
            inputs={name: _short(value) for name, value in sent[each.row].items()},
        )
        for each in found
    ]


def write_outcomes(reader: AnswerReader, answers: Path, candidate: Path, compared: Compared, output: Path) -> None:
    """What became of each sample: its record, the candidate's answer (`candidate_...`) and its kind; whole or not at all."""
    fresh = output.with_name(f".{output.name}.part")
    first = 0
    try:
        with ExitStack() as stack:
            writer = None
            for one, other in aligned([answers, candidate], reader.rows):
                table = _outcomes(one, other, compared.codes[first : first + one.num_rows])
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(fresh, table.schema))
                writer.write_table(table)
                first += one.num_rows
            if writer is None:
                pq.write_table(
                    pa.table({"sample_id": pa.array([], pa.string()), "kind": pa.array([], pa.string())}), fresh
                )
        fresh.replace(output)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _rows_of(path: Path, columns: Sequence[str], rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Some rows of a file by their place, without the rest of it in memory."""
    wanted, found, first = sorted(rows), {}, 0
    with streamed(path) as file:
        for batch in file.iter_batches(batch_size=64, columns=list(columns)):
            while wanted and wanted[0] < first + batch.num_rows:
                row = wanted.pop(0)
                found[row] = batch.slice(row - first, 1).to_pylist()[0]
            first += batch.num_rows
            if not wanted:
                break
    return found


def _short(value: Any) -> str:
    text = in_short(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _outcomes(recorded: pa.Table, candidate: pa.Table, codes: Array) -> pa.Table:
    columns = {name: recorded.column(name) for name in _SHOWN}
    columns["kind"] = pa.array([KINDS[code] for code in codes.tolist()], pa.string())
    for prefix, table in (("recorded", recorded), ("candidate", candidate)):
        columns |= {f"{prefix}_{name}": table.column(name) for name in _PREDICTED if name in table.column_names}
    return pa.table(columns)
