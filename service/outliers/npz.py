"""`outliers.npz`: a version's detectors on disk, written and read without pickles, since a pickle is a program."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
import numpy as np

from hoverboard.contract.signature import Array
from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of
from hoverboard.outliers.archive import read_arrays
from hoverboard.outliers.conformal import smallest_alpha
from hoverboard.outliers.detectors import BY_NAME
from hoverboard.outliers.features import Space
from hoverboard.outliers.input_watch import ClosedSet, Numbers, Scale, Watch
from hoverboard.outliers.package import Calibrated, OutlierPackage
from hoverboard.versions.reading import read_file

__all__ = ["FORMAT", "OUTLIERS_FILE", "load_package", "save_package"]

FORMAT: Final = 2
"""1 had no watch; a package without one is still written as that."""
OUTLIERS_FILE: Final = "outliers.npz"
MOST_BYTES: Final = 1 << 29
_MOST_STORED: Final = MOST_BYTES  # before it is unpacked
_META: Final = "meta"
_WATCH: Final = "watch"
_KINDS: Final = {"b": "bool", "i": "an integer", "f": "a number"}


class _SetMeta(msgspec.Struct, forbid_unknown_fields=True):
    """A closed set; one of the two lists of values."""

    input: str
    element: int
    texts: list[bytes] | None = None
    integers: list[int] | None = None


class _WatchMeta(msgspec.Struct, forbid_unknown_fields=True):
    """The watch besides its arrays, which are under `watch/`."""

    names: list[str]
    sets: list[_SetMeta]
    unwatched: dict[str, str]


class _Meta(msgspec.Struct, forbid_unknown_fields=True):
    """What `outliers.npz` says besides arrays.

    `arrays` maps `<detector>/<field>` to an array of the file, so that detectors which share one store it once.
    """

    format: int
    alpha: float
    chosen: str
    reason: str
    space: Space
    layer: str | None
    fitted: int
    left_out: int
    auroc: dict[str, float | None]
    unsuited: dict[str, str]
    notes: list[str]
    arrays: dict[str, str]
    watch: _WatchMeta | None = None


def save_package(package: OutlierPackage, path: Path) -> None:
    """Write the file; the same package gives the same bytes."""
    stored: dict[str, Array] = {}
    known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    arrays: dict[str, str] = {}
    parts = {
        name: {**_flat(detector.parameters), "calibration": detector.calibration}
        for name, detector in package.detectors.items()
    }
    if package.watch is not None:
        parts[_WATCH] = _watch_arrays(package.watch)
    for name, values in parts.items():
        for place, value in values.items():
            array = np.ascontiguousarray(value)
            # Detectors share arrays, such as Mahalanobis++ and the first half of the relative one: each is stored once.
            key = known.setdefault((array.dtype.str, array.shape, array.tobytes()), f"a{len(known)}")
            stored[key] = array
            arrays[f"{name}/{place}"] = key
    meta = _Meta(
        1 if package.watch is None else FORMAT,
        package.alpha,
        package.chosen,
        package.reason,
        package.space,
        package.layer,
        package.fitted,
        package.left_out,
        {name: detector.auroc for name, detector in package.detectors.items()},
        dict(package.unsuited),
        list(package.notes),
        arrays,
        None if package.watch is None else _watch_meta(package.watch),
    )
    stored[_META] = np.frombuffer(msgspec.json.encode(meta), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **stored)


def load_package(path: Path) -> OutlierPackage:
    """Read the file back.

    Raises:
        VersionRefused: it is missing, too large, of a newer format, or not what it should be; one sentence.
    """
    try:
        stored = read_arrays(read_file(path, _MOST_STORED), MOST_BYTES)
        meta = _meta(stored)
        detectors = {name: _detector(name, meta, stored) for name in meta.auroc}
        watch = None if meta.watch is None else _watch(meta.watch, _values(_WATCH, meta, stored))
        _check(meta, detectors, watch)
    except VersionRefused:
        raise
    except OSError as error:
        sentence = f"{OUTLIERS_FILE}: {error.strerror or error}"
        raise VersionRefused(sentence, check=check_of(error, "outliers")) from error
    except (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise VersionRefused(f"{OUTLIERS_FILE}: {_first_line(error)}", check="outliers") from error
    return OutlierPackage(
        meta.alpha,
        meta.chosen,
        meta.reason,
        detectors,
        meta.space,
        meta.layer,
        meta.fitted,
        meta.unsuited,
        meta.left_out,
        tuple(meta.notes),
        watch,
    )


def _meta(stored: Mapping[str, Array]) -> _Meta:
    text = stored[_META].tobytes()
    values = msgspec.json.decode(text)
    number = values.get("format") if isinstance(values, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise VersionRefused(
            f"{OUTLIERS_FILE}: format {number} is newer than this server's {FORMAT}: upgrade the server",
            check="outliers",
        )
    return msgspec.convert(values, _Meta)


def _detector(name: str, meta: _Meta, stored: Mapping[str, Array]) -> Calibrated:
    if name not in BY_NAME:
        raise ValueError(f"detector {name!r} is not known")
    values = _values(name, meta, stored)
    return Calibrated(name, _built(BY_NAME[name].parameters, values, ""), values["calibration"], meta.auroc[name])


def _values(name: str, meta: _Meta, stored: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of one part, by field."""
    prefix = f"{name}/"
    values = {place[len(prefix) :]: stored[key] for place, key in meta.arrays.items() if place.startswith(prefix)}
    for place, value in values.items():
        if value.dtype.kind not in _KINDS or (value.dtype.kind == "f" and not np.isfinite(value).all()):
            raise ValueError(f"{name}/{place}: expected finite numbers")
    calibration = values["calibration"]
    if calibration.ndim != 1 or not len(calibration) or (np.diff(calibration) < 0).any():
        raise ValueError(f"{prefix}calibration: expected ascending scores")
    return values


