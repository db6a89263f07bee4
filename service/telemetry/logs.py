"""Structured logs on stderr, with request ids and without payloads.

A log line is an event in the past tense and key-value pairs: `log.info("version_live", model=name, version=2)`.
Lines of the standard library's loggers (aiohttp, asyncio, warnings) come out in the same form.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final, Literal, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["PAYLOAD_KEYS", "configure", "get", "request_id"]

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["auto", "json", "console"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Set by the api for the time of one request; every line logged meanwhile carries it."""

PAYLOAD_KEYS: Final = frozenset(
    {"authorization", "body", "columns", "inputs", "instances", "outputs", "params", "payload", "predictions", "token"},
)
"""Keys whose values never reach a log, whoever passes them."""

_FIRST_KEYS: Final = ("timestamp", "level", "process", "logger", "event")
_LONGEST_TEXT: Final = 2000


def get(name: str) -> FilteringBoundLogger:
    """The logger of one part of the service; `name` appears as `logger` on its lines."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


class _Stderr(structlog.PrintLogger):
    """Writes lines to what is standard error when it is made, under the name it was asked for by."""

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self.name = name


def configure(level: Level = "info", form: Format = "auto", *, process: str = "") -> None:
    """Set up logging for this process; may be called again.

    Args:
        level: least severe line that is written.
        form: `json` lines, `console` text, or by whether stderr is a terminal.
        process: which process of the service this is, such as `api-0`; a key on every line.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        _with_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
        _with_process(process),
        _with_request_id,
        _without_payloads,
    ]
    final: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=_colours(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dumps)]
    )
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,
    )
    _configure_stdlib(level, shared, final)


def _configure_stdlib(level: Level, shared: list[Processor], final: list[Processor]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[drop, *final]))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, structlog.stdlib.ProcessorFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    # Libraries' debug lines hold what they were given, payloads among it.
    least = "INFO" if level == "debug" else level.upper()
    root.setLevel(least)
    # Also here: a logger that has a level of its own, as TensorFlow's has, does not ask the root's.
    handler.setLevel(least)
    logging.captureWarnings(capture=True)


def _colours() -> bool:
    if "NO_COLOR" in os.environ:
        return False
    return sys.stderr.isatty() or "FORCE_COLOR" in os.environ


def _with_process(process: str) -> Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if process:
            event["process"] = process
        return event

    return add


def _with_logger_name(logger: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")
    name = record.name if isinstance(record, logging.LogRecord) else getattr(logger, "name", "")
    if name:
        event["logger"] = name
    return event


def _with_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = request_id.get()
    if current:
        event.setdefault("request_id", current)
    return event


def _without_payloads(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key in PAYLOAD_KEYS:
            event[key] = "(left out)"
        elif isinstance(value, str) and len(value) > _LONGEST_TEXT:
            event[key] = f"{value[:_LONGEST_TEXT]}... ({len(value)} characters)"
    return event


def _dumps(event: Any, **_: Any) -> str:
    head = {key: event[key] for key in _FIRST_KEYS if key in event}
    return orjson.dumps({**head, **event}, default=_named, option=orjson.OPT_NON_STR_KEYS).decode()


def _named(value: Any) -> str:
    """Stands in for what JSON has no form for: never its contents, which may be a client's data."""
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return f"({type(value).__name__})"


if not structlog.is_configured():  # a library or an offline command that never configures keeps its stdout clean
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=_Stderr,
    )
