"""Where a service answers, and by way of which proxy."""

from __future__ import annotations

import ipaddress
import urllib.request
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from hoverboard.errors import ConfigError

__all__ = ["Address"]


@dataclass(frozen=True, slots=True)
class Address:
    """A service's URL, checked and taken apart.

    Attributes:
        url: as it was given, without a user and a password.
        origin: scheme, host and port.
        path: to POST to; `/` when the URL has none.
        proxy: URL of the proxy to go by, None for none.
        loopback: whether it is on this machine.
    """

    url: str
    origin: str
    path: str
    proxy: str | None
    loopback: bool

    @classmethod
    def of(cls, url: str) -> Self:
        """Take a URL apart, and look up the proxy in the environment (`http_proxy`, `https_proxy`, `no_proxy`).

        What is on this machine is never asked for by way of a proxy, which would look for it on its own.

        Raises:
            ConfigError: it is no `http://` or `https://` URL.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # a port that is none, a bracket that nothing closes
            host = port = None
        if not host or parts.scheme not in ("http", "https"):
            raise ConfigError(f"{_shown(url)}: expected something like http://127.0.0.1:8080")
        # Put together anew, which leaves out a user and a password: errors and logs show what is kept here.
        place = f"[{host}]" if ":" in host else host
        origin = f"{parts.scheme}://{place}" + ("" if port is None else f":{port}")
        loopback = _is_loopback(host)
        around = loopback or bool(urllib.request.proxy_bypass(host))
        # Once, and not for each call: a client goes one way for as long as it lives.
        proxies = {} if around else urllib.request.getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        return cls(origin + parts.path, origin, parts.path or "/", proxy, loopback)


def _shown(url: str) -> str:
    """A URL that makes no sense, without what may be a password."""
    return url.rpartition("@")[2]


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
