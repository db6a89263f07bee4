"""A `.keras` file is read as data before Keras loads it: a zip of JSON, HDF5 and vocabulary files, none of which is trusted.

Keras' own safe mode stays on. This looks first at what safe mode leaves to others: zip files that grow or climb out of their
folder, HDF5 files that point at other files, layers that bring code or open files of this machine.
"""

from __future__ import annotations

import io
import json
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn

from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of

__all__ = ["check_keras_archive"]

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_FILES: Final = frozenset({_CONFIG, "metadata.json", _WEIGHTS})
_ASSETS: Final = "assets"
_MOST_MEMBERS: Final = 10_000
_LARGEST_CONFIG: Final = 64 * 1024**2
_GROWTH: Final = 20  # times that weights and assets may grow when they are unpacked; Keras itself does not compress
_SLACK: Final = 64 * 1024**2  # bytes that they may grow by in any case
_DEEPEST: Final = 200
_FILTERS: Final = frozenset({1, 2, 3, 4, 5, 6, 32000})
"""HDF5's own filters, and h5py's LZF; any other is a library that HDF5 would look for on this machine."""
_CODE: Final = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_EXPORT: Final = (
    "publish it as a graph, from the script that made it: publish(model, ..., export=True), or model.export('folder') and "
    "hoverboard publish folder"
)

Known = Callable[[str], bool]


