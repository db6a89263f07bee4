"""Archives of arrays, read without pickles, since a pickle is a program, and only where they are as small as they should be."""

from __future__ import annotations

import zipfile
from io import BytesIO

import numpy as np

from hoverboard.contract.signature import Array

__all__ = ["read_arrays"]


def read_arrays(data: bytes, most_bytes: int) -> dict[str, Array]:
    """The arrays of an archive, by name, without pickles.

    Raises:
        ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error: it is none, or holds more bytes.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:  # what is declared bounds what is unpacked
        if sum(entry.file_size for entry in archive.infolist()) > most_bytes:
            raise ValueError(f"holds more than {most_bytes >> 20} MiB")
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
