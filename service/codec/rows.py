"""Rows of a file as the engine takes them, and its answers as predictions: the codec of one offline run."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec

from hoverboard.codec.arrays import Codec
from hoverboard.codec.arrow_columns import ArrowDecoder, ArrowRows, Refused, Unusual
from hoverboard.contract.calls import PredictAnswer
from hoverboard.contract.outlier import DEFAULT_ALPHA
from hoverboard.contract.signature import Array, Signature
from hoverboard.errors import InvalidParams

__all__ = ["RowsCodec"]


class RowsCodec:
    """The JSON-RPC codec with the options of one run, and a shorter way for Arrow columns.

    Args:
        signature: of the version that answers.
        top_k: classes named for each row.
        outputs: whether predictions carry whole outputs.
        alpha: of the version's calibration.
    """

    def __init__(self, signature: Signature, *, top_k: int, outputs: bool, alpha: float = DEFAULT_ALPHA) -> None:
        self._codec = Codec(signature, alpha=alpha)
        self._arrow = ArrowDecoder(signature)
        self._top_k = top_k
        self._outputs = outputs
        self._variable = [spec.name for spec in signature.inputs if spec.variable]
        self._bare = len(signature.inputs) == 1

    @property
    def wants_outputs(self) -> bool:
        """Whether answers must carry whole output columns."""
        return self._codec.wants_outputs(top_k=self._top_k, outputs=self._outputs)

    def decode(self, rows: Sequence[Any]) -> tuple[Array, ...]:
        """One column per input, each `(n, *shape)`.

        Raises:
            InvalidParams: pointing below `/instances`.
            Refused: of several rows in Arrow columns, one is wrong; by itself it is an InvalidParams.
        """
        if not isinstance(rows, ArrowRows):
            return self._from_json(rows)
        try:
            return self._arrow.columns(rows)
        except Unusual:
            pass
        except Refused:
            # Several rows are halved until the wrong one stands alone; the words for it are made only then.
            if len(rows) > 1:
                raise
        return self._from_json(rows.instances())

    def _from_json(self, instances: Sequence[Any]) -> tuple[Array, ...]:
        # Typed decoding of JSON text is several times quicker than walking values, so that values go by way of their
        # text; only what is refused there is walked, for the place and the value at fault.
        try:
            text = msgspec.json.encode(instances)
            # An infinity becomes null, too, and would be taken for a missing value.
            if not (b"null" in text and _endless(instances)):
                return self._codec.decode_instances_json(text)[0]
        except (InvalidParams, OverflowError, TypeError):
            pass
        return self._codec.decode_instances(instances)[0]

    def encode(self, answer: PredictAnswer) -> Sequence[Mapping[str, Any]]:
        """One prediction a row, of JSON types and NumPy arrays and scalars.

        Raises:
            NonFiniteOutput: a value that JSON cannot hold.
        """
        return self._codec.encode(answer, top_k=self._top_k, outputs=self._outputs)

    def shapes(self, rows: Sequence[Any]) -> Sequence[Hashable]:
        """For each row, what must be equal for rows to share a call: the lengths along variable inputs."""
        if isinstance(rows, ArrowRows):
            lengths = self._arrow.lengths(rows)
            return self.shapes(rows.instances()) if lengths is None else lengths
        return [self._shape(instance) for instance in rows] if self._variable else [()] * len(rows)

    def _shape(self, instance: Any) -> tuple[tuple[int, ...], ...]:
        """Lengths as the first elements have them; where others differ, the exact way says so."""
        if self._bare and not isinstance(instance, dict):
            return (_lengths(instance),)
        values = instance if isinstance(instance, dict) else {}
        return tuple(_lengths(values.get(name)) for name in self._variable)


def _endless(value: Any) -> bool:
    """Whether some number is infinite."""
    if isinstance(value, list | tuple | dict):
        return any(map(_endless, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isinf(value)


def _lengths(value: Any) -> tuple[int, ...]:
    lengths = []
    while isinstance(value, list):
        lengths.append(len(value))
        value = value[0] if value else None
    return tuple(lengths)
