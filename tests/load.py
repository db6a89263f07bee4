"""Clients as a service meets them: many keep-alive connections, each with its next question once it has its answer."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import numpy as np
import orjson
import pytest

__all__ = ["Answer", "Load", "call", "p99_ms", "predict_params", "report", "until", "wrong"]

_HUNG_S = 60.0
_ATOL, _RTOL = 1e-5, 1e-4  # the manifest's default tolerance
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    Attributes:
        question: index of what was asked.
        sent, arrived: seconds on `time.perf_counter()`.
        status: of the HTTP response; 0 where there was none.
        version: that answered; None for an error.
        outputs: of the first sample's first output.
        sample_ids: of all samples.
        code: of a JSON-RPC error; None for a result.
        retry_after: the header.
        broken: how the connection failed, or what made the answer no valid JSON-RPC; None when all is well.
        refused: whether there was no connection at all, so that nothing was sent.
    """

    question: int
    sent: float
    arrived: float
    status: int = 0
    version: int | None = None
    outputs: Sequence[float] | None = None
    sample_ids: tuple[str, ...] = ()
    code: int | None = None
    retry_after: str | None = None
    broken: str | None = None
    refused: bool = False

    @property
    def ms(self) -> float:
        """From the request to its answer."""
        return (self.arrived - self.sent) * 1e3


class Load:
    """Closed-loop clients; an async context manager, whose end waits for every answer.

    Args:
        url: of the public listener.
        questions: params of `predict`, asked in turns, each client starting at another one.
        connections: clients, each with a connection of its own.
        backoff_s: what a client waits after anything but a result; None lets it leave.
    """

    def __init__(
        self, url: str, questions: Sequence[Mapping[str, Any]], *, connections: int = 64, backoff_s: float | None = 0.02
    ) -> None:
        self._url = url
        self._bodies = [orjson.dumps(dict(params)) for params in questions]
        self._connections = connections
        self._backoff_s = backoff_s
        self._ids = itertools.count(1)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: list[Answer] = []
        self.waiting = 0
        self.opened = 0

    async def __aenter__(self) -> Self:
        gc.collect()
        gc.freeze()  # walking Keras's objects again would stop these clients, and count as the service's time
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._count_connection)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            timeout=aiohttp.ClientTimeout(total=_HUNG_S),
            trace_configs=[trace],
            headers=_JSON,
        )
        self._tasks = [asyncio.create_task(self._client(place)) for place in range(self._connections)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        try:
            await self.left()
        finally:
            await self._session.close()
            gc.unfreeze()

    async def left(self) -> None:
        """Wait until every client has left."""
        await asyncio.gather(*self._tasks)

    async def more(self, results: int, seconds: float = 30.0) -> None:
        """Wait for so many further results."""
        wanted = len(self.results()) + results
        await until(lambda: len(self.results()) >= wanted, seconds, f"{results} results")

    def results(self) -> list[Answer]:
        """Answers that are results, in the order they arrived."""
        return [answer for answer in self.answers if answer.version is not None]

    def codes(self) -> Counter[int | str]:
        """How many requests ended how: 0 for a result, an error's code, `refused` or `broken`."""
        return Counter(_kind(answer) for answer in self.answers)

    async def _count_connection(self, *_: Any) -> None:
        self.opened += 1

    async def _client(self, place: int) -> None:
        for turn in itertools.count(place):
            if self._stopping:
                return
            self.waiting += 1
            answer = await self._ask(turn % len(self._bodies))
            self.waiting -= 1
            self.answers.append(answer)
            if answer.version is None:
                if self._backoff_s is None:
                    return
                await asyncio.sleep(self._backoff_s)

    async def _ask(self, question: int) -> Answer:
        number = next(self._ids)
        body = b'{"jsonrpc":"2.0","id":%d,"method":"predict","params":%b}' % (number, self._bodies[question])
        sent = time.perf_counter()
        try:
            async with self._session.post(self._url, data=body) as response:
                text = await response.read()
                status, retry_after = response.status, response.headers.get("Retry-After")
        except aiohttp.ClientConnectorError as error:
            return Answer(question, sent, time.perf_counter(), broken=repr(error), refused=True)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            return Answer(question, sent, time.perf_counter(), broken=repr(error))
        arrived = time.perf_counter()
        try:
            version, outputs, ids, code = _read(orjson.loads(text), number)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            return Answer(question, sent, arrived, status, broken=f"{error!r}: {text[:300]!r}")
        return Answer(question, sent, arrived, status, version, outputs, ids, code, retry_after)


def _read(message: Any, number: int) -> tuple[int | None, Sequence[float] | None, tuple[str, ...], int | None]:
    """Version, outputs and sample ids of a result, or an error's code."""
    assert message["jsonrpc"] == "2.0"
    assert message["id"] == number
    assert ("result" in message) != ("error" in message)
    if "error" in message:
        error = message["error"]
        assert error["message"]
        assert error["data"]["request_id"]
        code = error["code"]
        assert isinstance(code, int)
        return None, None, (), code
    result = message["result"]
    predictions = result["predictions"]
    (outputs,) = predictions[0]["outputs"].values()
    version = result["version"]
    assert isinstance(version, int)
    return version, outputs, tuple(prediction["sample_id"] for prediction in predictions), None


def _kind(answer: Answer) -> int | str:
    if answer.broken is not None:
        return "refused" if answer.refused else "broken"
    return answer.code or 0


def predict_params(model: str, instances: Any, **more: Any) -> dict[str, Any]:
    """Params of a `predict` call that asks for the outputs."""
    return {"model": model, "instances": instances, "outputs": True, **more}


async def call(url: str, method: str, params: Mapping[str, Any], *, token: str | None = None) -> Any:
    """One call on a connection of its own: the result, or the error object."""
    headers = _JSON if token is None else {**_JSON, "Authorization": f"Bearer {token}"}
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)})
    timeout = aiohttp.ClientTimeout(total=_HUNG_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, data=body, headers=headers) as got:
        message = orjson.loads(await got.read())
    return message["result"] if "result" in message else message["error"]


def wrong(answers: Sequence[Answer], expected: Mapping[int, Any]) -> list[Answer]:
    """The results that are not what their version says.

    Args:
        answers: results.
        expected: version -> outputs by question, `(questions, *shape)`, as Keras computes them.
    """
    found = [answer for answer in answers if answer.version not in expected]
    for version, outputs in expected.items():
        mine = [answer for answer in answers if answer.version == version]
        if mine:
            got = np.array([answer.outputs for answer in mine])
            want = np.asarray(outputs)[[answer.question for answer in mine]]
            close = np.isclose(got, want, atol=_ATOL, rtol=_RTOL).reshape(len(mine), -1).all(axis=1)
            found += [answer for answer, good in zip(mine, close, strict=True) if not good]
    return found


def p99_ms(answers: Sequence[Answer]) -> float:
    """99th percentile of latencies, in milliseconds."""
    return float(np.percentile([answer.ms for answer in answers], 99))


async def until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "it") -> None:
    """Wait until a condition holds, for so long at most."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what} in vain"
        await asyncio.sleep(0.005)


def report(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Show figures of a test that passes, too."""
    with capsys.disabled():
        print(f"\n    {text}", flush=True)  # noqa: T201 - figures are what these tests are for
