"""Settings: one class for flags, environment, `hoverboard.toml` and defaults, in that order of precedence."""

from __future__ import annotations

import difflib
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from hoverboard.errors import ConfigError

__all__ = ["CONFIG_FILE", "ENV_PREFIX", "RUNTIME_FILE", "TOKEN_FILE", "Settings", "resolved", "url"]

ENV_PREFIX: Final = "HOVERBOARD_"
CONFIG_FILE: Final = "hoverboard.toml"
RUNTIME_FILE: Final = "settings.json"
TOKEN_FILE: Final = "admin.token"  # noqa: S105 - a file's name

_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only read, not bound

_DEBUG: Final = f"{ENV_PREFIX}DEBUG"
"""No setting, but read by commands: at `1` they show where an error that nobody expected comes from."""
# An unknown variable with our prefix is refused, as a setting that was misspelt; these are nobody's.
_KUBERNETES: Final = re.compile(
    rf"{ENV_PREFIX}(SERVICE_(HOST|PORT(_.+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes sets in every container beside a Service named `hoverboard`."""


def url(host: str, port: int) -> str:
    """The address of a listener as a client on this machine writes it. One that is bound everywhere is reached by loopback."""
    reachable = _EVERYWHERE.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """The family and the address that a listener is bound to.

    Raises:
        OSError, UnicodeError: there is no such host.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, address


class Settings(BaseSettings):
    """Every setting of the service. Read it with `Settings.load`, which explains what is wrong with a bad one.

    A flag wins over the environment (`HOVERBOARD_PORT=9000`), the environment over `hoverboard.toml` in the working
    directory (`port = 9000`), and that over the default.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
    )

    host: str = Field("127.0.0.1", min_length=1)
    """Address that the public listener binds to: `127.0.0.1` answers this machine alone, `0.0.0.0` others too."""

    port: int = Field(8080, ge=0, le=65535)
    """Port of the public listener; 0 takes a free one."""

    admin_host: str = Field("127.0.0.1", min_length=1)
    """Address that the admin listener binds to. Leave it on loopback unless you know who can reach it: whoever has the
    token can change what is served."""

    admin_port: int = Field(8081, ge=0, le=65535)
    """Port of the admin listener; 0 takes a free one."""

    allowed_hosts: str = ""
    """Further host names, separated by commas, that a listener on loopback answers to; `*` for any. It refuses other
    names, since a web page could otherwise call the service under a name of its own. `localhost`, `127.0.0.1`, `::1`
    and the address that it binds to are always allowed."""

    models: Path = Path("models")
    """Directory of model versions, each in `<name>/<version>/`."""

    data_dir: Path = Path("data")
    """Directory that belongs to one running service: its lock, the admin token, the journals, the embedded Postgres,
    and timings cached between starts."""

    api_workers: int = Field(1, ge=1, le=256)
    """Api processes that share the public port. They decode and check JSON: with small models, one for each spare core
    helps."""

    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    """Largest request body, in bytes, after decompression."""

    body_memory_mb: int = Field(128, ge=1)
    """Most MiB of large request bodies and WebSocket messages (above 64 KB) that one api process holds at once,
    including those that are still arriving. Above it, requests are refused with -32005 and WebSockets are closed. The
    decoder holds the same bodies a second time until they are answered."""

    decode_memory_mb: int = Field(1024, ge=128)
    """Most MiB of memory of the decoder, the process that decodes large requests for one api process. A request that
    needs more is refused."""

    answer_memory_mb: int = Field(128, ge=1)
    """Most MiB of answers that one api process holds until clients have read them. Above it, calls are refused with
    -32005."""

    max_batch_items: int = Field(1000, ge=1)
    """Most calls in one JSON-RPC batch."""

    max_response_bytes: int = Field(25_000_000, ge=1024)
    """Largest response body, in bytes, before compression."""

    max_concurrency: int = Field(1024, ge=1)
    """Most calls in flight in one api process. Above it, calls are refused at once with -32005."""

    max_connections: int = Field(4096, ge=1)
    """Most open connections of one api process. Where the machine allows fewer open files, the limit is lower, and the
    log says so."""

    header_timeout_s: float = Field(10.0, gt=0)
    """Seconds a client may take to send a request's headers."""

    body_timeout_s: float = Field(30.0, gt=0)
    """Seconds a client may take to send a request's body, or a WebSocket message above 64 KB."""

    write_timeout_s: float = Field(30.0, gt=0)
    """Seconds a client may take to read one megabyte of its answers, or what is left of them. Then it is
    disconnected."""

    keepalive_timeout_s: float = Field(75.0, gt=0)
    """Seconds an idle connection stays open. Choose more than the idle time of a proxy in front: otherwise the proxy
    may send a call into a connection that is just being closed."""

    ws_max_inflight: int = Field(64, ge=1)
    """Most messages of one WebSocket that are worked on at once."""

    default_deadline_ms: int = Field(10_000, ge=1)
    """Deadline of a call that names none, in milliseconds after its arrival."""

    max_deadline_ms: int = Field(600_000, ge=1)
    """Longest deadline a call may ask for, in milliseconds."""

    drain_timeout_s: float = Field(30.0, gt=0)
    """Seconds that calls in flight are given to finish when the service stops. Carrying what was answered to Postgres
    is then given as long again."""

    scan_interval_s: float = Field(1.0, gt=0, le=3600)
    """Seconds between two looks at the models directory."""

    max_queue_ms: int = Field(2000, ge=1)
    """Most work that may wait in the engine's queue, in predicted milliseconds. Above it, calls are refused with
    -32005."""

    max_batch: int = Field(64, ge=1, le=4096)
    """Most samples in one batch, unless a model's `serving.toml` says otherwise."""

    max_batch_delay_ms: float = Field(0.0, ge=0, le=1000)
    """Milliseconds that an idle executor waits for more samples before it runs a batch; 0 runs at once."""

    batch_deadline_s: float = Field(30.0, gt=0, le=3600)
    """Seconds after which a batch that is still running is taken to hang, or twenty times its measured time where that
    is longer. The engine is then ended and started again. Raise it where a model may need longer for what callers
    send."""

    load_deadline_s: float = Field(600.0, gt=0, le=86_400)
    """Seconds after which a version that is still being loaded is taken to hang. The engine is then ended and started
    again."""

    memory_limit_mb: int = Field(0, ge=0)
    """Most MiB of weights in memory; 0 is no limit. Above it, the version that was not used for the longest time is
    unloaded."""

    intra_op_threads: int = Field(0, ge=0, le=1024)
    """Threads one operation of a graph may use; 0 chooses by the number of cores."""

    inter_op_threads: int = Field(1, ge=1, le=1024)
    """Operations of a graph that may run at once; with 1, small graphs run without a thread of their own."""

    xla: Literal["auto", "off"] = "auto"
    """Whether graphs are compiled by XLA. `auto` tries it at load and keeps it where it is faster and the golden
    samples pass; `off` never does."""

    recording: Literal["on", "off"] = "on"
    """`on` journals answers, refusals and labels and carries them to Postgres; `off` records nothing."""

    database_url: SecretStr = SecretStr("")
    """Postgres 15 or newer to record to, as `postgresql://user:password@host/database`. Empty runs an embedded one
    under the data directory. Give it in the environment, since other users of a machine can read a command line."""

    journal_fsync: bool = False
    """Whether every executed batch is on disk before it is answered, so that records survive a power failure. Without
    it they survive the death of any process."""

    journal_segment_mb: int = Field(64, ge=1, le=1024)
    """Size in MiB of one journal file. The journal then goes on in a new one."""

    journal_budget_mb: int = Field(4096, ge=1)
    """Most MiB of journals on disk. Above it, ordinary samples are dropped and counted as a gap; outliers are still
    kept."""

    journal_keep_s: float = Field(3600.0, ge=0)
    """Seconds that a journal file is kept after all of it is in Postgres."""

    recorder_yield_s: float = Field(4.0, ge=0, le=3600)
    """Seconds that records may wait in the journals while calls keep the machine busy, so that a burst of calls has the
    processors to itself; 0 lets none wait."""

    retention_days: int = Field(30, ge=1, le=3650)
    """Days that samples, predictions, outliers and rejections are kept in Postgres."""

    alarm_run_length: int = Field(1_000_000, ge=100)
    """Samples between two false alarms on a version's outliers: at least so many, on average. A smaller number notices
    a change sooner, and is wrong more often."""

    drift_window_rows: int = Field(5000, ge=100)
    """Recorded samples of a version that are compared with its baseline at a time, to find drift."""

    carry_issues_s: float = Field(30.0, ge=0, le=86_400)
    """Seconds between two looks whether a version with other weights does not know a model's issues. Where one does not,
    samples of these run through it in a process of its own, for some seconds and at low priority; 0 leaves that to
    `hoverboard issues carry`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """How log lines look: `auto` is `console` on a terminal and `json` elsewhere."""

    @field_validator("log_level", "log_format", "recording", "xla", mode="before")
    @classmethod
    def _lowered(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("expected postgresql://user:password@host/database")
        return value

    @model_validator(mode="after")
    def _deadlines_agree(self) -> Self:
        if self.default_deadline_ms > self.max_deadline_ms:
            raise ValueError(
                f"default_deadline_ms ({self.default_deadline_ms}) is longer than max_deadline_ms ({self.max_deadline_ms})",
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes all sources by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then `hoverboard.toml`; first one wins."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=CONFIG_FILE)

    @classmethod
    def load(cls, given_as: str | None = None, /, **flags: Any) -> Settings:
        """Read all sources.

        Args:
            given_as: what the given settings are to the caller, in words; None for flags of the command line.
            flags: settings given there; None means not given.

        Raises:
            ConfigError: one line a problem, each naming the setting and where its value came from.
        """
        from_flags = {name: value for name, value in flags.items() if value is not None}
        unknown = [_unknown(variable) for variable in sorted(os.environ) if _is_stray(variable)]
        try:
            settings = cls(**from_flags)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{CONFIG_FILE} is no valid TOML: {error}") from error
        except ValidationError as error:
            explained = [_explain(dict(item), from_flags, given_as) for item in error.errors()]
            raise ConfigError("\n".join(explained + unknown)) from error
        if unknown:
            raise ConfigError("\n".join(unknown))
        return settings

    @property
    def public_url(self) -> str:
        """Where the public listener is reached from this machine."""
        return url(self.host, self.port)

    @property
    def admin_url(self) -> str:
        """Likewise the admin listener."""
        return url(self.admin_host, self.admin_port)

    @classmethod
    def from_runtime(cls, directory: Path) -> Settings:
        """Read what the supervisor wrote with `to_runtime`; environment and `hoverboard.toml` have no say."""
        path = directory / RUNTIME_FILE
        try:
            final = _Resolved.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ConfigError(f"{path} cannot be read as settings: {error}") from error
        return cls.model_construct(**dict(final))

    def to_runtime(self, directory: Path) -> Path:
        """Write these settings for the child processes; paths become absolute, secrets stay out. Returns the file."""
        path = directory / RUNTIME_FILE
        absolute = self.model_copy(update={"models": self.models.absolute(), "data_dir": self.data_dir.absolute()})
        path.write_text(absolute.model_dump_json(indent=1, exclude={"database_url"}), encoding="utf-8")
        return path


class _Resolved(Settings):
    """Settings that are final: nothing but the given values counts."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic passes all sources by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _is_stray(variable: str) -> bool:
    """Whether an environment variable looks like a setting and is none; as pydantic does, whatever its case."""
    name = variable.upper()
    if not name.startswith(ENV_PREFIX) or name == _DEBUG or _KUBERNETES.fullmatch(name):
        return False
    return name.removeprefix(ENV_PREFIX).lower() not in Settings.model_fields


def _unknown(variable: str) -> str:
    known = [_DEBUG.removeprefix(ENV_PREFIX).lower(), *Settings.model_fields]
    near = difflib.get_close_matches(variable.upper().removeprefix(ENV_PREFIX).lower(), known, n=1)
    hint = f"; did you mean {ENV_PREFIX}{near[0].upper()}?" if near else ""
    return f"environment {variable} is no setting{hint}"


def _explain(problem: Mapping[str, Any], flags: Mapping[str, Any], given_as: str | None) -> str:
    """One sentence on one of pydantic's errors: which setting, where from, what is wrong with it."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    source = _source(name, flags, given_as)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{name} ({source}) is no setting{hint}"
    sentence = f"{name} ({source}): {message[:1].lower()}{message[1:]}"
    return sentence if Settings.model_fields[name].annotation is SecretStr else f"{sentence}, got {problem['input']!r}"


def _source(name: str, flags: Mapping[str, Any], given_as: str | None) -> str:
    if name in flags:
        return given_as or f"flag --{name.replace('_', '-')}"
    variable = f"{ENV_PREFIX}{name}".upper()
    if any(key.upper() == variable for key in os.environ):
        return f"environment {variable}"
    return CONFIG_FILE
