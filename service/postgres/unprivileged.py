"""Becomes a program of Postgres, which refuses to run as root and must not outlive the process that started it.

Run as a script, since only a process of its own can give up its rights; it needs nothing but the standard library:

    python -I -S unprivileged.py PARENT SIGNAL UID GID DIRECTORY... -- PROGRAM ARGUMENT...

PARENT is the process id of whoever starts it: when that one dies, the program is sent SIGNAL (Linux). Where UID is another
than its own it first becomes that user. If this user can then not reach a DIRECTORY or the PROGRAM, because a
directory above it is private, the least capability that helps goes with it (Linux): no file's mode is changed.

Postgres' programs look for each other with access(2). For any user but root it ignores capabilities, unless the
process has the securebit `NO_SETUID_FIXUP`; so that goes along, too. The other way would be a copy of the programs in a
public place, which needs room, grows stale, and must be guarded from other users.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["OUT_OF_REACH", "main"]

OUT_OF_REACH: Final = 77
"""Exit status where it cannot become the user, or this user can reach the program or its directories by no means."""

# <linux/capability.h>, <linux/prctl.h>, <linux/securebits.h>
_CAP_DAC_OVERRIDE: Final = 1
_CAP_DAC_READ_SEARCH: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_SECUREBITS: Final = 28
_NO_SETUID_FIXUP: Final = 1 << 2
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2

_LINUX: Final = sys.platform == "linux"


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def main(arguments: Sequence[str]) -> int:
    """Become the program; returns an exit status only where that failed."""
    parent, number, uid, gid, *rest = arguments
    split = rest.index("--")
    directories, program = rest[:split], rest[split + 1 :]
    if int(uid) != os.geteuid():
        try:
            _become(int(uid), int(gid))
        except OSError as error:
            sys.stderr.write(f"may not become user id {uid} ({error.strerror})\n")
            return OUT_OF_REACH
    if _LINUX:
        with contextlib.suppress(OSError):  # a sandbox without it is no reason not to start
            _call("prctl", _PR_SET_PDEATHSIG, int(number))
        if os.getppid() != int(parent):  # it died before it could be watched
            return 1
    return _execute(directories, program)


def _become(uid: int, gid: int) -> None:
    if _LINUX:
        with contextlib.suppress(OSError):  # a container may not have the right: then the program is out of reach
            _call("prctl", _PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0)
        _call("prctl", _PR_SET_KEEPCAPS, 1)  # permitted: for _keep to choose one
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if _LINUX:
        _set_effective(0)


def _execute(directories: Sequence[str], program: Sequence[str]) -> int:
    refused: OSError | None = None
    for capability in (None, _CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if capability is not None and not _keep(capability):
            continue
        try:
            for directory in directories:
                os.chdir(directory)  # needs the right to look inside, as the program will
            # Postgres asks access(2) of itself and of its siblings, and where that says no they are "not found".
            if Path(program[0]).exists() and not os.access(program[0], os.R_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program[0])
            os.execv(program[0], list(program))  # noqa: S606 - there is no shell to avoid
        except PermissionError as error:
            refused = error
        except OSError as error:
            sys.stderr.write(f"{error.filename or program[0]} cannot be used: {error.strerror}\n")
            return 1
    place = refused.filename if refused and refused.filename else program[0]
    sys.stderr.write(f"user id {os.geteuid()} cannot reach {place}\n")
    return OUT_OF_REACH


def _keep(capability: int) -> bool:
    """Make one capability effective, and let it pass on to the program; whether that worked."""
    with contextlib.suppress(OSError):
        _set_effective(1 << capability)
        _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)
        return True
    return False


def _set_effective(wanted: int) -> None:
    """Make these capabilities effective and inheritable, and no others; what is permitted stays so."""
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    _call("capget", ctypes.byref(header), ctypes.byref(sets))
    for now, bits in zip(sets, (wanted, 0), strict=True):
        now.effective = now.inheritable = bits
    _call("capset", ctypes.byref(header), ctypes.byref(sets))


def _call(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
