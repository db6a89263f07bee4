import base64
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.codec.arrays import Codec
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import InvalidParams
from tests.unit.rpc.linear import DIAMONDS, DIGITS, PRODUCTS, SERIES


def signature(*specs: TensorSpec) -> Signature:
    return Signature("raw", specs, (TensorSpec("out", "float32", (1,)),))


def one(dtype: str, shape: tuple[int | None, ...] = (), **limits: Any) -> Codec:
    return Codec(signature(TensorSpec("x", dtype, shape, **limits)))


def rows(codec: Codec, instances: Any) -> Any:
    """Decoded from JSON text; the same from Python values must give the same."""
    columns, n = codec.decode_instances_json(json.dumps(instances).encode())
    again, count = codec.decode_instances(instances)
    assert n == count
    for column, other in zip(columns, again, strict=True):
        assert column.dtype == other.dtype
        assert column.shape == other.shape
        assert column.tolist() == other.tolist()
    return columns, n


def refusal(codec: Codec, text: str, *, inputs: bool = False) -> tuple[str, str, str]:
    with pytest.raises(InvalidParams) as caught:
        (codec.decode_inputs_json if inputs else codec.decode_instances_json)(text.encode())
    details = caught.value.details
    assert details is not None
    assert caught.value.violation is not None
    return details["pointer"], details["expected"], details["got"]


def b64(array: Any, **changes: Any) -> dict[str, Any]:
    array = np.asarray(array)
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"b64": base64.b64encode(data).decode(), "dtype": array.dtype.name, "shape": list(array.shape), **changes}


def test_rows_of_a_one_input_model_are_bare_values() -> None:
    (pixels,), n = rows(Codec(DIGITS), [[1.0] * 64, [2] * 64])
    assert n == 2
    assert pixels.dtype == np.float32
    assert pixels.shape == (2, 64)
    assert pixels[1, 63] == 2


def test_rows_of_a_one_input_model_may_be_objects_too() -> None:
    (pixels,), _ = rows(Codec(DIGITS), [{"pixels": [1.0] * 64}])
    assert pixels.shape == (1, 64)


def test_rows_of_several_inputs_are_objects_by_name() -> None:
    columns, n = rows(Codec(DIAMONDS), [{"count": 7, "carat": 0.5, "cut": "Ideal"}])
    assert n == 1
    assert [column.tolist() for column in columns] == [[[0.5]], [[b"Ideal"]], [7]]


def test_a_bare_scalar_stands_for_shape_one() -> None:
    bare, _ = rows(Codec(DIAMONDS), [{"carat": 1, "cut": "Good", "count": 1}])
    wrapped, _ = rows(Codec(DIAMONDS), [{"carat": [1], "cut": ["Good"], "count": 1}])
    assert [column.tolist() for column in bare] == [column.tolist() for column in wrapped]


def test_column_form_gives_the_same_columns_as_row_form() -> None:
    codec = Codec(DIAMONDS)
    by_row, _ = rows(codec, [{"carat": 1, "cut": "Good", "count": 1}, {"carat": 2, "cut": "Fair", "count": 2}])
    inputs = {"carat": [1, 2], "cut": ["Good", "Fair"], "count": [1, 2]}
    by_column, n = codec.decode_inputs_json(json.dumps(inputs).encode())
    exactly, _ = codec.decode_inputs(inputs)
    assert n == 2
    for column, other, third in zip(by_row, by_column, exactly, strict=True):
        assert column.tolist() == other.tolist() == third.tolist()
        assert column.shape == other.shape == third.shape


def test_strings_become_utf8_bytes() -> None:
    (text,), _ = rows(Codec(PRODUCTS), ["", "Hoverboard", "Küche 🛹"])
    assert text.dtype == object
    assert text.tolist() == [b"", b"Hoverboard", "Küche 🛹".encode()]


