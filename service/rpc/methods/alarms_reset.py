"""The method `alarms.reset`: somebody has looked at an alarm; the recorder, which keeps it, reads so in the journal."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from hoverboard.errors import InvalidParams, ModelNotFound, NotReady, Overloaded, VersionNotFound
from hoverboard.rpc.call import Call
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.examples import Example, Shown
from hoverboard.rpc.fields import ModelName, VersionNumber, refuse_nul
from hoverboard.rpc.methods.method import Method
from hoverboard.rpc.recording import CallRecording

__all__ = ["alarms_reset"]


class AlarmResetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelName
    version: VersionNumber
    reason: Annotated[str, Meta(description="Why; it is kept.", max_length=500)] | None = None


class AlarmResetResult(msgspec.Struct):
    model: Annotated[str, Meta(description="The model's name.")]
    version: Annotated[int, Meta(description="The version's number.")]
    accepted: Annotated[bool, Meta(description="It is written down; the recorder resets the alarm when it reads it.")]


def alarms_reset(recording: CallRecording, book: CodecBook) -> Method[AlarmResetParams]:
    """The method."""

    async def run(call: Call, params: AlarmResetParams) -> bytes:
        model = book.catalog.models.get(params.model)
        if model is None:
            raise book.missing(params.model)
        call.model = params.model
        version = model.version(params.version)
        if version is None:
            raise book.missing(params.model, params.version)
        if not (version.manifest or {}).get("outliers"):
            raise InvalidParams("/version", "a version with a calibrated detector", f"{params.version}, which has none")
        if params.reason is not None:
            refuse_nul("/reason", params.reason)
        await recording.reset_alarm(params.model, params.version, params.reason, call.request)
        return msgspec.json.encode(AlarmResetResult(params.model, params.version, accepted=True))

    return Method(
        "alarms.reset",
        AlarmResetParams,
        run,
        "Take note of a version's alarm: it is quiet, and counts anew from now on.",
        AlarmResetResult,
        _example,
        (ModelNotFound, VersionNotFound, NotReady, Overloaded),
    )


def _example(shown: Shown) -> Example:
    params = {"model": shown.name, "version": shown.number, "reason": "a new kind of camera"}
    return Example(params, {"model": shown.name, "version": shown.number, "accepted": True})
