"""`serving.toml`: the mutable half of a model. All of it is optional; a change takes effect within a scan."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import tomlkit

from hoverboard.errors import ConfigError
from hoverboard.files import put_file
from hoverboard.versions.reading import read_file

__all__ = ["SERVING_FILE", "Batching", "Limits", "Recording", "Serving", "read_serving", "rewrite"]

SERVING_FILE: Final = "serving.toml"
_MOST_BYTES: Final = 1 << 14
"""A whole one has some twenty keys; for some files of 60 KiB a parser takes ten seconds."""
_MOST_NUMBER: Final = 10**18


class Batching(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[batching]`: None takes the server's setting of the same name.

    Attributes:
        max_batch: most samples in one batch; the setting of that name when left out.
        max_batch_delay_ms: milliseconds that an idle executor waits for more samples; likewise.
        max_queue_ms: predicted milliseconds of work before a call, above which it is refused; likewise.
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


class Recording(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[recording]`: what of a model's samples and answers is written down. Executed rows are counted whatever it says.

    Attributes:
        policy: `all` keeps every sample; `sampled` a share of them, and all outliers, errors and low margins; `hashed`
            every sample, with a keyed hash in place of its inputs; `none` keeps nothing.
        share: share of the samples that `sampled` keeps beside those that it always keeps, 0 to 1.
        low_margin: `sampled` always keeps samples whose two most probable classes are at most this far apart in
            probability; of a multi-label version, samples with a label this near to its threshold.
        redact: JSON Pointers into a sample by input name, which are left out of what is recorded: `/text` the whole
            input, `/pixels/3` one element.
    """

    policy: Literal["all", "sampled", "hashed", "none"] = "all"
    share: float = 0.1
    low_margin: float = 0.1
    redact: tuple[str, ...] = ()

    @property
    def hides(self) -> bool:
        """Whether inputs are not written down as they came."""
        return self.policy in ("hashed", "none") or bool(self.redact)


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `serving.toml` says.

    Attributes:
        stable: the version that answers calls that name none; when left out, the highest that passes its checks.
        pins: versions that stay in memory whatever the routing says.
        uncategorized_below: a classification answers `Uncategorized` at a p-value of at most this; when left out, never.
        batching, limits, recording: see there.
    """

    stable: int | None = None
    pins: tuple[int, ...] = ()
    uncategorized_below: float | None = None
    batching: Batching = Batching()
    limits: Limits = Limits()
    recording: Recording = Recording()

    @classmethod
    def parse(cls, text: bytes) -> Serving:
        """Read the file's bytes.

        Raises:
            ConfigError: not TOML, an unknown key or an impossible value, each named.
        """
        try:
            values = tomllib.loads(text.decode("utf-8-sig"))  # editors on Windows write a byte order mark
            serving = msgspec.convert(values, cls)
        except (msgspec.ValidationError, ValueError, RecursionError) as error:
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
            if value is not None and not 0 < value < _MOST_NUMBER:
                return f"{key}: expected a number above 0 and below 10^18, got {value}"
        delay = self.batching.max_batch_delay_ms
        if delay is not None and not 0 <= delay <= 10_000:
            return f"batching.max_batch_delay_ms: expected 0 to 10000, got {delay}"
        if self.uncategorized_below is not None and not 0 < self.uncategorized_below <= 1:
            return f"uncategorized_below: expected above 0 and up to 1, got {self.uncategorized_below}"
        for key, share in (("share", self.recording.share), ("low_margin", self.recording.low_margin)):
            if not 0 <= share <= 1:
                return f"recording.{key}: expected 0 to 1, got {share}"
        for i, pointer in enumerate(self.recording.redact):
            if not pointer.startswith("/"):
                return f"recording.redact[{i}]: expected a JSON Pointer such as /text, got {pointer!r}"
        return None


def read_serving(path: Path) -> Serving:
    """Read a `serving.toml`; one that is not there says nothing.

    Raises:
        ConfigError: it cannot be read, or is malformed.
    """
    serving = _parsed(_read(path))
    if isinstance(serving, ConfigError):
        raise serving
    return serving


@lru_cache(256)
def _parsed(text: bytes) -> Serving | ConfigError:
    """What a file says, or why it says nothing; an unchanged one is not parsed again."""
    try:
        return Serving.parse(text)
    except ConfigError as error:
        return error


def _read(path: Path) -> bytes:
    try:
        # A mounted configuration is often a link into a folder that is swapped whole.
        return read_file(path, _MOST_BYTES, follow=True)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{SERVING_FILE}: {error.strerror}") from error


def rewrite(model_dir: Path, **changes: Any) -> Serving:
    """Change top-level keys of a model's `serving.toml` atomically, keeping comments and the rest.

    Args:
        model_dir: `models/<name>`.
        changes: key -> new value; None removes the key.

    Raises:
        ConfigError: the file as it is, or as it would be, is malformed; nothing is written then.
    """
    path = model_dir / SERVING_FILE
    text = _read(path)
    Serving.parse(text)
    document = tomlkit.parse(text)
    for key, value in changes.items():
        if value is None or value == []:
            document.pop(key, None)
        else:
            _put(document, key, value)
    new = tomlkit.dumps(document).encode()
    serving = Serving.parse(new)
    put_file(path, new, mode=0o644)
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