def test_b64_stands_for_bytes_of_a_string() -> None:
    (text,), _ = rows(Codec(PRODUCTS), [{"b64": base64.b64encode(b"\xff\x00raw").decode()}, "plain"])
    assert text.tolist() == [b"\xff\x00raw", b"plain"]


def test_integral_floats_are_integers() -> None:
    (x,), _ = rows(one("int32", (2,)), [[3.0, -2.0e1]])
    assert x.tolist() == [[3, -20]]


def test_integers_that_come_as_floats_are_refused_where_a_float_is_not_exact() -> None:
    (x,), _ = rows(one("int64"), [float(2**53), -float(2**53)])
    assert x.tolist() == [2**53, -(2**53)]
    pointer, expected, got = refusal(one("int64"), "[1, 9007199254740994.0]")
    assert (pointer, got) == ("/instances/1", "9007199254740994.0")
    assert expected == "an integer without point or exponent, since beyond 2^53 a float is not exact"


def test_integers_are_exact_up_to_their_dtypes_ends() -> None:
    (x,), _ = rows(one("int64"), [2**63 - 1, -(2**63)])
    assert x.tolist() == [2**63 - 1, -(2**63)]
    (x,), _ = rows(one("uint64"), [2**64 - 1, 0])
    assert x.tolist() == [2**64 - 1, 0]


def test_the_largest_float32_in_nine_digits_is_accepted() -> None:
    (x,), _ = rows(one("float32"), [3.40282347e38])
    assert x[0] == np.finfo(np.float32).max


def test_variable_dimensions_take_any_length_that_all_samples_share() -> None:
    (steps,), n = rows(Codec(SERIES), [[[1, 2], [3, 4], [5, 6]]] * 2)
    assert n == 2
    assert steps.shape == (2, 3, 2)
    (steps,), _ = rows(Codec(SERIES), [[], []])
    assert steps.shape == (2, 0, 2)


def test_a_tensor_object_stands_for_a_sample() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    (x,), _ = rows(one("float32", (2, 2, 3)), [b64(image), image.tolist()])
    assert x.dtype == np.float32
    assert x.tolist() == [image.tolist(), image.tolist()]


def test_a_tensor_object_stands_for_a_column() -> None:
    carat = np.array([[0.5], [1.5]], dtype=np.float32)
    inputs = {"carat": b64(carat), "cut": ["Good", "Fair"], "count": b64(np.array([1, 2], dtype=np.uint8))}
    columns, n = Codec(DIAMONDS).decode_inputs_json(json.dumps(inputs).encode())
    assert n == 2
    assert columns[0].tolist() == carat.tolist()
    assert columns[2].tolist() == [1, 2]


def test_arrays_of_numpy_are_taken_from_python() -> None:
    (pixels,), n = Codec(DIGITS).decode_instances([np.ones(64), np.zeros(64, dtype=np.float32)])
    assert n == 2
    assert pixels.sum() == 64


