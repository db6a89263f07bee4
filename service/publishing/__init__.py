"""From a Keras model to a version on disk that any Hoverboard can serve."""

from hoverboard.publishing.publish import publish

__all__ = ["publish"]
