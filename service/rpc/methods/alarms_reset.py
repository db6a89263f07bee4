"""The method `alarms.reset`: somebody has looked at an alarm; the recorder, which keeps it, reads so in the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from hoverboard.errors import InvalidParams, ModelNotFound, NotReady, Overloaded, VersionNotFound
from hoverboard.outliers import OutlierSummary
from hoverboard.rpc.call import Call, RpcRequest
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.examples import Example, Shown
from hoverboard.rpc.fields import ModelName, VersionNumber, refuse_nul
from hoverboard.rpc.methods.method import Method

__all__ = ["AlarmReset", "Alarms", "alarms_reset"]


class AlarmResetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelName
    version: VersionNumber
    reason: Annotated[str, Meta(description="Why; it is kept.", max_length=500)] | None = None


class AlarmResetResult(msgspec.Struct):
    model: Annotated[str, Meta(description="The model's name.")]
    version: Annotated[int, Meta(description="The version's number.")]
    accepted: Annotated[bool, Meta(description="It is written down; the recorder resets the alarm when it reads it.")]


@dataclass(frozen=True, slots=True)
class AlarmReset:
    """Which alarm is to count anew.

    Attributes:
        model, version: whose.
        reason: why; None without.
    """

    model: str
    version: int
    reason: str | None


class Alarms(Protocol):
    """Where resets of alarms are written down before they are answered."""

    async def reset_alarm(self, reset: AlarmReset, request: RpcRequest) -> None:
        """Write one reset down.

        Raises:
            Overloaded: it cannot be written now.
        """


def alarms_reset(alarms: Alarms, book: CodecBook) -> Method[AlarmResetParams]:
    """The method."""
    return Method(
        "alarms.reset",
        AlarmResetParams,
        _Resetter(alarms, book).__call__,
        "Take note of a version's alarm: it is quiet, and counts anew from now on.",
        AlarmResetResult,
        _example,
        (ModelNotFound, VersionNotFound, NotReady, Overloaded),
    )


class _Resetter:
    """Carries out `alarms.reset` calls."""

    def __init__(self, alarms: Alarms, book: CodecBook) -> None:
        self._alarms = alarms
        self._book = book

    async def __call__(self, call: Call, params: AlarmResetParams) -> bytes:
        """The result as JSON text, once the reset is written down.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: there is no such version.
            InvalidParams: it has no alarm.
            Overloaded: the reset cannot be written down now.
        """
        model = self._book.catalog.models.get(params.model)
        if model is None:
            raise self._book.missing(params.model)
        call.model = params.model
        version = model.version(params.version)
        if version is None:
            raise self._book.missing(params.model, params.version)
        if OutlierSummary.of(version.manifest) is None:
            raise InvalidParams("/version", "a version with a calibrated detector", f"{params.version}, which has none")
        if params.reason is not None:
            refuse_nul("/reason", params.reason)
        await self._alarms.reset_alarm(AlarmReset(params.model, params.version, params.reason), call.request)
        return msgspec.json.encode(AlarmResetResult(params.model, params.version, accepted=True))


def _example(shown: Shown) -> Example:
    params = {"model": shown.name, "version": shown.number, "reason": "a new kind of camera"}
    return Example(params, {"model": shown.name, "version": shown.number, "accepted": True})
