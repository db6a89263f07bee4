"""How much is begun in one turn of the event loop, so that what others wait for comes in between."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """Lets a bounded amount of work begin in each turn of the event loop; the rest waits, first come, first served.

    A task that yields with `asyncio.sleep(0)` is back in the very next turn, and so is every other: a turn lasts as long
    as all of them together. This bounds what they do together.

    Args:
        most: units of work in one turn; what is larger than that goes alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._renewing = False

    async def take(self, units: int = 1) -> None:
        """Begin some work: now, if this turn has room for it, or else in a later one."""
        loop = asyncio.get_running_loop()
        if not self._renewing:
            self._renewing = True
            loop.call_soon(self._renew, loop)
        if self._left > 0 and not self._waiting:
            self._left -= units
            return
        waiter = loop.create_future()
        self._waiting.append((waiter, units))
        await waiter

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = self._most
        while self._waiting and self._left > 0:
            waiter, units = self._waiting.popleft()
            # Else its task was cancelled meanwhile, and takes no room.
            if not waiter.done():
                waiter.set_result(None)
                self._left -= units
        # Nothing was begun in this turn: no timer is needed until something is.
        self._renewing = self._left < self._most
        if self._renewing:
            loop.call_soon(self._renew, loop)
