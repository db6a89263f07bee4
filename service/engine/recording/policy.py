"""Which rows of a batch are recorded, and how much of each: decided before the journal, so that nothing else is on disk."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from hoverboard.contract.calls import ExecutedBatch
from hoverboard.contract.heads import probabilities, thresholds
from hoverboard.contract.signature import STRING, Array, Signature
from hoverboard.journal.columns import Column, pack_column
from hoverboard.journal.records import WHYS, Policy
from hoverboard.versions import Recording

__all__ = ["GLANCED", "Kept", "RowPolicy", "redact_problem"]

_ALL, _SAMPLED, _OUTLIER, _ERROR, _LOW_MARGIN = range(len(WHYS))

GLANCED: Final = 13
"""Of 256: rows whose id ends in a byte below this have their features recorded, as SQL can tell: `get_byte(uuid_send(id), 15) < 13`.

They are among those that `sampled` keeps by its share, unless that is smaller: it looks at the same bits.
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a batch that are recorded.

    Attributes:
        rows: their indexes, ascending; None for all of them.
        incl_prob: float32, the probability with which each was kept; None where all are 1.
        why: uint8 index into `WHYS`; None where all are 0.
    """

    rows: Array | None = None
    incl_prob: Array | None = None
    why: Array | None = None


_EVERY: Final = Kept()
_NOTHING: Final = Kept(np.zeros(0, np.intp))


@dataclass(frozen=True, slots=True)
class _Blank:
    """Elements of one input that are not recorded: a path of indexes within a sample; empty for the whole input."""

    column: int
    path: tuple[int, ...]


class RowPolicy:
    """The recording policy of one version.

    Args:
        recording: as `serving.toml` says.
        signature: of the version.
        key: for the hashes of `hashed`; without it, somebody with the database could find short inputs by trying.

    Attributes:
        policy: its name.
        problem: why nothing may be recorded: a pointer that hides nothing, since somebody believes that it does.
        redacted: names of the inputs that are left out as a whole.
    """

    def __init__(self, recording: Recording, signature: Signature, key: bytes) -> None:
        self.policy: Policy = recording.policy
        self.problem = redact_problem(recording.redact, signature)
        self._recording = recording
        self._signature = signature
        self._key = key
        self._blanks = _blanks(recording.redact, signature)
        whole = {blank.column for blank in self._blanks if not blank.path}
        self.redacted = [spec.name for i, spec in enumerate(signature.inputs) if i in whole]
        self._columns = [i for i in range(len(signature.inputs)) if i not in whole]
        self._elements = [blank for blank in self._blanks if blank.path and blank.column not in whole]

    def select(self, batch: ExecutedBatch) -> Kept:
        """The rows that the policy keeps."""
        if self.policy == "none":
            return _NOTHING
        return self._sample(batch) if self.policy == "sampled" else _EVERY

    def special(self, batch: ExecutedBatch) -> Kept:
        """The rows that are kept even where there is no room for ordinary ones: outliers, errors and low margins."""
        why = np.zeros(len(batch.ok), np.uint8)
        if self.policy != "none":
            self._mark(batch, why)
        rows = np.flatnonzero(why)
        return Kept(rows, None, why[rows])

    def glanced(self, batch: ExecutedBatch, kept: Kept) -> Array | None:
        """The ordinary rows among the kept ones whose features are recorded: a fixed share, by their ids; None for none.

        Nothing where inputs are not written down as they came: z tells about them, and where the version has no inner layer
        it even is them. And nothing of a version without detectors, which has no features.
        """
        if batch.outlier is None or self._recording.hides:
            return None
        last_bytes = batch.sample_ids[15::16]
        if min(last_bytes, default=GLANCED) >= GLANCED:  # mostly so for a few rows, and a tenth of what arrays take
            return None
        chosen = np.frombuffer(last_bytes, np.uint8) < GLANCED
        chosen &= batch.ok & ~batch.outlier
        rows = np.flatnonzero(chosen)
        if kept.rows is not None:
            rows = np.intersect1d(rows, kept.rows, assume_unique=True)
        return rows if len(rows) else None

    @property
    def hides(self) -> bool:
        """Whether inputs are not written down as they came."""
        return self._recording.hides

    def columns(self, batch: ExecutedBatch, rows: Array | None) -> list[Column]:
        """The inputs of the kept rows as they are recorded; inputs in `redacted` are left out."""
        columns = [batch.columns[i] if rows is None else batch.columns[i][rows] for i in self._columns]
        for blank in self._elements:
            place = self._columns.index(blank.column)
            columns[place] = _without(columns[place], blank.path)
        # All inputs together, so that equal samples are found, and no single input can be looked up.
        if self.policy == "hashed":
            count = len(batch.ok) if rows is None else len(rows)
            return [("uint8", [count, 32], b"".join(self._hash(columns, row) for row in range(count)))]
        return [pack_column(column) for column in columns]

    def _sample(self, batch: ExecutedBatch) -> Kept:
        share = self._recording.share
        # The last 32 bits of a UUIDv7 are random: the same row is chosen wherever the question is asked.
        draw = np.frombuffer(batch.sample_ids, "<u4").reshape(-1, 4)[:, 3]
        why = np.where(draw < share * 2.0**32, _SAMPLED, 0).astype(np.uint8)
        self._mark(batch, why)
        rows = np.flatnonzero(why)
        why = why[rows]
        return Kept(rows, np.where(why == _SAMPLED, share, 1.0).astype(np.float32), why)

    def _mark(self, batch: ExecutedBatch, why: Array) -> None:
        margins = _margins(self._signature, batch.outputs[0])
        if margins is not None:
            why[margins <= self._recording.low_margin] = _LOW_MARGIN
        if batch.outlier is not None:
            why[batch.outlier] = _OUTLIER
        # Last: a row has one reason, and this is the strongest.
        why[~batch.ok] = _ERROR

    def _hash(self, columns: Sequence[Array], row: int) -> bytes:
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for column in columns:
            value = column[row : row + 1]
            digest.update(msgspec.msgpack.encode(pack_column(value)))
        return digest.digest()


def redact_problem(pointers: Sequence[str], signature: Signature) -> str | None:
    """The first pointer that leads to nothing in a version's samples; None where all of them hide something."""
    specs = {spec.name: spec for spec in signature.inputs}
    for pointer in pointers:
        name, *path = _tokens(pointer)
        spec = specs.get(name)
        if spec is None:
            return f"recording.redact: {pointer} is no input; inputs: {', '.join(sorted(specs))}"
        sizes = zip(path, spec.shape, strict=False)
        if any(size is not None and index.isdecimal() and int(index) >= size for index, size in sizes):
            shape = ", ".join("any" if size is None else str(size) for size in spec.shape)
            return f"recording.redact: {pointer} is past the end of {name}, whose shape is [{shape}]"
    return None


