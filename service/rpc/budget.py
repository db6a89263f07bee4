"""How many bytes of one kind a process holds at most."""

from __future__ import annotations

from typing import Self

from hoverboard.errors import Overloaded

__all__ = ["Budget", "BudgetShare"]

# By then a large request or two should be through.
_RETRY_MS = 1000


class Budget:
    """A number of bytes that requests take their shares of.

    Args:
        most: bytes.
        what: what there is too much of, for those who are refused.
        whole: the budget that this one is a part of; what is held of one is held of both.
    """

    def __init__(self, most: int, what: str, whole: Budget | None = None) -> None:
        self._most = most
        self._what = what
        self._whole = whole
        self.held = 0

    def share(self) -> BudgetShare:
        """A share of it, empty yet."""
        return BudgetShare(self)

    def part(self, most: int) -> Budget:
        """A budget of at most `most` bytes within this one."""
        return Budget(most, self._what, self)

    def take(self, size: int) -> None:
        """Hold some bytes more.

        Raises:
            Overloaded: they do not fit; nothing is held of them.
        """
        if self.held + size > self._most:
            raise Overloaded(
                f"Too many bytes of {self._what} in this process, try again later", retry_after_ms=_RETRY_MS
            )
        # The whole first: where it is full, nothing may be held of the part either.
        if self._whole is not None:
            self._whole.take(size)
        self.held += size

    def give(self, size: int) -> None:
        """Hold some bytes less."""
        self.held -= size
        if self._whole is not None:
            self._whole.give(size)


class BudgetShare:
    """What one request holds of a budget; a context manager that gives all of it back."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def grow(self, size: int) -> None:
        """Hold some bytes more.

        Raises:
            Overloaded: they do not fit.
        """
        self._budget.take(size)
        self.size += size

    def close(self) -> None:
        """Give everything back."""
        self._budget.give(self.size)
        self.size = 0
