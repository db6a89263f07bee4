"""The kinds of params that several methods have, as types with their limits."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from hoverboard.errors import InvalidParams

__all__ = [
    "ABSENT",
    "KEPT",
    "LARGEST",
    "ModelName",
    "NoParams",
    "SampleId",
    "Tags",
    "VersionNumber",
    "VersionOrRole",
    "VersionParams",
    "refuse_nul",
]

ABSENT = Raw()
"""Stands for a raw param that was left out."""

# Any valid JSON would do: it is never decoded, and only tells the param from one that is absent.
KEPT = Raw(b"{}")
"""Stands for samples that are in the decoder."""

ModelName = Annotated[str, Meta(description="A model's name, as `models.list` gives it.", min_length=1, max_length=200)]
LARGEST = 2**63 - 1
"""No JSON writer of ours, and no column of Postgres, takes an integer beyond it."""

VersionNumber = Annotated[int, Meta(description="A version's number.", ge=0, le=LARGEST)]
VersionOrRole = Annotated[
    Annotated[int, Meta(ge=0, le=LARGEST)] | Annotated[str, Meta(max_length=200)],
    Meta(description="A version's number, or a role such as `stable`."),
]
TagName = Annotated[str, Meta(min_length=1, max_length=64)]
TagValue = Annotated[str, Meta(max_length=256)]
Tags = Annotated[
    dict[TagName, TagValue],
    Meta(
        description="The caller's own key-value pairs, at most 32, recorded with the sample. None may contain NUL.",
        max_length=32,
    ),
]


SampleId = Annotated[
    str,
    Meta(
        description="A prediction's `sample_id`.",
        extra_json_schema={"format": "uuid", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
    ),
]


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class VersionParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelName
    version: VersionNumber


def refuse_nul(place: str, text: str) -> None:
    """Pass a text that Postgres can hold.

    Raises:
        InvalidParams: it has a NUL.
    """
    if "\0" in text:
        raise InvalidParams(place, "a string without NUL", f"NUL at index {text.index(chr(0))}")
