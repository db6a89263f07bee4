"""Who the embedded Postgres lets in, and by which password: one file of the data directory."""

from __future__ import annotations

import hmac
import re
import secrets
from pathlib import Path
from typing import Final

from hoverboard.errors import ConfigError
from hoverboard.files import put_file

__all__ = ["GUIDE", "PASSWORD_FILE", "RECORDER", "USER", "made_password", "recorder_password", "superuser_password"]

USER: Final = "hoverboard"
"""The superuser."""
RECORDER: Final = "recorder"
"""The role that records and erases."""
PASSWORD_FILE: Final = "postgres.password"  # noqa: S105 - a file's name
GUIDE: Final = "docs/embedded.md"


def made_password(data_dir: Path) -> str:
    """The superuser's password; made where its file is missing."""
    path = data_dir / PASSWORD_FILE
    if not path.exists():
        put_file(path, f"{secrets.token_urlsafe(32)}\n".encode("ascii"))
    return superuser_password(data_dir)


def superuser_password(data_dir: Path) -> str:
    """The superuser's password.

    Raises:
        ConfigError: its file is not there, or holds none.
    """
    path = data_dir / PASSWORD_FILE
    try:
        password = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise ConfigError(
            f"{path}, the password of the embedded Postgres, cannot be read ({why}); {GUIDE} says what to do"
        ) from error
    # It goes into URLs and to initdb: nothing but what we have made belongs there.
    if not re.fullmatch(r"[\w-]{16,}", password, re.ASCII):
        raise ConfigError(f"{path} holds no password; {GUIDE} says what to do")
    return password


def recorder_password(data_dir: Path) -> str:
    """The password of `recorder`: it follows from the superuser's, so that there is no second one to lose.

    Raises:
        ConfigError: that one cannot be read.
    """
    return hmac.digest(superuser_password(data_dir).encode(), RECORDER.encode(), "sha256").hex()
