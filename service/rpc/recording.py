"""What the JSON-RPC layer has written down: refused calls, labels, and resets of alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hoverboard.errors import RpcError
from hoverboard.journal.records import LabelRecord
from hoverboard.rpc.call import RpcRequest

__all__ = ["CallRecording", "Rejection"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A call, or a message that was none, which was answered with an error.

    Attributes:
        request: it came with.
        error: it was answered with.
        method: as the client wrote it; empty where none was understood.
        model, version, tags: likewise; None where none was understood, or the method has none.
    """

    request: RpcRequest
    error: RpcError
    method: str = ""
    model: str | None = None
    version: int | str | None = None
    tags: Mapping[str, str] | None = None


class CallRecording(Protocol):
    """Where refused calls, labels and resets of alarms are written down before their answers leave."""

    async def label(self, labels: Sequence[LabelRecord]) -> None:
        """Write some labels down.

        Raises:
            Overloaded: not all of them could be; writing them again does no harm.
        """

    async def reject(self, rejection: Rejection) -> None:
        """Write one refused call down, or count it where that cannot be; raises nothing but `CancelledError`."""

    async def reset_alarm(self, model: str, version: int, reason: str | None, request: RpcRequest) -> None:
        """Write down that a version's alarm is to count anew.

        Args:
            reason: why; None without.
            request: it came with.

        Raises:
            Overloaded: it cannot be written now.
        """
