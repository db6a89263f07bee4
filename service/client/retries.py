"""Which error is worth another try, and after how long."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from hoverboard.errors import RpcError, Unreachable

__all__ = ["SAFE_METHODS", "Retries", "may_pass"]

SAFE_METHODS: Final = frozenset({"predict", "label", "models.list", "models.describe", "rpc.discover"})
"""Calls that may be sent again when nobody knows whether they were carried out: the same label twice counts once, and a
second prediction is at most recorded once more. An admin action is not among them: it might undo what came in between."""

_LATE: Final = 0.25
_ATTEMPTS: Final = 6
"""Tries of a call without a deadline."""
_LONGEST_S: Final = 1.0
"""Longest pause of a call with one."""
_LEAST_S: Final = 0.01
"""Shortest pause where the server names one: it may name so little that tries would come as fast as they can be sent."""
_DOUBLINGS: Final = 32
"""Beyond any limit by then; some thousand would overflow."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a client tries again.

    Pauses are drawn evenly from 0 up to a limit that doubles with each try ("full jitter"), so that clients that were
    refused together do not come back together. Where the server says after how long (`retry_after_ms`), none comes
    earlier, and each up to a quarter later; 0 or less names none.

    A call with a deadline (`deadline_s`, its own or the client's) is tried until that, with pauses of at most a second where
    the server names none; one without is tried 6 times.

    Attributes:
        attempts: most tries of one call, the first included, with a deadline or without; 1 never tries again. None for
            what is said above.
        first_s: limit of the first pause, in seconds.
        longest_s: limit of every pause, in seconds.
        unreachable: whether a server that does not answer is tried again, and not only one that says so itself.
    """

    attempts: int | None = None
    first_s: float = 0.1
    longest_s: float = 10.0
    unreachable: bool = True

    def pause_s(
        self, attempt: int, error: RpcError | Unreachable, method: str, *, has_deadline: bool = False
    ) -> float | None:
        """Seconds to wait before the next try; None where there is to be none.

        Args:
            attempt: tries that have failed, from 1.
            error: of the last of them.
            method: what was called.
            has_deadline: whether the caller named one, which the caller of this minds.
        """
        attempts = (math.inf if has_deadline else _ATTEMPTS) if self.attempts is None else self.attempts
        if attempt >= attempts or not self._is_worth_it(error, method):
            return None
        if error.retry_after_ms is not None and error.retry_after_ms > 0:
            asked = max(error.retry_after_ms / 1000, _LEAST_S)
            return min(asked * random.uniform(1.0, 1.0 + _LATE), self.longest_s)  # noqa: S311 - jitter, no secret
        # Many tries until a deadline must not drift so far apart that a server that is back is not noticed.
        longest = min(self.longest_s, _LONGEST_S) if has_deadline else self.longest_s
        limit = min(self.first_s * 2.0 ** min(attempt - 1, _DOUBLINGS), longest)
        return random.uniform(0.0, limit)  # noqa: S311 - likewise

    def _is_worth_it(self, error: RpcError | Unreachable, method: str) -> bool:
        if isinstance(error, RpcError):
            return error.retryable
        return self.unreachable and error.retryable and (not error.sent or method in SAFE_METHODS)


def may_pass(status: int) -> bool:
    """Whether an answer without JSON-RPC may be another one soon: not that the service is elsewhere, or nothing is there."""
    return not 300 <= status < 500 or status in (408, 425, 429)
