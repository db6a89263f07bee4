"""Why a graph failed: TensorFlow's reason without its wrapping, for the operator; and what of it is about the caller's input."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

__all__ = ["about_input", "reason_of"]

_LONGEST: Final = 300
_WRAPPING: Final = re.compile(
    r"Graph execution error:|Detected at node|Detected unsupported operations|<stack traces unavailable>|"
    r'\d+ root error\(s\) found|\(\d+\) \w+:\s*$|File "|Traceback|The above exception|Stack trace|'
    r"(?:\w+: )?Exception encountered when calling|in user code:|Arguments received by|• |Original stack trace|\[\[\{\{node"
)
_LONGEST_TOLD: Final = 200
_ESCAPED: Final = re.compile(r"\\(?:(?P<octal>[0-3][0-7]{2})|(?P<mark>.))")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}
_PATH: Final = re.compile(r"(?<![\w/])(?:~|\.{1,2})?(?:/[\w.+@%~-]+){2,}/?|\b[A-Za-z]:\\[^\s\"'\]]+|\bfile://\S+")
_TENSOR: Final = re.compile(r"\[|-?[\d.]+(?:e[-+]?\d+)?$|-?(?:nan|inf)$")
_CONDITION: Final = re.compile(r"Condition (?P<what>.+?) did not hold")
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_TAIL: Final = re.compile(
    r"\s*\[\[\{\{node.*|\s*\[Op:[^\]]*\].*| name: \S*$|\{\{function_node [^}]*\}\}\s*|\{\{node [^}]*\}\}\s*"
)


def reason_of(error: BaseException) -> str:
    """The line of an error's text that says most, at most 300 characters; its type's name where there is no text."""
    lines = [line.strip() for line in _COLOURS.sub("", str(error)).splitlines()]
    frames = [place for place, line in enumerate(lines) if line.startswith('File "')]
    if frames:
        below = lines[frames[-1] + 1 :]
        lines = below[1:] if below and below[0] else below  # a frame may be followed by its line of code
    lines = [line for line in lines if line]
    telling = [line for line in lines if not _WRAPPING.match(line)]
    chosen = [_TAIL.sub("", line).strip() for line in telling or lines]
    found = next((line for line in chosen if line), type(error).__name__)
    # An assertion says first that it failed, and then what of.
    if found.startswith("assertion failed:"):
        found = " ".join(chosen)
    return found[:_LONGEST]


def about_input(reason: str) -> str | None:
    """What a caller may be told of a reason: what of the kinds below it is, in our words; None for all other reasons.

    Of what the model's author asserts, the author's own text: it was written for whoever asks.
    """
    for pattern, words in _KINDS:
        match = pattern.search(reason)
        if match is not None:
            return words if isinstance(words, str) else words(match)
    return None


def _asserted(match: re.Match[str]) -> str | None:
    """The text of an assertion, else the condition that did not hold; tensors that follow may be the model's own."""
    text = _plain(match["text"])
    if text and not _TENSOR.match(text):
        return text
    condition = _CONDITION.search(match["rest"])
    return None if condition is None else f"{_plain(condition['what'])} does not hold"


def _checked(match: re.Match[str]) -> str | None:
    return _plain(match["text"]) or None


def _plain(text: str) -> str:
    """A text that TensorFlow escaped, in one line, without paths of this machine."""
    # TensorFlow writes the bytes of an assertion's text as C does, so that a letter of UTF-8 comes as several octal numbers.
    read = _ESCAPED.sub(_unescaped, text).encode("latin-1", "replace") if text.isascii() else text.encode()
    printable = "".join(mark if mark.isprintable() else " " for mark in read.decode(errors="replace"))
    return " ".join(_PATH.sub("(path)", printable).split()).rstrip(" .")[:_LONGEST_TOLD]


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match["octal"], 8)) if match["octal"] else _ESCAPES.get(match["mark"], match["mark"])


def _index(match: re.Match[str]) -> str:
    return f"index {match['value']} is not in [{match['low']}, {match['high']})"


def _too_short(match: re.Match[str]) -> str:
    return f"the sample is too short: a dimension has {match['have']} elements, and at least {match['want']} are needed"


_KINDS: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str | None]], ...]] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"indices(?:\[[\d,]*\])? = (?P<value>-?\d+) is not in \[(?P<low>-?\d+), (?P<high>-?\d+)\)", _index),
        (
            r"output size would be negative: -?\d+ \[input_size: (?P<have>\d+), effective_filter_size: (?P<want>\d+)",
            _too_short,
        ),
        (r"(?i:inputs should be in vocabulary)", "a value is not in the model's vocabulary"),
        (r"^assertion failed: \[(?P<text>.*?)(?:\](?= \[|$)|$)(?P<rest>.*)", _asserted),
        (r"^(?P<text>.*?) ?: Tensor had (?:NaN|-?Inf|\+Inf)", _checked),
        (
            (
                r"Input to reshape is a tensor with|Incompatible shapes: |ConcatOp : Dimension|Matrix size-incompatible: |"
                r"slice index -?\d+ of dimension \d+ out of bounds|Expected (?:begin|size)\[\d+\] in \["
            ),
            "the sample's shape does not suit the model",
        ),
        (
            r"Invalid character found in base64",
            "a text is no base64 of the kind that the model decodes (web-safe: - and _ for + and /)",
        ),
        (
            r"Unknown image file format|Invalid (?:JPEG|PNG|GIF|BMP) data|[Ii]nvalid image|Could not decode",
            "these bytes are no image that the model can decode",
        ),
        (r"^Input is empty\.?$", "there are no bytes to decode: they are empty"),
        (r"StringToNumberOp could not correctly convert string", "a text is no number"),
    )
)
