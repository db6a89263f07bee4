"""Gzip bodies, unpacked in time that grows with their size and never into more than the limit."""

from __future__ import annotations

import zlib
from typing import Final

from hoverboard.errors import ParseError, RequestTooLarge

__all__ = ["inflate"]

_GZIP: Final = 16 + zlib.MAX_WBITS
_PIECE: Final = 64 * 1024
"""What follows a member is copied when it ends: so much at most."""
# An empty member is 20 bytes and costs a new stream: 25 MB of them would take seconds.
_MOST_MEMBERS: Final = 1000


def inflate(packed: bytes, limit: int) -> bytes:
    """The content of one or more gzip members.

    Args:
        limit: most bytes of it.

    Raises:
        RequestTooLarge: there is more.
        ParseError: it is not gzip, is cut off, or has too many members.
    """
    # A view: each member would otherwise copy all that follows it, and many members take quadratic time.
    view, parts, room = memoryview(packed), [], limit
    at, members = 0, 0
    while at < len(view) or not members:
        members += 1
        if members > _MOST_MEMBERS:
            raise ParseError(f"Parse error: the body has more than {_MOST_MEMBERS} gzip members")
        stream = zlib.decompressobj(_GZIP)
        while not stream.eof:
            piece = view[at : at + _PIECE]
            if not piece:
                raise ParseError("Parse error: the gzip stream is cut off")
            try:
                # Never more than one byte beyond the limit, however much the piece stands for.
                parts.append(stream.decompress(piece, room + 1))
            except zlib.error:
                raise ParseError("Parse error: the body is not gzip") from None
            room -= len(parts[-1])
            if room < 0:
                raise RequestTooLarge(f"The body is larger than {limit} bytes", details={"limit": limit})
            at += len(piece) - len(stream.unconsumed_tail) - len(stream.unused_data)
    return b"".join(parts)
