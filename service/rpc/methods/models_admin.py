"""The methods `models.load`, `unload`, `pin`, `unpin`, `route` and `scan`: each an action of the engine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from hoverboard.contract.actions import VERSION_ACTIONS
from hoverboard.contract.calls import EnginePort
from hoverboard.errors import ModelNotFound, NotReady, VersionNotFound
from hoverboard.rpc.call import Call
from hoverboard.rpc.examples import Example, Shown
from hoverboard.rpc.fields import ModelName, NoParams, VersionNumber, VersionParams
from hoverboard.rpc.methods.method import Method

__all__ = ["models_admin"]

P = TypeVar("P", bound=msgspec.Struct)


class RouteParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelName
    stable: Annotated[
        VersionNumber | None, Meta(description="The version to answer; null follows the highest ready one.")
    ]


def models_admin(engine: EnginePort) -> list[Method[Any]]:
    """The methods."""

    def action(name: str, params: type[P], summary: str, example: Callable[[Shown], Example]) -> Method[P]:
        # The engine answers once the action holds; nothing of it is decided here.
        async def run(call: Call, given: P) -> bytes:
            call.model = getattr(given, "model", None)
            return msgspec.json.encode(await engine.admin(name, msgspec.to_builtins(given)))

        errors = (ModelNotFound, VersionNotFound, NotReady)
        return Method(f"models.{name}", params, run, summary, dict[str, Any], example, errors)

    first, second, *rest = [action(name, VersionParams, says, _of_version) for name, says in VERSION_ACTIONS.items()]
    route = action("route", RouteParams, "Choose the version that answers in the role `stable`.", _of_route)
    scan = action("scan", NoParams, "Look at the models directory now.", lambda _: Example({}, {}))
    return [first, second, route, *rest, scan]  # as the OpenRPC document has always had them


def _of_version(shown: Shown) -> Example:
    what = {"model": shown.name, "version": shown.number}
    return Example(what, what)


def _of_route(shown: Shown) -> Example:
    what = {"model": shown.name, "stable": shown.number}
    return Example(what, what)
