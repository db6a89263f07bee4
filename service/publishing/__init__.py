"""From a Keras model to a version on disk that any Hoverboard can serve.

In: a model, and what its publisher declares (limits, labels, samples, calibration). Out: a version's directory, written whole or not at all
(`publish`), once it has been loaded again as a server will and has given its golden answers; or a sentence why not.
"""

from hoverboard.publishing.publish import publish

__all__ = ["publish"]
