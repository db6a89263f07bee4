"""Arrow columns go straight to arrays: the same arrays, and the same refusals, as by way of JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hoverboard.codec.arrow_columns import ArrowDecoder, ArrowRows, Refused, Unusual
from hoverboard.codec.rows import RowsCodec
from hoverboard.contract.signature import NUMERIC_DTYPES, STRING, Array, Signature, TensorSpec
from hoverboard.errors import InvalidParams

OUTPUT = (TensorSpec("out", "float32", (1,)),)
SHAPES: list[tuple[int | None, ...]] = [(), (1,), (2,), (None,), (2, 1), (None, 2), (None, None)]
NUMBERS = [0, 1, 2, 3, -1, 127, 128, 255, 256, -129, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
REALS = [0.0, -0.0, 0.5, 1.0, 2.0, -1.5, 65519.0, 65520.0, 3.5e38, 1e300, 0.1, math.nan, math.inf, 2.0**60]
TEXTS = ["", "a", "b", "é", "a longer text", "aGk="]
BYTES = [b"", b"a", b"\xff", b"hi"]
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
LEAVES: list[tuple[pa.DataType, list[Any]]] = [
    *((kind, NUMBERS) for kind in INTEGERS),
    *((kind, REALS) for kind in FLOATS),
    (pa.bool_(), [True, False]),
    *((kind, TEXTS) for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))),
    *((kind, BYTES) for kind in (pa.binary(), pa.large_binary())),
    (pa.decimal128(6, 1), [1, 2, None]),
    (pa.dictionary(pa.int32(), pa.float32()), [0.0, 1.0, 0.5]),
]


@st.composite
def specs(draw: st.DrawFn, name: str) -> TensorSpec:
    dtype = draw(st.sampled_from([*NUMERIC_DTYPES, STRING]))
    shape = draw(st.sampled_from(SHAPES))
    options: dict[str, Any] = {"finite": draw(st.booleans())}
    if dtype not in ("bool", STRING):
        options["min"], options["max"] = draw(
            st.sampled_from([(None, None), (0.0, None), (None, 2.0), (0, 2), (-1.5, 1e6)])
        )
        options["allowed"] = draw(st.sampled_from([None, None, (0, 1, 2), (0.5, 1.0)]))
    if dtype == STRING:
        options["allowed"] = draw(st.sampled_from([None, None, ("a", "b")]))
    options["max_length"] = draw(st.sampled_from([None, None, 1, 2]))
    options["min_length"] = draw(st.sampled_from([None, 1, 2]))
    return TensorSpec(name, dtype, shape, **options)


@st.composite
def columns(draw: st.DrawFn, spec: TensorSpec, rows: int) -> pa.Array:
    """A column that mostly suits an input: the right kind of leaf, and lists as deep and as long as they should be."""
    suits = draw(st.integers(0, 3)) > 0
    fitting = [leaf for leaf in LEAVES if _fits(leaf[0], spec)] if suits else LEAVES
    kind, pool = draw(st.sampled_from(fitting))
    pool = draw(st.lists(st.sampled_from([*pool, None] if draw(st.booleans()) else pool), min_size=1, max_size=4))
    dims = list(spec.shape if draw(st.integers(0, 5)) else draw(st.sampled_from(SHAPES)))
    if dims == [1] and draw(st.booleans()):
        dims = []
    lengths = [draw(st.integers(0, 3)) if dim is None else dim for dim in dims]
    ragged = draw(st.integers(0, 5)) == 0

    def value(depth: int) -> Any:
        if depth == len(dims):
            return draw(st.sampled_from(pool))
        if ragged and draw(st.integers(0, 3)) == 0:
            return draw(st.sampled_from([None, []]))
        longer = draw(st.integers(0, 1)) if ragged else 0
        return [value(depth + 1) for _ in range(lengths[depth] + longer)]

    values = [value(0) for _ in range(rows)]
    for length in reversed(lengths):
        fixed = not ragged and draw(st.booleans())
        kind = pa.list_(kind, length) if fixed else draw(st.sampled_from([pa.list_, pa.large_list]))(kind)
    try:
        return pa.array(_typed(values, kind), kind)
    except (pa.ArrowInvalid, OverflowError, pa.ArrowNotImplementedError):
        return pa.array([None] * rows, kind)


def _typed(values: Any, kind: pa.DataType) -> Any:
    """Values that Arrow takes for a type: numbers beyond an integer's range are left out."""
    if isinstance(values, list):
        inner = kind.value_type if hasattr(kind, "value_type") and not pa.types.is_dictionary(kind) else kind
        return [_typed(value, inner) for value in values]
    if pa.types.is_integer(kind) and isinstance(values, int):
        info = np.iinfo(kind.to_pandas_dtype())
        return min(max(values, int(info.min)), int(info.max))
    return np.float16(values) if kind == pa.float16() and values is not None and abs(values) < 65520 else values


def _fits(kind: pa.DataType, spec: TensorSpec) -> bool:
    if spec.dtype == STRING:
        return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()) or pa.types.is_dictionary(kind)
    if spec.dtype == "bool":
        return bool(pa.types.is_boolean(kind))
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Signature, ArrowRows]:
    names = draw(st.sampled_from([["x"], ["b64"], ["x/y", "b64"]]))
    inputs = tuple(draw(specs(name)) for name in names)
    rows = draw(st.integers(1, 4))
    table = {spec.name: draw(columns(spec, rows)) for spec in inputs}
    return Signature("raw", inputs, OUTPUT), ArrowRows(table, bare=len(inputs) == 1)


