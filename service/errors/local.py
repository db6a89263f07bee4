"""Errors that end where they are raised: in this process, or as a sentence of a command."""

from __future__ import annotations

from typing import Final

MACHINE: Final = "machine"
"""The check that refuses a version for what is wrong with this machine at the moment; see `hoverboard.machine`."""


class HoverboardError(Exception):
    """Base of every deliberate error; its text is written for the person who reads it."""


class Unreachable(HoverboardError):
    """No server answers at the URL, or what answers is no JSON-RPC server.

    Args:
        message: one sentence.
        sent: whether the call may have been carried out all the same.
        retry_after_ms: when trying again is worth it, where whoever answered said so.
        retryable: whether it may pass; False where the next try would find the same.
    """

    def __init__(
        self, message: str, *, sent: bool = True, retry_after_ms: int | None = None, retryable: bool = True
    ) -> None:
        self.sent = sent
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        super().__init__(message)


class EngineMissing(HoverboardError):
    """TensorFlow is not installed; the text says what to type.

    Args:
        what: needs it.
        extra: another extra that is missing for it, so that the next try works.
    """

    def __init__(self, what: str, *, extra: str | None = None) -> None:
        more = f",{extra}" if extra else ""
        super().__init__(
            f"{what} needs TensorFlow, which is not installed here: "
            f"pip install 'hoverboard-server[cpu{more}]', or 'hoverboard-server[gpu{more}]' for an NVIDIA GPU"
        )


class StaleSignature(HoverboardError):
    """The version that would answer now takes other inputs than those the call was encoded for."""


class VersionRefused(HoverboardError):
    """A version on disk that must not go live; the text is the reason an operator reads.

    Args:
        reason: one sentence.
        check: which check refused it, such as `checksum`, `load`, `safety`, `signature`, `golden`.
    """

    def __init__(self, reason: str, *, check: str) -> None:
        self.reason = reason
        self.check = check
        super().__init__(reason)

    @property
    def passing(self) -> bool:
        """Whether it is this machine that is at fault, so that trying again is worth it."""
        return self.check == MACHINE


class PublishError(HoverboardError):
    """What was given cannot become a model version."""


class ConfigError(HoverboardError):
    """A setting that makes no sense; the text names it and where it came from."""


class DataDirLocked(HoverboardError):
    """Another service owns this data directory."""


class NewerFormat(HoverboardError):
    """A journal that a newer Hoverboard has written."""


class PortInUse(HoverboardError):
    """Another process listens on this address."""


class DatabaseUnavailable(HoverboardError):
    """Postgres cannot be used now; the text says where it is and why, without the password."""


class IssueRefused(HoverboardError):
    """What was asked of an issue makes no sense: there is none of that number, or it is part of another one."""


class MigrationRefused(HoverboardError):
    """The schema of a database is not what the migrations at hand make, or a migration failed."""
