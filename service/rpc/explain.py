"""Why a message is no JSON, and where: in words that name the mistake, without the client's data."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import Final

from hoverboard.errors import ParseError

__all__ = ["no_json", "no_utf8", "too_deep"]

_PLACE: Final = re.compile(r"^(?:JSON is malformed: )?(.*) \(byte (\d+)\)$")
_ESCAPED: Final = re.compile(rb"\\.")
_LONE: Final = re.compile(rb"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
_WORDS: Final = {
    b"NaN": "NaN is no JSON: send null where the model's input takes missing values, or leave the sample out",
    b"Infinity": "Infinity is no JSON: send the largest number that the model should see",
    b"None": "None is Python's: JSON has null",
    b"True": "True is Python's: JSON has true",
    b"False": "False is Python's: JSON has false",
    b"undefined": "undefined is JavaScript's: JSON has null",
    b"'": "strings are in double quotes",
    b"+": "a number begins with a digit or a minus",
    b".": "a number begins with a digit or a minus",
}
_REASONS: Final = {
    "trailing characters": "something follows after the end of the JSON",
    "trailing comma in array": "a comma stands before the end of an array",
    "trailing comma in object": "a comma stands before the end of an object",
    "invalid number": "a number is not as JSON writes it, such as -1.5 or 2e3",
    "invalid escaped character": "a backslash begins no escape that JSON knows",
    "invalid character in unicode escape": "\\u is not followed by four hexadecimal digits",
}
_SURROGATE: Final = "a lone surrogate is no text: a character beyond U+FFFF is two \\u escapes, one after the other"


def no_utf8(body: bytes) -> ParseError:
    """The error for a message that is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return _error(error.start, "not UTF-8")
    return ParseError()


def too_deep() -> ParseError:
    """The error for a message whose nesting no decoder follows."""
    reason = "nested too deeply"
    return ParseError(f"Parse error: {reason}", details={"reason": reason})


def no_json(body: bytes, words: str) -> ParseError:
    """The error for a message that is no JSON.

    Args:
        body: valid UTF-8.
        words: msgspec's.
    """
    if body.startswith(BOM_UTF8):
        return _error(0, "it begins with a byte order mark: send UTF-8 without one")
    place = _PLACE.match(words)
    if place is None:
        return _cut_off(body)
    reason, at = place[1], int(place[2])
    if "surrogate" in reason or "hex escape" in reason:
        return _error(at, _SURROGATE)
    if reason in _REASONS:
        return _error(at, _REASONS[reason])
    if reason != "invalid character":
        # `expected ':'` and the like; a single quote where a name should begin is the commonest of them.
        return _error(at, _WORDS[b"'"] if body[at : at + 1] == b"'" else reason)
    # The mistakes that people make, by what stands at the byte where the decoder stopped.
    for text, reason_words in _WORDS.items():
        if body.startswith(text, at):
            return _error(at - 1 if body[at - 1 : at] == b"-" and text != b"." else at, reason_words)
    if at >= len(body):  # a lone minus
        return _cut_off(body)
    if body[at] < 0x20:
        in_string = _ESCAPED.sub(b"", body[:at]).count(b'"') % 2
        where = "in a string: it must be escaped" if in_string else "outside of strings: that is no JSON text"
        return _error(at, f"a control character stands {where}")
    return _error(at, "no JSON value goes on like this")


def _cut_off(body: bytes) -> ParseError:
    if not body.strip(b" \t\r\n"):
        return _error(len(body), "there is nothing in it")
    # A string that ends soon after a lone surrogate is taken for one that goes on.
    lone = _LONE.search(body, max(0, len(body) - 16))
    if lone is not None:
        return _error(lone.start(), _SURROGATE)
    return _error(len(body), "it ends too early: a string, an array or an object is not closed")


def _error(offset: int, reason: str) -> ParseError:
    return ParseError(f"Parse error: {reason} (byte {offset})", details={"offset": offset, "reason": reason})