def _watch_arrays(watch: Watch) -> dict[str, Any]:
    arrays: dict[str, Any] = {"calibration": watch.calibration}
    for prefix, part in (("numbers.", watch.numbers), ("scale.", watch.scale)):
        arrays |= {} if part is None else _flat(part, prefix)
    return arrays


def _watch_meta(watch: Watch) -> _WatchMeta:
    sets = []
    for one in watch.sets:
        texts = [value for value in one.values if isinstance(value, bytes)]
        integers = [value for value in one.values if isinstance(value, int)]
        sets.append(_SetMeta(one.input, one.element, texts or None, integers or None))
    return _WatchMeta(list(watch.names), sets, dict(watch.unwatched))


def _watch(meta: _WatchMeta, values: Mapping[str, Array]) -> Watch:
    sets = tuple(
        ClosedSet(one.input, one.element, tuple(one.texts) if one.texts else tuple(one.integers or ()))
        for one in meta.sets
    )
    numbers: Numbers | None = _built(Numbers, values, "numbers.") if "numbers.low" in values else None
    scale: Scale | None = _built(Scale, values, "scale.") if "scale.knots" in values else None
    if (numbers is None) != (not meta.names) or (scale is None) != (not meta.names and not sets):
        raise ValueError("the watch lacks a part")
    if numbers is not None and sorted(set(numbers.owner.tolist())) != list(range(len(meta.names))):
        raise ValueError("the watch has numbers of no input")
    return Watch(tuple(meta.names), numbers, sets, scale, values["calibration"], dict(meta.unwatched))


def _check(meta: _Meta, detectors: Mapping[str, Calibrated], watch: Watch | None) -> None:
    if meta.chosen not in detectors:
        raise ValueError(f"the chosen detector {meta.chosen!r} is not in it")
    calibrations = [detector.calibration for detector in detectors.values()]
    calibrations += [] if watch is None else [watch.calibration]
    if len({len(calibration) for calibration in calibrations}) != 1:
        raise ValueError("detectors differ in calibration points")
    if not smallest_alpha(len(detectors[meta.chosen].calibration)) <= meta.alpha < 1:
        raise ValueError(f"alpha {meta.alpha:g} is none that its calibration points can tell")


def _flat(parameters: Any, prefix: str = "") -> dict[str, Any]:
    """Field path, such as `classes.matrix`, -> value."""
    arrays: dict[str, Any] = {}
    for one in fields(parameters):
        value = getattr(parameters, one.name)
        place = f"{prefix}{one.name}"
        arrays |= _flat(value, f"{place}.") if is_dataclass(value) else {place: value}
    return arrays


def _built(kind: type[Any], values: Mapping[str, Array], prefix: str) -> Any:
    """The inverse of `_flat`."""
    built: dict[str, Any] = {}
    later = {one.name for one in fields(kind) if one.default is not MISSING}
    for name, hint in get_type_hints(kind).items():
        place = f"{prefix}{name}"
        if name in later and place not in values:
            continue  # the file is from before there was such a field
        if is_dataclass(hint) and isinstance(hint, type):
            built[name] = _built(hint, values, f"{place}.")
        elif hint in (bool, int, float):
            built[name] = hint(values[place].item())
        else:
            built[name] = values[place]
    return kind(**built)


def _first_line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
