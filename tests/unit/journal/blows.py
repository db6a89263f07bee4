"""What can happen to a journal's files."""

from __future__ import annotations

from hoverboard.journal.format import MARKER

Blow = tuple[str, int, float, float, float]
"""What, in which segment, and three shares: of a place, of a length, of another place."""


def flip(data: bytearray, place: int, length: int, other: int) -> None:
    if data:
        data[place] ^= 1 << length % 8


def zero(data: bytearray, place: int, length: int, other: int) -> None:
    data[place : place + length] = bytes(len(data[place : place + length]))


def truncate(data: bytearray, place: int, length: int, other: int) -> None:
    del data[place:]


def cut(data: bytearray, place: int, length: int, other: int) -> None:
    del data[place : place + length]


def repeat(data: bytearray, place: int, length: int, other: int) -> None:
    data[other:other] = data[place : place + length]


def frame_again(data: bytearray, place: int, length: int, other: int) -> None:
    """As `repeat`, from one marker to the next, and to before one."""
    before, after = data.rfind(MARKER, 0, place), data.find(MARKER, place)
    at = data.find(MARKER, other)
    if min(before, after, at) >= 0:
        data[at:at] = data[before:after]


BLOWS = {
    "flip": flip,
    "zero": zero,
    "truncate": truncate,
    "cut": cut,
    "repeat": repeat,
    "frame again": frame_again,
}


def strike(segments: dict[int, bytes], blow: Blow, count: int) -> None:
    """One blow to a journal that had so many segments: number -> bytes, changed in place."""
    kind, number, a, b, c = blow
    if number not in segments:
        return
    if kind == "delete":
        del segments[number]
    elif kind == "copy at end":
        segments[max(segments) + 1] = segments[number]
    elif kind == "copy over":
        segments[int(a * count)] = segments[number]
    else:
        data = bytearray(segments[number])
        place = int(a * len(data))
        BLOWS[kind](data, place, int(b * b * (len(data) - place)) + 1, int(c * len(data)))
        segments[number] = bytes(data)
