"""What every client does, whatever carries its bytes: requests, answers, tries, and what is remembered of models.

Each method is a generator that yields what is to be done (`Send`, `Pause`) and is sent the answer to it; it returns the result.
A transport only carries that out, at once or with `await`.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, TypeVar, cast

import msgspec

from hoverboard.client.described import RememberedModel, RememberedVersion, TensorInfo
from hoverboard.client.messages import Pause, Received, Send, result_of
from hoverboard.client.retries import Retries
from hoverboard.errors import (
    DeadlineExceeded,
    InvalidParams,
    RequestTooLarge,
    ResponseTooLarge,
    RpcError,
    Unauthorized,
    UnknownMethod,
    Unreachable,
)

if TYPE_CHECKING:
    from hoverboard.client.answers import Predictions
    from hoverboard.client.samples import SampleBatch, Samples
    from hoverboard.rpc.methods.models_describe import ModelDescription
    from hoverboard.rpc.methods.models_list import ModelSummary

__all__ = [
    "PATIENCE_S",
    "Core",
    "PredictOptions",
    "Procedure",
    "Truth",
    "at_least_one",
]

T = TypeVar("T")

PATIENCE_S: Final = 60.0
"""Seconds that a call may take, its tries together, where nobody says otherwise."""
GRACE_S: Final = 0.2
"""Seconds beyond the deadline that the server's own word on it is waited for."""
_LABELS_AT_ONCE: Final = 1000
"""Most labels that the server takes in one call."""
_CALL_BYTES: Final = 4 << 20
"""About what one of several calls may take: well below `max_body_bytes`, and a fraction of a second to send."""
_AT_ONCE: Final = 256
"""Samples of one of several calls: some full batch buckets, and no long wait for whoever comes next."""
_IDS_OF_A_PROCESS: Final = 24
"""Bits of ids below the process's own number, which has 22: together they stay within what JSON carries exactly (53)."""
_ADMIN: Final = frozenset({
    "models.load", "models.unload", "models.pin", "models.unpin", "models.route", "models.scan", "alarms.reset",
})  # fmt: skip
_LOOKED_AT: Final = 8
"""Samples that are written to learn how large one is."""

Truth = str | Sequence[str] | SupportsFloat
"""What a sample truly was: a class, all labels that hold of it (for a multi-label model), or a number (for a regression)."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How samples are to be answered; see `Client.predict`."""

    version: int | str = "stable"
    deadline_s: float | None = None
    top_k: int = 1
    outputs: bool = False
    tags: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        _no_less_than_zero("deadline_s", self.deadline_s)

    def params(self) -> dict[str, Any]:
        """Those that differ from what a call has without them."""
        optional = {"top_k": self.top_k, "outputs": self.outputs, "tags": self.tags and dict(self.tags)}
        usual = {"top_k": 1, "outputs": False, "tags": None}
        return {"version": self.version, **{name: value for name, value in optional.items() if value != usual[name]}}


Procedure = Generator[Send | Pause, Received | None, T]


class _Accepted(msgspec.Struct, frozen=True):
    accepted: int


_Described = tuple[RememberedModel, RememberedVersion | None]


