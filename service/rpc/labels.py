"""The method `label`: every label is checked before any is written down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from service.errors import InvalidParams
from service.rpc.call import Call
from service.rpc.params import LabelItem, LabelParams, refuse_nul
from service.rpc.recording import Label, Recording
from service.rpc.results import LabelResult
from service.rpc.words import excerpt

__all__ = ["Labeller"]

_UUID7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)


class Labeller:
    """Carries out `label` calls."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def __call__(self, call: Call, params: LabelParams) -> bytes:
        """The result as JSON text, once the labels are written down.

        Raises:
            InvalidParams: one of them makes no sense; none is written down then.
            Overloaded: they cannot be written down now.
        """
        labels = [_checked(item, place, params) for place, item in _items(params)]
        await self._recording.label(labels, call.request)
        return msgspec.json.encode(LabelResult(len(labels)))


def _items(params: LabelParams) -> Iterator[tuple[str, LabelItem]]:
    """Each label with the pointer to it."""
    if params.labels is None:
        if params.sample_id is None:
            raise InvalidParams("", "either sample_id or labels", "neither")
        yield "", LabelItem(params.sample_id, params.label, params.value)
        return
    for name in ("sample_id", "label", "value"):
        if getattr(params, name) is not None:
            raise InvalidParams(f"/{name}", "nothing beside labels", f"a {name.replace('_', ' ')}")
    for index, item in enumerate(params.labels):
        yield f"/labels/{index}", item


def _checked(item: LabelItem, place: str, params: LabelParams) -> Label:
    if _UUID7.fullmatch(item.sample_id) is None:
        raise InvalidParams(f"{place}/sample_id", "a UUIDv7", excerpt(item.sample_id))
    if (item.label is None) == (item.value is None):
        raise InvalidParams(place, "either label or value", "neither" if item.label is None else "both")
    source = params.source if item.source is None else item.source
    author = params.author if item.author is None else item.author
    for name, text in (("label", item.label), ("source", source), ("author", author)):
        if text is not None and "\0" in text:
            own = name == "label" or getattr(item, name) is not None
            refuse_nul(f"{place}/{name}" if own else f"/{name}", text)
    return Label(bytes.fromhex(item.sample_id.replace("-", "")), item.label, item.value, source, author)