PIXELS = "[" + ",".join(["1"] * 64) + "]"


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ("3", ("/instances", "an array of samples", "a number")),
        ("null", ("/instances", "an array of samples", "null")),
        ("{}", ("/instances", "an array of samples", "an object")),
        ("[]", ("/instances", "at least one sample", "an empty array")),
        ("[[]]", ("/instances/0", "64 numbers", "0")),
        ("[3]", ("/instances/0", "an array of 64 numbers", "a number")),
        (f"[{PIXELS},{PIXELS},{PIXELS},{PIXELS[:-3]}]]", ("/instances/3", "64 numbers", "63")),
        (f"[{PIXELS},{PIXELS.replace('1', '1', 1)[:-2]}null]]", ("/instances/1/63", "a number", "null")),
        ("[[1,2,3," + "true," + ",".join(["1"] * 60) + "]]", ("/instances/0/3", "a number", "a boolean")),
        ('[["1",' + ",".join(["1"] * 63) + "]]", ("/instances/0/0", "a number", "a string")),
        ("[[[1]," + ",".join(["1"] * 63) + "]]", ("/instances/0/0", "a number", "an array")),
        ("[[16.5," + ",".join(["1"] * 63) + "]]", ("/instances/0/0", "a number from 0 to 16", "16.5")),
        ("[[-1," + ",".join(["1"] * 63) + "]]", ("/instances/0/0", "a number from 0 to 16", "-1")),
        ("[[1e39," + ",".join(["1"] * 63) + "]]", ("/instances/0/0", "a number that fits float32", "1e+39")),
        ("[[1e400," + ",".join(["1"] * 63) + "]]", ("/instances/0/0", "a number that fits float32", "1e400")),
        ("[{" + '"pixels":[1]' + "}]", ("/instances/0/pixels", "64 numbers", "1")),
        ('[{"pixels":' + PIXELS + ',"x":1}]', ("/instances/0/x", "one of pixels", "an unknown input")),
    ],
)
def test_a_bad_row_is_refused_at_its_place(instances: str, expected: tuple[str, str, str]) -> None:
    assert refusal(Codec(DIGITS), instances) == expected


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("[1]", ("/inputs", "an object of arrays by input name", "an array")),
        ("{}", ("/inputs/carat", "an array for this input", "nothing")),
        ('{"carat":[1],"cut":["Good"]}', ("/inputs/count", "an array for this input", "nothing")),
        (
            '{"carat":[1],"cut":["Good"],"count":[1],"a/b~c":[1]}',
            ("/inputs/a~1b~0c", "one of carat, cut, count", "an unknown input"),
        ),
        ('{"carat":1,"cut":["Good"],"count":[1]}', ("/inputs/carat", "an array with one value per sample", "a number")),
        ('{"carat":[1,2,"x"],"cut":[],"count":[]}', ("/inputs/carat/2", "a number", "a string")),
        ('{"carat":[1,2],"cut":["Good"],"count":[1,2]}', ("/inputs/cut", "2 samples as in /inputs/carat", "1")),
        ('{"carat":[],"cut":[],"count":[]}', ("/inputs/carat", "at least one sample", "an empty array")),
        (
            '{"carat":[1],"cut":["Nice"],"count":[1]}',
            ("/inputs/cut/0", "one of ['Fair', 'Good', 'Ideal']", "Nice"),
        ),
        ('{"carat":[1],"cut":["Good"],"count":[300]}', ("/inputs/count/0", "an integer from 0 to 255", "300")),
        ('{"carat":[1],"cut":["Good"],"count":[-1]}', ("/inputs/count/0", "an integer from 0 to 255", "-1")),
        ('{"carat":[1],"cut":["Good"],"count":[1.5]}', ("/inputs/count/0", "an integer", "1.5")),
        ('{"carat":[1],"cut":["Good"],"count":[1e999]}', ("/inputs/count/0", "an integer", "1e999")),
        ('{"carat":[1],"cut":[7],"count":[1]}', ("/inputs/cut/0", "a string", "a number")),
        ('{"carat":[1],"cut":{"b64":""},"count":[1]}', ("/inputs/cut", "an array of strings", "an object")),
    ],
)
def test_a_bad_column_is_refused_at_its_place(inputs: str, expected: tuple[str, str, str]) -> None:
    assert refusal(Codec(DIAMONDS), inputs, inputs=True) == expected


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ("[[[1,2]],[[1,2],[3,4]]]", ("/instances/1", "1 arrays as in /instances/0", "2")),
        ("[[[1,2],[3]]]", ("/instances/0/1", "2 numbers", "1")),
        ("[" + str([[1, 2]] * 9) + "]", ("/instances/0", "at most 8 arrays", "9")),
        ("[[1]]", ("/instances/0/0", "an array of 2 numbers", "a number")),
    ],
)
def test_a_bad_variable_dimension_is_refused_at_its_place(instances: str, expected: tuple[str, str, str]) -> None:
    assert refusal(Codec(SERIES), instances) == expected


