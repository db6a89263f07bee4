"""What a request says about itself: its id and its place in a trace."""

from __future__ import annotations

import itertools
import re
import secrets

from aiohttp import web

__all__ = ["new_request_id", "request_id_of", "traceparent_of"]

_LONGEST_ID = 128
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,200})?")

_prefix = secrets.token_hex(6)
_numbers = itertools.count(1)


def new_request_id() -> str:
    """An id that no other request of any process has."""
    return f"{_prefix}-{next(_numbers):x}"


def request_id_of(request: web.BaseRequest) -> str:
    """The client's `X-Request-ID`, or a new one where it is absent or unfit to be echoed and logged."""
    given = request.headers.get("X-Request-ID")
    if given is None or not 1 <= len(given) <= _LONGEST_ID or not (given.isascii() and given.isprintable()):
        return new_request_id()
    return given


def traceparent_of(request: web.BaseRequest) -> str | None:
    """The W3C trace context; a malformed one counts as none."""
    given = request.headers.get("traceparent")
    return given if given is None or _TRACEPARENT.fullmatch(given) else None
