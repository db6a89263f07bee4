"""A version's contract: its inputs, outputs, labels and task.

Arrays have their sample axis first: a column of n samples has shape `(n, *spec.shape)`. Columns of dtype `string` are
object arrays of `bytes`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from numpy.typing import NDArray

__all__ = ["NUMERIC_DTYPES", "STRING", "Array", "Head", "Signature", "Task", "TensorSpec"]

Array = NDArray[Any]
Task = Literal["classification", "multi-label", "regression", "embedding", "raw"]
Head = Literal["softmax", "logits", "sigmoid"]
NUMERIC_DTYPES: Final = (
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)
STRING: Final = "string"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output of a version.

    Attributes:
        name: as in the graph's signature.
        dtype: a NumPy name from `NUMERIC_DTYPES`, or `string`.
        shape: of one sample, without the batch axis; None is a variable dimension.
        finite: whether NaN and Infinity are refused (an input) or an error (an output).
        min: smallest allowed value, declared by the publisher, never inferred.
        max: largest allowed value, likewise.
        max_length: most bytes of a string (UTF-8), or most elements along each variable dimension.
        min_length: fewest elements along each variable dimension, which the graph needs or the publisher declares; a number
            for each of them, in order, where they differ. None where nobody has looked.
        allowed: the only allowed values, likewise declared.
        description: one sentence for the person who calls it.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    finite: bool = True
    min: float | None = None
    max: float | None = None
    max_length: int | None = None
    min_length: int | tuple[int, ...] | None = None
    allowed: tuple[str | int | float, ...] | None = None
    description: str = ""

    @property
    def variable(self) -> bool:
        """Whether samples may differ in shape."""
        return None in self.shape

    @property
    def least(self) -> tuple[int, ...]:
        """The fewest elements along each dimension; of a fixed one, its size."""
        given = self.min_length or 0
        each = iter(given if isinstance(given, tuple) else (given,) * len(self.shape))
        return tuple(next(each) if dim is None else dim for dim in self.shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and answers: the whole contract that the api checks and encodes to.

    Attributes:
        task: decides which fields a prediction has.
        inputs: in the order columns travel in.
        outputs: in the order columns travel in; the first is the one labels, values and confidences come from.
        labels: names by index of the first output's last axis, of classes of which one holds (classification), or of
            labels each of which may hold (multi-label); None for other tasks.
        head: what the first output holds. Of a classification: `softmax` probabilities, `logits`, or one `sigmoid`
            probability of the second of two labels. Of a multi-label version: a `sigmoid` probability, or a logit
            (`logits`), for each label.
        thresholds: multi-label only: from which probability on each label holds; None for 0.5 throughout.
    """

    task: Task
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] | None = None
    head: Head = "softmax"
    thresholds: tuple[float, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over the inputs: equal when a call encoded for one version suits another."""
        contract = [{k: v for k, v in asdict(spec).items() if k != "description"} for spec in self.inputs]
        for values, spec in zip(contract, self.inputs, strict=True):
            # A limit of 0 and one of 0.0 are the same limit, however it was read.
            values.update((k, None if values[k] is None else float(values[k])) for k in ("min", "max"))
            # What may be empty has the contract that it had before least lengths were looked for.
            if values.pop("min_length"):
                values["least"] = spec.least
        text = json.dumps(contract, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
