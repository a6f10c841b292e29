"""A private server: started, attached to, killed, and refused."""

import multiprocessing
import os
import select
import shutil
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
import pytest

from tickplant.errors import HistoryError
from tickplant.hdb import identity, server
from tickplant.hdb.server import PostgresServer

STARTER = """
import signal, sys
from pathlib import Path
from tickplant.hdb import identity, server
server._SETPRIV = sys.argv[2].split()
made = server.PostgresServer(Path(sys.argv[1]) / "data", Path(sys.argv[1]) / "s", throwaway=True)
made.start()
print(made.pid, flush=True)
sys.stdin.read()
made.stop()
"""


def starter(folder: Path, setpriv: str = "setpriv --pdeathsig INT") -> subprocess.Popen[str]:
    """A process that starts a server, says its pid, and stops it when its input ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(folder), setpriv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def said_pid(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def await_end(pid: int) -> None:
    """Return when the process has ended; fail after a minute."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(60_000), f"process {pid} is still there"
    finally:
        os.close(handle)


def answer(dsn: str, question: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row and row[0]


def test_a_server_listens_on_its_private_socket_and_nowhere_else(
    postgres: PostgresServer,
) -> None:
    assert answer(postgres.dsn, "SHOW listen_addresses") == ""
    assert postgres.socket_dir.stat().st_mode & 0o777 == 0o700
    assert postgres.data_dir.stat().st_mode & 0o777 == 0o700


def test_a_server_whose_socket_was_removed_is_started_again_and_has_what_it_had(tmp_path: Path) -> None:
    made = PostgresServer(tmp_path / "data", tmp_path / "s", throwaway=True)
    with made:
        with psycopg.connect(made.dsn) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        assert not made.cut_off
        shutil.rmtree(made.socket_dir)
        assert made.cut_off
        made.start()
        assert not made.cut_off
        assert answer(made.dsn, "SELECT n FROM kept") == 7


def test_a_server_has_utf8_and_byte_order(postgres: PostgresServer) -> None:
    assert answer(postgres.dsn, "SHOW server_encoding") == "UTF8"
    assert answer(postgres.dsn, "SELECT datcollate FROM pg_database LIMIT 1") == "C"


def test_a_server_is_safe_unless_it_is_throwaway(pg_folder: Path, postgres: PostgresServer) -> None:
    assert answer(postgres.dsn, "SHOW fsync") == "off"
    with PostgresServer(pg_folder / "data", pg_folder / "s") as safe:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert answer(safe.dsn, f"SHOW {name}") == "on"


def test_what_is_committed_is_there_after_a_stop_and_a_start(pg_folder: Path) -> None:
    own = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    with own, psycopg.connect(own.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert own.pid is None
    with own:
        assert answer(own.dsn, "SELECT answer FROM kept") == 42


def test_a_second_start_attaches_and_its_stop_leaves_the_server_alone(
    postgres: PostgresServer, pg_folder: Path
) -> None:
    second = PostgresServer(postgres.data_dir, pg_folder / "elsewhere")
    with second:
        assert (second.pid, second.dsn) == (postgres.pid, postgres.dsn)
    assert answer(postgres.dsn, "SELECT 1") == 1


def test_two_processes_that_start_one_cluster_at_once_share_it(pg_folder: Path) -> None:
    with starter(pg_folder) as one, starter(pg_folder) as other:
        assert said_pid(one) == said_pid(other)


def test_a_killed_server_starts_again_although_its_pid_file_is_left(pg_folder: Path) -> None:
    own = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    with own:
        killed = own.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert (own.data_dir / "postmaster.pid").exists()
        own.start()
        assert own.pid not in (None, killed)
        assert answer(own.dsn, "SELECT 1") == 1


@pytest.mark.parametrize("setpriv", ["setpriv --pdeathsig INT", "no-such-command"])
def test_a_server_ends_with_its_starter_even_if_that_is_killed(pg_folder: Path, setpriv: str) -> None:
    with starter(pg_folder, setpriv) as process:
        postmaster = said_pid(process)
        process.kill()
    await_end(postmaster)
    log = (pg_folder / "data" / server.LOG).read_text()
    assert "database system is shut down" in log


@pytest.mark.parametrize("setpriv", [server._SETPRIV, ["no-such-command"]])
def test_a_server_whose_starter_is_gone_already_does_not_start(
    monkeypatch: pytest.MonkeyPatch, setpriv: list[str], pg_folder: Path
) -> None:
    monkeypatch.setattr(server, "_SETPRIV", setpriv)
    touched = pg_folder / "touched"
    command = server._bound(["touch", str(touched)])
    command[command.index(str(os.getpid()))] = "1"
    subprocess.run(command, check=False)
    assert not touched.exists()
    subprocess.run(server._bound(["touch", str(touched)]), check=True)
    assert touched.exists()


def test_half_a_cluster_of_a_killed_initdb_is_no_obstacle(pg_folder: Path) -> None:
    half = pg_folder / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("15")
    with PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True) as own:
        assert answer(own.dsn, "SELECT 1") == 1
    assert not half.exists()


def test_a_socket_path_that_is_too_long_is_refused(pg_folder: Path) -> None:
    long = pg_folder / ("x" * 90)
    with pytest.raises(HistoryError, match="at most 107 are possible"):
        PostgresServer(pg_folder / "data", long).start()
    assert list(pg_folder.iterdir()) == []


def test_a_folder_open_to_others_is_refused_and_left_as_it_is(pg_folder: Path) -> None:
    (pg_folder / "s").mkdir(mode=0o755)
    with pytest.raises(HistoryError, match="is open to other users"):
        PostgresServer(pg_folder / "data", pg_folder / "s").start()
    assert (pg_folder / "s").stat().st_mode & 0o777 == 0o755


def test_a_folder_with_something_else_in_it_is_refused_and_left_as_it_is(pg_folder: Path) -> None:
    (pg_folder / "data").mkdir(mode=0o700)
    (pg_folder / "data" / "thesis.txt").write_text("mine")
    with pytest.raises(HistoryError, match="neither empty nor a PostgreSQL cluster"):
        PostgresServer(pg_folder / "data", pg_folder / "s").start()
    assert (pg_folder / "data" / "thesis.txt").read_text() == "mine"


def test_a_server_that_does_not_start_says_why(pg_folder: Path) -> None:
    own = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    with own:
        pass
    with (own.data_dir / "postgresql.conf").open("a") as conf:
        conf.write("\nno_such_setting = 1\n")
    with pytest.raises(HistoryError, match="no_such_setting"):
        own.start()


def test_a_cluster_of_a_version_that_is_not_installed_is_not_touched(pg_folder: Path) -> None:
    data = pg_folder / "data"
    data.mkdir(mode=0o700)
    (data / "PG_VERSION").write_text("99\n")
    with pytest.raises(HistoryError, match="PostgreSQL 99, which made this cluster, is not on"):
        PostgresServer(data, pg_folder / "s").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_runs_the_server_as_nobody_where_there_are_no_user_namespaces(
    monkeypatch: pytest.MonkeyPatch, pg_folder: Path
) -> None:
    monkeypatch.setattr(identity, "_NAMESPACE", ["false"])
    pg_folder.chmod(0o755)
    own = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    with own:
        assert os.stat(f"/proc/{own.pid}").st_uid == own.data_dir.stat().st_uid != 0
        postmaster = own.pid
    assert postmaster is not None
    await_end(postmaster)
    monkeypatch.undo()
    with own:
        assert answer(own.dsn, "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_nobody_gets_a_copy_of_programs_that_it_can_not_reach(
    monkeypatch: pytest.MonkeyPatch, pg_folder: Path
) -> None:
    pg_folder.chmod(0o755)
    package = pg_folder / "site" / "pg"
    closed = package / "install" / "bin"
    closed.mkdir(parents=True)
    (package.with_name("pg.libs")).mkdir()
    package.chmod(0o700)
    monkeypatch.setattr(server, "find_binaries", lambda major=None: closed)
    nobody = identity.Identity((), 65534, 65534)
    own = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    for major in (16, 16, 17):
        (closed / "postgres").write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {major}.1'\n")
        (closed / "postgres").chmod(0o755)
        there = own._binaries(nobody)
        assert there == pg_folder / "data.bin" / "pg" / "install" / "bin"
        assert (pg_folder / "data.bin" / "pg.libs").is_dir()
        with nobody.spawn([str(there / "postgres"), "--version"], subprocess.PIPE) as process:
            assert process.communicate()[0] == b"postgres (PostgreSQL) %d.1\n" % major
    package.chmod(0o755)
    assert own._binaries(nobody) == closed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_nobody_can_not_reach_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, pg_folder: Path
) -> None:
    monkeypatch.setattr(identity, "_NAMESPACE", ["false"])
    pg_folder.chmod(0o700)
    with pytest.raises(HistoryError, match=f"chmod o.x {pg_folder}"):
        PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to root")
