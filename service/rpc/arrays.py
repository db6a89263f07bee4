"""JSON <-> arrays for one signature: what a client sends becomes columns, what the engine answers becomes predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.errors import InvalidParams
from service.rpc.exact import ColumnBuilder, TooLarge, column_from_tensor
from service.rpc.fastdecode import Columns, NotPlain, column_decoder, row_decoder
from service.rpc.predictions import DEFAULT_ALPHA, Predictions
from service.rpc.words import kind, token
from service.types import PredictAnswer, Signature

__all__ = ["Codec"]

_LONGEST_INTEGER = 400


class Codec:
    """Encodes and decodes the calls of one signature. Stateless once built; build one per version and keep it.

    Args:
        signature: what the version takes and answers.
        alpha: `outlier` is `p_value <= alpha`.
    """

    def __init__(self, signature: Signature, *, alpha: float = DEFAULT_ALPHA) -> None:
        self.signature = signature
        self.fingerprint = signature.fingerprint
        self._names = tuple(spec.name for spec in signature.inputs)
        self._rows = row_decoder(signature)
        self._columns = column_decoder(signature)
        self._predictions = Predictions(signature, alpha)

    def decode_instances_json(self, raw: bytes | memoryview) -> Columns:
        """As `decode_instances`, from the JSON text of the list."""
        return _fast_or_exact(self._rows, self.decode_instances, raw)

    def decode_inputs_json(self, raw: bytes | memoryview) -> Columns:
        """As `decode_inputs`, from the JSON text of the object."""
        return _fast_or_exact(self._columns, self.decode_inputs, raw)

    def decode_instances(self, instances: Any) -> Columns:
        """Columns from samples in row form.

        Args:
            instances: a non-empty list; each sample is the bare value of a one-input model, or an object by input name.

        Returns:
            One array per input, each `(n, *shape)` in the input's dtype (object arrays of bytes for strings), and n.

        Raises:
            InvalidParams: with a JSON Pointer from `/instances` on to the element at fault.
        """
        if not isinstance(instances, list | tuple):
            raise InvalidParams("/instances", "an array of samples", kind(instances))
        if not instances:
            raise InvalidParams("/instances", "at least one sample", "an empty array")
        builders = [ColumnBuilder(spec) for spec in self.signature.inputs]
        for row, sample in enumerate(instances):
            self._add_sample(builders, sample, f"/instances/{row}")
        return tuple(builder.column() for builder in builders), len(instances)

    def decode_inputs(self, inputs: Any) -> Columns:
        """Columns from samples in column form.

        Args:
            inputs: an object with one array per input, all equally long; an array may be a tensor object instead.

        Returns:
            As `decode_instances`.

        Raises:
            InvalidParams: with a JSON Pointer from `/inputs` on to the element at fault.
        """
        if not isinstance(inputs, Mapping):
            raise InvalidParams("/inputs", "an object of arrays by input name", kind(inputs))
        self._check_names(inputs, "/inputs", "an array")
        columns = tuple(
            _column(inputs[spec.name], ColumnBuilder(spec), f"/inputs/{token(spec.name)}")
            if not isinstance(inputs[spec.name], Mapping)
            else column_from_tensor(inputs[spec.name], spec, f"/inputs/{token(spec.name)}")
            for spec in self.signature.inputs
        )
        n = len(columns[0])
        for name, column in zip(self._names, columns, strict=True):
            if len(column) != n:
                raise InvalidParams(
                    f"/inputs/{token(name)}", f"{n} samples as in /inputs/{token(self._names[0])}", str(len(column))
                )
        if n == 0:
            raise InvalidParams(f"/inputs/{token(self._names[0])}", "at least one sample", "an empty array")
        return columns, n

    def wants_outputs(self, *, top_k: int, outputs: bool) -> bool:
        """Whether the answer must carry whole output columns for these options."""
        return self._predictions.wants_outputs(top_k=top_k, outputs=outputs)

    def encode(self, answer: PredictAnswer, *, top_k: int = 1, outputs: bool = False) -> list[dict[str, Any]]:
        """Predictions from an answer, in the samples' order.

        Args:
            answer: with output columns where `wants_outputs` says so.
            top_k: how many classes `top` lists, at most all of them.
            outputs: whether each prediction carries its rows of the outputs.

        Returns:
            One object per sample, of JSON types and NumPy arrays and scalars (for `orjson.OPT_SERIALIZE_NUMPY`).

        Raises:
            NonFiniteOutput: a value that JSON cannot hold.
        """
        return self._predictions.of(answer, top_k=top_k, outputs=outputs)

    def _add_sample(self, builders: Sequence[ColumnBuilder], sample: Any, place: str) -> None:
        if len(builders) == 1 and not (isinstance(sample, Mapping) and self._names[0] in sample):
            builders[0].add(sample, place)
            return
        if not isinstance(sample, Mapping):
            raise InvalidParams(place, "an object by input name", kind(sample))
        self._check_names(sample, place, "a value")
        for name, builder in zip(self._names, builders, strict=True):
            builder.add(sample[name], f"{place}/{token(name)}")

    def _check_names(self, given: Mapping[str, Any], place: str, what: str) -> None:
        for name in self._names:
            if name not in given:
                raise InvalidParams(f"{place}/{token(name)}", f"{what} for this input", "nothing")
        for name in given:
            if name not in self._names:
                raise InvalidParams(f"{place}/{token(name)}", f"one of {', '.join(self._names)}", "an unknown input")


def _column(values: Any, builder: ColumnBuilder, place: str) -> Any:
    if not isinstance(values, list | tuple):
        raise InvalidParams(place, "an array with one value per sample", kind(values))
    if not values:
        raise InvalidParams(place, "at least one sample", "an empty array")
    for row, value in enumerate(values):
        builder.add(value, f"{place}/{row}")
    return builder.column()


def _fast_or_exact(
    fast: Callable[[Any], Columns] | None, exact: Callable[[Any], Columns], raw: bytes | memoryview
) -> Columns:
    if fast is not None:
        try:
            return fast(raw)
        except NotPlain:
            pass
    return exact(_loads(raw))


def _loads(raw: bytes | memoryview) -> Any:
    """JSON text, already known to be well-formed, as Python values; numbers too large for float64 become `TooLarge`."""
    try:
        return json.loads(bytes(raw), parse_int=_integer, parse_float=TooLarge.parse)
    except RecursionError:
        raise InvalidParams("", "values nested less deeply", "too many nested arrays or objects") from None


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _LONGEST_INTEGER else TooLarge.parse(text)
