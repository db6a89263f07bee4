"""The JSON-RPC 2.0 envelope: what comes in is split into calls, what goes out is put together around raw ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from hoverboard.codec.error_words import excerpt
from hoverboard.errors import InvalidRequest, RpcError
from hoverboard.rpc.explain import no_json, too_deep

__all__ = ["NULL", "CallBatch", "Incoming", "failure", "is_utf8", "parse", "parse_item", "success"]

NULL = b"null"
_ABSENT = Raw()
_LONGEST = 500
_ID_STARTS = frozenset(b'"-0123456789n')


class _Envelope(msgspec.Struct):
    jsonrpc: Raw = _ABSENT
    method: Raw = _ABSENT
    params: Raw = _ABSENT
    id: Raw = _ABSENT


@dataclass(frozen=True, slots=True)
class Incoming:
    """One item of a message.

    Attributes:
        method: its name; empty when the item is no valid request.
        params: named, positional or none, each value still raw JSON.
        id: raw JSON, echoed as it came; None for a notification.
        fault: why it is no valid request.
    """

    method: str
    params: Mapping[str, Raw] | list[Raw] | None
    id: bytes | None
    fault: InvalidRequest | None = None


@dataclass(frozen=True, slots=True)
class CallBatch:
    """A batch array, its items not yet looked into."""

    items: list[Raw]


_document = msgspec.json.Decoder(Raw).decode
_item = msgspec.json.Decoder(_Envelope).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_text = msgspec.json.Decoder(str).decode
_named = msgspec.json.Decoder(dict[str, Raw]).decode


def parse(body: bytes) -> Incoming | CallBatch:
    """Take one message apart.

    Args:
        body: valid UTF-8; what is only skipped here is not looked into so deeply.

    Raises:
        ParseError: no JSON.
    """
    try:
        # Whether it is JSON at all is asked first: what follows skips over params, and would pass what is broken
        # there.
        _document(body)
        return CallBatch(_items(body)) if body.lstrip(b" \t\r\n")[:1] == b"[" else parse_item(body)
    except msgspec.DecodeError as error:
        raise no_json(body, str(error)) from None
    except RecursionError:
        raise too_deep() from None


def parse_item(raw: bytes | Raw) -> Incoming:
    """One well-formed item as a call, or with its fault."""
    try:
        item = _item(raw)
    except msgspec.ValidationError:
        return _invalid(None, "a call is an object")
    # Raw, so that a client gets back what it sent: 1.0 stays 1.0, and 2^80 stays what it is.
    call_id = bytes(item.id) or None
    if call_id is not None and call_id[0] not in _ID_STARTS:
        return _invalid(None, "id must be a string, a number or null")
    if _as_text(item.jsonrpc) != "2.0":
        return _invalid(call_id, 'jsonrpc must be "2.0"')
    method = _as_text(item.method)
    if method is None:
        return _invalid(call_id, "method must be a string")
    params = bytes(item.params)
    if params[:1] == b"{":
        return Incoming(method, _named(params), call_id)
    if params[:1] == b"[":
        return Incoming(method, _items(params), call_id)
    if params in (b"", NULL):
        return Incoming(method, None, call_id)
    return _invalid(call_id, "params must be an object or an array")


def is_utf8(body: bytes) -> bool:
    """Whether a message is valid UTF-8, which `parse` takes for granted."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def success(call_id: bytes, result: bytes) -> bytes:
    """A response object around an encoded result."""
    # Put together as bytes: the result is JSON already, and may be megabytes.
    return b'{"jsonrpc":"2.0","result":' + result + b',"id":' + call_id + b"}"


def failure(call_id: bytes | None, error: RpcError, request_id: str) -> bytes:
    """A response object around an error."""
    data: dict[str, Any] = {"type": error.kind, "retryable": error.retryable}
    if error.retry_after_ms is not None:
        data["retry_after_ms"] = error.retry_after_ms
    data["request_id"] = request_id
    if error.details is not None:
        data["details"] = error.details
    text = _dumps({"code": error.code, "message": error.message, "data": data})
    return b'{"jsonrpc":"2.0","error":' + text + b',"id":' + (call_id or NULL) + b"}"


def _dumps(value: Any) -> bytes:
    """JSON text, whatever is in it: an error that cannot be written down would cost a client its answer."""
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError):
        return orjson.dumps(_plain(value))


def _plain(value: Any) -> Any:
    """A value with what orjson refuses (long integers, lone surrogates, foreign types) put into words."""
    if isinstance(value, Mapping):
        return {excerpt(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    return value if isinstance(value, int) and abs(value) < 2**63 else excerpt(value, _LONGEST)


def _as_text(raw: Raw) -> str | None:
    try:
        return _text(raw)
    except msgspec.DecodeError:
        return None


def _invalid(call_id: bytes | None, why: str) -> Incoming:
    return Incoming("", None, call_id or NULL, InvalidRequest(f"Invalid Request: {why}"))
