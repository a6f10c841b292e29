"""How a process of the plant runs: what it tells systemd and its status file, and how it ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.fix_plant import until
from tickplant import service
from tickplant.errors import JournalError


class Turning:
    """A role that stops itself after some turns, or fails."""

    def __init__(self, turns, error=None, fails_in="turn"):
        self.left, self.error, self.fails_in = turns, error, fails_in
        self.calls = []

    def _call(self, name):
        self.calls.append(name)
        if self.error and self.fails_in == name:
            raise self.error

    def open(self):
        self._call("open")

    def turn(self):
        self.left -= 1
        if self.left <= 0:
            self._call("turn")
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    def status(self):
        return {"trading_date": 20261122, "rows": {"trade": 1200, "quote": 34}, "degraded": None}

    def close(self):
        self._call("close")


@pytest.fixture(autouse=True)
def _signals_kept():
    kept = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """systemd's end of the notification socket."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(address)
        s.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield s


def told(systemd):
    """What systemd was told since the last look."""
    out = []
    with contextlib.suppress(BlockingIOError):
        while True:
            out.append(systemd.recv(4096).decode())
    return out


def status(folder, name="role"):
    return json.loads((folder / f"{name}.json").read_text())


def test_systemd_is_told_of_start_state_and_end_in_order(systemd, tmp_path):
    role = Turning(1)
    service.run(role, "role", tmp_path / "status")
    assert role.calls == ["open", "turn", "close"]
    assert told(systemd) == [
        "STATUS=starting",
        "READY=1",
        "STATUS=trading date 20261122, 1,234 rows",
        "STOPPING=1",
        "STATUS=trading date 20261122, 1,234 rows",
    ]


def test_an_abstract_socket_is_told_as_well(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(f"\0tickplant-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@tickplant-test-{os.getpid()}")
        assert service.notify("READY=1")
        assert s.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told_and_nothing_fails(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not service.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not service.notify("READY=1")
    service.run(Turning(2), "role", tmp_path)


def test_the_watchdog_is_fed_by_turns_only_and_at_most_thrice_an_interval(systemd, monkeypatch, tmp_path):
    clock = [0]
    monkeypatch.setattr(service, "monotonic_ns", lambda: clock[0])
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    pulse = service.Pulse("role", tmp_path, dict)
    pulse.write("running")
    assert "WATCHDOG=1" not in told(systemd)
    fed = []
    for clock[0] in range(0, 4_000_000_000, 100_000_000):
        pulse.beat()
        fed += [clock[0]] * told(systemd).count("WATCHDOG=1")
    assert fed == [0, 1_000_000_000, 2_000_000_000, 3_000_000_000]
    clock[0] += 60_000_000_000  # a data path that hangs: nobody else feeds it
    assert told(systemd) == []


def test_without_a_watchdog_it_is_not_fed(systemd, monkeypatch, tmp_path):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    pulse = service.Pulse("role", tmp_path, dict)
    pulse.beat()
    assert told(systemd) == ["STATUS=running"]


def test_the_status_file_is_written_twice_a_second(monkeypatch, tmp_path):
    clock, written = [0], []
    monkeypatch.setattr(service, "monotonic_ns", lambda: clock[0])
    pulse = service.Pulse("role", tmp_path, dict)
    monkeypatch.setattr(pulse, "write", written.append)
    for clock[0] in range(0, 2_000_000_000, 50_000_000):
        pulse.beat()
    assert written == ["running"] * 4


def test_the_status_file_says_who_and_how(tmp_path):
    service.run(Turning(1), "role", tmp_path / "a" / "status")
    said = status(tmp_path / "a" / "status")
    assert (said["name"], said["state"], said["pid"]) == ("role", "stopped", os.getpid())
    assert said["started_ns"] <= said["written_ns"]
    assert 1_000_000 < said["memory_bytes"] < 1 << 40
    assert said["rows"] == {"trade": 1200, "quote": 34}
    assert [p.name for p in (tmp_path / "a" / "status").iterdir()] == ["role.json"]


def test_a_status_that_can_not_be_written_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    role = Turning(3)
    service.run(role, "role", tmp_path / "file")
    assert role.calls == ["open", "turn", "close"]
    assert "can't write" in caplog.text


@pytest.mark.parametrize("where", ["open", "turn"])
def test_an_error_ends_the_process_and_its_status_says_which(tmp_path, where):
    error = JournalError("the disk is full; free space")
    with pytest.raises(JournalError, match="full"):
        service.run(Turning(2, error, where), "role", tmp_path)
    said = status(tmp_path)
    assert (said["state"], said["error"]) == ("failed", "the disk is full; free space")


@pytest.mark.parametrize(("said", "brief"), [
    ({}, "running"),
    ({"trading_date": 20261122}, "trading date 20261122"),
    ({"rows": {"a": 1000, "b": 1}, "waiting": "PostgreSQL is away"}, "1,001 rows, PostgreSQL is away"),
    ({"degraded": "no room"}, "no room"),
])  # fmt: skip
def test_the_status_line_is_brief(systemd, tmp_path, said, brief):
    service.Pulse("role", tmp_path, lambda: said).write("running")
    assert told(systemd) == [f"STATUS={brief}"]


CHILD = """
import signal, sys, time
from tickplant import service
service.die_with_parent()
service.die_with_parent()
print("up", flush=True)
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys, time
env = {**os.environ, "TICKPLANT_PARENT": sys.argv[2] or str(os.getpid())}
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=env, stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip() or child.wait(), flush=True)
time.sleep(600)
"""


def line(site):
    return until(lambda: site.logs() if site.logs().endswith("\n") else None).split()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_parent_however_that_dies(site, number):
    parent = site.python("-c", PARENT, CHILD, "")
    child, said = line(site)
    assert said == "up"
    parent.send_signal(number)
    parent.wait()
    until(lambda: not os.path.exists(f"/proc/{child}/exe"))


def test_a_child_whose_parent_is_dead_before_it_starts_ends_at_once(site):
    site.python("-c", PARENT, CHILD, "1")
    assert line(site)[1] == "0"


def test_a_process_that_nobody_supervises_does_not_care(site):
    site.python("-c", CHILD)
    assert line(site) == ["up"]


def test_a_signal_that_comes_while_the_event_is_about_to_be_waited_for_sets_it():
    code = """
import os, signal, threading
from tickplant import service
event = threading.Event()
service.stop_event(event)
with event._cond:  # as inside event.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass
event.wait()
print("stopped")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "stopped\n"


def test_a_process_may_have_as_many_descriptors_as_the_system_allows_however_few_a_shell_does():
    said = (
        "import resource; from tickplant import service\n"
        "_, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))\n"
        "service.allow_descriptors()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most))\n"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
