"""A plant in the foreground: what dies is started again, what is done is not, and nothing outlives it."""

import logging
import os
import signal
import sys

import pytest

from tests.fix_plant import until
from tickplant import supervisor as module
from tickplant.supervisor import BACKOFF_MAX_NS, Supervisor

SCRIPTS = {
    "lives": "import time; time.sleep(600)",
    "fails": "raise SystemExit(3)",
    "done": "print('hello', flush=True)",
    "deaf": "import signal, time; signal.signal(15, 1); print('deaf', flush=True); time.sleep(600)",
}


@pytest.fixture
def supervised(site, cfg, monkeypatch):
    """A supervisor whose children are scripts instead of commands."""
    popen = module.subprocess.Popen

    def script(command, **options):
        return popen([sys.executable, "-c", SCRIPTS[command[4]]], **options)

    monkeypatch.setattr(module.subprocess, "Popen", script)
    made = Supervisor(cfg, cfg.path, log_dir=site.folder / "logs")
    yield made
    for child in made.children.values():
        if child.process is not None:
            child.process.kill()
            child.process.wait()


def pid(child):
    return child.process.pid if child.process else None


def test_every_process_of_the_plant_and_each_feed_is_a_child(cfg):
    made = Supervisor(cfg, cfg.path)
    made.add_plant()
    assert {n: c.arguments for n, c in made.children.items()} == {
        "tickerplant": ["run", "tickerplant"],
        "publisher": ["run", "publisher"],
        "hdb": ["run", "hdb"],
        "feed-one": ["run", "feed", "one"],
        "feed-two": ["run", "feed", "two"],
    }


def test_what_is_killed_is_started_again(supervised, caplog):
    child = supervised.add("a", "lives")
    supervised.turn()
    first = pid(child)
    os.kill(first, signal.SIGKILL)
    died = until(supervised.turn)
    assert died == [child]
    assert "a ended with SIGKILL; starting it again in 0.2 s" in caplog.text
    until(lambda: pid(child) not in (None, first), turning=supervised.turn)
    assert child.restarts == 1


def test_each_failure_waits_longer_up_to_a_limit_and_a_long_life_forgives(supervised, monkeypatch):
    child = supervised.add("a", "lives")
    clock = [0]
    monkeypatch.setattr(module, "monotonic_ns", lambda: clock[0])
    waits = []
    for _ in range(8):
        clock[0] = child.start_at_ns
        supervised._ended(child, 3, clock[0])
        waits.append(child.start_at_ns - clock[0])
        child.started_ns = child.start_at_ns
    assert waits == sorted(waits)
    assert (waits[0], waits[1], waits[-1]) == (200_000_000, 400_000_000, BACKOFF_MAX_NS)
    supervised._ended(child, -9, child.started_ns + 11_000_000_000)
    assert child.restarts == 0


def test_it_is_not_started_again_before_its_time(supervised, monkeypatch):
    child = supervised.add("a", "fails")
    clock = [10**18]
    monkeypatch.setattr(module, "monotonic_ns", lambda: clock[0])
    supervised.turn()
    until(supervised.turn)
    supervised.turn()
    assert child.process is None
    clock[0] = child.start_at_ns
    supervised.turn()
    assert child.process is not None


def test_a_child_that_is_done_stays_so(supervised, caplog):
    caplog.set_level(logging.INFO)
    child = supervised.add("a", "done")
    died = []
    until(lambda: child.finished, turning=lambda: died.extend(supervised.turn()))
    for _ in range(5):
        supervised.turn()
    assert (died, child.process, child.restarts) == ([], None, 0)
    assert "a is done" in caplog.text
    assert (supervised.log_dir / "a.log").read_text() == "hello\n"


def test_stop_ends_feeds_before_the_rest_and_nothing_is_started_afterwards(supervised, monkeypatch):
    for name in ("tickerplant", "feed-x", "hdb"):
        supervised.add(name, "lives")
    supervised.turn()
    children = supervised.children
    pids = {pid(c): n for n, c in children.items()}
    order = []
    send = module.subprocess.os.kill

    def noted(number, how):
        if number in pids:
            order.append((pids[number], how))
        send(number, how)

    monkeypatch.setattr(module.subprocess.os, "kill", noted)
    supervised.stop()
    assert order == [(n, signal.SIGTERM) for n in ("feed-x", "tickerplant", "hdb")]
    supervised.turn()
    assert all(c.process is None for c in children.values())


def test_stop_of_some_leaves_the_others(supervised):
    for name in ("tickerplant", "feed-x"):
        supervised.add(name, "lives")
    supervised.turn()
    supervised.stop(["feed-x"])
    assert supervised.children["feed-x"].process is None
    assert supervised.children["tickerplant"].process.poll() is None


def test_what_does_not_stop_is_killed(supervised, monkeypatch, caplog):
    monkeypatch.setattr(module, "STOP_PATIENCE_S", 0.05)
    child = supervised.add("a", "deaf")
    supervised.turn()
    until(lambda: (supervised.log_dir / "a.log").read_text() == "deaf\n")
    process = child.process
    supervised.stop()
    assert process.returncode == -signal.SIGKILL
    assert "a did not stop; killed" in caplog.text
