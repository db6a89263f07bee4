"""The framework that models are written in, which is Keras'; imported late, since that takes seconds."""

from __future__ import annotations

from hoverboard.backends.authoring import Authoring
from hoverboard.backends.backend import Backend, backend_of
from hoverboard.versions.manifest import KERAS_FILE

__all__ = ["authoring", "keras"]


def keras() -> Backend:
    """What runs Keras' models."""
    return backend_of(KERAS_FILE)


def authoring() -> Authoring:
    """What publishing asks of it."""
    found = keras().authoring
    if found is None:
        raise AssertionError
    return found
