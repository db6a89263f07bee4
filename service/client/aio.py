"""The client for event loops, over HTTP or one WebSocket with aiohttp."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aiohttp
import msgspec

from hoverboard.client.address import Address
from hoverboard.client.bound_loop import BoundLoop
from hoverboard.client.core import PATIENCE_S, Core, PredictOptions, Procedure, Truth, at_least_one
from hoverboard.client.messages import Pause, Received, Send
from hoverboard.client.retries import Retries
from hoverboard.client.socket import SocketTransport
from hoverboard.client.transport import CONNECT_S, MAX_ANSWER_BYTES, AsyncTransport, headers_of, reason_of, too_large
from hoverboard.errors import HoverboardError, Unreachable

if TYPE_CHECKING:
    from hoverboard.client.answers import Prediction, Predictions
    from hoverboard.client.samples import SampleBatch, Samples
    from hoverboard.rpc.methods.models_describe import ModelDescription
    from hoverboard.rpc.methods.models_list import ModelSummary

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """Calls a service from an event loop; an async context manager. Calls may run at once, as many as you like.

        async with AsyncClient("http://127.0.0.1:8080") as client:
            answer = await client.predict("digits", images)

    Every method is that of `Client` of the same name, with the same arguments, results and errors, and is awaited. A call that
    is cancelled is taken back on the server, too, as far as it still waits there (by HTTP; a WebSocket is shared). From its first
    call on it belongs to the event loop and the process of that, until it is closed: elsewhere, calls raise `RuntimeError`.

    Args:
        url, token, deadline_s, patience_s, retries, max_answer_bytes: as of `Client`.
        websocket: go by one WebSocket instead of HTTP: a third less time a call, and no more than one connection. It is
            opened by the first call, and again by the next one where it broke.
        max_in_flight: most calls on the way at once: messages of the WebSocket, connections of HTTP. Further calls wait here
            for their turn, as long as their deadlines allow. A service takes as many as its `ws_max_inflight` by one
            WebSocket, 64 unless told otherwise, and refuses those above.
        transport: carries messages in place of either.

    Raises:
        ConfigError: the URL is none.
        ValueError: another argument makes no sense.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        deadline_s: float | None = None,
        patience_s: float = PATIENCE_S,
        retries: Retries | None = None,
        websocket: bool = False,
        max_in_flight: int = 64,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        transport: AsyncTransport | None = None,
    ) -> None:
        address = Address.of(url)
        self.url = address.url
        kind = SocketTransport if websocket else _HttpTransport
        self._transport = transport or kind(
            address,
            token,
            at_least_one("max_in_flight", max_in_flight),
            at_least_one("max_answer_bytes", max_answer_bytes),
        )
        self._core = Core(self.url, retries or Retries(), patience_s, deadline_s)
        self._closed = False
        self._running: set[tuple[asyncio.AbstractEventLoop, asyncio.Timeout]] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections, for good: calls in flight end with `Unreachable`, later ones raise RuntimeError."""
        self._closed = True
        for loop, running in self._running:
            if loop is asyncio.get_running_loop():  # another one is not to be touched from here
                running.reschedule(loop.time())
        await self._transport.close()

    async def predict(
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
        """See `Client.predict`."""
        options = PredictOptions(version, deadline_s, top_k, outputs, tags)
        return await self._run(self._core.predict(model, samples, options))

    async def predict_one(
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
        """See `Client.predict_one`."""
        options = PredictOptions(version, deadline_s, top_k, outputs, tags)
        return (await self._run(self._core.predict(model, [sample], options)))[0]

    async def predict_many(
        self,
        model: str,
        samples: Samples,
        *,
        version: int | str = "stable",
        batch: int | None = None,
        at_once: int = 4,
        deadline_s: float | None = None,
        top_k: int = 1,
        outputs: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Predictions:
        """See `Client.predict_many`; after the first call, which tells the version, several run at once.

        Args:
            model, samples, version, batch, deadline_s, top_k, outputs, tags: as there.
            at_once: most calls at once: enough to keep an engine busy while answers travel, and few enough to leave it to others.
        """
        at_least_one("at_once", at_once)
        options = PredictOptions(version, deadline_s, top_k, outputs, tags)
        first, *rest = await self._run(self._core.batches(model, samples, version, batch))
        begun = await self._run(self._core.halved(first, model, options))
        options = replace(options, version=begun[0].version)
        room = asyncio.Semaphore(at_once)

        async def answered(part: SampleBatch) -> list[Predictions]:
            async with room:
                return await self._run(self._core.halved(part, model, options))

        tasks = [asyncio.ensure_future(answered(part)) for part in rest]
        try:
            answers = await asyncio.gather(*tasks)
        finally:  # the first that fails ends the others: nobody would read their answers
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        from hoverboard.client.answers import Predictions

        return Predictions.joined([*begun, *itertools.chain(*answers)])

    async def label(
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
        """See `Client.label`."""
        options = {"source": source, "author": author, "model": model, "version": version}
        await self._run(self._core.label(sample_id, truth, options, deadline_s))

    async def label_many(
        self,
        labels: Mapping[str, Truth] | Iterable[tuple[str, Truth]],
        *,
        source: str | None = None,
        author: str | None = None,
        model: str | None = None,
        version: int | str | None = None,
        deadline_s: float | None = None,
    ) -> int:
        """See `Client.label_many`."""
        options = {"source": source, "author": author, "model": model, "version": version}
        return await self._run(self._core.label_many(labels, options, deadline_s))

    async def models(self) -> list[ModelSummary]:
        """See `Client.models`."""
        return await self._run(self._core.models())

    async def describe(self, model: str, version: int | None = None) -> ModelDescription:
        """See `Client.describe`."""
        return await self._run(self._core.describe(model, version))

    async def load(self, model: str, version: int, *, deadline_s: float | None = None) -> dict[str, Any]:
        """See `Client.load`."""
        return await self._run(self._core.admin("load", {"model": model, "version": version}, deadline_s))

    async def unload(self, model: str, version: int) -> dict[str, Any]:
        """See `Client.unload`."""
        return await self._run(self._core.admin("unload", {"model": model, "version": version}))

    async def pin(self, model: str, version: int) -> dict[str, Any]:
        """See `Client.pin`."""
        return await self._run(self._core.admin("pin", {"model": model, "version": version}))

    async def unpin(self, model: str, version: int) -> dict[str, Any]:
        """See `Client.unpin`."""
        return await self._run(self._core.admin("unpin", {"model": model, "version": version}))

    async def route(self, model: str, stable: int | None) -> dict[str, Any]:
        """See `Client.route`."""
        return await self._run(self._core.admin("route", {"model": model, "stable": stable}))

    async def scan(self) -> dict[str, Any]:
        """See `Client.scan`."""
        return await self._run(self._core.admin("scan", {}))

    async def reset_alarm(self, model: str, version: int, reason: str | None = None) -> None:
        """See `Client.reset_alarm`."""
        await self._run(self._core.reset_alarm(model, version, reason))

    async def call(self, method: str, params: Mapping[str, Any], *, deadline_s: float | None = None) -> Any:
        """See `Client.call`."""
        return await self._run(self._core.call(method, params, msgspec.json.decode, deadline_s))

    async def _run(self, procedure: Procedure[T]) -> T:
        if self._closed:
            raise RuntimeError(f"{self!r} has been closed: make another, or call within its `async with` block")
        # A timeout that never comes of itself: it is how `close` ends a call wherever that is, also between two tries.
        running = (asyncio.get_running_loop(), asyncio.timeout(None))
        try:
            async with running[1]:
                self._running.add(running)
                return await self._steps(procedure)
        except TimeoutError as error:
            raise Unreachable(
                f"no answer of {self.url} is waited for: the client was closed", retryable=False
            ) from error
        finally:
            self._running.discard(running)

    async def _steps(self, procedure: Procedure[T]) -> T:
        try:
            step = next(procedure)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = procedure.send(None)
                    continue
                try:
                    received = await self._transport.exchange(step)
                except HoverboardError as error:
                    step = procedure.throw(error)
                else:
                    step = procedure.send(received)
        except StopIteration as end:
            result: T = end.value
            return result


class _HttpTransport:
    """HTTP by a pool of connections that stay open; opened by the first call, on the event loop that it runs on."""

    def __init__(self, address: Address, token: str | None, max_in_flight: int, max_answer_bytes: int) -> None:
        self._address = address
        self._max_answer_bytes = max_answer_bytes
        self._max_in_flight = max_in_flight
        self._headers = headers_of(address, token)
        self._session: aiohttp.ClientSession | None = None
        self._bound = BoundLoop(address.url)

    async def exchange(self, message: Send) -> Received:
        """See `AsyncTransport.exchange`."""
        self._bound.require()
        if self._session is None or self._session.closed:
            # Here and not in `__init__`, which may run before there is a loop. `trust_env` would send even loopback to a proxy.
            connector = aiohttp.TCPConnector(limit=self._max_in_flight)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, trust_env=False)
        timeout = aiohttp.ClientTimeout(total=message.timeout_s, sock_connect=CONNECT_S)
        try:
            async with self._session.post(
                self._address.origin + self._address.path,
                data=message.body,
                timeout=timeout,
                proxy=self._address.proxy,
                allow_redirects=False,
            ) as response:
                return Received(await self._read(response), response.status, response.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError) as error:
            # As of the other client: these come before the call has left.
            sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            place = self._address.url
            raise Unreachable(f"no server answers at {place} ({reason_of(error)})", sent=sent) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        if length is not None and length <= self._max_answer_bytes and "Content-Encoding" not in response.headers:
            return await response.read()  # nearly all answers; what follows takes some microseconds more
        body = io.BytesIO()  # whose `getvalue` copies nothing, as joining pieces would
        async for piece in response.content.iter_any():
            if body.tell() + len(piece) > self._max_answer_bytes:
                response.close()  # else the rest would be read, so that the connection can be used again
                raise too_large(self._address, self._max_answer_bytes)
            body.write(piece)
        return body.getvalue()

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        if self._session is not None and self._bound.here():
            await self._session.close()
            self._bound.leave()
