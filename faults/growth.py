"""What each process of the site holds: descriptors, threads, its own memory; and the plant's shared memory.

A process that lives on must not hold ever more of it. Faults make some of it come and go, so what counts is
what stays: the least of the last quarter of its life against the most of the first half.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tickplant import segment
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.schema import Schema

EVERY_NS = SECOND_NS // 2
SAMPLES_LEAST = 16
"""Of a process that lived for less it can't be told what stays."""
DESCRIPTORS, THREADS, MEMORY = 64, 8, 96 << 20
"""What may stay: indexes and readers of journals that are kept, buffers that libc keeps."""
OBJECTS_BESIDE = 8
"""Names in shared memory that are not tables of a date: control block, registry, locks."""


class Held(NamedTuple):
    """What a process holds at a moment."""

    descriptors: int
    threads: int
    memory: int


def held(pid: int) -> Held:
    """Raises OSError if the process is gone."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()
    own = (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
    return Held(len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), own)


class Growth:
    """`look` now and then; `wrong` in the end."""

    def __init__(self) -> None:
        self._samples: defaultdict[tuple[str, int], list[Held]] = defaultdict(list)
        self._next_ns = 0

    def look(self, running: Mapping[str, int]) -> None:
        """Take note of what processes hold, by name and pid."""
        now = monotonic_ns()
        if now < self._next_ns:
            return
        self._next_ns = now + EVERY_NS
        for name, pid in running.items():
            with contextlib.suppress(OSError):
                self._samples[name, pid].append(held(pid))

    def wrong(self) -> list[str]:
        """What has grown in a process and did not shrink again."""
        return [text for (name, _), samples in self._samples.items() for text in _grown(name, samples)]


def _grown(name: str, samples: list[Held]) -> Iterable[str]:
    if len(samples) < SAMPLES_LEAST:
        return
    early, late = samples[: len(samples) // 2], samples[-len(samples) // 4 :]
    for what, allowed in (("descriptors", DESCRIPTORS), ("threads", THREADS), ("memory", MEMORY)):
        before, after = max(getattr(s, what) for s in early), min(getattr(s, what) for s in late)
        if after > before + allowed:
            yield f"{name} holds ever more {what}: {before:,}, later {after:,}"


def objects(plant: str, dates: int, schema: Schema) -> list[str]:
    """What is wrong with the number of a plant's names in shared memory, after so many dates."""
    names = segment.names(f"tp.{plant}.")
    most = (dates + 1) * len(schema) + sum(t.latest for t in schema) + OBJECTS_BESIDE
    if len(names) <= most:
        return []
    return [
        f"{len(names)} names of the plant in shared memory, after {dates} dates at most {most}: {names[:20]}"
    ]
