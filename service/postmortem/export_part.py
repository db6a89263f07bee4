"""Rows of an export that are gathered until they are worth a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa

from hoverboard.contract.signature import Array, Signature
from hoverboard.postmortem.export_columns import answers_table, inputs_table
from hoverboard.postmortem.export_files import joined
from hoverboard.postmortem.recorded import RecordedVersion, SampleBlock
from hoverboard.postmortem.recorded_values import decode_inputs

__all__ = ["ExportPart"]

_PART_ROWS: Final = 50_000
_PART_BYTES: Final = 64 << 20


class ExportPart:
    """Rows that are gathered for one part of both files.

    Args:
        signature: of the versions.
        versions: whose answers they are, by `RecordedVersion.id`.
        skipped: versions whose rows are only counted, likewise -> the reason.
        labelled: whether labels are a column of the inputs.
        incomplete: whether samples are taken of which inputs were redacted or hashed.

    Attributes:
        rows: gathered so far.
        left_out: why others were not -> how many.
    """

    def __init__(
        self,
        signature: Signature,
        versions: Mapping[int, RecordedVersion] = MappingProxyType({}),
        skipped: Mapping[int, str] = MappingProxyType({}),
        *,
        labelled: bool,
        incomplete: bool = False,
    ) -> None:
        self._signature = signature
        self._versions = versions
        self._skipped = skipped
        self._labelled = labelled
        self._incomplete = incomplete
        self._inputs: list[pa.Table] = []
        self._answers: list[pa.Table] = []
        self._bytes = 0
        self.rows = 0
        self.left_out: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether it should be closed."""
        return self.rows + self.left_out.total() >= _PART_ROWS or self._bytes >= _PART_BYTES

    def add(self, block: SampleBlock, before: bytes | None) -> None:
        """Add a block's rows.

        Args:
            before: the sample of the last row before it.
        """
        ids = [bytes(each) for each in block.ids.tolist()]
        chosen = []
        for row, (id_, why, answer) in enumerate(zip(ids, block.why_not, block.answers, strict=True)):
            # Of a sample that several versions answered one row is enough: it would count twice in a training set.
            if id_ == (ids[row - 1] if row else before):
                self.left_out["answered by another version, too"] += 1
            elif answer is not None and answer.version_id in self._skipped:
                self.left_out[self._skipped[answer.version_id]] += 1
            elif block.unwanted[row]:
                self.left_out[block.unwanted[row]] += 1
            elif why and not (self._incomplete and why != "other inputs"):
                self.left_out[why] += 1
            else:
                chosen.append(row)
        if chosen:
            self._append(block, np.array(chosen))

    def _append(self, block: SampleBlock, rows: Array) -> None:
        inputs = inputs_table(block, rows, self._signature, labels=self._labelled)
        answers = answers_table(block, rows, self._signature, self._versions)
        self._inputs.append(inputs)
        self._answers.append(answers)
        self._bytes += inputs.nbytes + answers.nbytes
        self.rows += len(rows)

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """All rows, as the two files have them."""
        if not self.rows:
            block = _nothing(self._signature)
            none = np.zeros(0, np.intp)
            inputs = inputs_table(block, none, self._signature, labels=self._labelled)
            return inputs, answers_table(block, none, self._signature, {})
        return joined(self._inputs), joined(self._answers)


def _nothing(signature: Signature) -> SampleBlock:
    decoded = decode_inputs(signature, ())
    none = np.zeros(0)
    at_us, ids = np.zeros(0, np.int64), np.zeros(0, "V16")
    return SampleBlock(ids, at_us, decoded.columns, decoded.missing, (), (), none, (), (), (), (), (b"", 0))
