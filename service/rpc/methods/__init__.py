"""The methods of both faces: a file each, with its params, its result, an example and what it does.

A new one is its file and a line here; the OpenRPC document, the tests of examples and both faces follow from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hoverboard.contract.calls import EnginePort
from hoverboard.errors import ModelNotFound, NotReady
from hoverboard.rpc.call import CallLimits
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.large_messages import Decoder
from hoverboard.rpc.methods.alarms_reset import alarms_reset
from hoverboard.rpc.methods.label import label
from hoverboard.rpc.methods.method import Method, Methods, table
from hoverboard.rpc.methods.models_admin import models_admin
from hoverboard.rpc.methods.models_describe import LastFailure, models_describe
from hoverboard.rpc.methods.models_list import models_list
from hoverboard.rpc.methods.predict import predict
from hoverboard.rpc.recording import CallRecording

__all__ = ["UNRECORDED", "Method", "Methods", "admin_methods", "public_methods", "table"]

UNRECORDED: Final = dict.fromkeys(("label", "alarms.reset"), "is not offered, since recording is off")
"""Methods that there are only where something is recorded -> why they are not here otherwise."""


def public_methods(
    engine: EnginePort,
    book: CodecBook,
    limits: CallLimits,
    recording: CallRecording | None = None,
    decoder: Decoder | None = None,
) -> list[Method[Any]]:
    """What the public face answers, but for `rpc.discover`; without a recording there is no `label` either."""
    # A method that could only fail is not offered: clients see in the document what they can do here.
    labels = [] if recording is None else [label(recording, book)]
    return [predict(engine, book, limits, decoder), *labels, models_list(book), models_describe(book)]


def admin_methods(engine: EnginePort, book: CodecBook, recording: CallRecording | None = None) -> list[Method[Any]]:
    """What the admin face answers, but for `rpc.discover`; without a recording there are no alarms either."""

    async def failures(model: str) -> Mapping[str, LastFailure]:
        try:
            latest = await engine.admin("failures", {"model": model})
        except (ModelNotFound, NotReady):  # it went, or the engine is away: what is in the catalog can still be told
            return {}
        return msgspec.convert(latest, dict[str, LastFailure])

    resets = [] if recording is None else [alarms_reset(recording, book)]
    return [models_list(book), models_describe(book, failures), *models_admin(engine), *resets]
