"""Which names a listener on loopback answers to: a page that rebinds its own name to 127.0.0.1 must not reach it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from hoverboard.api.replies import HttpRefusal

__all__ = ["Hosts", "authority"]

_OURS: Final = ("localhost", "127.0.0.1", "::1")
_REMEMBERED: Final = 64
_WITH_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::[0-9]*)?")


class Hosts:
    """Passes requests for the names of a listener; everybody's where it is not bound to loopback.

    Args:
        allowed: further names; `*` for any.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._names = {_bare(name) for name in (*_OURS, *allowed)}
        self._known: set[str | None] = {None}
        self._open = "*" in self._names

    def bound_to(self, listening: socket.socket) -> None:
        """Learn where the listener is bound."""
        host = str(listening.getsockname()[0])
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        self._open = self._open or not loopback
        self._names.add(_bare(host))

    def check(self, request: web.BaseRequest) -> None:
        """Pass one request.

        Raises:
            HttpRefusal: 421 for a name that is not ours, 403 for a page of another site.
        """
        # On other interfaces the names are not known here; a proxy or a firewall is what guards those.
        if self._open:
            return
        host = request.headers.get(hdrs.HOST)
        # The names of one client after another are the same few: checked once, then remembered.
        if host not in self._known:
            self._look_at(host)
        if not request.raw_path.startswith("/"):
            self._look_at(authority(request.raw_path))
        # Nearly no request has any; of several each counts, since it is not known which one the browser wrote.
        if hdrs.ORIGIN in request.headers and not all(
            _bare(authority(origin)) in self._names for origin in request.headers.getall(hdrs.ORIGIN)
        ):
            # A browser sends such a request without asking us first, and only then keeps the answer from the page.
            raise HttpRefusal.invalid(403, "a page of another site may not call", close=True)

    def _look_at(self, host: str | None) -> None:
        if host is None or _bare(host) not in self._names:
            raise HttpRefusal.invalid(
                421, "this name is not served here; `allowed_hosts` has those that are", close=True
            )
        # A stranger can send as many names as it likes; they must not take memory.
        if len(self._known) < _REMEMBERED:
            self._known.add(host)


def authority(url: str) -> str:
    """Host and port of an address; empty where it is none."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _bare(host: str) -> str:
    """A host without its port, in lower case; an IPv6 address without its brackets. What is no host stays as it is."""
    name = host.strip().lower()
    with_port = _WITH_PORT.fullmatch(name)
    return name if with_port is None else with_port[1] or with_port[2] or ""
