"""The model that examples are of, and made-up samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hoverboard.codec.bounds import bounds_of
from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus
from hoverboard.contract.signature import STRING, Signature, TensorSpec

__all__ = ["SHOWN_ID", "Example", "Shown", "example_instance", "shown"]

SHOWN_ID: Final = bytes.fromhex("0198c2f47b6a7cc0a1d25c3be4f60718")
"""A UUIDv7, for show."""


class Example(NamedTuple):
    """One call and what it answers, both JSON-ready for orjson with NumPy."""

    params: Mapping[str, Any]
    result: Any


class Shown(NamedTuple):
    """What examples are made from.

    Attributes:
        catalog: all models.
        model: the one that is shown; None while none is known.
        version: its stable version; None while none is live.
    """

    catalog: Catalog
    model: ModelStatus | None
    version: VersionStatus | None

    @property
    def name(self) -> str:
        """The model's name, or a likely one."""
        return "digits" if self.model is None else self.model.name

    @property
    def number(self) -> int:
        """The version's."""
        return 1 if self.version is None else self.version.version

    @property
    def signature(self) -> Signature | None:
        """The version's, where it is known."""
        return None if self.version is None else self.version.signature


def shown(catalog: Catalog) -> Shown:
    """The first model that answers, by name, with its stable version."""
    # By name, so that the document does not change with the order in which models came up.
    for _, model in sorted(catalog.models.items()):
        version = model.version(model.roles["stable"]) if "stable" in model.roles else None
        if version is not None and version.signature is not None:
            return Shown(catalog, model, version)
    return Shown(catalog, next(iter(catalog.models.values()), None), None)


def example_instance(signature: Signature) -> Any:
    """A sample that keeps to the contract, in row form; as small and as near to zero as it allows."""
    values = {spec.name: _value(spec) for spec in signature.inputs}
    return next(iter(values.values())) if len(values) == 1 else values


def _value(spec: TensorSpec) -> Any:
    value = _element(spec)
    if spec.shape == (1,):
        return value
    for least in reversed(spec.least):
        value = [value] * max(1, least)
    return value


def _element(spec: TensorSpec) -> Any:
    if spec.allowed is not None:
        return spec.allowed[0]
    if spec.dtype == STRING:
        return "example"[: spec.max_length]
    if spec.dtype == "bool":
        return False
    bounds = bounds_of(spec)
    # Zero where the contract allows it: a reader sees at once that it is made up.
    nearest = min(max(0.0, bounds.low), bounds.high)
    return int(nearest) if bounds.integral else nearest
