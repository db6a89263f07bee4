"""How many files a process may have open, of which each connection is one."""

from __future__ import annotations

import resource
from typing import Final

from hoverboard.telemetry import logs

__all__ = ["connections"]

_MOST: Final = 1 << 20  # where there is no limit at all: programs that look at every number up to it exist
_OWN: Final = 200
"""Files of a process beside its connections: an api process has about 40 open."""

_log = logs.get("supervisor")


def connections(wanted: int) -> int:
    """Raise this process's limit of open files, which its children inherit, as far as the machine lets it.

    Args:
        wanted: connections that an api process is to hold at once.

    Returns:
        How many it can hold: beyond that they are refused in words, and nothing fails for want of a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    limit = max(soft, _MOST if unlimited else min(hard, _MOST))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):  # macOS names a limit that it does not grant
        limit = soft
    held = min(wanted, max(1, limit - _OWN))
    if held < wanted:
        _log.warning(
            "fewer_connections",
            max_connections=held,
            wanted=wanted,
            open_files=limit,
            then="to allow more, raise the limit of open files: `ulimit -Hn`, or `LimitNOFILE=` of systemd",
        )
    return held
