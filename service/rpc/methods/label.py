"""The method `label`: every label is checked before any is written down."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from hoverboard.codec.error_words import excerpt
from hoverboard.contract.signature import Signature
from hoverboard.errors import InvalidParams, ModelNotFound, NotReady, Overloaded, VersionNotFound
from hoverboard.journal.records import LabelRecord
from hoverboard.rpc.call import Call
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.examples import SHOWN_ID, Example, Shown
from hoverboard.rpc.fields import ModelName, SampleId, VersionOrRole, refuse_nul
from hoverboard.rpc.methods.method import Method
from hoverboard.rpc.recording import CallRecording

__all__ = ["label"]

_SHOWN: Final = 10

_UUID7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)


TrueLabel = Annotated[
    str,
    Meta(
        description="What it truly was: a class, of 1 to 256 characters. Either this or `value`.",
        min_length=1,
        max_length=256,
    ),
]
TrueLabels = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=256)]],
    Meta(
        description="All labels that hold of it, for a multi-label version; empty where none does. One label alone stands "
        "for a list of it.",
        max_length=1000,
    ),
]
TrueValue = Annotated[float, Meta(description="What it truly was: a number, for a regression. Either this or `label`.")]
LabelSource = Annotated[
    str,
    Meta(
        description="Who says so, in 1 to 128 characters, such as `support`. The newest label of a sample and source counts.",
        min_length=1,
        max_length=128,
    ),
]
Author = Annotated[
    str, Meta(description="The person who says so, in at most 256 characters.", min_length=1, max_length=256)
]


class LabelItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of several labels."""

    sample_id: SampleId
    label: TrueLabel | TrueLabels | None = None
    value: TrueValue | None = None
    source: LabelSource | None = None
    author: Author | None = None


_LABELS = Meta(
    description="Several labels at once, at most 1,000, in place of `sample_id`, `label` and `value`. `source` and `author` of the call "
    "are for those that have none of their own.",
    min_length=1,
    max_length=1000,
)


class LabelParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sample_id: SampleId | None = None
    label: TrueLabel | TrueLabels | None = None
    value: TrueValue | None = None
    source: LabelSource = "api"
    author: Author | None = None
    labels: Annotated[list[LabelItem], _LABELS] | None = None
    model: Annotated[
        ModelName | None,
        Meta(
            description="Whose samples these are. Then a class that is none of its classes, a number for a "
            "classification and a class for a regression are refused."
        ),
    ] = None
    version: Annotated[
        VersionOrRole | None,
        Meta(description="The version that answered; when left out, the classes of all versions will do."),
    ] = None


class LabelResult(msgspec.Struct):
    accepted: Annotated[int, Meta(description="Labels that were written down.", ge=1)]


def label(recording: CallRecording, book: CodecBook) -> Method[LabelParams]:
    """The method."""
    return Method(
        "label",
        LabelParams,
        _Labeller(recording, book).__call__,
        "Say what a sample truly was. It may come weeks after the prediction, and again.",
        LabelResult,
        _example,
        (ModelNotFound, VersionNotFound, NotReady, Overloaded),
    )


