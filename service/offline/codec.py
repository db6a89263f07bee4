"""Rows of one signature as the engine takes them, and its answers as predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hoverboard.codec.arrays import Codec
from hoverboard.contract.calls import PredictAnswer
from hoverboard.contract.outlier import DEFAULT_ALPHA
from hoverboard.contract.signature import Array, Signature
from hoverboard.errors import InvalidParams

__all__ = ["SignatureCodec"]


class SignatureCodec:
    """The JSON-RPC codec with the options of one run.

    Args:
        signature: of the version that answers.
        top_k: classes named for each row.
        outputs: whether predictions carry whole outputs.
        alpha: of the version's calibration.
    """

    def __init__(self, signature: Signature, *, top_k: int, outputs: bool, alpha: float = DEFAULT_ALPHA) -> None:
        self._codec = Codec(signature, alpha=alpha)
        self._top_k = top_k
        self._outputs = outputs
        self._variable = [spec.name for spec in signature.inputs if spec.variable]
        self._bare = len(signature.inputs) == 1

    @property
    def wants_outputs(self) -> bool:
        """Whether answers must carry whole output columns."""
        return self._codec.wants_outputs(top_k=self._top_k, outputs=self._outputs)

    def decode(self, instances: Sequence[Any]) -> tuple[Array, ...]:
        """One column per input, each `(n, *shape)`.

        Typed decoding of JSON text is several times quicker than walking values, so that values go by way of their
        text; only what is refused there is walked, for the place and the value at fault.

        Raises:
            InvalidParams: pointing below `/instances`.
        """
        try:
            columns, _ = self._codec.decode_instances_json(msgspec.json.encode(instances))
        except (InvalidParams, OverflowError, TypeError):
            columns, _ = self._codec.decode_instances(instances)
        return columns

    def encode(self, answer: PredictAnswer) -> Sequence[Mapping[str, Any]]:
        """One prediction a row, of JSON types and NumPy arrays and scalars.

        Raises:
            NonFiniteOutput: a value that JSON cannot hold.
        """
        return self._codec.encode(answer, top_k=self._top_k, outputs=self._outputs)

    def shape(self, instance: Any) -> tuple[tuple[int, ...], ...]:
        """What must be equal for instances to share a call: the lengths along variable inputs, by first elements."""
        if not self._variable:
            return ()
        if self._bare and not isinstance(instance, dict):
            return (_lengths(instance),)
        values = instance if isinstance(instance, dict) else {}
        return tuple(_lengths(values.get(name)) for name in self._variable)


def _lengths(value: Any) -> tuple[int, ...]:
    lengths = []
    while isinstance(value, list):
        lengths.append(len(value))
        value = value[0] if value else None
    return tuple(lengths)
