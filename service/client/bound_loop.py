"""Where connections of an event loop may be used: on that loop, in the process that opened them."""

from __future__ import annotations

import asyncio
import os

__all__ = ["BoundLoop"]


class BoundLoop:
    """The event loop and process that the connections of a client belong to, from its first call until it is closed.

    Args:
        url: for what is said in errors.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._place: tuple[int, asyncio.AbstractEventLoop] | None = None

    def here(self) -> bool:
        """Whether connections may be used here: nobody has opened any, or on this loop of this process."""
        return self._place in (None, (os.getpid(), asyncio.get_running_loop()))

    def require(self) -> None:
        """Bind to this loop where there is no other.

        Raises:
            RuntimeError: it is another one. Its connections cannot even be closed from here: a process that was forked
                off would take them from the loop of its parent.
        """
        if not self.here():
            raise RuntimeError(
                f"this client of {self._url} has its connections on another event loop, or in the process that this one was "
                "forked from: make one client for each asyncio.run and each process"
            )
        self._place = (os.getpid(), asyncio.get_running_loop())

    def leave(self) -> None:
        """After its connections are closed."""
        self._place = None