@pytest.mark.parametrize(
    ("changes", "pointer", "expected", "got"),
    [
        ({"shape": [3, 2]}, "/shape", "the shape [2, 3]", "[3, 2]"),
        ({"shape": [2, -3]}, "/shape", "the shape [2, 3]", "[2, -3]"),
        ({"shape": [2.0, 3]}, "/shape", "the shape [2, 3]", "[2.0, 3]"),
        ({"shape": "2,3"}, "/shape", "the shape [2, 3]", "a string"),
        ({"dtype": "float64"}, "/dtype", "float32, or a dtype that fits into it", "float64"),
        ({"dtype": "bool"}, "/dtype", "float32, or a dtype that fits into it", "bool"),
        ({"dtype": "O"}, "/dtype", "float32, or a dtype that fits into it", "O"),
        ({"dtype": 3}, "/dtype", "float32, or a dtype that fits into it", "a number"),
        ({"b64": "AAAA"}, "/b64", "24 bytes for float32 [2, 3]", "3 bytes"),
        ({"b64": "not base64!"}, "/b64", "a base64 string", "a string that is not base64"),
        ({"b64": 7}, "/b64", "a base64 string", "a number"),
        ({"extra": 7}, "/extra", "one of b64, dtype, shape", "an unknown member"),
    ],
)
def test_a_bad_tensor_object_is_refused_at_its_member(
    changes: dict[str, Any], pointer: str, expected: str, got: str
) -> None:
    sample = b64(np.zeros((2, 3), dtype=np.float32), **changes)
    assert refusal(one("float32", (2, 3)), json.dumps([sample])) == (f"/instances/0{pointer}", expected, got)


def test_a_misspelt_input_name_is_told_with_the_right_one() -> None:
    pointer, expected, got = refusal(one("float32", (2,)), '[{"sequence": [1, 2]}]')
    assert pointer == "/instances/0"
    assert expected == "the value of the input 'x', or an object with b64, dtype and shape"
    assert got == "an object with the member 'sequence'"
    assert refusal(one("string", ()), '[{"txt": "a"}]')[2] == "an object with the member 'txt'"


@pytest.mark.parametrize("missing", ["b64", "dtype", "shape"])
def test_a_tensor_object_needs_all_its_members(missing: str) -> None:
    sample = b64(np.zeros((2, 3), dtype=np.float32))
    del sample[missing]
    pointer, _, got = refusal(one("float32", (2, 3)), json.dumps([sample]))
    assert (pointer, got) == (f"/instances/0/{missing}", "nothing")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_in_a_tensor_object_are_refused_at_their_index(bad: float) -> None:
    sample = b64(np.array([[0, 1, 2], [3, bad, 5]], dtype=np.float32))
    pointer, expected, got = refusal(one("float32", (2, 3)), json.dumps([sample]))
    assert (pointer, expected, got) == ("/instances/0/b64", "a finite number at index [1, 1]", repr(bad))


def test_limits_hold_in_tensor_objects_too() -> None:
    codec = one("float32", (2,), min=0, max=1)
    assert refusal(codec, json.dumps([b64(np.array([0, 2], dtype=np.uint8))])) == (
        "/instances/0/b64",
        "a number from 0 to 1 at index [1]",
        "2",
    )


def test_a_boolean_tensor_object_holds_zeros_and_ones() -> None:
    codec = one("bool", (2,))
    (x,), _ = codec.decode_instances([b64(np.array([True, False]))])
    assert x.tolist() == [[True, False]]
    assert refusal(codec, json.dumps([b64(np.array([True, False]), b64="AAI=")]))[0] == "/instances/0/b64"