def check_keras_archive(path: Path, known: Known) -> None:
    """Refuse a `.keras` file that would reach out of itself when Keras loads it.

    Args:
        path: of the file.
        known: whether this process knows a layer or function by its registered name.

    Raises:
        VersionRefused: what is wrong, with its place.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            config = _member(archive, _CONFIG, path)
            _check_config(_parsed(config), known)
            _check_weights(io.BytesIO(_member(archive, _WEIGHTS, path)))
    except (zlib.error, lzma.LZMAError) as error:
        raise VersionRefused(
            f"{path.name} is no whole Keras archive: what is packed in it is damaged", check="load"
        ) from error
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        EOFError,
        ValueError,
        RuntimeError,
        KeyError,
        struct.error,
    ) as error:
        raise VersionRefused(f"{path.name} is no whole Keras archive: {error}", check="load") from error
    except OSError as error:
        said = f"{path.name} cannot be read: {error.strerror or error}"
        raise VersionRefused(said, check=check_of(error, "load")) from error


def _unsafe(message: str) -> NoReturn:
    raise VersionRefused(message, check="safety")


# -- the zip file -------------------------------------------------------------------------------------------------------


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        _unsafe(f"{path.name} holds {len(members)} files, at most {_MOST_MEMBERS} are read")
    seen = set()
    for member in members:
        name = member.filename
        place = PurePosixPath(name)
        # `orig_filename` differs where the name goes on behind a zero byte.
        if place.is_absolute() or ".." in place.parts or "\\" in name or ":" in name or name != member.orig_filename:
            _unsafe(f"{path.name}: {name!r} would lie outside the archive")
        if str(place) in seen:
            _unsafe(f"{path.name} holds {name!r} twice")
        seen.add(str(place))
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            _unsafe(f"{path.name}: {name!r} is a link or a special file")
        if member.flag_bits & 1:
            _unsafe(f"{path.name}: {name!r} is encrypted")
        if name not in _FILES and place.parts[:1] != (_ASSETS,):
            _unsafe(f"{path.name}: {name!r} is no file of Keras' format")
        if name in _FILES - {_WEIGHTS} and member.file_size > _LARGEST_CONFIG:
            _unsafe(f"{path.name}: {name!r} is larger than {_LARGEST_CONFIG // 1024**2} MiB")
    # Unpacking stops at the declared size, so it is enough to bound what is declared.
    total, packed = sum(member.file_size for member in members), path.stat().st_size
    if total > _GROWTH * packed + _SLACK:
        _unsafe(f"{path.name}: its {packed} bytes would become {total} when they are unpacked")


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise VersionRefused(f"{path.name} holds no {name}: save the model with model.save", check="load") from error


# -- config.json ---------------------------------------------------------------------------------------------------------


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VersionRefused(f"{_CONFIG} is no JSON: {error}", check="load") from error


def _check_config(config: Any, known: Known) -> None:
    if not isinstance(config, dict):
        raise VersionRefused(f"{_CONFIG} holds no model", check="load")
    # Losses and metrics may be of the trainer's own: a server never loads them.
    for item in _objects({key: value for key, value in config.items() if key != "compile_config"}):
        _check_object(item, known)


def _objects(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Every JSON object in a configuration."""
    if depth > _DEEPEST:
        _unsafe(f"{_CONFIG} is nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner, depth + 1)


def _check_object(item: Mapping[str, Any], known: Known) -> None:
    kind, module, config = item.get("class_name"), item.get("module"), item.get("config")
    if kind is not None and not isinstance(kind, str):
        if "config" in item:
            raise VersionRefused(f"{_CONFIG}: a class_name is {_kind_of(kind)}, not a text", check="load")
        kind = None  # no object of Keras', but a key of the same name
    name = config.get("name") if isinstance(config, dict) else item.get("name")
    what = f"layer {name!r}" if isinstance(name, str) else f"an object of class {kind}"
    if kind in _CODE:
        _unsafe(f"{what} is a {kind}, which holds code that runs when the model is loaded: {_instead(kind)}")
    if isinstance(name, str) and (".." in PurePosixPath(name).parts or "\x00" in name):
        _unsafe(f"{what}: its name would climb out of a folder")
    vocabulary = item.get("vocabulary")
    if isinstance(vocabulary, str):
        _unsafe(
            f"{what}: its vocabulary is the path of a file of this machine, {vocabulary!r}: give the layer the words themselves, "
            "and save the model again"
        )
    keras = isinstance(module, str) and module.partition(".")[0] == "keras"
    registered = item.get("registered_name")
    if kind is None or "config" not in item or keras or (module is None and registered is None):
        return  # Keras holds these against its own classes
    name = config if kind == "function" else registered
    if not (isinstance(name, str) and known(name)):
        code = _code_of(kind, module, registered) if kind != "function" else f"function {config}"
        _unsafe(f"{what} is Python code of your own ({code}), which a server does not have: {_EXPORT}")


def _kind_of(value: Any) -> str:
    return {dict: "an object", list: "a list", bool: "a truth value"}.get(type(value), "a number")


def _code_of(kind: Any, module: Any, registered: Any) -> str:
    package, _, name = str(registered).rpartition(">")
    if module is None:
        return f"{name}, registered under the package {package}" if package else f"class {kind}"
    return f"{kind} of {module}"


def _instead(kind: str) -> str:
    if kind in ("Lambda", "__lambda__"):
        return f"write it with keras.ops or as a preprocessing layer, do it before the call, or {_EXPORT}"
    return f"{_EXPORT}; a SavedModel can be published as it is"


# -- the weights ---------------------------------------------------------------------------------------------------------


def _check_weights(file: io.BytesIO) -> None:
    import h5py

    size = file.getbuffer().nbytes
    with h5py.File(file, "r") as weights:
        total, ahead, visited = 0, [weights], set()
        while ahead:
            group = ahead.pop()
            for name in group:
                where = f"{_WEIGHTS}: {group.name.rstrip('/')}/{name}"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    _unsafe(f"{where} is a link, perhaps to another file")
                item = group[name]
                key = h5py.h5o.get_info(item.id).addr
                if key in visited:  # hard links may go round in circles
                    continue
                visited.add(key)
                if isinstance(item, h5py.Group):
                    ahead.append(item)
                elif isinstance(item, h5py.Dataset):
                    total += _checked_size(item, where)
                    if total > _GROWTH * size + _SLACK:
                        _unsafe(f"{_WEIGHTS}: its {size} bytes would become more than {total} when they are read")


def _checked_size(dataset: Any, where: str) -> int:
    layout = dataset.id.get_create_plist()
    if dataset.external or layout.get_external_count():
        _unsafe(f"{where} is kept in another file")
    if dataset.is_virtual:
        _unsafe(f"{where} is put together from other files")
    filters = {layout.get_filter(place)[0] for place in range(layout.get_nfilters())}
    if not filters <= _FILTERS:
        _unsafe(f"{where} needs a filter that is not HDF5's own")
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)
