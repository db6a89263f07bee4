"""JSON <-> arrays for one signature: what a client sends becomes columns, what the engine answers becomes predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from hoverboard.codec.error_words import kind, token
from hoverboard.codec.json_exact import ColumnBuilder, TooLarge, column_from_tensor
from hoverboard.codec.json_fast import Columns, NotPlain, column_decoder, row_decoder
from hoverboard.codec.predictions import PredictionEncoder
from hoverboard.contract.calls import PredictAnswer
from hoverboard.contract.outlier import DEFAULT_ALPHA
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.errors import InvalidParams

__all__ = ["Codec"]

Buffer = bytes | Raw
"""JSON text."""

_LONGEST_INTEGER = 400

_anything = msgspec.json.Decoder().decode
_array = msgspec.json.Decoder(list[Raw]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode


class Codec:
    """Encodes and decodes the calls of one signature. Stateless once built; build one per version and keep it.

    Args:
        signature: what the version takes and answers.
        alpha: of the version's outliers; see `is_outlier`.
        uncategorized_below: at a p-value of at most this the label is `Uncategorized`; None never abstains.
    """

    def __init__(
        self, signature: Signature, *, alpha: float = DEFAULT_ALPHA, uncategorized_below: float | None = None
    ) -> None:
        self.signature = signature
        self.fingerprint = signature.fingerprint
        self._names = tuple(spec.name for spec in signature.inputs)
        # Compared whole: names are almost always right, and then nothing is looped over.
        self._name_set = set(self._names)
        self._rows = row_decoder(signature)
        self._columns = column_decoder(signature)
        self._predictions = PredictionEncoder(signature, alpha, uncategorized_below)

    def decode_instances_json(self, raw: Buffer) -> Columns:
        """As `decode_instances`, from the JSON text of the list."""
        try:
            return self.plain_instances(raw)
        except NotPlain as stopped:
            return self.exact_instances(raw, stopped)

    def decode_inputs_json(self, raw: Buffer) -> Columns:
        """As `decode_inputs`, from the JSON text of the object."""
        try:
            return self.plain_inputs(raw)
        except NotPlain as stopped:
            return self.exact_inputs(raw, stopped)

    def plain_instances(self, raw: Buffer) -> Columns:
        """The fast half of `decode_instances_json`; raises NotPlain for what only the other half can judge."""
        if self._rows is None:
            raise NotPlain
        return self._rows(raw)

    def plain_inputs(self, raw: Buffer) -> Columns:
        """The fast half of `decode_inputs_json`."""
        if self._columns is None:
            raise NotPlain
        return self._columns(raw)

    def exact_instances(self, raw: Buffer, stopped: NotPlain) -> Columns:
        """The slow half of `decode_instances_json`, seconds for megabytes; begins with the sample that looks wrong."""
        if stopped.suspect is not None:
            # Likely the only one at fault: found in milliseconds, where walking from the first would take seconds.
            self._judge(_loads(_array(raw)[stopped.suspect]), f"/instances/{stopped.suspect}")
        return self.decode_instances(_loads(raw))

    def exact_inputs(self, raw: Buffer, stopped: NotPlain) -> Columns:
        """The slow half of `decode_inputs_json`."""
        spec = next((spec for spec in self.signature.inputs if spec.name == stopped.name), None)
        if spec is not None and stopped.suspect is not None:
            suspect = _array(_object(raw)[spec.name])[stopped.suspect]
            ColumnBuilder(spec).add(_loads(suspect), f"/inputs/{token(spec.name)}/{stopped.suspect}")
        return self.decode_inputs(_loads(raw))

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
            raise InvalidParams("/instances", "an array of samples", kind(instances), violation="shape")
        if not instances:
            raise InvalidParams("/instances", "at least one sample", "an empty array", violation="shape")
        # Most models have one input, whose samples need no object around them.
        if len(self._names) == 1:
            return (self._only_column(instances),), len(instances)
        for row, sample in enumerate(instances):
            self._check_sample(sample, f"/instances/{row}")
        columns = []
        for spec in self.signature.inputs:
            builder, name = ColumnBuilder(spec), token(spec.name)
            builder.add_all([sample[spec.name] for sample in instances], ("/instances/{}/" + _literal(name)).format)
            columns.append(builder.column())
        return tuple(columns), len(instances)

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
            raise InvalidParams("/inputs", "an object of arrays by input name", kind(inputs), violation="type")
        self._check_names(inputs, "/inputs", "an array")
        columns = tuple(
            _column(inputs[spec.name], spec, f"/inputs/{token(spec.name)}")
            if not isinstance(inputs[spec.name], Mapping)
            else column_from_tensor(inputs[spec.name], spec, f"/inputs/{token(spec.name)}")
            for spec in self.signature.inputs
        )
        first, n = self._names[0], len(columns[0])
        for name, column in zip(self._names, columns, strict=True):
            if len(column) != n:
                words = f"{n} samples as in /inputs/{token(first)}"
                raise InvalidParams(
                    f"/inputs/{token(name)}", words, str(len(column)), violation="shape", input_name=name
                )
        if n == 0:
            raise _no_sample(f"/inputs/{token(first)}", first)
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

    def encode_text(self, answer: PredictAnswer, *, top_k: int = 1, outputs: bool = False) -> bytes:
        """As `encode`, as JSON text."""
        return self._predictions.text_of(answer, top_k=top_k, outputs=outputs)

    def _only_column(self, instances: Sequence[Any]) -> Array:
        """The column of a one-input model, whose samples are bare or objects by name."""
        spec = self.signature.inputs[0]
        builder, name = ColumnBuilder(spec), spec.name
        if not any(isinstance(sample, Mapping) and name in sample for sample in instances):
            builder.add_all(instances, "/instances/{}".format)
        else:
            for row, sample in enumerate(instances):
                self._add_only(builder, sample, f"/instances/{row}")
        return builder.column()

    def _add_only(self, builder: ColumnBuilder, sample: Any, place: str) -> None:
        name = self._names[0]
        if isinstance(sample, Mapping) and name in sample:
            self._check_names(sample, place, "a value")
            builder.add(sample[name], f"{place}/{token(name)}")
        else:
            builder.add(sample, place)

    def _judge(self, sample: Any, place: str) -> None:
        """Check one sample by itself."""
        if len(self._names) == 1:
            self._add_only(ColumnBuilder(self.signature.inputs[0]), sample, place)
            return
        self._check_sample(sample, place)
        for spec in self.signature.inputs:
            ColumnBuilder(spec).add(sample[spec.name], f"{place}/{token(spec.name)}")

    def _check_sample(self, sample: Any, place: str) -> None:
        if not isinstance(sample, Mapping):
            raise InvalidParams(place, "an object by input name", kind(sample), violation="type")
        self._check_names(sample, place, "a value")

    def _check_names(self, given: Mapping[str, Any], place: str, what: str) -> None:
        if given.keys() == self._name_set:
            return
        for name in self._names:
            if name not in given:
                words = f"{what} for this input"
                raise InvalidParams(
                    f"{place}/{token(name)}", words, "nothing", violation="missing_input", input_name=name
                )
        for name in given:
            if name not in self._names:
                words = f"one of {', '.join(self._names)}"
                raise InvalidParams(f"{place}/{token(name)}", words, "an unknown input", violation="unknown_input")


def _column(values: Any, spec: TensorSpec, place: str) -> Array:
    if not isinstance(values, list | tuple):
        words = "an array with one value per sample"
        raise InvalidParams(place, words, kind(values), violation="shape", input_name=spec.name)
    if not values:
        raise _no_sample(place, spec.name)
    builder = ColumnBuilder(spec)
    builder.add_all(values, (_literal(place) + "/{}").format)
    return builder.column()


def _no_sample(place: str, name: str) -> InvalidParams:
    return InvalidParams(place, "at least one sample", "an empty array", violation="shape", input_name=name)


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _loads(raw: Buffer) -> Any:
    """JSON text, already known to be well-formed, as Python values; numbers too large for float64 become `TooLarge`."""
    try:
        return _anything(raw)
    except (msgspec.DecodeError, RecursionError):
        # msgspec refuses 1e999, which is well-formed: Python's own decoder says what it was.
        return _loads_patiently(raw)


def _loads_patiently(raw: Buffer) -> Any:
    try:
        return json.loads(bytes(raw).decode(), parse_int=_integer, parse_float=TooLarge.parse)
    except RecursionError:
        words = "values nested less deeply", "too many nested arrays or objects"
        raise InvalidParams("", *words, violation="shape") from None


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _LONGEST_INTEGER else TooLarge.parse(text)
