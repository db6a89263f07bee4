"""A line to Postgres that breaks where a test wants it to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit


class Proxy:
    """Stands between a client and Postgres, and cuts or holds the line where it is told to.

    Args:
        url: of a Postgres on a socket.

    Attributes:
        url: of the proxy.
        cut_before: cuts the line when the client sends this; Postgres does not get it.
        cut_after: the same, but Postgres gets it; its answer is not heard.
        cut_after_copied: cuts the line once the client has sent so many bytes, in the middle of a message.
        hold: keeps this back until `release` is set; `held` says that it came.
        cuts: how often the line was cut.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._behind = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self.url = ""
        self._front = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.cut_before: bytes | None = None
        self.cut_after: bytes | None = None
        self.hold: bytes | None = None
        self.held = asyncio.Event()
        self.release = asyncio.Event()
        self.cuts = 0
        self.copied = 0
        self.cut_after_copied: int | None = None
        self._lines: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        """Until the end; `url` leads here."""
        with tempfile.TemporaryDirectory(prefix="hb") as folder:  # a socket's path must be short
            service = await asyncio.start_unix_server(self._accept, f"{folder}/.s.PGSQL.5432")
            self.url = f"{self._front}?host={folder}&port=5432"
            try:
                yield self
            finally:
                service.close()
                for line in self._lines:
                    line.cancel()
                await asyncio.gather(*self._lines, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(self._behind)
        back = asyncio.create_task(self._forward(back_reader, writer))
        try:
            while data := await reader.read(65536):
                if not await self._pass_on(data, back_writer, back):
                    break
        finally:
            back.cancel()
            for each in (writer, back_writer):
                each.close()
                with suppress(ConnectionError):
                    await each.wait_closed()

    async def _pass_on(self, data: bytes, back_writer: asyncio.StreamWriter, back: asyncio.Task[None]) -> bool:
        if self.hold is not None and self.hold in data:
            self.hold = None
            self.held.set()
            await self.release.wait()
        if self.cut_before is not None and self.cut_before in data:
            self.cut_before = None
            self.cuts += 1
            return False
        cut = self.cut_after is not None and self.cut_after in data
        if cut:
            back.cancel()  # whatever Postgres says to this is not heard
        self.copied += len(data)
        if self.cut_after_copied is not None and self.copied > self.cut_after_copied:
            self.cut_after_copied = None
            self.cuts += 1
            back_writer.write(data[: len(data) // 2])
            await back_writer.drain()
            return False
        back_writer.write(data)
        await back_writer.drain()
        if cut:
            self.cut_after = None
            self.cuts += 1
            await asyncio.sleep(0.2)
            return False
        return True

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
