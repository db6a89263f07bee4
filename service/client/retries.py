"""Which error is worth another try, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from hoverboard.errors import RpcError, Unreachable

__all__ = ["SAFE_METHODS", "Retries"]

SAFE_METHODS: Final = frozenset({"predict", "label", "models.list", "models.describe", "rpc.discover"})
"""Calls that may be sent again when nobody knows whether they were carried out: the same label twice counts once, and a
second prediction is at most recorded once more. An admin action is not among them: it might undo what came in between."""

_LATE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a client tries again.

    Pauses are drawn evenly from 0 up to a limit that doubles with each try ("full jitter"), so that clients that were
    refused together do not come back together. Where the server says after how long (`retry_after_ms`), none comes
    earlier, and each up to a quarter later.

    Attributes:
        attempts: most tries of one call, the first included; 1 never tries again.
        first_s: limit of the first pause, in seconds.
        longest_s: limit of every pause, in seconds.
        unreachable: whether a server that does not answer is tried again, and not only one that says so itself.
    """

    attempts: int = 6
    first_s: float = 0.1
    longest_s: float = 10.0
    unreachable: bool = True

    def pause_s(self, attempt: int, error: RpcError | Unreachable, method: str) -> float | None:
        """Seconds to wait before the next try; None where there is to be none.

        Args:
            attempt: tries that have failed, from 1.
            error: of the last of them.
            method: what was called.
        """
        if attempt >= self.attempts or not self._is_worth_it(error, method):
            return None
        if error.retry_after_ms is not None:
            asked = error.retry_after_ms / 1000
            return min(asked * random.uniform(1.0, 1.0 + _LATE), self.longest_s)  # noqa: S311 - jitter, no secret
        limit = min(self.first_s * 2.0 ** (attempt - 1), self.longest_s)
        return random.uniform(0.0, limit)  # noqa: S311 - likewise

    def _is_worth_it(self, error: RpcError | Unreachable, method: str) -> bool:
        if isinstance(error, RpcError):
            return error.retryable
        return self.unreachable and (not error.sent or method in SAFE_METHODS)
