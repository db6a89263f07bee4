"""Calls by way of jsonrpcserver, which carries out one parsed call at a time with params that are still raw JSON."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from msgspec import Raw

from hoverboard.errors import InternalError, InvalidParams, RpcError, UnknownMethod
from hoverboard.rpc.call import Call
from hoverboard.rpc.envelope import Incoming
from hoverboard.rpc.methods.method import Method, Methods
from hoverboard.rpc.running import unforeseen

with warnings.catch_warnings():
    # It reads its JSON schema with an importlib.resources call that Python 3.11 deprecates (and 3.13 brought back).
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonrpcserver import Error, Success, async_dispatch_to_response
    from jsonrpcserver.response import to_serializable_one

__all__ = ["Bridge"]

_COMPARED: Final = 100
"""Characters of a method's name."""


class Bridge:
    """Runs calls through jsonrpcserver with one table of methods.

    Args:
        methods: by name.
        absent: methods that a caller may look for here -> why they are not, in words that follow the method's name.
    """

    def __init__(self, methods: Methods, absent: Mapping[str, str]) -> None:
        self._absent = absent
        self._adapted = {name: _adapted(method) for name, method in methods.items()}

    async def run(self, call: Call, incoming: Incoming) -> bytes:
        """The result as JSON text.

        Raises:
            RpcError: whatever the call is answered with instead.
        """
        # The id is ours, since the client's stays raw JSON and is put around the result later; and batches never come
        # here, since the library would parse and write each item as Python values.
        item = {"method": incoming.method, "id": 0}
        if incoming.params is not None:
            item["params"] = incoming.params
        response = await async_dispatch_to_response(
            cast(str, item),
            self._adapted,
            context=call,
            deserializer=_as_is,
            validator=_as_is,
            post_process=to_serializable_one,
        )
        return self._outcome(response, incoming.method)

    def unknown(self, method: str) -> UnknownMethod:
        """The error for a method that is not here; it says why, or which one may be meant."""
        why = self._absent.get(method)
        if why is not None:
            return UnknownMethod(f"Method not found: {method} {why}")
        # Cut: comparing takes as long as the name, which is a caller's.
        near = difflib.get_close_matches(method[:_COMPARED], [*self._adapted, *self._absent], n=1)
        return UnknownMethod(f"Method not found; is {near[0]!r} meant?" if near else None)

    def _outcome(self, response: Any, method: str) -> bytes:
        """The result in jsonrpcserver's response, or the error it stands for; its own texts are dropped."""
        error = response.get("error")
        if error is None:
            return cast(bytes, response["result"])
        if isinstance(error.get("data"), RpcError):
            raise error["data"]
        raise self.unknown(method) if error["code"] == UnknownMethod.code else InternalError


def _as_is(item: Any) -> Any:
    return item


def _adapted(method: Method[Any]) -> Callable[..., Awaitable[Any]]:
    """A method in the shape jsonrpcserver calls; no exception but a cancellation leaves it."""

    async def run(call: Call, /, *positional: Raw, **named: Raw) -> Any:
        try:
            return Success(await method.run(call, method.binder.bind(positional, named)))
        except InvalidParams as error:
            return _error(method.binder.repoint(error) if positional else error)
        except RpcError as error:
            return _error(error)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            return _error(unforeseen(call, bug))

    return run


def _error(error: RpcError) -> Any:
    return Error(error.code, error.message, data=error)