def _tokens(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.removeprefix("/").split("/")]


def _blanks(pointers: Sequence[str], signature: Signature) -> list[_Blank]:
    """What the pointers hide. What cannot be hidden by itself is hidden with all of its input."""
    places: Mapping[str, int] = {spec.name: i for i, spec in enumerate(signature.inputs)}
    blanks = []
    for pointer in pointers:
        name, *path = _tokens(pointer)
        if name not in places:
            continue
        spec = signature.inputs[places[name]]
        indexed = all(token.isdecimal() for token in path) and len(path) <= len(spec.shape)
        # An integer has no value that says that there is none.
        blankable = spec.dtype == STRING or spec.dtype.startswith("float")
        blanks.append(_Blank(places[name], tuple(int(token) for token in path) if indexed and blankable else ()))
    return blanks


def _without(column: Array, path: tuple[int, ...]) -> Array:
    """A column whose elements at `path` of every row are NaN, or None for strings."""
    if any(index >= size for index, size in zip(path, column.shape[1:], strict=False)):
        return column
    blanked = column.copy()
    place: tuple[Any, ...] = (slice(None), *path)
    blanked[place] = None if column.dtype == object else np.nan
    return blanked


def _margins(signature: Signature, first: Array) -> Array | None:
    """How far apart the two most probable classes are, in probability, a row; None for a task without classes.

    Of a multi-label version: how far the label that is nearest to its threshold is from it.
    """
    if signature.task not in ("classification", "multi-label") or not len(first):
        return None
    scores = probabilities(signature, first).astype(np.float64)
    if signature.task != "multi-label" and scores.shape[1] < 2:
        return None
    if signature.task == "multi-label":
        margins: Array = np.abs(scores - thresholds(signature)).min(axis=1)
    else:
        # A partition, not a sort: only the two highest are of interest, of maybe thousands.
        top = np.partition(scores, -2, axis=1)
        margins = top[:, -1] - top[:, -2]
    return margins
