"""The client for plain code and threads, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from hoverboard.client.address import Address
from hoverboard.client.core import PATIENCE_S, Core, PredictOptions, Procedure, Truth, at_least_one
from hoverboard.client.http import HttpTransport
from hoverboard.client.messages import Pause
from hoverboard.client.retries import Retries
from hoverboard.client.transport import MAX_ANSWER_BYTES, Transport
from hoverboard.errors import HoverboardError

if TYPE_CHECKING:
    from hoverboard.client.answers import Prediction, Predictions
    from hoverboard.client.samples import Samples
    from hoverboard.rpc.methods.models_describe import ModelDescription
    from hoverboard.rpc.methods.models_list import ModelSummary

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Calls a service; a context manager, and safe to share between threads.

        with Client("http://127.0.0.1:8080") as client:
            answer = client.predict("digits", images)  # float32 (n, 64)
            print(answer.labels, answer.confidence)
            client.label(answer[0].sample_id, "7")

    Every call may raise `RpcError` (the service refused it: `InvalidParams`, `ModelNotFound`, `Overloaded`, ...) or
    `Unreachable` (nothing that speaks JSON-RPC answered). What is worth it is tried again before: see `Retries`.

    Args:
        url: of the public listener; for admin methods, that of the admin listener.
        token: the admin listener's bearer token; neither shown nor logged.
        deadline_s: of `predict` calls that name none: seconds that one may take, its tries together; 0 or more. The server is told, too.
        patience_s: seconds that any other call may take, and a `predict` without a deadline.
        retries: when a call is tried again; `Retries(attempts=1)` for never.
        max_answer_bytes: most that one answer may take, unpacked; a larger one is not read on, and raises `ResponseTooLarge`.
        transport: carries messages in place of HTTP.

    Raises:
        ConfigError: the URL is none.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        deadline_s: float | None = None,
        patience_s: float = PATIENCE_S,
        retries: Retries | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        transport: Transport | None = None,
    ) -> None:
        address = Address.of(url)
        self.url = address.url
        self._transport = transport or HttpTransport(address, token, at_least_one("max_answer_bytes", max_answer_bytes))
        self._core = Core(self.url, retries or Retries(), patience_s, deadline_s)
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections, for good: calls raise RuntimeError from then on."""
        self._closed = True
        self._transport.close()

    def predict(
        self,
        model: str,
        samples: Samples,
        *,
        version: int | str = "stable",
        deadline_s: float | None = None,
        top_k: int = 1,
        outputs: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Predictions:
        """What a model says about some samples, in one call.

        Args:
            model: its name.
            samples: an array `(n, ...)` of n samples, whose first axis is always theirs; a list of n samples (values,
                arrays, texts, bytes, or mappings by input name); or a mapping of input name -> column, which a DataFrame
                (pandas, polars) and a Table (pyarrow) are, too. An array of 1,024 numbers or more goes as a tensor, in the
                input's own dtype where none of its values changes by that beyond rounding; everything else as JSON. NaN, None
                and `pandas.NA` stand for a number that is missing.
            version: a number, or a role.
            deadline_s: seconds until no answer is wanted, all tries included. The server is told, and refuses at once
                what it cannot answer in time.
            top_k: how many classes `top` lists.
            outputs: whether the model's whole outputs come along.
            tags: up to 32 texts by name, recorded with the samples.

        Returns:
            One prediction a sample, in their order.

        Raises:
            InvalidParams: a sample breaks the model's contract; `details` has the place, what was expected and what came.
            NotFound, NotReady, Overloaded, DeadlineExceeded, ModelFailed, NonFiniteOutput, ResponseTooLarge: refused.
            Unreachable: no service answers.
            TypeError, ValueError: samples are in no form that can be sent.

        Example:
            `client.predict("diamonds", {"carat": np.array([0.2, 1.5]), "cut": ["Premium", "Ideal"], ...}).values`
        """
        options = PredictOptions(version, deadline_s, top_k, outputs, tags)
        return self._run(self._core.predict(model, samples, options))

    def predict_one(
        self,
        model: str,
        sample: Any,
        *,
        version: int | str = "stable",
        deadline_s: float | None = None,
        top_k: int = 1,
        outputs: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Prediction:
        """What a model says about one sample: `predict` of a list of it, with the same options.

        Args:
            model: its name.
            sample: a value, an array of a sample's shape, a text, bytes, or a mapping by input name.
            version, deadline_s, top_k, outputs, tags: as of `predict`.

        Example:
            `client.predict_one("products", "a chair with a high back").label`
        """
        options = PredictOptions(version, deadline_s, top_k, outputs, tags)
        return self._run(self._core.predict(model, [sample], options))[0]

    def predict_many(
        self,
        model: str,
        samples: Samples,
        *,
        version: int | str = "stable",
        batch: int | None = None,
        deadline_s: float | None = None,
        top_k: int = 1,
        outputs: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Predictions:
        """What a model says about many samples, in as many calls as they take, one after the other.

        All are answered by one version: the one that answered the first call, also if another becomes stable meanwhile.

        Args:
            model, samples, version, top_k, outputs, tags: as of `predict`.
            batch: most samples of a call; when left out at most 256, and fewer where they are large or the model says so.
            deadline_s: of each call.

        Returns:
            One prediction a sample, in their order.

        Raises:
            RpcError, Unreachable: as `predict`; a place in `details` counts from the first sample of its call.

        Example:
            `client.predict_many("digits", images).labels`, with images of shape `(100_000, 64)`
        """
        options = PredictOptions(version, deadline_s, top_k, outputs, tags)
        parts: list[Predictions] = []
        for part in self._run(self._core.batches(model, samples, version, batch)):
            parts += self._run(self._core.halved(part, model, options))
            options = replace(options, version=parts[0].version)
        from hoverboard.client.answers import Predictions

        return Predictions.joined(parts)

    def label(
        self,
        sample_id: str,
        truth: Truth,
        *,
        source: str | None = None,
        author: str | None = None,
        model: str | None = None,
        version: int | str | None = None,
        deadline_s: float | None = None,
    ) -> None:
        """Say what a sample truly was, perhaps weeks later. Saying the same again changes nothing.

        Args:
            sample_id: of its prediction.
            truth: a text for the class, a list of texts for all labels that hold, a number for a regression.
            source: who says so, such as `support`; `api` when left out. The newest label of a sample and source counts.
            author: the person who says so.
            model: whose sample it is; then a label that cannot be one of its is refused.
            version: that answered, with `model`.
            deadline_s: seconds until it must be accepted, all tries included.

        Raises:
            TypeError: the truth is of no type that it can have; nothing was sent.
            InvalidParams: the label cannot be true, or its id is none.
            UnknownMethod: the service records nothing.
            Overloaded: it cannot be written down now.
            Unreachable: no service answers.

        Example:
            `client.label(answer[0].sample_id, "furniture", source="support", author="Ada")`
        """
        options = {"source": source, "author": author, "model": model, "version": version}
        self._run(self._core.label(sample_id, truth, options, deadline_s))

    def label_many(
        self,
        labels: Mapping[str, Truth] | Iterable[tuple[str, Truth]],
        *,
        source: str | None = None,
        author: str | None = None,
        model: str | None = None,
        version: int | str | None = None,
        deadline_s: float | None = None,
    ) -> int:
        """Say what many samples truly were; they are sent by the thousand, each thousand counts whole or not at all.

        Args:
            labels: sample id -> truth, or pairs of them. An iterator is read as it goes.
            source, author, model, version: as of `label`, for all of them.
            deadline_s: of each thousand.

        Returns:
            How many were accepted.

        Raises:
            RpcError, Unreachable: as `label`; those before the thousand at fault are accepted, which a note says. All of them
                may be sent again.

        Example:
            `client.label_many(zip(answer.sample_ids, truths), source="relabelling-2026-03")`
        """
        options = {"source": source, "author": author, "model": model, "version": version}
        return self._run(self._core.label_many(labels, options, deadline_s))

    def models(self) -> list[ModelSummary]:
        """Every model in brief: `name`, `ready`, `roles`, `versions`, `task`, `problem`.

        Example:
            `[model.name for model in client.models() if model.ready]`
        """
        return self._run(self._core.models())

    def describe(self, model: str, version: int | None = None) -> ModelDescription:
        """What a model's versions take, answer and cost.

        Args:
            model: its name.
            version: only this one; all when left out.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: there is none.

        Example:
            `client.describe("digits", 3).versions[0].inputs[0].shape`
        """
        return self._run(self._core.describe(model, version))

    def load(self, model: str, version: int, *, deadline_s: float | None = None) -> dict[str, Any]:
        """Admin: load a version into memory; returns once it is live, with the model's roles and what is in memory.

        Raises:
            Unauthorized: the token is not the admin listener's.
            ModelNotFound, VersionNotFound, NotReady: it cannot be.
        """
        return self._run(self._core.admin("load", {"model": model, "version": version}, deadline_s))

    def unload(self, model: str, version: int) -> dict[str, Any]:
        """Admin: take a version out of memory; it loads again when it is asked for."""
        return self._run(self._core.admin("unload", {"model": model, "version": version}))

    def pin(self, model: str, version: int) -> dict[str, Any]:
        """Admin: keep a version in memory whatever the routing says."""
        return self._run(self._core.admin("pin", {"model": model, "version": version}))

    def unpin(self, model: str, version: int) -> dict[str, Any]:
        """Admin: let a version go when it is not needed."""
        return self._run(self._core.admin("unpin", {"model": model, "version": version}))

    def route(self, model: str, stable: int | None) -> dict[str, Any]:
        """Admin: choose the version that answers in the role `stable`; None follows the highest ready one."""
        return self._run(self._core.admin("route", {"model": model, "stable": stable}))

    def scan(self) -> dict[str, Any]:
        """Admin: look at the models directory now, and try refused versions again."""
        return self._run(self._core.admin("scan", {}))

    def reset_alarm(self, model: str, version: int, reason: str | None = None) -> None:
        """Admin: take note of a version's alarm, which is quiet then and counts anew; the reason is kept."""
        self._run(self._core.reset_alarm(model, version, reason))

    def call(self, method: str, params: Mapping[str, Any], *, deadline_s: float | None = None) -> Any:
        """Any method, with params and result as plain JSON values.

        Raises:
            RpcError, Unreachable: as every call.

        Example:
            `client.call("rpc.discover", {})["info"]["version"]`
        """
        return self._run(self._core.call(method, params, msgspec.json.decode, deadline_s))

    def _run(self, procedure: Procedure[T]) -> T:
        if self._closed:
            raise RuntimeError(f"{self!r} has been closed: make another, or call within its `with` block")
        try:
            step = next(procedure)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = procedure.send(None)
                    continue
                try:
                    received = self._transport.exchange(step)
                except HoverboardError as error:  # judged in the generator: whether to try again, for one
                    step = procedure.throw(error)
                else:
                    step = procedure.send(received)
        except StopIteration as end:
            result: T = end.value
            return result
