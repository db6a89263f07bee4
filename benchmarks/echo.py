"""The limit to come close to: a bare `aiohttp.web.Application` that reads a body and answers fixed bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop
from aiohttp import web


def main(port: int, answer: Path) -> None:
    """Answer every POST on `port` with the bytes of the file `answer`."""
    body = answer.read_bytes()

    async def echo(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.router.add_post("/", echo)
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