def test_booleans_and_numbers_do_not_stand_in_for_each_other() -> None:
    assert refusal(one("bool"), "[1]") == ("/instances/0", "a boolean", "a number")
    assert refusal(one("float32"), "[true]") == ("/instances/0", "a number", "a boolean")
    (x,), _ = rows(one("bool"), [True, False])
    assert x.dtype == np.bool_


def test_string_limits_count_bytes_of_utf8() -> None:
    codec = one("string", (), max_length=3)
    assert rows(codec, ["abc", "éa"])[1] == 2
    assert refusal(codec, '["abc","éé"]') == ("/instances/1", "at most 3 bytes of UTF-8", "4 bytes")


def test_only_allowed_numbers_pass() -> None:
    codec = one("int8", (2,), allowed=(1, 2))
    assert rows(codec, [[1, 2]])[0][0].tolist() == [[1, 2]]
    assert refusal(codec, "[[1,3]]") == ("/instances/0/1", "one of [1, 2]", "3")
    assert refusal(codec, json.dumps([b64(np.array([1, 3], dtype=np.int8))]))[0] == "/instances/0/b64"


def test_not_a_number_from_python_is_refused_unless_the_input_takes_it() -> None:
    with pytest.raises(InvalidParams, match="/instances/0: expected a finite number, got nan"):
        one("float32").decode_instances([math.nan])
    (x,), _ = one("float32", finite=False).decode_instances([math.nan, math.inf])
    assert math.isnan(x[0])
    assert math.isinf(x[1])


def test_a_number_beyond_float64_is_not_infinity() -> None:
    codec = one("float64", finite=False)
    assert refusal(codec, "[1e400]") == ("/instances/0", "a number that fits float64", "1e400")


def test_absurdly_long_integers_are_refused_without_being_computed() -> None:
    pointer, expected, got = refusal(one("int64"), f"[{'9' * 100_000}]")
    assert (pointer, expected) == ("/instances/0", "an integer")
    assert len(got) < 60


def test_a_member_named_like_a_place_does_not_mislead_the_search_for_the_fault() -> None:
    surplus = json.dumps({"carat": 1, "cut": "Good", "count": 1, "x` - at `$[7]": 1})
    assert refusal(Codec(DIAMONDS), f"[{surplus}]")[0] == "/instances/0/x` - at `$[7]"


def test_a_fault_among_very_many_samples_is_found() -> None:
    many = ["0"] * 20_000
    assert refusal(one("float32"), f"[{','.join([*many, 'null'])}]")[0] == "/instances/20000"
    assert refusal(one("float32", (2,)), f"[{','.join(['[0,1]'] * 20_000 + ['[0,1,2]'])}]")[0] == "/instances/20000"
    whole = ",".join(["1.0"] * 20_000)
    assert refusal(one("int32"), f"[{whole},1.5]") == ("/instances/20000", "an integer", "1.5")
    columns = f'{{"carat":[{whole},-1],"cut":["Good"],"count":[1]}}'
    assert refusal(Codec(DIAMONDS), columns, inputs=True)[0] == "/inputs/carat/20000"


def test_odd_samples_among_very_many_are_still_decoded() -> None:
    (x,), n = one("int32", (None,)).decode_instances_json(b"[" + b"[1,2]," * 20_000 + b"[3.0,4]]")
    assert n == 20_001
    assert x[-1].tolist() == [3, 4]
    assert x[:-1].sum() == 60_000


