"""The methods of both faces, each with its params, its result and the words the OpenRPC document says about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from service.errors import (
    DeadlineExceeded,
    ModelFailed,
    ModelNotFound,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    ResponseTooLarge,
    RpcError,
    VersionNotFound,
)
from service.rpc.alarms import Alarms, Resetter
from service.rpc.call import Call, Limits
from service.rpc.codecs import CodecBook
from service.rpc.labels import Labeller
from service.rpc.large import Decoder
from service.rpc.params import (
    AlarmResetParams,
    Binder,
    DescribeParams,
    LabelParams,
    NoParams,
    PredictParams,
    RouteParams,
    VersionParams,
)
from service.rpc.predict import Predictor
from service.rpc.recording import Recording
from service.rpc.results import (
    AlarmResetResult,
    LabelResult,
    LastFailure,
    ModelDescription,
    ModelList,
    PredictResult,
    describe,
    summaries,
)
from service.types import EnginePort

__all__ = ["Method", "Methods", "admin_methods", "discover_method", "public_methods", "table"]

P = TypeVar("P", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Method(Generic[P]):
    """One JSON-RPC method.

    Attributes:
        name: as clients call it.
        params: its params, in the order they have as positional ones.
        run: carries it out; returns the result as JSON text, or raises RpcError.
        summary: one sentence for the OpenRPC document.
        result: what JSON the result is, as a type.
        errors: what it may be refused with, beyond what every method may.
    """

    name: str
    params: type[P]
    run: Callable[[Call, P], Awaitable[bytes]]
    summary: str
    result: Any
    errors: tuple[type[RpcError], ...] = ()
    binder: Binder[P] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "binder", Binder(self.params))


Methods = Mapping[str, Method[Any]]


def table(methods: Sequence[Method[Any]]) -> Methods:
    """The methods by name."""
    return {method.name: method for method in methods}


def public_methods(
    engine: EnginePort,
    book: CodecBook,
    limits: Limits,
    recording: Recording | None = None,
    decoder: Decoder | None = None,
) -> list[Method[Any]]:
    """What the public face answers, but for `rpc.discover`; without a recording there is no `label` either."""
    predict = Method(
        "predict",
        PredictParams,
        Predictor(engine, book, limits, decoder).__call__,
        "What a model says about some samples.",
        PredictResult,
        (
            ModelNotFound,
            VersionNotFound,
            NotReady,
            Overloaded,
            DeadlineExceeded,
            ModelFailed,
            NonFiniteOutput,
            ResponseTooLarge,
        ),
    )
    labels = [] if recording is None else [_label_method(recording, book)]
    return [predict, *labels, *_catalog_methods(book)]


def admin_methods(engine: EnginePort, book: CodecBook, alarms: Alarms | None = None) -> list[Method[Any]]:
    """What the admin face answers, but for `rpc.discover`; without a recording there are no alarms either."""
    errors = (ModelNotFound, VersionNotFound, NotReady)

    def admin(action: str, params: type[P], summary: str) -> Method[P]:
        async def run(call: Call, given: P) -> bytes:
            call.model = getattr(given, "model", None)
            return msgspec.json.encode(await engine.admin(action, msgspec.to_builtins(given)))

        return Method(f"models.{action}", params, run, summary, dict[str, Any], errors)

    async def failures(model: str) -> Mapping[str, LastFailure]:
        try:
            told = await engine.admin("failures", {"model": model})
        except (ModelNotFound, NotReady):  # it went, or the engine is away: what is in the catalog can still be told
            return {}
        return msgspec.convert(told, dict[str, LastFailure])

    return [
        *_catalog_methods(book, failures),
        admin("load", VersionParams, "Load a version into memory; answers once it is live."),
        admin("unload", VersionParams, "Take a version out of memory; it loads again on demand."),
        admin("route", RouteParams, "Choose the version that answers in the role `stable`."),
        admin("pin", VersionParams, "Keep a version in memory whatever the routing says."),
        admin("unpin", VersionParams, "Let a version go when it is not needed."),
        admin("scan", NoParams, "Look at the models directory now."),
        *([] if alarms is None else [_reset_method(alarms, book)]),
    ]


def discover_method(document: Callable[[], bytes]) -> Method[NoParams]:
    """`rpc.discover`, which answers the OpenRPC document of its face."""

    async def run(_call: Call, _params: NoParams) -> bytes:
        return document()

    return Method("rpc.discover", NoParams, run, "This service as an OpenRPC document.", dict[str, Any])


def _label_method(recording: Recording, book: CodecBook) -> Method[LabelParams]:
    summary = "Say what a sample truly was. It may come weeks after the prediction, and again."
    errors = (ModelNotFound, VersionNotFound, NotReady, Overloaded)
    return Method("label", LabelParams, Labeller(recording, book).__call__, summary, LabelResult, errors)


def _reset_method(alarms: Alarms, book: CodecBook) -> Method[AlarmResetParams]:
    summary = "Take note of a version's alarm: it is quiet, and counts anew from now on."
    errors = (ModelNotFound, VersionNotFound, NotReady, Overloaded)
    return Method("alarms.reset", AlarmResetParams, Resetter(alarms, book).__call__, summary, AlarmResetResult, errors)


def _catalog_methods(
    book: CodecBook, failures: Callable[[str], Awaitable[Mapping[str, LastFailure]]] | None = None
) -> list[Method[Any]]:
    async def list_models(_call: Call, _params: NoParams) -> bytes:
        return msgspec.json.encode(summaries(book.catalog))

    async def describe_model(call: Call, params: DescribeParams) -> bytes:
        model = book.catalog.models.get(params.model)
        if model is None:
            raise book.missing(params.model)
        call.model = params.model
        if params.version is not None and model.version(params.version) is None:
            raise book.missing(params.model, params.version)
        described = describe(model, params.version)
        if failures is not None:
            last = await failures(params.model)
            for version in described.versions:
                version.last_failure = last.get(str(version.version))
        return msgspec.json.encode(described)

    return [
        Method("models.list", NoParams, list_models, "Every model, with its versions and roles.", ModelList),
        Method(
            "models.describe",
            DescribeParams,
            describe_model,
            "One model: what its versions take, answer and cost.",
            ModelDescription,
            (ModelNotFound, VersionNotFound, NotReady),
        ),
    ]
