"""The examples of the JSON-RPC 2.0 specification, section 7, each request with the response it must get.

Errors are compared by code and id; messages are recommendations, and `data` is ours to define.
"""

import json
from typing import Any

import pytest

from tests.conformance.conftest import Exchange

PARSE_ERROR = {"jsonrpc": "2.0", "error": {"code": -32700}, "id": None}
INVALID = {"jsonrpc": "2.0", "error": {"code": -32600}, "id": None}

EXAMPLES: dict[str, tuple[str, Any]] = {
    "positional params": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        {"jsonrpc": "2.0", "result": 19, "id": 1},
    ),
    "positional params, swapped": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        {"jsonrpc": "2.0", "result": -19, "id": 2},
    ),
    "named params": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        {"jsonrpc": "2.0", "result": 19, "id": 3},
    ),
    "named params, swapped": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        {"jsonrpc": "2.0", "result": 19, "id": 4},
    ),
    "a notification": ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    "a notification of no method": ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    "a method that does not exist": (
        '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        {"jsonrpc": "2.0", "error": {"code": -32601}, "id": "1"},
    ),
    "invalid JSON": ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR),
    "an invalid request": ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    "a batch of invalid JSON": (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        PARSE_ERROR,
    ),
    "an empty array": ("[]", INVALID),
    "an invalid batch, but not empty": ("[1]", [INVALID]),
    "an invalid batch": ("[1,2,3]", [INVALID, INVALID, INVALID]),
    "a mixed batch": (
        """[
            {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
            {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
            {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
            {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
        ]""",
        [
            {"jsonrpc": "2.0", "result": 7, "id": "1"},
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            INVALID,
            {"jsonrpc": "2.0", "error": {"code": -32601}, "id": "5"},
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
    ),
    "a batch of notifications": (
        """[
            {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
        ]""",
        None,
    ),
}


def without_words(response: Any) -> Any:
    """A response with its errors reduced to their codes."""
    if isinstance(response, list):
        return [without_words(each) for each in response]
    if response is not None and "error" in response:
        return {**response, "error": {"code": response["error"]["code"]}}
    return response


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_specifications_example_is_answered_as_it_says(exchange: Exchange, name: str) -> None:
    request, expected = EXAMPLES[name]
    assert without_words(await exchange(request.encode())) == expected


JUNK: dict[str, Any] = {
    "number": 1,
    "negative": -1.5,
    "string": "junk",
    "null": None,
    "array": [],
    "nested": [[1]],
    "bool": True,
}


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("name", JUNK)
async def test_junk_in_a_batch_is_refused_alone_wherever_it_stands(
    exchange: Exchange, name: str, position: int
) -> None:
    items: list[Any] = [
        {"jsonrpc": "2.0", "method": "subtract", "params": [number, 0], "id": number} for number in range(3)
    ]
    items.insert(position, JUNK[name])
    responses = without_words(await exchange(json.dumps(items).encode()))
    answers: list[Any] = [{"jsonrpc": "2.0", "result": number, "id": number} for number in range(3)]
    answers.insert(position, INVALID)
    assert responses == answers


@pytest.mark.parametrize("name", JUNK)
async def test_junk_alone_is_an_invalid_request(exchange: Exchange, name: str) -> None:
    response = await exchange(json.dumps(JUNK[name]).encode())
    expected = [INVALID] * len(JUNK[name]) if JUNK[name] == [[1]] else INVALID
    assert without_words(response) == expected


async def test_a_response_has_exactly_the_members_the_specification_allows(exchange: Exchange) -> None:
    good = await exchange(b'{"jsonrpc":"2.0","method":"get_data","id":1}')
    bad = await exchange(b'{"jsonrpc":"2.0","method":"foobar","id":1}')
    assert set(good) == {"jsonrpc", "result", "id"}
    assert set(bad) == {"jsonrpc", "error", "id"}
    assert set(bad["error"]) == {"code", "message", "data"}
