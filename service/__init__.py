"""Hoverboard: serve versioned Keras models over JSON-RPC."""

__version__ = "0.1.0"
