"""An input that is an image, as a small PNG within a page."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec

__all__ = ["image_of", "picture"]

_LEAST: Final = 8
_MOST: Final = 96
_NAMES: Final = ("pixel", "image", "picture", "photo")
_COLOURS: Final = {1: 0, 3: 2, 4: 6}
"""Channels -> colour type of PNG (ISO 15948, table 11.1)."""


def image_of(signature: Signature) -> TensorSpec | None:
    """The input that is an image, or None: height x width, with 1, 3 or 4 channels or none; or a vector that its name calls one."""
    return next((spec for spec in signature.inputs if _size(spec) is not None), None)


def picture(spec: TensorSpec, values: Array) -> str:
    """One sample as a `data:` URI; from the declared limits, or else from its least to its greatest value.

    Args:
        spec: the input.
        values: of its shape, or flat.
    """
    size = _size(spec)
    if size is None:
        raise ValueError(f"{spec.name} is no image")
    pixels = np.nan_to_num(np.asarray(values, np.float64).reshape(size), posinf=0.0, neginf=0.0)
    low = float(pixels.min()) if spec.min is None else spec.min
    high = float(pixels.max()) if spec.max is None else spec.max
    step = max(1, math.ceil(max(size[:2]) / _MOST))
    grey = np.clip((pixels[::step, ::step] - low) / max(high - low, 1e-9), 0, 1)
    return f"data:image/png;base64,{base64.b64encode(_png(np.round(grey * 255).astype(np.uint8))).decode()}"


def _size(spec: TensorSpec) -> tuple[int, int, int] | None:
    """Height, width and channels."""
    if spec.dtype in (STRING, "bool") or spec.variable:
        return None
    shape = [side for side in spec.shape if side is not None]
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        named = any(name in spec.name.lower() for name in _NAMES)
        shape = [side, side, 1] if named and side * side == shape[0] else []
    elif len(shape) == 2:
        shape = [*shape, 1]
    return (
        (shape[0], shape[1], shape[2])
        if len(shape) == 3 and shape[2] in _COLOURS and min(shape[:2]) >= _LEAST
        else None
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """`(height, width, channels)`: one stream without filters."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
