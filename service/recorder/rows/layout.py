"""Which column of the database a value goes to: settled by the version's signature, in `model_versions.manifest`.

In this order:

- an input of strings, or of one number a sample (shape `[]` or `[1]`): `inputs`, by its name; null where redacted.
- the first input that is a vector (rank 1) of a dtype that float32 holds exactly (`EXACT`), at most `LONGEST` long:
  `vector`. Where it is redacted, or longer in samples whose length is variable, no other input takes its place.
- every other input: `tensors`, by its name, laid out as `tensors.py` says; left out where redacted.
- under the policy `hashed`, nothing but `inputs`: `{"sha256": "<hex>"}`.
- the first output, if it is such a vector: `outputs`; all else: `output_tensors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hoverboard.contract.signature import STRING, Signature, TensorSpec
from hoverboard.journal.columns import Column
from hoverboard.journal.records import BatchRecord

__all__ = ["EXACT", "HASH", "LONGEST", "InputPlaces", "Layout", "Unencodable", "is_vector"]

EXACT: Final = frozenset({"bool", "int8", "int16", "uint8", "uint16", "float16", "float32"})
"""Dtypes of which float32 holds every value."""
LONGEST: Final = 4096
"""Most elements of a vector in a column of type `real[]`."""
HASH: Final = "sha256"
"""The member of `inputs` that is all there is under the policy `hashed`."""


class Unencodable(ValueError):
    """Records that no rows can be made of: which, and why not; its text quotes no value."""


@dataclass(frozen=True, slots=True)
class InputPlaces:
    """Which column of `samples` each input of a signature goes to, for who writes and for who reads.

    Attributes:
        members: the inputs that go to `inputs`.
        vector: the input that goes to `vector`, unless it is too long; then to `tensors` too.
        tensors: the inputs that go to `tensors`.
    """

    members: tuple[TensorSpec, ...]
    vector: TensorSpec | None
    tensors: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, signature: Signature) -> InputPlaces:
        """By the signature and not by a record: a column means the same in all rows of a version."""
        rest = [spec for spec in signature.inputs if not _is_member(spec)]
        vector = next((spec for spec in rest if _fits(spec.dtype, spec.shape)), None)
        return cls(
            tuple(spec for spec in signature.inputs if _is_member(spec)),
            vector,
            tuple(spec for spec in rest if spec is not vector),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns of batches with one version, one policy and one redaction go.

    Attributes:
        members: inputs that go to `inputs` -> their place in the record's columns; None for redacted ones.
        vector: the input that goes to `vector` unless it is too long, then to `tensors` too, and its place.
        tensors: inputs that go to `tensors` -> their places.
        outputs: the outputs' names, in order.
    """

    members: Mapping[str, int | None]
    vector: tuple[str, int] | None
    tensors: Mapping[str, int]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, record: BatchRecord, signature: Signature) -> Layout:
        """The layout of a record and of all like it.

        Raises:
            Unencodable: it has not as many columns as its version has inputs and outputs.
        """
        outputs = tuple(spec.name for spec in signature.outputs)
        _match(len(record.outputs), len(outputs), "outputs")
        if record.policy == "hashed":
            _match(len(record.columns), 1, "hashes")
            return cls({HASH: 0}, None, {}, outputs)
        recorded = [spec.name for spec in signature.inputs if spec.name not in record.redacted]
        _match(len(record.columns), len(recorded), "inputs that are not redacted")
        places = {name: place for place, name in enumerate(recorded)}
        inputs = InputPlaces.of(signature)
        members = {spec.name: places.get(spec.name) for spec in inputs.members}
        vector = None if inputs.vector is None else inputs.vector.name
        tensors = {spec.name: places[spec.name] for spec in inputs.tensors if spec.name in places}
        return cls(members, (vector, places[vector]) if vector in places else None, tensors, outputs)


def is_vector(column: Column) -> bool:
    """Whether a column's samples can be `real[]`."""
    dtype, (_, *shape), _ = column
    return _fits(dtype, shape)


def _fits(dtype: str, shape: Sequence[int | None]) -> bool:
    return dtype in EXACT and len(shape) == 1 and (shape[0] is None or shape[0] <= LONGEST)


def _is_member(spec: TensorSpec) -> bool:
    return spec.dtype == STRING or spec.shape in ((), (1,))


def _match(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise Unencodable(f"{found} columns for {expected} {what}")
