"""What a version's inputs and outputs are called: as in the graph, unless the graph's names say nothing.

Keras numbers what its author did not name (`dense_1`, `input_layer_2`), and goes on counting as long as the process lives:
the same script gives other names the second time. Callers know those of the version before, so these are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from hoverboard.backends.authoring import Written
from hoverboard.contract.signature import TensorSpec
from hoverboard.publishing.framework import authoring
from hoverboard.versions import Manifest
from hoverboard.versions.manifest import GraphNames

__all__ = ["keep_names", "renumbered", "tell_names", "translated"]

_log = logging.getLogger(__name__)
_LIKE: Final = {"keras_tensor": "input_layer"}  # an unnamed `keras.Input` has one name as a layer, and one as a tensor
_CURE: Final = (
    "Keras numbers the layers that are given no name, and goes on counting as long as the process lives: name them, "
    "keras.Input(..., name='x') and name='y' of the last layer, or call keras.utils.clear_session() before the model is built"
)


def keep_names(written: Written, before: Manifest | None) -> tuple[Written, GraphNames]:
    """Give inputs and outputs that differ from the version before in nothing but Keras' number its names.

    Args:
        written: the model as it was loaded.
        before: the version before.

    Returns:
        The model under these names; and the names that were kept -> those that Keras gave.
    """
    if before is None:
        return written, GraphNames()
    graph, called, classes = written.graph, written.called, written.layer_classes
    kept = GraphNames(
        _kept(before.inputs, graph.inputs, classes), _kept(before.outputs, graph.outputs, classes, main=True)
    )
    named = replace(
        written, graph=graph.named(kept), called=called and called.named(kept), names=kept.after(written.names)
    )
    return named, kept


def _kept(
    before: Sequence[TensorSpec], now: Sequence[TensorSpec], classes: Collection[str], *, main: bool = False
) -> dict[str, str]:
    """Pairs by the order in which Keras numbered them. Where that leaves a doubt, none: callers would get another input's place."""
    old, new = (
        sorted((spec for spec in specs if _automatic(spec.name, classes)), key=lambda spec: _numbered(spec.name))
        for specs in (before, now)
    )
    if [_numbered(spec.name)[0] for spec in old] != [_numbered(spec.name)[0] for spec in new]:
        return {}
    names = {mine.name: theirs.name for mine, theirs in zip(new, old, strict=True)}
    wanted = [spec.name for spec in before]
    order = [names.get(spec.name, spec.name) for spec in now]
    if sorted(order) != sorted(wanted):
        return {}
    if main:  # an output comes first because it is the answer
        order.sort(key=lambda name: name != wanted[0])
    alike = all((a.dtype, a.shape) == (b.dtype, b.shape) for a, b in zip(new, old, strict=True))
    if len(names) > 1 and not (alike and order == wanted):
        return {}
    return {theirs: mine for mine, theirs in names.items() if mine != theirs}


def _numbered(name: str) -> tuple[str, int]:
    """A name without the number that Keras puts after it, and the number; 0 for the first one, which has none."""
    base, _, number = name.rpartition("_")
    if not base or not number.isdecimal():
        base, number = name, "0"
    return _LIKE.get(base, base), int(number)


def _automatic(name: str, classes: Collection[str]) -> bool:
    return _numbered(name)[0].replace("_", "") in classes


def translated(name: str, names: Mapping[str, str]) -> str:
    """A name that the publisher may have read from the model, as the version's."""
    return name if name in names else next((ours for ours, own in names.items() if own == name), name)


def renumbered(before: Manifest, after: Manifest) -> str:
    """What to do where names differ only by what Keras numbered; empty where they do not."""
    classes = authoring().layer_classes()
    for was, now in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
        old, new = ({spec.name for spec in specs} for specs in (was, now))
        gone, come = (
            {_numbered(name)[0] for name in names if _automatic(name, classes)} for names in (old - new, new - old)
        )
        if gone & come:
            return f"{_CURE}. "
    return ""


def tell_names(manifest: Manifest, kept: GraphNames) -> None:
    """Log which names were kept, and which say nothing."""
    if kept:
        pairs = [f"{name} ({own} in the graph)" for side in (kept.inputs, kept.outputs) for name, own in side.items()]
        _log.warning(
            "%s keeps the names of the version before, where Keras only numbered them: %s",
            manifest.name,
            ", ".join(pairs),
        )
    numbered = [spec.name for spec in manifest.inputs]
    if len(numbered) > 1 and all(map(authoring().numbered, numbered)):
        _log.warning(
            "inputs %s are the model's, in the order that it is called with them: Keras keeps no names for them. "
            "A model that is called with a dict, model({'age': ..., 'income': ...}), has its keys as names",
            ", ".join(numbered),
        )
