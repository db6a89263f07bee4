"""What Linux lets an ordinary process give up for good: files, the network, other programs, rights, memory.

A version that was never loaded here is tried in a process that has given these up. What is not there (an old kernel, another system)
is left out, and `enter` says what holds. Numbers are those of the kernel's own headers.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["NONE", "enter"]

NONE: Final = "none"
"""What `enter` answers where nothing is to be had."""

_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SECCOMP, _DROP_BOUND, _NO_NEW_PRIVILEGES, _AMBIENT = 1, 4, 22, 24, 38, 47
_KILL: Final = 9
_LAST_CAPABILITY: Final = 63
_READ_ALL: Final = 2  # CAP_DAC_READ_SEARCH
_CAPABILITY_VERSION: Final = 0x20080522

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_READ_FILE, _READ_FOLDER, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
_ALL_ACCESS: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}  # by version of landlock; from 5 on one more
_NO_TCP: Final = 0b11
_NO_SIGNALS_OUT: Final = 0b11

# socket connect accept sendto sendmsg bind listen ptrace execve execveat mount unshare setns bpf keyctl add_key request_key
# io_uring_setup process_vm_readv process_vm_writev open_by_handle_at perf_event_open userfaultfd init_module finit_module
# pidfd_getfd kill rt_sigqueueinfo accept4
_CALLS: Final = {
    "x86_64": (
        0xC000003E,
        "41 42 43 44 46 49 50 101 59 322 165 272 308 321 250 248 249 425 310 311 304 298 323 175 313 438 62 129 288",
    ),
    "aarch64": (
        0xC00000B7,
        "198 203 202 206 211 200 201 117 221 281 40 97 268 280 219 217 218 425 270 271 265 241 282 105 273 438 129 138 242",
    ),
}
"""By processor: its number, and the numbers of the calls that are refused."""
_OTHER_ABI: Final = 0x40000000  # calls numbered from here on are x86's x32, which the numbers above do not cover
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # the latter with EPERM


def enter(read: Iterable[Path], write: Iterable[Path], memory_bytes: int, file_bytes: int) -> str:
    """Give up, in this thread and whatever it starts, everything but reading and writing some places.

    Call it while the process has one thread.

    Args:
        read: files and folders that may be read.
        write: folders in which files may be made.
        memory_bytes: of address space, more than there is now.
        file_bytes: of any file written.

    Returns:
        What holds: `landlock+seccomp`, one of the two, or `none`; limits and rights are given up in any case.
    """
    _limit(memory_bytes, file_bytes)
    if sys.platform != "linux":
        return NONE
    libc = ctypes.CDLL(None, use_errno=True)
    read = list(read)
    libc.prctl(_SET_DEATH_SIGNAL, _KILL, 0, 0, 0)
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    holding = ["landlock"] if _landlock(libc, read, list(write)) else []
    # Root without its rights cannot read what belongs to somebody else; landlock still holds it to the places above.
    foreign = os.geteuid() == 0 and any(path.exists() and path.stat().st_uid for path in read)
    _drop_rights(libc, {_READ_ALL} if foreign else set())
    holding += ["seccomp"] if _seccomp(libc) else []
    return "+".join(holding) or NONE


def _limit(memory_bytes: int, file_bytes: int) -> None:
    try:
        import resource  # there is none on Windows
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_AS, memory_bytes),
    ):
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (limit, limit))


def _drop_rights(libc: ctypes.CDLL, kept: set[int]) -> None:
    libc.prctl(_AMBIENT, 4, 0, 0, 0)  # clear all
    for right in range(_LAST_CAPABILITY + 1):
        libc.prctl(_DROP_BOUND, right, 0, 0, 0)
    mask = sum(1 << right for right in kept)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(struct.pack("=IIIIII", mask, mask, 0, 0, 0, 0))
    libc.capset(header, data)


def _landlock(libc: ctypes.CDLL, read: Sequence[Path], write: Sequence[Path]) -> bool:
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    every = _ALL_ACCESS.get(version, 0xFFFF)
    attributes = struct.pack("=QQQ", every, _NO_TCP, _NO_SIGNALS_OUT)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        for path in read:
            _allow(libc, ruleset, path, _READ_FILE | (_READ_FOLDER if path.is_dir() else 0))
        for path in write:
            _allow(libc, ruleset, path, every if path.is_dir() else _READ_FILE | _WRITE_FILE)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there: nothing to read
    try:
        libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", access, handle), 0)
    finally:
        os.close(handle)


def _seccomp(libc: ctypes.CDLL) -> bool:
    if platform.machine() not in _CALLS:
        return False
    architecture, numbers = _CALLS[platform.machine()]
    refused = [int(number) for number in numbers.split()]
    steps = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_EQUAL, 0, len(refused) + 3, architecture),  # another one: refuse
        (_LOAD, 0, 0, 0),  # the call's number
        (_AT_LEAST, len(refused) + 1, 0, _OTHER_ABI),
        *((_EQUAL, len(refused) - place, 0, number) for place, number in enumerate(refused)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    return bool(libc.prctl(_SET_SECCOMP, 2, described, 0, 0) == 0)