class _Labeller:
    """Carries out `label` calls."""

    def __init__(self, recording: CallRecording, book: CodecBook) -> None:
        self._recording = recording
        self._book = book

    async def __call__(self, call: Call, params: LabelParams) -> bytes:
        """The result as JSON text, once the labels are written down.

        Raises:
            InvalidParams: one of them makes no sense, or cannot be of the model that is named; none is written down then.
            ModelNotFound, VersionNotFound, NotReady: there is no such model or version.
            Overloaded: they cannot be written down now.
        """
        classes = self._classes(call, params)
        # A microsecond apart: of two labels of the same sample and source the one with the later time holds, and here that
        # is the one that stands later in the list.
        labels = [
            _record(item, place, params, classes, at_us=at_us, request_id=call.request.request_id)
            for at_us, (place, item) in enumerate(_items(params), time.time_ns() // 1000)
        ]
        await self._recording.label(labels)
        return msgspec.json.encode(LabelResult(len(labels)))

    def _classes(self, call: Call, params: LabelParams) -> _Classes | None:
        """What can be true of the samples of the model that the call names; None where it names none.

        A sample's id does not say who answered it, and the answer may not be in Postgres yet.
        """
        if params.model is None:
            if params.version is not None:
                raise InvalidParams("/model", "the model whose version this is", "no model")
            return None
        call.model = params.model
        model = self._book.catalog.models.get(params.model)
        if model is None:
            raise self._book.missing(params.model)
        wanted = params.version
        number = None if wanted is None else model.number(wanted)
        found = [each for each in model.versions if wanted is None or each.version == number]
        if not found:
            raise self._book.missing(params.model, "stable" if wanted is None else wanted)
        who = params.model if wanted is None else f"{params.model} version {found[0].version}"
        return _Classes.of(who, [each.signature for each in found if each.signature is not None])


@dataclass(frozen=True, slots=True)
class _Classes:
    """What can be true of a model's samples.

    Attributes:
        who: the model, or its version.
        labels: the classes of its versions; None where any text will do.
        values: whether a number will do.
        several: whether a list of labels will do.
    """

    who: str
    labels: frozenset[str] | None
    values: bool
    several: bool

    @classmethod
    def of(cls, who: str, signatures: Sequence[Signature]) -> _Classes:
        """What these versions can be right or wrong about."""
        tasks = {signature.task for signature in signatures}
        if not tasks or tasks & {"embedding", "raw"}:
            return cls(who, None, values=True, several=True)
        known: set[str] = set()
        for signature in signatures:
            if signature.task != "regression":
                size = signature.outputs[0].shape[-1] if signature.outputs[0].shape else None
                if signature.labels is None and size is None:
                    return cls(who, None, values="regression" in tasks, several="multi-label" in tasks)
                known |= set(signature.labels or map(str, range(max(size or 0, 2))))
        return cls(who, frozenset(known), values="regression" in tasks, several="multi-label" in tasks)

    def check(self, item: LabelItem, place: str) -> None:
        """Raises InvalidParams where this cannot be true."""
        if item.value is not None and not self.values:
            raise InvalidParams(f"{place}/value", f"a label: {self.who} answers classes", "a number")
        if item.label is not None and self.labels is not None and not self.labels:
            raise InvalidParams(f"{place}/label", f"a value: {self.who} answers numbers", _shown(item.label))
        if isinstance(item.label, list) and not self.several:
            raise InvalidParams(f"{place}/label", f"one label: {self.who} answers one class", "a list")
        for at, label in _labels(item, place):
            if self.labels is not None and label not in self.labels:
                some = ", ".join(sorted(self.labels)[:_SHOWN]) + (", ..." if len(self.labels) > _SHOWN else "")
                raise InvalidParams(at, f"a class of {self.who}: {some}", excerpt(label))


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


def _record(
    item: LabelItem, place: str, params: LabelParams, classes: _Classes | None, *, at_us: int, request_id: str
) -> LabelRecord:
    """One label as the journal keeps it. Raises InvalidParams where it makes no sense."""
    if _UUID7.fullmatch(item.sample_id) is None:
        raise InvalidParams(f"{place}/sample_id", "a UUIDv7", excerpt(item.sample_id))
    if (item.label is None) == (item.value is None):
        raise InvalidParams(place, "either label or value", "neither" if item.label is None else "both")
    if classes is not None:
        classes.check(item, place)
    seen: set[str] = set()
    for at, label in _labels(item, place):
        refuse_nul(at, label)
        if label in seen:
            raise InvalidParams(at, "each label once", excerpt(label))
        seen.add(label)
    source = params.source if item.source is None else item.source
    author = params.author if item.author is None else item.author
    for name, text in (("source", source), ("author", author)):
        if text is not None:
            refuse_nul(f"{place}/{name}" if getattr(item, name) is not None else f"/{name}", text)
    sample = bytes.fromhex(item.sample_id.replace("-", ""))
    if isinstance(item.label, list):
        # Sorted, so that the same labels in another order are the same truth.
        return LabelRecord(at_us, sample, None, None, source, author, request_id, sorted(item.label))
    return LabelRecord(at_us, sample, item.label, item.value, source, author, request_id)


def _labels(item: LabelItem, place: str) -> Iterator[tuple[str, str]]:
    """Each of an item's labels with the pointer to it."""
    if isinstance(item.label, list):
        for index, label in enumerate(item.label):
            yield f"{place}/label/{index}", label
    elif item.label is not None:
        yield f"{place}/label", item.label


def _shown(label: str | list[str]) -> str:
    return "a list" if isinstance(label, list) else excerpt(label)


def _example(shown: Shown) -> Example:
    signature = shown.signature
    labels = (signature and signature.labels) or ("chair",)
    several = signature is not None and signature.task == "multi-label"
    params = {"sample_id": str(UUID(bytes=SHOWN_ID)), "label": list(labels[:2]) if several else labels[0]}
    return Example(params, {"accepted": 1})
