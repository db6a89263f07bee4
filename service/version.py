"""The version of this release; by itself, so that who states it need not import the face, which names everything."""

__all__ = ["__version__"]

__version__ = "0.1.0"
