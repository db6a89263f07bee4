"""What is no JSON is told with place and reason, and without the client's data."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hoverboard.codec.arrays import Codec
from hoverboard.contract.signature import TensorSpec
from hoverboard.errors import InvalidParams, ParseError
from hoverboard.rpc.envelope import parse
from tests.unit.rpc.conftest import arrived, public_dispatcher
from tests.unit.rpc.linear import DIAMONDS, DIGITS, LinearEngine


@pytest.mark.parametrize(
    ("body", "offset", "words"),
    [
        (b'{"a":NaN}', 5, "NaN is no JSON"),
        (b'{"a":Infinity}', 5, "Infinity is no JSON"),
        (b'{"a":-Infinity}', 5, "Infinity is no JSON"),
        (b"-", 1, "it ends too early"),
        (b'{"a":-', 6, "it ends too early"),
        (b'{"a":None}', 5, "null"),
        (b'{"a":True}', 5, "true"),
        (b"\xef\xbb\xbf{}", 0, "byte order mark"),
        (b'{"a":"\\ud83d"}', 6, "lone surrogate"),
        (b'{"a":"\\ud83d and more of it"}', 12, "lone surrogate"),
        (b'{"a":1}}', 8, "after the end"),
        (b'{"a":"x', 7, "not closed"),
        (b'{"a":[1,2', 9, "not closed"),
        (b"", 0, "nothing"),
        (b"{'a':1}", 1, "double quotes"),
        (b'{"a":1,}', 7, "comma"),
        (b'{"a":01}', 6, "number"),
        (b'{"a":.5}', 5, "digit"),
        (b'{"a":+1}', 5, "digit"),
        (b'{"a":"\x01"}', 6, "control character stands in a string"),
        (b'{"a\\"\x01"}', 5, "control character stands in a string"),
        (b"\x00", 0, "control character stands outside of strings"),
        (b'{"a\\"":\x01}', 7, "control character stands outside of strings"),
        (b'{"a":"\\x"}', 7, "backslash"),
        (b'{"a" 1}', 5, "expected ':'"),
        (b"nonsense", 1, "no JSON"),
    ],
)
def test_what_is_no_json_is_told_with_place_and_reason(body: bytes, offset: int, words: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(body)
    assert caught.value.details is not None
    assert caught.value.details["offset"] == offset
    assert words in caught.value.details["reason"]
    assert caught.value.details["reason"] in caught.value.message


async def test_what_is_no_utf8_is_told_with_its_place() -> None:
    reply = await public_dispatcher(LinearEngine()).handle(b'{"a":"\xff"}', arrived())
    assert reply.body is not None
    assert json.loads(reply.body)["error"]["data"]["details"] == {"offset": 6, "reason": "not UTF-8"}


async def test_the_clients_data_is_not_repeated() -> None:
    secret = b'{"jsonrpc":"2.0","method":"predict","params":{"instances":["a secret", secret]}}'
    reply = await public_dispatcher(LinearEngine()).handle(secret, arrived())
    assert reply.body is not None
    assert b"secret" not in reply.body


def test_null_stands_for_nan_where_an_input_takes_it() -> None:
    inputs = (replace(DIGITS.inputs[0], finite=False, shape=(3,)),)
    codec = Codec(replace(DIGITS, inputs=inputs))
    for raw in (b"[[1,null,2]]", b"[[1.0, null, 2]]", b'[{"pixels":[1,null,2]}]'):
        ((column,), n) = codec.decode_instances_json(raw)
        assert n == 1
        np.testing.assert_array_equal(column, np.array([[1, np.nan, 2]], np.float32))
    scalar = replace(DIAMONDS.inputs[0], finite=False)
    ((column,), _) = Codec(replace(DIAMONDS, inputs=(scalar,))).decode_instances_json(b"[null, 1.5]")
    np.testing.assert_array_equal(column, np.array([[np.nan], [1.5]], np.float32))
    with pytest.raises(InvalidParams):
        codec.decode_instances_json(b"[[1,null,17]]")


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_null_is_refused_elsewhere(dtype: str) -> None:
    spec = TensorSpec("x", dtype, (2,), finite=dtype == "float32")
    with pytest.raises(InvalidParams):
        Codec(replace(DIGITS, inputs=(spec,))).decode_instances_json(b"[[null,null]]")
