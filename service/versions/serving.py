"""`serving.toml`: the mutable half of a model. All of it is optional; a change takes effect within a scan."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from service.errors import ConfigError

__all__ = ["SERVING_FILE", "Batching", "Limits", "Serving", "rewrite"]

SERVING_FILE: Final = "serving.toml"


class Batching(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[batching]`: None takes the server's setting of the same name.

    Attributes:
        max_batch: largest batch bucket, samples.
        max_batch_delay_ms: how long an idle executor waits for company.
        max_queue_ms: predicted work in the queue above which calls are refused.
    """

    max_batch: int | None = None
    max_batch_delay_ms: float | None = None
    max_queue_ms: float | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[limits]`.

    Attributes:
        max_instances: most samples in one call.
    """

    max_instances: int = 100_000


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `serving.toml` says.

    Attributes:
        stable: the version that answers calls that name none; None for the highest ready one.
        pins: versions that stay in memory whatever the routing says.
        batching, limits: see there.
    """

    stable: int | None = None
    pins: tuple[int, ...] = ()
    batching: Batching = Batching()
    limits: Limits = Limits()

    @classmethod
    def parse(cls, text: bytes) -> Serving:
        """Read the file's bytes.

        Raises:
            ConfigError: not TOML, an unknown key or an impossible value, each named.
        """
        try:
            values = tomlkit.parse(text).unwrap()
            serving = msgspec.convert(values, cls)
        except (TOMLKitError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"{SERVING_FILE}: {error}") from error
        problem = serving.problem()
        if problem:
            raise ConfigError(f"{SERVING_FILE}: {problem}")
        return serving

    def problem(self) -> str | None:
        """The first value in it that cannot be, or None."""
        positive = {
            "stable": self.stable,
            "batching.max_batch": self.batching.max_batch,
            "batching.max_queue_ms": self.batching.max_queue_ms,
            "limits.max_instances": self.limits.max_instances,
            **{f"pins[{i}]": pin for i, pin in enumerate(self.pins)},
        }
        for key, value in positive.items():
            if value is not None and not value > 0:
                return f"{key}: expected a number above 0, got {value}"
        delay = self.batching.max_batch_delay_ms
        if delay is not None and not 0 <= delay <= 10_000:
            return f"batching.max_batch_delay_ms: expected 0 to 10000, got {delay}"
        return None


def rewrite(model_dir: Path, **changes: Any) -> Serving:
    """Change top-level keys of a model's `serving.toml` atomically, keeping comments and the rest.

    Args:
        model_dir: `models/<name>`.
        changes: key -> new value; None removes the key.

    Raises:
        ConfigError: the file as it is, or as it would be, is malformed; nothing is written then.
    """
    path = model_dir / SERVING_FILE
    text = path.read_bytes() if path.exists() else b""
    Serving.parse(text)
    document = tomlkit.parse(text)
    for key, value in changes.items():
        if value is None or value == []:
            document.pop(key, None)
        else:
            _put(document, key, value)
    new = tomlkit.dumps(document).encode()
    serving = Serving.parse(new)
    _write_atomically(path, new)
    return serving


def _put(document: tomlkit.TOMLDocument, key: str, value: Any) -> None:
    if key in document:
        document[key] = value
        return
    # A new top-level key must stand before the first table, or it would belong to that table.
    rest = [(name, document.pop(name)) for name in list(document) if isinstance(document[name], tomlkit.items.Table)]
    document[key] = value
    for name, item in rest:
        document[name] = item


def _write_atomically(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".serving-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
