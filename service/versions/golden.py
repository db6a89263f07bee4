"""`golden.json`: samples with the outputs they must give, in every batch bucket, on every machine.

Each sample is `{"inputs": {name: values}, "outputs": {name: values}}`; floats are written shortest-exact, so float32
survives; bytes that are no UTF-8 are `{"b64": "..."}`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import VersionRefused

__all__ = ["ABSOLUTE", "GOLDEN_FILE", "RELATIVE", "GoldenSample", "GoldenSet", "to_jsonable"]

GOLDEN_FILE: Final = "golden.json"
ABSOLUTE: Final = 1e-5
RELATIVE: Final = 1e-4
_MOST_SAMPLES: Final = 64
"""Each runs in every batch bucket, alone and among others, before a version goes live."""
_MOST_ABSOLUTE: Final = 0.1
_MOST_RELATIVE: Final = 0.5


class _Tolerance(msgspec.Struct):
    absolute: float
    relative: float


class _Document(msgspec.Struct):
    """The file. Samples are read one by one, so that a large file does not hold the interpreter for long."""

    tolerance: _Tolerance
    samples: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """One sample.

    Attributes:
        inputs: one array per input, each `(1, *shape)`.
        outputs: one array per output, likewise.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """All of a version's golden samples with their tolerance: `abs(err) <= absolute + relative * abs(expected)`."""

    samples: tuple[GoldenSample, ...]
    absolute: float = ABSOLUTE
    relative: float = RELATIVE

    def mismatch(self, signature: Signature, index: int, got: Sequence[Array], scale: float = 1.0) -> str | None:
        """Say where `got` leaves the tolerance of sample `index`, or None where it does not.

        Args:
            signature: names the outputs.
            index: of the sample.
            got: one array per output, each `(1, *shape)`.
            scale: widens the tolerance (a GPU's arithmetic differs).
        """
        for spec, want, have in zip(signature.outputs, self.samples[index].outputs, got, strict=True):
            where = f"golden sample {index}, output {spec.name}"
            if want.shape != have.shape:
                return f"{where}: shape {list(have.shape)}, expected {list(want.shape)}"
            # Texts and whole numbers have no rounding: they are equal, or wrong.
            if spec.dtype == STRING or not np.issubdtype(want.dtype, np.floating):
                if not np.array_equal(want, have):
                    return f"{where}: not the expected values"
                continue
            # In float64: the difference of two float16 may overflow before it is compared.
            wide, seen = want.astype(np.float64), have.astype(np.float64)
            excess = np.abs(seen - wide) - scale * (self.absolute + self.relative * np.abs(wide))
            # Asked this way round, since NaN is neither above nor at most 0, and has to fail.
            if not (excess <= 0).all():
                worst = int(np.argmax(np.where(np.isnan(excess), np.inf, excess)))
                return f"{where}: {seen.flat[worst]:.9g} at element {worst}, expected {wide.flat[worst]:.9g}"
        return None

    def to_json(self, signature: Signature) -> bytes:
        """The file's bytes."""
        document = {
            "tolerance": {"absolute": self.absolute, "relative": self.relative},
            "samples": [
                {
                    "inputs": _named(signature.inputs, sample.inputs),
                    "outputs": _named(signature.outputs, sample.outputs),
                }
                for sample in self.samples
            ],
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"

    @classmethod
    def from_json(cls, text: bytes, signature: Signature, first: int | None = None) -> GoldenSet:
        """Read the file's bytes.

        Args:
            text: the file's.
            signature: of the version.
            first: how many samples to read; all when left out.

        Raises:
            VersionRefused: no JSON, no sample or too many, a tolerance that proves nothing, or a sample that does not suit
                the signature (named).
        """
        try:
            document = msgspec.json.decode(text, type=_Document)
            count, tolerance = len(document.samples), document.tolerance
            raw = document.samples[: min(count, _MOST_SAMPLES) if first is None else first]
            samples = tuple(_sample(signature, msgspec.json.decode(each)) for each in raw)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise VersionRefused(f"{GOLDEN_FILE}: {type(error).__name__}: {error}", check="golden") from error
        golden = cls(samples, tolerance.absolute, tolerance.relative)
        problem = _too_few_or_many(count) or (golden.tolerance_problem() if first is None else None)
        if problem is not None:
            raise VersionRefused(f"{GOLDEN_FILE}: {problem}", check="golden")
        return golden

    def tolerance_problem(self) -> str | None:
        """Why its tolerance would prove nothing, or None."""
        if not 0 <= self.relative <= _MOST_RELATIVE:
            return f"tolerance.relative: expected 0 to {_MOST_RELATIVE}, got {self.relative:g}"
        # A tolerance as large as the answers would let any answer pass.
        outputs = [output for sample in self.samples for output in sample.outputs if output.dtype.kind == "f"]
        largest = max((float(np.nanmax(np.abs(output), initial=0.0)) for output in outputs), default=0.0)
        most = max(_MOST_ABSOLUTE, _MOST_RELATIVE * largest)
        if not 0 <= self.absolute <= most:
            return f"tolerance.absolute: expected 0 to {most:g}, half of the largest expected output or {_MOST_ABSOLUTE}, got {self.absolute:g}"
        return None


def _sample(signature: Signature, values: Any) -> GoldenSample:
    return GoldenSample(_columns(signature.inputs, values["inputs"]), _columns(signature.outputs, values["outputs"]))


def _too_few_or_many(count: int) -> str | None:
    if not count:
        return "holds no sample"
    return f"holds {count} samples, at most {_MOST_SAMPLES} are run" if count > _MOST_SAMPLES else None


def to_jsonable(column: Array) -> Any:
    """The first row of a column as JSON values: nested lists, text, or `{"b64": ...}` for bytes that are no UTF-8."""
    value = column[:1].tolist()[0]
    return _text(value) if column.dtype == object else value


def _named(specs: Sequence[TensorSpec], columns: Sequence[Array]) -> dict[str, Any]:
    return {spec.name: to_jsonable(column) for spec, column in zip(specs, columns, strict=True)}


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _columns(specs: Sequence[TensorSpec], values: dict[str, Any]) -> tuple[Array, ...]:
    return tuple(_column(spec, values[spec.name])[np.newaxis] for spec in specs)


def _column(spec: TensorSpec, value: Any) -> Array:
    if spec.dtype != STRING:
        column = np.asarray(value, dtype=spec.dtype)
    else:
        raw = np.asarray(value, dtype=object)
        column = np.empty(raw.shape, dtype=object)
        for index, item in np.ndenumerate(raw):
            column[index] = base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode()
    fits = column.ndim == len(spec.shape) and all(
        want in (None, have) for want, have in zip(spec.shape, column.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{spec.name}: shape {list(column.shape)} does not suit {list(spec.shape)}")
    return column
