"""The embedded Postgres' files: a cluster under the data directory, made once, and how a server is run on it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hoverboard.errors import ConfigError
from hoverboard.files import synchronise
from hoverboard.postgres import log as postgres_log
from hoverboard.postgres import unprivileged
from hoverboard.postgres.endpoint import DATABASE, PORT, SOCKET_PREFIX, url_of
from hoverboard.postgres.passwords import GUIDE, PASSWORD_FILE, USER, made_password, superuser_password
from hoverboard.postgres.programs import MAJOR, binaries, environment

__all__ = ["PGDATA", "Cluster"]

PGDATA: Final = "postgres"

_SCRATCH_PREFIX: Final = ".postgres."
_LONGEST_SOCKET_BASE: Final = 60  # a socket's path has room for 104 bytes on macOS
_LAST_LINES: Final = 6
_LOG_HEAD: Final = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ UTC \[\d+\] ")
_UNPRIVILEGED_USERS: Final = ("postgres", "nobody")

# Written to postgresql.conf when the cluster is made, where an operator may change them: a guest on a small machine.
_DEFAULTS: Final[Mapping[str, str]] = {
    "shared_buffers": "128MB",
    "max_connections": "20",
    "effective_cache_size": "512MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_worker_processes": "4",
    "max_parallel_workers_per_gather": "1",
    "io_method": "sync",  # no io worker processes
    "dynamic_shared_memory_type": "mmap",  # containers often have a tiny /dev/shm
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "pglz",
    "max_wal_senders": "2",
    "max_logical_replication_workers": "0",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}

# Given on the command line at every start: what the processes around it rely on, and what keeps it private.
_REQUIRED: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": postgres_log.PREFIX,
    "log_min_error_statement": "panic",  # a statement may hold what a client sent
    "log_startup_progress_interval": "10s",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One Postgres cluster under a data directory.

    Attributes:
        data_dir: the service's data directory, absolute.
        programs: the folder of Postgres' programs.
        uid: the user that owns its files and runs it; another than ours only where we are root.
        gid: likewise, the group.
    """

    data_dir: Path
    programs: Path
    uid: int
    gid: int

    @classmethod
    def of(cls, data_dir: Path) -> Cluster:
        """The cluster of this data directory, made or not yet.

        Raises:
            ConfigError: it cannot run here: no binaries, another major version, another user's files, a lost password.
        """
        data_dir = data_dir.absolute()
        pgdata = data_dir / PGDATA
        uid, gid = _owner(pgdata)
        cluster = cls(data_dir, binaries(), uid, gid)
        if cluster.made:
            cluster._check()
        return cluster

    @property
    def pgdata(self) -> Path:
        """Where its files are."""
        return self.data_dir / PGDATA

    @property
    def name(self) -> str:
        """Shown in the title of each of its processes; no other cluster of this machine has it."""
        return f"hoverboard-{hashlib.sha256(str(self.pgdata.resolve()).encode()).hexdigest()[:12]}"

    @property
    def made(self) -> bool:
        """Whether it exists: it appears whole, by one rename."""
        return self.pgdata.exists()

    @property
    def lost(self) -> bool:
        """Whether it is gone although it was begun at least: its password is there."""
        return not self.made and (self.data_dir / PASSWORD_FILE).exists()

    @property
    def runs(self) -> bool:
        """Whether the files of a running server are in their place."""
        return (self.pgdata / "postmaster.pid").exists()

    def make(self, settings: Mapping[str, str] | None = None, *, sync: bool = True) -> None:
        """Make the cluster and the service's database where they are missing; killed at any moment, nothing half-made
        stays in their place.

        Args:
            settings: parameters for postgresql.conf, over our own defaults.
            sync: whether it is on disk when this returns.

        Raises:
            ConfigError: Postgres' own words on why not.
        """
        # Of a start that was killed while it made one.
        for left in self.data_dir.glob(f"{_SCRATCH_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        if self.made:
            return
        try:
            with _scratch(self.data_dir) as scratch:
                self._make_in(scratch, made_password(self.data_dir), {**_DEFAULTS, **(settings or {})}, sync=sync)
                # The cluster appears whole or not at all: a half-made one would pass for one that is there.
                (scratch / PGDATA).rename(self.pgdata)
            synchronise(self.data_dir)
        except OSError as error:
            raise ConfigError(f"the embedded Postgres could not be made in {self.pgdata}: {error.strerror}") from error

    def command(self, socket_dir: Path, settings: Mapping[str, str] | None = None) -> Sequence[str]:
        """The argument list of the server: in the foreground, its log on standard error.

        It is asked for a fast shutdown when the process that started it dies (Linux).

        Args:
            socket_dir: the folder for its socket, of `socket_directory`.
            settings: further parameters, over those of postgresql.conf.
        """
        # In the title of every process of it, by which `leftovers` knows them.
        ours = {"cluster_name": self.name, "unix_socket_directories": str(socket_dir)}
        values = {**_REQUIRED, **ours, **(settings or {})}
        parameters = [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
        server = [str(self.programs / "postgres"), "-D", str(self.pgdata), *parameters]
        return self._unprivileged(signal.SIGINT, (socket_dir, self.pgdata), server)

    @contextmanager
    def socket_directory(self) -> Iterator[Path]:
        """A short, private directory for the socket, removed at the end."""
        base = tempfile.gettempdir()
        base = base if len(base) <= _LONGEST_SOCKET_BASE else "/tmp"  # noqa: S108 - mkdtemp makes a private one in it
        path = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=base))
        try:
            self._give(path)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def url(self, socket_dir: Path, database: str = DATABASE) -> str:
        """How to reach it at this socket, in the form that libpq and asyncpg take; holds the password."""
        return url_of(socket_dir, superuser_password(self.data_dir), database)

    def _make_in(self, scratch: Path, password: str, settings: Mapping[str, str], *, sync: bool) -> None:
        new, secret = scratch / PGDATA, scratch / "password"
        # Made private before there is anything in it.
        secret.touch(0o600)
        secret.write_text(f"{password}\n", encoding="ascii")
        for path in (secret, scratch):
            self._give(path)
        initdb = [str(self.programs / "initdb"), "--pgdata", str(new), "--username", USER, "--pwfile", str(secret)]
        # A builtin locale sorts the same on every machine, whatever its C library: indexes survive an upgrade of that.
        initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        initdb += ["--builtin-locale=C.UTF-8", "--data-checksums", "--no-instructions"]
        initdb += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        self._run(scratch, [*initdb, *([] if sync else ["--no-sync"])])
        # In single-user mode: no server has to be started, waited for and stopped to make one database.
        single = [str(self.programs / "postgres"), "--single", "-D", str(new), "-c", "exit_on_error=on"]
        self._run(scratch, [*single, *([] if sync else ["-F"]), "postgres"], f"CREATE DATABASE {DATABASE}\n")

    def _run(self, scratch: Path, program: Sequence[str], words: str = "") -> None:
        command = self._unprivileged(signal.SIGTERM, (scratch,), program)
        done = subprocess.run(command, input=words, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode == unprivileged.OUT_OF_REACH:
            raise ConfigError(
                f"the embedded Postgres cannot run as {_name(self.uid)}: {done.stderr.strip()}, and root has no capability here "
                "that would help; run hoverboard as an ordinary user, or choose a --data-dir and an installation that "
                "others may traverse",
            )
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:]
            reason = "; ".join(_LOG_HEAD.sub("", line) for line in lines)
            raise ConfigError(f"the embedded Postgres could not be made in {self.pgdata}: {reason}")

    def _unprivileged(self, at_death: signal.Signals, reach: Sequence[Path], program: Sequence[str]) -> Sequence[str]:
        script = (sys.executable, "-I", "-S", str(unprivileged.__file__))
        how = (os.getpid(), int(at_death), self.uid, self.gid, *reach)
        return [*script, *map(str, how), "--", *program]

    def _give(self, path: Path) -> None:
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid)

    def _check(self) -> None:
        owner = self.pgdata.stat().st_uid
        if owner != self.uid:
            raise ConfigError(
                f"{self.pgdata} belongs to {_name(owner)}, but hoverboard runs as {_name(os.geteuid())}; run it as its owner, "
                "or give the directory to this user, or choose another --data-dir",
            )
        with contextlib.suppress(FileNotFoundError):
            version = (self.pgdata / "PG_VERSION").read_text(encoding="ascii").strip()
            if version != MAJOR:
                raise ConfigError(
                    f"{self.pgdata} was made by Postgres {version}, and this is Postgres {MAJOR}; "
                    f"{GUIDE} says how to carry the data over",
                )
        # A cluster without its password cannot be used: better said now than by the first connection.
        superuser_password(self.data_dir)


def _owner(pgdata: Path) -> tuple[int, int]:
    """The user and group that run the cluster: ours, and where we are root its present owner or an ordinary user."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    with contextlib.suppress(OSError):
        status = pgdata.stat()
        # As it was made: another user could not read its files.
        if status.st_uid != 0:
            return status.st_uid, status.st_gid
    for name in _UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise ConfigError(
        f"Postgres does not run as root, and this machine has no user {' or '.join(_UNPRIVILEGED_USERS)}; "
        "run hoverboard as an ordinary user, or name another Postgres with --database-url",
    )


@contextmanager
def _scratch(data_dir: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=data_dir))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return f"user {pwd.getpwuid(uid).pw_name}"
    return f"user id {uid}"
