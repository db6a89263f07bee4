"""Postgres' own log lines as lines of ours: by severity, and without what clients sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from hoverboard.telemetry import logs

__all__ = ["PREFIX", "PostgresLog"]

PREFIX: Final = "%b|%e|"
"""What `log_line_prefix` must be: the kind of process, and the SQLSTATE."""

_LINE: Final = re.compile(r"(?P<backend>[a-z ]*)\|(?P<sqlstate>[0-9A-Z]{5})\|(?P<severity>[A-Z0-9]+):  (?P<text>.*)")
_ADDED: Final = frozenset({"DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION", "BACKTRACE"})
_LEVELS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("LOG", "INFO", "NOTICE"), "info"),
    **dict.fromkeys(("ERROR", "FATAL", "PANIC"), "error"),
    "WARNING": "warning",
}
_CLIENTS: Final = frozenset({"client backend", "parallel worker"})
_ENDS: Final = ("FATAL", "PANIC")
_EXPECTED: Final = frozenset({"57P01", "57P03"})  # it shuts down; it is still starting
_READY: Final = "database system is ready to accept connections"
_LONGEST_LINE: Final = 1 << 16

_log = logs.get("postgres")


class PostgresLog:
    """Takes the bytes of Postgres' standard error, and logs each report as one line.

    Postgres writes a report with its details in one go, so a report ends at the latest where the bytes given do.

    Attributes:
        ready: whether Postgres has said that it takes connections.
        last_words: the last thing that it could not go on after; empty where there was none.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._report: dict[str, str] | None = None
        self._last = ""
        self.ready = False
        self.last_words = ""

    def feed(self, chunk: bytes) -> None:
        """Log every report that is complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace"))
        if not self._rest:
            self._flush()
        # A line without an end must not grow in memory for ever.
        elif len(self._rest) > _LONGEST_LINE:
            self.close()

    def close(self) -> None:
        """Log what is left."""
        if self._rest:
            self._take(self._rest.decode(errors="replace"))
            self._rest = b""
        self._flush()

    def _take(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            self._continue(line)
        elif match["severity"] in _ADDED:
            self._last = match["severity"].lower()
            if self._report is not None:
                self._report[self._last] = match["text"]
        else:
            self._flush()
            self._report, self._last = match.groupdict(), "text"
            self.ready |= match["text"] == _READY

    def _continue(self, line: str) -> None:
        if line.startswith("\t") and self._report is not None:
            self._report[self._last] = f"{self._report.get(self._last, '')}\n{line[1:]}"
        elif line.strip():
            self._flush()
            _log.warning("postgres_said", text=line)

    def _flush(self) -> None:
        report, self._report = self._report, None
        if report is not None:
            level, facts = _facts(report)
            if report["severity"] in _ENDS and report["backend"] not in _CLIENTS:
                self.last_words = report["text"]
            write: Callable[..., Any] = getattr(_log, level)
            write("postgres_said", **facts)


def _facts(report: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Level and keys of one report. A client hears of its own errors, whose text may quote what was recorded."""
    head = {name: report[name] for name in ("backend", "sqlstate")}
    level = _LEVELS.get(report["severity"], "debug")
    if report["backend"] not in _CLIENTS:
        extra = {name: text for name, text in report.items() if name in ("detail", "hint")}
        return level, {**head, "text": report["text"], **extra}
    if report["severity"] in ("ERROR", "WARNING", "NOTICE", "INFO") or report["sqlstate"] in _EXPECTED:
        return "debug", {**head, "severity": report["severity"]}
    return ("warning" if level == "error" else level), {**head, "text": report["text"]}
