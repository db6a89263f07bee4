"""The methods `models.load`, `unload`, `pin`, `unpin`, `route` and `scan`: each an action of the engine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

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
        async def run(call: Call, given: P) -> bytes:
            call.model = getattr(given, "model", None)
            return msgspec.json.encode(await engine.admin(name, msgspec.to_builtins(given)))

        errors = (ModelNotFound, VersionNotFound, NotReady)
        return Method(f"models.{name}", params, run, summary, dict[str, Any], example, errors)

    return [
        action("load", VersionParams, "Load a version into memory; answers once it is live.", _of_version),
        action("unload", VersionParams, "Take a version out of memory; it loads again on demand.", _of_version),
        action("route", RouteParams, "Choose the version that answers in the role `stable`.", _of_route),
        action("pin", VersionParams, "Keep a version in memory whatever the routing says.", _of_version),
        action("unpin", VersionParams, "Let a version go when it is not needed.", _of_version),
        action("scan", NoParams, "Look at the models directory now.", lambda _: Example({}, {})),
    ]


def _of_version(shown: Shown) -> Example:
    what = {"model": shown.name, "version": shown.number}
    return Example(what, what)


def _of_route(shown: Shown) -> Example:
    what = {"model": shown.name, "stable": shown.number}
    return Example(what, what)