@pytest.mark.parametrize(
    ("codec", "instances", "violation", "input_name"),
    [
        (Codec(DIGITS), {}, "shape", None),
        (Codec(DIGITS), [], "shape", None),
        (Codec(DIGITS), [{"pixels": [1] * 64, "x": 1}], "unknown_input", None),
        (Codec(DIGITS), [None], "shape", "pixels"),
        (Codec(DIGITS), [[[1]] + [1] * 63], "shape", "pixels"),
        (Codec(DIGITS), [[None] + [1] * 63], "type", "pixels"),
        (Codec(DIGITS), [[1e39] + [1] * 63], "range", "pixels"),
        (Codec(DIGITS), [{"pixel": [1] * 64}], "type", "pixels"),
        (Codec(DIAMONDS), [3], "type", None),
        (Codec(DIAMONDS), [{"carat": 1, "cut": "Good"}], "missing_input", "count"),
        (Codec(DIAMONDS), [{"carat": 1, "cut": "Good", "count": 1.5}], "type", "count"),
        (Codec(DIAMONDS), [{"carat": 1, "cut": "Good", "count": 300}], "range", "count"),
        (Codec(SERIES), [[[1, 2]] * 9], "too_long", "steps"),
        (Codec(SERIES), [[[1, 2]], [[1, 2]] * 2], "shape", "steps"),
        (one("float32", (None,), min_length=2), [[1.5]], "too_short", "x"),
        (Codec(PRODUCTS), ["\ud800"], "encoding", "text"),
        (Codec(PRODUCTS), [{"text": 1}], "type", "text"),
        (Codec(PRODUCTS), [["Hoverboard"]], "shape", "text"),
        (Codec(PRODUCTS), [{"b64": "", "more": 1}], "encoding", "text"),
        (one("int8", allowed=(1, 2)), [3], "not_allowed", "x"),
        (one("bool"), [1], "type", "x"),
        (one("bool", (2,)), [b64(np.array([True, False]), b64="AAI=")], "range", "x"),
        (one("float32", (2,)), [b64(np.zeros(3, np.float32))], "shape", "x"),
        (one("float32", (2,)), [b64(np.zeros(2, np.float64))], "type", "x"),
        (one("float32", (2,)), [b64(np.zeros(2, np.float32), b64="AAAA")], "encoding", "x"),
        (one("float32", (2,)), [b64(np.full(2, np.inf, np.float32))], "not_finite", "x"),
        (one("float32", (2,), min=0), [b64(np.full(2, -1, np.float32))], "range", "x"),
        (one("int8", (1,), allowed=(1, 2)), [b64(np.array([3], np.int8))], "not_allowed", "x"),
    ],
)
def test_a_refusal_says_how_the_contract_is_broken_and_at_which_input(
    codec: Codec, instances: Any, violation: str, input_name: str | None
) -> None:
    for decode in (codec.decode_instances, lambda values: codec.decode_instances_json(json.dumps(values).encode())):
        with pytest.raises(InvalidParams) as caught:
            decode(instances)
        assert (caught.value.violation, caught.value.input_name) == (violation, input_name)


@pytest.mark.parametrize(
    ("inputs", "violation", "input_name"),
    [
        ([1], "type", None),
        ({"carat": [1], "cut": ["Good"]}, "missing_input", "count"),
        ({"carat": [1], "cut": ["Good"], "count": [1], "x": [1]}, "unknown_input", None),
        ({"carat": 1, "cut": ["Good"], "count": [1]}, "shape", "carat"),
        ({"carat": [], "cut": [], "count": []}, "shape", "carat"),
        ({"carat": [1, 2], "cut": ["Good"], "count": [1, 2]}, "shape", "cut"),
        ({"carat": [1], "cut": {"b64": ""}, "count": [1]}, "type", "cut"),
        ({"carat": b64(np.array([[99]], np.float32)), "cut": ["Good"], "count": [1]}, "range", "carat"),
    ],
)
def test_so_does_one_of_columns(inputs: Any, violation: str, input_name: str | None) -> None:
    with pytest.raises(InvalidParams) as caught:
        Codec(DIAMONDS).decode_inputs_json(json.dumps(inputs).encode())
    assert (caught.value.violation, caught.value.input_name) == (violation, input_name)


def test_nesting_deeper_than_python_can_follow_is_an_error_and_no_crash() -> None:
    text = "[" * 900 + "]" * 900
    with pytest.raises(InvalidParams):
        Codec(DIGITS).decode_instances_json(text.encode())


