"""Hoverboard: serve versioned Keras models over JSON-RPC.

What users need is here; whatever is not asked for is not imported, so that a client never loads the engine.

    import hoverboard

    with hoverboard.Client("http://127.0.0.1:8080") as client:
        print(client.predict("digits", images).labels)

`Client` and `AsyncClient` call a service; `serve_in_process` is one within a test or a notebook; `publish` makes a model version,
`CalibrationRows` are arrays for it; the errors are those that a service answers with, `RpcError` above all, and those of what never
reached one.
"""

from __future__ import annotations

import importlib

from hoverboard.version import __version__

# As of `typing`, whose own import would take most of this one's time; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from hoverboard.client.aio import AsyncClient
    from hoverboard.client.answers import Prediction, Predictions
    from hoverboard.client.in_process import serve_in_process
    from hoverboard.client.retries import Retries
    from hoverboard.client.sync import Client
    from hoverboard.errors import (
        BatchTooLarge,
        ConfigError,
        DataDirLocked,
        DeadlineExceeded,
        EngineMissing,
        HoverboardError,
        InternalError,
        InvalidParams,
        InvalidRequest,
        ModelFailed,
        ModelNotFound,
        NonFiniteOutput,
        NotFound,
        NotReady,
        Overloaded,
        ParseError,
        PublishError,
        RequestTooLarge,
        ResponseTooLarge,
        RpcError,
        Unauthorized,
        UnknownMethod,
        Unreachable,
        VersionNotFound,
        VersionRefused,
    )
    from hoverboard.publishing.calibration_file import CalibrationRows
    from hoverboard.publishing.publish import publish

__all__ = [
    "AsyncClient",
    "BatchTooLarge",
    "CalibrationRows",
    "Client",
    "ConfigError",
    "DataDirLocked",
    "DeadlineExceeded",
    "EngineMissing",
    "HoverboardError",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "ModelFailed",
    "ModelNotFound",
    "NonFiniteOutput",
    "NotFound",
    "NotReady",
    "Overloaded",
    "ParseError",
    "Prediction",
    "Predictions",
    "PublishError",
    "RequestTooLarge",
    "ResponseTooLarge",
    "Retries",
    "RpcError",
    "Unauthorized",
    "UnknownMethod",
    "Unreachable",
    "VersionNotFound",
    "VersionRefused",
    "__version__",
    "publish",
    "serve_in_process",
]

_ELSEWHERE = {
    "AsyncClient": "hoverboard.client.aio",
    "CalibrationRows": "hoverboard.publishing.calibration_file",
    "Client": "hoverboard.client.sync",
    "Prediction": "hoverboard.client.answers",
    "Predictions": "hoverboard.client.answers",
    "Retries": "hoverboard.client.retries",
    "publish": "hoverboard.publishing.publish",
    "serve_in_process": "hoverboard.client.in_process",
}
"""Where a name is defined that is not an error."""


if not TYPE_CHECKING:  # else every misspelt name would pass for one that is there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(_ELSEWHERE.get(name, "hoverboard.errors")), name)
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