def test_a_cluster_of_root_is_left_alone_where_there_are_no_user_namespaces(
    monkeypatch: pytest.MonkeyPatch, pg_folder: Path
) -> None:
    with PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True) as own:
        pass
    monkeypatch.setattr(identity, "_NAMESPACE", ["false"])
    with pytest.raises(HistoryError, match="only in a user namespace"):
        own.start()


def _as_ordinary_user(folder: Path, user: int, said: Connection) -> None:
    "".encode("idna")  # psycopg's later need: Python may be out of reach for this user
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    try:
        with PostgresServer(folder / "data", folder / "s", throwaway=True) as own:
            said.send(str(answer(own.dsn, "SELECT 'answers'")))
    except HistoryError as e:
        said.send(str(e))


def said_as(user: int, folder: Path) -> str:
    """What comes of starting the server as another user, in a fork that has all it needs loaded."""
    fork = multiprocessing.get_context("fork")
    mine, its = fork.Pipe(duplex=False)
    process = fork.Process(target=_as_ordinary_user, args=(folder, user, its))
    process.start()
    its.close()
    with mine:
        said = str(mine.recv())
    process.join()
    process.close()
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test runs as an ordinary user then")
def test_an_ordinary_user_runs_its_own_server_and_nobody_elses(pg_folder: Path) -> None:
    user, other = 65534, 65533
    os.chown(pg_folder, user, user)
    pg_folder.chmod(0o755)
    assert said_as(user, pg_folder) == "answers"
    assert (pg_folder / "data").stat().st_uid == user
    (pg_folder / "s" / "start.lock").unlink()
    os.chown(pg_folder / "s", other, other)
    assert f"belongs to user {user}" in said_as(other, pg_folder)
