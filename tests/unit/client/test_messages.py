from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import msgspec
import pytest

from hoverboard.client.messages import Received, result_of
from hoverboard.errors import Unreachable

ANSWER = b'{"jsonrpc": "2.0", "id": 1, "result": {"accepted": 1}}'


def read(body: bytes, **more: Any) -> dict[str, int]:
    return result_of(Received(body, **more), 1, "http://x", msgspec.json.Decoder(dict[str, int]).decode)


def test_a_result_is_read() -> None:
    assert read(ANSWER) == {"accepted": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"[]",
        b'{"id": 1, "result": {}}',
        ANSWER.replace(b'"id": 1', b'"id": 2'),
        ANSWER.replace(b"1}}", b'"many"}}'),
        b'{"jsonrpc": "2.0", "id": 1, "result": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_answer_to_the_call_is_unreachable(body: bytes) -> None:
    with pytest.raises(Unreachable, match="http://x answered"):
        read(body)


@pytest.mark.parametrize(
    ("header", "milliseconds"),
    [
        ("2", 2000),
        ("9" * 400, 3_600_000),
        ("9" * 5000, 3_600_000),
        (formatdate(time.time() - 60, usegmt=True), 0),
        (formatdate(time.time() + 7200, usegmt=True), 3_600_000),
        ("soon", None),
        ("", None),
        (None, None),
    ],
    ids=[
        "seconds",
        "many digits",
        "too many digits",
        "past",
        "future",
        "words",
        "empty",
        "none",
    ],  # a date would differ by worker
)
def test_when_to_try_again_is_read_as_seconds_or_as_a_date(header: str | None, milliseconds: int | None) -> None:
    with pytest.raises(Unreachable) as caught:
        read(b"busy", status=503, retry_after=header)
    assert caught.value.retry_after_ms == milliseconds
