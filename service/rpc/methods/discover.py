"""The method `rpc.discover`: what a face answers, as an OpenRPC document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hoverboard.rpc.call import Call
from hoverboard.rpc.examples import Example
from hoverboard.rpc.fields import NoParams
from hoverboard.rpc.methods.method import Method

__all__ = ["discover"]


def discover(document: Callable[[], bytes]) -> Method[NoParams]:
    """The method.

    Args:
        document: its text.
    """

    async def run(_call: Call, _params: NoParams) -> bytes:
        return document()

    summary = "This service as an OpenRPC document."
    return Method("rpc.discover", NoParams, run, summary, dict[str, Any], lambda _: Example({}, {}))