class Core:
    """The methods of a service as generators. Shared by threads: all that it changes are single steps of a dict.

    Args:
        url: for what is said in errors.
        retries: see `Retries`.
        patience_s: seconds that a call without a deadline may take.
        deadline_s: of `predict` calls that name none; None for none.
    """

    def __init__(self, url: str, retries: Retries, patience_s: float, deadline_s: float | None) -> None:
        _no_less_than_zero("deadline_s", deadline_s)
        _no_less_than_zero("patience_s", patience_s)
        self.url = url
        self._retries = retries
        self._patience_s = patience_s
        self._deadline_s = deadline_s
        self._ids = itertools.count(1)
        self._process = os.getpid()
        self._described: dict[tuple[str, int | str], _Described] = {}

    def call(
        self, method: str, params: Mapping[str, Any], read: Callable[[msgspec.Raw], T], deadline_s: float | None = None
    ) -> Procedure[T]:
        """One call, tried as often as it is worth it and the deadline allows.

        Args:
            read: makes the result of its JSON text.
            deadline_s: seconds until no answer is wanted; 0 is a deadline that has passed. None for `patience_s`.

        Raises:
            ValueError: the deadline is negative, or no number.
        """
        _no_less_than_zero("deadline_s", deadline_s)
        seconds = self._patience_s if deadline_s is None else deadline_s
        if not seconds:
            raise DeadlineExceeded(f"{method} was not sent to {self.url}: its deadline has passed")
        begun = time.monotonic()
        until = begun + seconds
        told = method == "predict" and deadline_s is not None
        for attempt in itertools.count(1):
            left = until - time.monotonic()
            # Anew for each try: the server counts from the arrival of each, and the caller from the first.
            sent = {**params, "deadline_ms": max(1.0, left * 1000)} if told else params
            number = self._next_id()
            request = {"jsonrpc": "2.0", "id": number, "method": method, "params": sent}
            try:
                received = yield Send(msgspec.json.encode(request), number, max(left, 0.0) + GRACE_S)
                return result_of(cast(Received, received), number, self.url, read)
            except (RpcError, Unreachable) as error:
                now = time.monotonic()
                # Silence past the deadline is the deadline's doing, whatever the transport calls it.
                if isinstance(error, Unreachable) and error.sent and now >= until:
                    raise DeadlineExceeded(f"{self.url} did not answer {method} within {seconds:.3g} s") from error
                hint = _hint(error, method)
                if hint is not None:
                    error.add_note(hint)
                pause = self._retries.pause_s(attempt, error, method, has_deadline=deadline_s is not None)
                # A try that would begin past the deadline can only fail: the caller hears so now rather than then.
                if pause is None or now + pause >= until:
                    if attempt > 1:
                        error.add_note(f"{method} was tried {attempt} times in {now - begun:.1f} s")
                    raise
            yield Pause(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _next_id(self) -> int:
        """An id of a call. A process that was forked off does not go on with those of its parent, which goes on with them, too."""
        process = os.getpid()
        if process != self._process:
            self._ids, self._process = itertools.count((process << _IDS_OF_A_PROCESS) + 1), process
        return next(self._ids)

    # -- predict -------------------------------------------------------------------------------------------------

    def predict(self, model: str, samples: Samples | SampleBatch, options: PredictOptions) -> Procedure[Predictions]:
        """The predictions of one call."""
        # Here and below: NumPy takes longer to import than a command that sends plain JSON takes altogether.
        from hoverboard.client.answers import Predictions
        from hoverboard.client.samples import SampleBatch

        version = options.version
        seconds = self._deadline_s if options.deadline_s is None else options.deadline_s
        until = None if seconds is None else time.monotonic() + seconds
        batch = samples if isinstance(samples, SampleBatch) else SampleBatch.of(samples)
        params = {"model": model, **options.params()}

        def left() -> float | None:
            return None if until is None else max(0.0, until - time.monotonic())

        def read(result: msgspec.Raw) -> Predictions:
            answer = Predictions.read(result)
            # Rows are matched with samples by their place alone: those of another call would pass for this one's.
            other = isinstance(version, int) and answer.version != version
            if answer.model != model or len(answer) != batch.n or other:
                raise msgspec.ValidationError(
                    f"{len(answer)} predictions of {answer.model!r:.50} version {answer.version}"
                    f" for {batch.n} samples of {model!r:.50}{f' version {version}' if other else ''}"
                )
            return answer

        inputs = (yield from self._inputs(model, version, left())) if batch.wants_inputs else ()
        try:
            answer = yield from self.call("predict", params | batch.params(inputs), read, left())
        except InvalidParams:
            # Perhaps another version is stable by now, which takes other dtypes than those that are remembered.
            self._described.pop((model, version), None)
            again = (yield from self._inputs(model, version, left())) if batch.wants_inputs else ()
            if again == inputs:  # nothing has changed: the samples are wrong
                raise
            answer = yield from self.call("predict", params | batch.params(again), read, left())
        if not answer.has_outputs:
            return answer
        described = yield from self._describe(model, answer.version, left())
        # By number: the version that answered may not be stable any more.
        return answer if described[1] is None else answer.described(described[1].outputs)

    def _inputs(self, model: str, version: int | str, deadline_s: float | None) -> Procedure[Sequence[TensorInfo]]:
        described = yield from self._describe(model, version, deadline_s)
        return () if described[1] is None else described[1].inputs

    def _describe(self, model: str, version: int | str, deadline_s: float | None) -> Procedure[_Described]:
        """A model and one of its versions, asked for once: what a number stands for never changes."""
        known = self._described.get((model, version))
        if known is not None:
            return known
        params = {"model": model} if isinstance(version, str) else {"model": model, "version": version}
        found = yield from self.call(
            "models.describe", params, msgspec.json.Decoder(RememberedModel).decode, deadline_s
        )
        number = found.roles.get(version) if isinstance(version, str) else version
        described = (found, next((each for each in found.versions if each.version == number), None))
        self._described[model, version] = described
        return described

    def batches(
        self, model: str, samples: Samples, version: int | str, size: int | None
    ) -> Procedure[list[SampleBatch]]:
        """Samples in parts that go into one call each.

        Args:
            size: most samples of a part; None for as many as are quick.
        """
        from hoverboard.client.samples import SampleBatch

        if size is not None:
            at_least_one("batch", size)
        whole = SampleBatch.of(samples)
        found, described = yield from self._describe(model, version, None)
        most = (found.serving.get("limits") or {}).get("max_instances") or _AT_ONCE
        # The size of a body is only known once it is written, and writing all of it to learn that would cost as much as sending it.
        few = whole.part(0, _LOOKED_AT)
        written = few.params(() if described is None else described.inputs)
        each = sum(len(bytes(text)) for text in written.values()) / few.n
        step = max(1, min(size or _AT_ONCE, int(most), int(_CALL_BYTES / each)))
        return [whole.part(start, start + step) for start in range(0, whole.n, step)]

    def halved(self, batch: SampleBatch, model: str, options: PredictOptions) -> Procedure[list[Predictions]]:
        """A part's predictions, in smaller calls where the server finds one too large."""
        try:
            return [(yield from self.predict(model, batch, options))]
        except (RequestTooLarge, ResponseTooLarge):
            if batch.n == 1:
                raise
        # Outside the handler, so that an error of a half is not shown as one that came of handling this one.
        middle = math.ceil(batch.n / 2)
        first = yield from self.halved(batch.part(0, middle), model, options)
        pinned = replace(options, version=first[0].version)  # both halves by one version, whatever is swapped meanwhile
        return first + (yield from self.halved(batch.part(middle, batch.n), model, pinned))

    # -- label ---------------------------------------------------------------------------------------------------

    def label(
        self, sample_id: str, truth: Truth, options: Mapping[str, Any], deadline_s: float | None
    ) -> Procedure[int]:
        """One label; answers how many were accepted."""
        params = {"sample_id": str(sample_id), **_truth(truth), **_given(options)}
        return self.call("label", params, _accepted, deadline_s)

    def label_many(
        self,
        labels: Mapping[str, Truth] | Iterable[tuple[str, Truth]],
        options: Mapping[str, Any],
        deadline_s: float | None,
    ) -> Procedure[int]:
        """Many labels, by the thousand; answers how many were accepted."""
        pairs = iter(labels.items() if isinstance(labels, Mapping) else labels)
        accepted = 0
        while True:
            try:
                chunk = _items(itertools.islice(pairs, _LABELS_AT_ONCE))
                if not chunk:
                    return accepted
                accepted += yield from self.call("label", {"labels": chunk, **_given(options)}, _accepted, deadline_s)
            except (RpcError, Unreachable, TypeError) as error:
                if accepted:
                    error.add_note(f"the first {accepted} labels were accepted")
                raise

    # -- models --------------------------------------------------------------------------------------------------

    def models(self) -> Procedure[list[ModelSummary]]:
        """Every model in brief."""
        # The server's own types, imported where they are needed: they bring the rest of the JSON-RPC layer along.
        from hoverboard.rpc.methods.models_list import ModelList

        found = yield from self.call("models.list", {}, msgspec.json.Decoder(ModelList).decode)
        return found.models

    def describe(self, model: str, version: int | None) -> Procedure[ModelDescription]:
        """One model with its versions."""
        from hoverboard.rpc.methods.models_describe import ModelDescription

        params = _given({"model": model, "version": version})
        return (yield from self.call("models.describe", params, msgspec.json.Decoder(ModelDescription).decode))

    def reset_alarm(self, model: str, version: int, reason: str | None) -> Procedure[Any]:
        """Take note of a version's alarm."""
        params = {"model": model, "version": version, "reason": reason}
        return self.call("alarms.reset", params, msgspec.json.decode)

    def admin(
        self, action: str, params: Mapping[str, Any], deadline_s: float | None = None
    ) -> Procedure[dict[str, Any]]:
        """One action of the admin listener."""
        return self.call(f"models.{action}", params, msgspec.json.Decoder(dict[str, Any]).decode, deadline_s)


def _hint(error: RpcError | Unreachable, method: str) -> str | None:
    """What to do about a refusal that comes of how the client was made; which listener has what, the service says itself."""
    if isinstance(error, Unauthorized) or (isinstance(error, UnknownMethod) and method in _ADMIN):
        return (
            "admin methods want Client(url, token=...): the URL of the admin listener, http://127.0.0.1:8081 unless told "
            "otherwise, and what `admin.token` in the service's data directory holds"
        )
    if isinstance(error, UnknownMethod) and method == "label":
        return (
            "labels are taken by the public listener of a service that records; in process: "
            'serve_in_process(models, recording="data")'
        )
    return None


def at_least_one(name: str, value: int) -> int:
    """The value of an argument that counts something.

    Raises:
        ValueError: it is less than 1.
    """
    if value < 1:
        raise ValueError(f"{name}: expected 1 or more, got {value}")
    return value


def _no_less_than_zero(name: str, seconds: float | None) -> None:
    if seconds is not None and not seconds >= 0:  # so that NaN is refused too
        raise ValueError(f"{name}: expected 0 seconds or more, got {seconds}")


def _items(pairs: Iterator[tuple[str, Truth]]) -> list[dict[str, Any]]:
    return [{"sample_id": str(sample_id), **_truth(truth)} for sample_id, truth in pairs]


def _truth(truth: Truth) -> dict[str, Any]:
    if isinstance(truth, str):
        return {"label": str(truth)}
    # To Python bytes are many numbers, and True is 1: neither is what was meant.
    if isinstance(truth, bytes | bytearray | memoryview | Mapping) or _is_bool(truth):
        raise _no_truth(truth)
    if isinstance(truth, Iterable) and getattr(truth, "ndim", None) != 0:
        labels: list[object] = list(truth)
        for label in labels:
            if not isinstance(label, str | Integral) or _is_bool(label):
                raise _no_truth(label, " in a list")
        return {"label": [str(label) for label in labels]}
    try:
        return {"value": float(cast(SupportsFloat, truth))}
    except (TypeError, ValueError):
        raise _no_truth(truth) from None


def _is_bool(value: object) -> bool:
    return type(value).__name__ in ("bool", "bool_")  # by name: NumPy's too, which is not imported here


def _no_truth(value: object, where: str = "") -> TypeError:
    return TypeError(
        f"truth: expected a text (a class), a list of texts (all labels that hold) or a number (a regression's value), "
        f"got {type(value).__name__}{where}"
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _accepted(result: msgspec.Raw) -> int:
    return msgspec.json.decode(result, type=_Accepted).accepted
