"""What is wrong with the machine, what with a version, and how long to wait."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from hoverboard.errors import MACHINE, PublishError
from hoverboard.machine import check_of, pause_s
from tests.integration.running import environment

_PASSING = [
    "ENOSPC",
    "EDQUOT",
    "EACCES",
    "EPERM",
    "EMFILE",
    "ENFILE",
    "ENOMEM",
    "EIO",
    "ESTALE",
    "EAGAIN",
    "EINTR",
    "EROFS",
]


def _error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("name", _PASSING)
def test_what_the_machine_lacks_for_the_moment_is_told_from_what_is_wrong_with_a_version(name: str) -> None:
    assert check_of(_error(name), "load") == MACHINE


@pytest.mark.parametrize("name", ["ENOENT", "ELOOP", "EISDIR", "EINVAL", "EFBIG", "ENAMETOOLONG"])
def test_what_stays_until_the_files_change_is_the_versions(name: str) -> None:
    assert check_of(_error(name), "load") == "load"


def test_a_cause_is_found_behind_what_libraries_make_of_it() -> None:
    try:
        try:
            raise _error("ENOSPC")
        except OSError as error:
            raise ValueError("a library's own words") from error
    except ValueError as error:
        wrapped = PublishError("cannot be loaded")
        wrapped.__cause__ = error
    assert check_of(wrapped, "load") == MACHINE
    assert check_of(MemoryError(), "load") == MACHINE
    assert check_of(ValueError(), "load") == "load"


def test_in_a_process_that_gave_up_its_rights_lacking_them_is_the_versions_own_doing() -> None:
    script = (
        "import errno; from pathlib import Path; from hoverboard.machine import check_of, confine; confine(Path('/models/m/1'))\n"
        "print(*(check_of(OSError(getattr(errno, name), name), 'load') for name in ('EACCES', 'EPERM', 'EMFILE', 'ENOSPC')))"
    )
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["load", "load", "load", MACHINE]


def test_pauses_grow_to_a_minute_and_a_long_try_is_not_made_often() -> None:
    assert [pause_s(tries, 0.1) for tries in (1, 2, 3, 6, 7, 10**6)] == [2, 4, 8, 60, 60, 60]
    assert pause_s(1, 100.0) == 400
