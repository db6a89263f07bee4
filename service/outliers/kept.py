"""`calibration.npz`: what a version's detectors saw of its calibration samples, so that a child can be calibrated on them again.

A file of its own beside `outliers.npz`: serving does not read it, and an older server passes over it.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of
from hoverboard.outliers.archive import read_arrays
from hoverboard.outliers.features import Features, Labels, half
from hoverboard.versions.reading import read_file

__all__ = ["CALIBRATION_FILE", "CalibrationFeatures", "load_features", "save_features"]

CALIBRATION_FILE: Final = "calibration.npz"

_FORMAT: Final = 1
_MOST_BYTES: Final = 20_000_000
_MOST_STORED: Final = 2 * _MOST_BYTES
_NO_CLASS: Final = -1


@dataclass(frozen=True, slots=True)
class CalibrationFeatures:
    """Features of the calibration samples, or of some of them.

    Attributes:
        z: float16 `(n, d)`; `OutlierPackage` says of which space and layer.
        classes: int32 `(n,)`, the class of each by its index, -1 where there are no classes.
        calibrates: bool `(n,)`: whether it calibrated the detectors. The others fitted them, or chose among them.
        rows: how many there were; more than n where they were drawn from.
    """

    z: NDArray[np.float16]
    classes: NDArray[np.int32]
    calibrates: NDArray[np.bool_]
    rows: int

    @classmethod
    def of(cls, features: Features, labels: Labels | None, calibrates: NDArray[np.int64]) -> CalibrationFeatures | None:
        """At most 20 MB of them, drawn at random where there are more, always the same ones; None where there is no z.

        Args:
            features: of all rows.
            labels: the class of each.
            calibrates: indexes of the rows that calibrated.
        """
        if features.z is None or not features.width:
            return None
        n = len(features.z)
        most = _MOST_BYTES // (2 * features.width)
        rows = np.sort(np.random.default_rng(0).permutation(n)[:most])
        classes = np.full(n, _NO_CLASS, np.int32) if labels is None else labels.astype(np.int32)
        marks = np.zeros(n, np.bool_)
        marks[calibrates] = True
        return cls(half(features.z[rows]), classes[rows], marks[rows], n) if len(rows) else None


def save_features(kept: CalibrationFeatures, path: Path) -> None:
    """Write the file; the same features give the same bytes."""
    numbers = np.array([_FORMAT, kept.rows], np.int64)
    with path.open("wb") as file:
        np.savez_compressed(
            file, allow_pickle=False, z=kept.z, classes=kept.classes, calibrates=kept.calibrates, numbers=numbers
        )


def load_features(directory: Path) -> CalibrationFeatures | None:
    """Read a version's file back; None where it has none: it was published without calibration, or by an older Hoverboard.

    Raises:
        VersionRefused: it cannot be read, is too large, of a newer format, or not what it should be; one sentence.
    """
    try:
        stored = read_arrays(read_file(directory / CALIBRATION_FILE, _MOST_STORED), _MOST_STORED)
        number, rows = stored["numbers"].tolist()
        if number > _FORMAT:
            raise ValueError(f"format {number} is newer than this Hoverboard's {_FORMAT}: upgrade")
        kept = CalibrationFeatures(stored["z"], stored["classes"], stored["calibrates"], rows)
        n = len(kept.z)
        fit = kept.z.ndim == 2 and kept.classes.shape == kept.calibrates.shape == (n,) and 0 < n <= rows
        kinds = [array.dtype.name for array in (kept.z, kept.classes, kept.calibrates)]
        if not fit or kinds != ["float16", "int32", "bool"]:
            raise ValueError("its arrays do not fit together")
    except FileNotFoundError:
        return None
    except OSError as error:
        sentence = f"{CALIBRATION_FILE}: {error.strerror or error}"
        raise VersionRefused(sentence, check=check_of(error, "outliers")) from error
    except (ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error).partition("\n")[0][:200]
        raise VersionRefused(f"{CALIBRATION_FILE}: {what}", check="outliers") from error
    return kept
