"""Who is told of each new catalog: one that fails costs neither the others nor whoever tells them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from hoverboard.contract.catalog import Catalog

__all__ = ["Listeners"]

_log = structlog.get_logger(__name__)
_Listener = Callable[[Catalog], None]


class Listeners:
    """The listeners of one engine, or of one connection to it."""

    def __init__(self) -> None:
        self._all: list[_Listener] = []

    def add(self, listener: _Listener, catalog: Catalog) -> Callable[[], None]:
        """Tell a listener of `catalog` now and of others later; returns the way to stop it."""
        self._all.append(listener)
        _tell(listener, catalog)
        return partial(self._all.remove, listener)

    def tell(self, catalog: Catalog) -> None:
        """Tell all of them."""
        for listener in list(self._all):
            _tell(listener, catalog)


def _tell(listener: _Listener, catalog: Catalog) -> None:
    try:
        listener(catalog)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("catalog_not_followed", listener=getattr(listener, "__qualname__", repr(listener)))
