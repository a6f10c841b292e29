"""Where and when the two ends of bench_wake.py run, the same as in wake.c.

The committer is on the first processor and the reader on the last. A committer sleeps until shortly before a
commit is due, and spins the rest.
"""

import os
import time

from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns

SPIN_NS = MILLISECOND_NS // 5


def settle(*, committer: bool) -> None:
    """Stay on the processor of this end."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed) if committer else max(allowed)})


def start(interval_ns: int) -> int:
    """When the first of a series is due."""
    return monotonic_ns() + MILLISECOND_NS + interval_ns


def until(due: int) -> None:
    """Be there when it is due."""
    left = due - monotonic_ns() - SPIN_NS
    if left > 0:
        time.sleep(left / SECOND_NS)
    while monotonic_ns() < due:
        pass


def took(start_ns: int, interval_ns: int, seen: list[tuple[int, int]]) -> list[int]:
    """ns that each was seen after it was due; seen: (how many so far, when)."""
    out: list[int] = []
    for count, at in seen:
        out += [at - start_ns - n * interval_ns for n in range(len(out), count)]
    return out
