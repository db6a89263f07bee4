"""Which codec encodes a call for which model and version; follows the engine's catalog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from hoverboard.codec.arrays import Codec
from hoverboard.contract.catalog import STABLE, Catalog, ModelStatus, VersionStatus
from hoverboard.contract.signature import Signature
from hoverboard.contract.unavailable import unavailable
from hoverboard.errors import InternalError, RpcError
from hoverboard.outliers.summary import alpha_of

__all__ = ["CodecBook", "Route"]

_log = structlog.get_logger(__name__)

_CodecKey = tuple[Signature, float, float | None]
"""Signature, alpha, and the p-value at which the model abstains."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes.

    Attributes:
        version: the number that the asked-for number or role stands for at this moment.
        codec: its codec.
    """

    version: int
    codec: Codec


class CodecBook:
    """Routes and codecs for every model, version and role of the newest catalog. `update` is an engine listener."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self._routes: dict[tuple[str, int | str], Route] = {}
        self._codecs: dict[_CodecKey, Codec] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def update(self, catalog: Catalog) -> None:
        """Follow a new catalog; codecs of signatures that are still there are kept."""
        known, self._codecs = self._codecs, {}
        routes: dict[tuple[str, int | str], Route] = {}
        for name, model in catalog.models.items():
            for status in model.versions:
                if status.signature is not None:
                    try:
                        key = _key(status.signature, status, model)
                        # Building a codec takes milliseconds, and catalogs come in floods while models load.
                        codec = known.get(key) or self._codecs.get(key) or _codec(key)
                    except Exception:  # noqa: BLE001 - see below
                        # One version that nobody foresaw must not take the routes of all others with it.
                        _log.exception("version_not_callable", model=name, version=status.version)
                        continue
                    self._codecs[key] = codec
                    routes[name, status.version] = Route(status.version, codec)
            for role, number in model.roles.items():
                if (name, number) in routes:
                    routes[name, role] = routes[name, number]
        # Replaced together and whole: calls under way see the old or the new, never half of each.
        self.catalog, self._routes = catalog, routes
        # Calls that were encoded for inputs which have changed since: they may try again now.
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def changed(self, at_most: float) -> None:
        """Wait for the next catalog, `at_most` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        await asyncio.wait([future], timeout=at_most)
        self._waiting.discard(future)

    def route(self, model: str, version: int | str) -> Route:
        """The route of a call.

        Raises:
            ModelNotFound, VersionNotFound: there is none such.
            NotReady: there will be, or may be once the engine is back.
        """
        route = self._routes.get((model, version))
        if route is None:
            raise self.missing(model, version)
        return route

    def answering(self, model: str, version: int) -> Codec:
        """The codec of a version that answered although the call was encoded for another.

        Raises:
            InternalError: the engine answered with a version that it never announced.
        """
        route = self._routes.get((model, version))
        if route is None:
            raise InternalError
        return route.codec

    def missing(self, name: str, version: int | str = STABLE) -> RpcError:
        """Why there is no such route: what to raise."""
        model = self.catalog.models.get(name)
        number = None if model is None else model.number(version)
        status = None if model is None or number is None else model.version(number)
        if status is not None and status.signature is not None and status.state != "refused":
            return InternalError(f"Version {number} of {name!r} cannot be called; the server's log says why")
        return unavailable(name, model, version, starting=not self.catalog.ready, names=self.catalog.models)


def _key(signature: Signature, status: VersionStatus, model: ModelStatus) -> _CodecKey:
    return signature, alpha_of(status.manifest), model.serving.get("uncategorized_below")


def _codec(key: _CodecKey) -> Codec:
    signature, alpha, below = key
    return Codec(signature, alpha=alpha, uncategorized_below=below)