def outcome(codec: RowsCodec, rows: Any) -> Any:
    try:
        return [(column.dtype, column.shape, column.tolist()) for column in codec.decode(rows)]
    except InvalidParams as error:
        return error.details, error.violation, error.input_name


@settings(max_examples=800, deadline=None)
@given(tables())
def test_a_table_becomes_what_its_json_would_become_and_is_refused_where_that_would_be(
    table: tuple[Signature, ArrowRows],
) -> None:
    signature, rows = table
    codec = RowsCodec(signature, top_k=1, outputs=False)
    by_json = outcome(codec, rows.instances())
    try:
        straight = [(one.dtype, one.shape, one.tolist()) for one in ArrowDecoder(signature).columns(rows)]
    except Unusual:
        event("unusual")
    except Refused:
        event("refused")
        assert isinstance(by_json, tuple), "what is refused here is wrong in JSON too"
    else:
        event("straight")
        assert repr(straight) == repr(by_json)
    for row in range(len(rows)):
        assert repr(outcome(codec, rows[row : row + 1])) == repr(outcome(codec, [rows[row]]))


@settings(max_examples=150, deadline=None)
@given(tables())
def test_rows_share_a_call_when_their_json_would(table: tuple[Signature, ArrowRows]) -> None:
    signature, rows = table
    codec = RowsCodec(signature, top_k=1, outputs=False)
    straight, by_json = codec.shapes(rows), codec.shapes(rows.instances())
    if any(None in spec.shape[1:] for spec in signature.inputs):
        return  # rows apart that could share a call cost only time
    together = {
        (straight[a] == straight[b]) for a in range(len(rows)) for b in range(len(rows)) if by_json[a] == by_json[b]
    }
    assert together <= {True}


def signature(**spec: Any) -> Signature:
    return Signature("raw", (TensorSpec(**{"name": "x", "dtype": "float32", "shape": (2,), **spec}),), OUTPUT)


STRAIGHT: list[tuple[dict[str, Any], pa.Array, list[Any]]] = [
    ({}, pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)), [[1, 2], [3, 4]]),
    ({}, pa.array([[1, 2], [3, 4]], pa.large_list(pa.int64())), [[1, 2], [3, 4]]),
    ({"dtype": "int32"}, pa.array([[1.0, 2.0]], pa.list_(pa.float64())), [[1, 2]]),
    ({"shape": (None, 2)}, pa.array([[[1.0, 2.0]] * 3], pa.list_(pa.list_(pa.float32(), 2))), [[[1, 2]] * 3]),
    ({"shape": (1,)}, pa.array([0.5, 1.5]), [[0.5], [1.5]]),
    ({"shape": (), "finite": False}, pa.array([0.5, None]), [0.5, math.nan]),
    ({"shape": (), "dtype": STRING}, pa.array(["a", "é"]), [b"a", "é".encode()]),
    ({"shape": (), "dtype": STRING}, pa.array([b"\xff", b""]), [b"\xff", b""]),
    ({"shape": (), "dtype": STRING}, pa.array(["a", "b", "a"]).dictionary_encode(), [b"a", b"b", b"a"]),
    ({"shape": (None,), "dtype": "bool"}, pa.array([[True, False]]), [[True, False]]),
]


@pytest.mark.parametrize(("spec", "column", "expected"), STRAIGHT)
def test_plain_columns_need_no_json(spec: dict[str, Any], column: pa.Array, expected: list[Any]) -> None:
    (array,) = ArrowDecoder(signature(**spec)).columns(ArrowRows({"x": column}, bare=True))
    assert repr(array.tolist()) == repr(np.array(expected, array.dtype).tolist())


def test_rows_of_a_slice_are_those_of_the_slice() -> None:
    column = pa.array([[float(n), 0.0] for n in range(9)], pa.list_(pa.float32()))
    rows = ArrowRows({"x": column}, bare=True)[3:7]
    (array,) = ArrowDecoder(signature()).columns(rows)
    assert array[:, 0].tolist() == [3, 4, 5, 6]
    (picked,) = ArrowDecoder(signature()).columns(rows.take([0, 3]))
    assert picked[:, 0].tolist() == [3, 6]


def test_arrays_can_be_written_to() -> None:
    (array,) = ArrowDecoder(signature()).columns(
        ArrowRows({"x": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))}, bare=True)
    )
    writeable: Array = array
    writeable[0, 0] = 5
    assert writeable.flags.writeable


def test_text_that_is_no_utf8_is_not_passed_on() -> None:
    column = pa.array([b"\xff"]).view(pa.string())
    with pytest.raises(Unusual):
        ArrowDecoder(signature(dtype=STRING, shape=())).columns(ArrowRows({"x": column}, bare=True))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, math.inf, -math.inf, math.nan, None]),
        pa.array([[1.0], [math.inf], [-math.inf], [math.nan], None]),
    ],
)
def test_infinity_is_infinity_where_an_input_may_be_not_finite(column: pa.Array) -> None:
    rows = ArrowRows({"x": column}, bare=True)
    (array,) = RowsCodec(signature(shape=(1,), finite=False), top_k=1, outputs=False).decode(rows[:4])
    assert repr(array[:, 0].tolist()) == "[1.0, inf, -inf, nan]"


@pytest.mark.parametrize(
    ("limits", "words"), [({"finite": True}, "a finite number"), ({"finite": False, "max": 9}, "9")]
)
def test_infinity_is_refused_by_name_where_the_contract_is_against_it(limits: dict[str, Any], words: str) -> None:
    rows = ArrowRows({"x": pa.array([math.inf])}, bare=True)
    with pytest.raises(InvalidParams, match=f"{words}.*got inf"):
        RowsCodec(signature(shape=(), **limits), top_k=1, outputs=False).decode(rows)
