"""What a client remembers of models: as much of `models.describe` as it takes to write tensors and to read outputs."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["RememberedModel", "RememberedVersion", "TensorInfo"]


class TensorInfo(msgspec.Struct, frozen=True):
    """What a version says of one of its inputs or outputs.

    Attributes:
        name: its name.
        dtype: of NumPy, or `string`.
        shape: of one sample; None is a variable dimension.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] = ()


class RememberedVersion(msgspec.Struct, frozen=True):
    """One version.

    Attributes:
        version: its number.
        inputs, outputs: in its own order.
    """

    version: int
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []


class RememberedModel(msgspec.Struct, frozen=True):
    """One model.

    Attributes:
        versions: those that were asked for.
        roles: role -> number.
        serving: what its `serving.toml` says.
    """

    versions: list[RememberedVersion]
    roles: dict[str, int] = {}
    serving: dict[str, Any] = {}
