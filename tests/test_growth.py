"""The bench notices a process that holds ever more."""

import os
import threading

import pytest

from faults import growth
from faults.growth import Growth, Held, held

STEADY = [Held(20 + n % 5, 4, 1 << 20) for n in range(40)]


def grown(monkeypatch, samples):
    kept = iter(samples)
    monkeypatch.setattr(growth, "EVERY_NS", 0)
    monkeypatch.setattr(growth, "held", lambda pid: next(kept))
    watched = Growth()
    for _ in samples:
        watched.look({"publisher": 1})
    return watched.wrong()


def test_what_comes_and_goes_is_no_growth(monkeypatch):
    assert grown(monkeypatch, STEADY) == []
    burst = [*STEADY[:30], *[Held(900, 80, 1 << 30)] * 5, *STEADY[:5]]
    assert grown(monkeypatch, burst) == []


@pytest.mark.parametrize("what", ["descriptors", "threads", "memory"])
def test_what_stays_is_said_of_which_process(monkeypatch, what):
    step = {"descriptors": 10, "threads": 1, "memory": 16 << 20}[what]
    leak = [s._replace(**{what: getattr(s, what) + n * step}) for n, s in enumerate(STEADY)]
    (said,) = grown(monkeypatch, leak)
    assert said.startswith(f"publisher holds ever more {what}")
    assert grown(monkeypatch, leak[:10]) == []  # too short a life to tell


def test_what_a_process_holds_is_counted():
    before = held(os.getpid())
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    after = held(os.getpid())
    end.set()
    thread.join()
    os.close(descriptor)
    assert (after.descriptors - before.descriptors, after.threads - before.threads) == (1, 1)
    assert after.memory > 0
