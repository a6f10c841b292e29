"""PostgreSQL away, struck, full, or closed to the hdb; the end of day meanwhile, and more than once.

Most cases here have a PostgreSQL of the bench's, which it stops, starts and spoils. While it is spoilt the
hdb has to live on, and `tickplant status` to say what is wrong with history and what to type.
"""

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from faults.case import Case, Fault
from faults.failpoint import AT_THE_ROLL
from faults.site import ROOT, Site
from tickplant.clock import SECOND_NS, date_after, monotonic_ns
from tickplant.config import ENVIRONMENT
from tickplant.eod import end_of_day
from tickplant.errors import AlreadyRunning, TickplantError
from tickplant.hdb.server import PostgresServer
from tickplant.status import look

_DISK_BYTES = 512 << 20
_CLONE_NEWNS = 0x00020000
_CATCH_NS = 8 * SECOND_NS
_STEP_PATIENCE_S = 10.0

Spoil = Callable[[Site], Callable[[], None]]
"""Spoils PostgreSQL; what it gives back mends it."""


def served(content: dict[str, Any], site: Site) -> None:
    """PostgreSQL is not the plant's own but the bench's, and in small transactions."""
    site.server = PostgresServer(site.folder / "pg", site.folder / "s", throwaway=True)
    site.server.start()
    content["hdb"] |= {"dsn": site.server.dsn}


def on_a_small_disk(content: dict[str, Any], site: Site) -> None:
    """Its data are on a file system of their own, which nobody but the bench and its children see."""
    disk = site.folder / "disk"
    disk.mkdir(mode=0o711)
    if ctypes.CDLL(None).unshare(_CLONE_NEWNS):
        raise TickplantError("no mount namespace for a small disk: run this case as root")
    options = f"size={_DISK_BYTES},mode=711"
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", options, "disk", str(disk)],
    ):
        subprocess.run(command, check=True)
    site.closing.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
    site.server = PostgresServer(disk / "pg", site.folder / "s")
    site.server.start()
    content["hdb"] |= {"dsn": site.server.dsn}


def with_a_password(content: dict[str, Any], site: Site) -> None:
    """Users but `admin` have to give their password."""
    served(content, site)
    server = _server(site)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE admin SUPERUSER LOGIN")
        connection.execute("ALTER ROLE tickplant PASSWORD 'right'")
        rules = "local all admin trust\nlocal all all scram-sha-256\n"
        (server.data_dir / "pg_hba.conf").write_text(rules)
        connection.execute("SELECT pg_reload_conf()")
    content["hdb"] |= {"dsn": make_conninfo(server.dsn, password="right")}


def _server(site: Site) -> PostgresServer:
    assert site.server is not None
    return site.server


@contextmanager
def _admin(site: Site, user: str = "tickplant") -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(make_conninfo(_server(site).dsn, user=user), autocommit=True) as connection:
        yield connection


def down(site: Site) -> Callable[[], None]:
    """Stop the server in good order."""
    _server(site).stop()
    return lambda: _server(site).start()


def read_only(site: Site) -> Callable[[], None]:
    """Have it refuse to write, as a standby does."""

    def say(command: bytes) -> None:
        with _admin(site) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(command)
            connection.execute("SELECT pg_reload_conf()")

    say(b"ALTER SYSTEM SET default_transaction_read_only = on")
    return lambda: say(b"ALTER SYSTEM RESET default_transaction_read_only")


def wrong_password(site: Site) -> Callable[[], None]:
    """Have it let the plant's user in no more."""

    def change(command: bytes) -> None:
        with _admin(site, "admin") as connection:
            connection.execute(command)
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tickplant'"
            connection.execute(others)

    change(b"ALTER ROLE tickplant PASSWORD 'another'")
    return lambda: change(b"ALTER ROLE tickplant PASSWORD 'right'")


def disk_full(site: Site) -> Callable[[], None]:
    """Take all the room that is left where its data are."""
    filler = site.folder / "disk" / "filler"
    with filler.open("wb") as file:
        at, size = 0, 1 << 26
        while size >= 4096:
            try:
                os.posix_fallocate(file.fileno(), at, size)
                at += size
            except OSError:
                size //= 2

    def mend() -> None:
        filler.unlink()
        _server(site).start()  # it may have ended for want of room

    return mend


def spoilt(spoil: Spoil, *words: str, roll: bool = False) -> Fault:
    """PostgreSQL is spoilt for some seconds (with `roll`: and the date ends meanwhile), then mended."""

    def fault(site: Site, choice: random.Random) -> bool:
        site.until(lambda: site.processes["hdb"].running and not _wrong(site), "the hdb to be well")
        before = site.processes["hdb"].running
        mend = spoil(site)
        site.until(lambda: any(w in _wrong(site) for w in words), f"status to say one of {words}")
        if roll:
            for _ in range(choice.randint(1, 2)):
                site.pause(choice.uniform(0.2, 1.0))
                end_of_day(site.config)
        site.pause(choice.uniform(0.5, 3.0))
        mend()
        site.until(lambda: not _wrong(site), "the hdb to go on")
        if site.processes["hdb"].running is not before:
            raise TickplantError("the hdb ended because of PostgreSQL")
        return True

    return fault


def _wrong(site: Site) -> str:
    """What `tickplant status` says is wrong with the hdb."""
    return "; ".join(p for p in look(site.config)["problems"] if p.startswith("hdb"))