def outcome(decode: Callable[[Any], Any], given: Any) -> Any:
    """What a way of decoding makes of something: the column, or a refusal (of one of its faults, if it has several)."""
    try:
        ((column,), _) = decode(given)
    except InvalidParams:
        return "refused"
    return column.dtype, column.shape, column.tobytes()


DTYPES = ["bool", "int8", "uint8", "int64", "uint64", "float16", "float32", "float64"]
NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, -0.0, 1, 255, 256, 65519.9, 65520, 3.4e38, 3.5e38, 2**63, 2**64 - 1, 2**64])
)
ELEMENTS = NUMBERS | st.booleans() | st.none() | st.text(max_size=3)


@given(
    dtype=st.sampled_from(DTYPES), values=st.lists(ELEMENTS | st.lists(ELEMENTS, max_size=2), min_size=1, max_size=4)
)
def test_the_fast_way_and_the_exact_way_agree(dtype: str, values: list[Any]) -> None:
    for shape in ((), (1,), (2,), (None,)):
        for least in {None, 0, 2 if shape == (None,) else None}:
            codec = one(dtype, shape, max_length=2, min_length=least)
            text = json.dumps(values).encode()
            assert outcome(codec.decode_instances_json, text) == outcome(codec.decode_instances, json.loads(text))


@pytest.mark.parametrize(
    ("sample", "place", "expected"),
    [
        ([], "", "at least 3 arrays"),
        ([[]] * 3, "/0", "at least 2 integers"),
        ([[1, 2]] * 2, "", "at least 3 arrays"),
        (b64(np.zeros((3, 1), np.int8)), "", "at least 2 integers"),
        (b64(np.zeros((0, 5), np.int8)), "", "at least 3 arrays"),
    ],
)
def test_each_free_dimension_has_its_least_length(sample: Any, place: str, expected: str) -> None:
    codec = one("int8", (None, None), min_length=(3, 2))
    fine = [[1, 2]] * 3
    assert codec.decode_instances([fine])[0][0].shape == (1, 3, 2)
    assert refusal(codec, json.dumps([fine, sample]))[:2] == (f"/instances/1{place}", expected)
    with pytest.raises(InvalidParams) as caught:
        codec.decode_instances([sample])
    assert (caught.value.details or {})["pointer"] == f"/instances/0{place}"
    assert caught.value.violation == "too_short"


def test_a_dimension_that_no_sample_settles_is_as_small_as_may_be() -> None:
    codec = one("int8", (None, None), min_length=(0, 2))
    assert codec.decode_instances([[], []])[0][0].shape == (2, 0, 2)


@pytest.mark.parametrize("shape", [[0, 2**62], [10**7, 0]])
def test_a_tensor_without_elements_has_no_large_dimension_either(shape: list[int]) -> None:
    """It costs nothing to send, and a graph may make an array of that size."""
    sample = b64(np.zeros((0, 1), np.int8), shape=shape)
    place, expected, _ = refusal(one("int8", (None, None)), json.dumps([sample]))
    assert (place, expected.split(" whose ")[0]) == ("/instances/0/shape", "dimensions of a tensor without elements")
    assert one("int8", (None, None)).decode_instances([b64(np.zeros((0, 7), np.int8))])[0][0].shape == (1, 0, 7)


@pytest.mark.parametrize("at", [0, 31, 63])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_json_number_is_refused_wherever_it_stands_among_plain_ones(at: int, number: float) -> None:
    sample = [1.0] * 64
    sample[at] = number
    signature = Signature("raw", (TensorSpec("x", "float32", (64,)),), (TensorSpec("y", "float32", ()),))
    with pytest.raises(InvalidParams) as caught:
        Codec(signature).decode_instances([[2.0] * 64, sample])
    assert caught.value.details is not None
    assert caught.value.details["pointer"] == f"/instances/1/{at}"