def _caught(site: Site, question: str) -> int:
    """Wait for a process of PostgreSQL to be in the middle of something; 0 if none came to be in time."""
    end = monotonic_ns() + _CATCH_NS
    with _admin(site) as connection:
        while monotonic_ns() < end:
            row = connection.execute(question.encode()).fetchone()
            if row is not None:
                return int(row[0])
            site.turn()
            time.sleep(0.0005)
    return 0


def _struck(site: Site, backend: int, choice: random.Random) -> None:
    """kill -9 of the postmaster or of the process at work, or a stop at once; then it is back."""
    how = choice.choice(("postmaster", "backend", "restart"))
    if how == "restart":
        _server(site).stop()
    else:
        pid = backend if how == "backend" else _server(site).pid
        assert pid is not None
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
    site.pause(choice.uniform(0.0, 1.0))
    _server(site).start()


def struck_while_loading(site: Site, choice: random.Random) -> bool:
    """PostgreSQL is struck in the middle of a COPY of the hdb."""
    backend = _caught(site, "SELECT pid FROM pg_stat_progress_copy WHERE command = 'COPY FROM'")
    if backend:
        _struck(site, backend, choice)
    return bool(backend)


def struck_while_proving(site: Site, choice: random.Random) -> bool:
    """The date is ended, and PostgreSQL struck while it is indexed or read back."""
    end_of_day(site.config)
    step = choice.choice(("CREATE UNIQUE INDEX%", "VACUUM%", "COPY % TO STDOUT%"))
    backend = _caught(
        site, "SELECT pid FROM pg_stat_activity WHERE application_name = 'tickplant hdb'"
        f" AND state = 'active' AND query LIKE '{step}'",
    )  # fmt: skip
    if backend:
        _struck(site, backend, choice)
    return bool(backend)


def killed_while_proving(site: Site, choice: random.Random) -> bool:
    """The hdb is killed at a step of finishing a date."""
    point = choice.choice(AT_THE_ROLL["hdb"])
    hit = choice.randint(1, 6) if point == "mid-proof" else 1
    return site.kill_at("hdb", point, hit, _STEP_PATIENCE_S, lambda: end_of_day(site.config))


def ended_twice_at_once(site: Site, choice: random.Random) -> bool:
    """Several `tickplant eod` at one moment end one date; and its proof is taken again while it is made."""
    date = int(site.plant.control.date.load())
    asking = [_command(site, "eod", "--date", str(date)) for _ in range(choice.randint(2, 4))]
    site.until(lambda: all(p.poll() is not None for p in asking), "the commands to end the date")
    if any(p.returncode for p in asking):
        raise TickplantError(f"tickplant eod ended with {[p.returncode for p in asking]}")
    if site.plant.control.date.load() != date_after(date):
        raise TickplantError(f"{len(asking)} times tickplant eod: {date}, then {site.dates()}")
    proof = site.config.plant.data_dir / "proofs" / f"{date}.json"
    while not proof.exists():
        early = _command(site, "hdb", "verify", str(date))
        site.until(lambda p=early: p.poll() is not None, "hdb verify")  # type: ignore[misc]
    verifying = [_command(site, "hdb", "verify", str(date)) for _ in range(2)]
    site.until(lambda: all(p.poll() is not None for p in verifying), "two hdb verify at once")
    if any(p.returncode for p in verifying):
        raise TickplantError(f"hdb verify of {date} ended with {[p.returncode for p in verifying]}")
    return True


def second_hdb(site: Site, choice: random.Random) -> bool:
    """Another hdb of the plant, or one that would rebuild a date, is started; it must refuse."""
    site.until(lambda: site.processes["hdb"].running and not _wrong(site), "the hdb to be well")
    what = choice.choice((["run", "hdb"], ["hdb", "load", "--date", str(site.dates()[0])]))
    second = _command(site, *what)
    site.until(lambda: second.poll() is not None, "a second hdb to be refused")
    if second.returncode != AlreadyRunning.exit_code:
        raise TickplantError(f"tickplant {' '.join(what)} ended with status {second.returncode}")
    return True


def _command(site: Site, *arguments: str) -> subprocess.Popen[bytes]:
    with (site.folder / "commands.log").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tickplant", *arguments], cwd=ROOT, stdout=out, stderr=out,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT), ENVIRONMENT: str(site.path)},
        )  # fmt: skip


_AWAY = ("systemctl start postgresql",)
_READ_ONLY, _FULL = ("pg_reload_conf",), ("df -h", *_AWAY)


def _spoilt(spoil: Spoil, *words: str) -> list[Fault]:
    return [spoilt(spoil, *words), spoilt(spoil, *words, roll=True)]


CASES = {
    "postgres-down": Case(_spoilt(down, *_AWAY), False, served),
    "postgres-struck-loading": Case([struck_while_loading], False, served),
    "postgres-struck-proving": Case([struck_while_proving], False, served),
    "postgres-read-only": Case(
        [spoilt(read_only, "pg_reload_conf"), spoilt(read_only, "pg_reload_conf", roll=True)], False, served
    ),
    "postgres-wrong-password": Case(
        [spoilt(wrong_password, "ALTER ROLE", roll=True)], False, with_a_password
    ),
    "kill-at-step-proof": Case([killed_while_proving]),
    "eod-twice-at-once": Case([ended_twice_at_once]),
    "second-hdb": Case([second_hdb]),
}
if os.geteuid() == 0 and Path("/bin/mount").exists():
    CASES["postgres-disk-full"] = Case(
        [spoilt(disk_full, "df -h", *_AWAY), spoilt(disk_full, "df -h", *_AWAY, roll=True)],
        False,
        on_a_small_disk,
    )
