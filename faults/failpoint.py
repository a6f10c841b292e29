"""Runs a process of the plant that is killed at a named step of its work.

    python -m faults.failpoint POINT HIT run tickerplant

The step is the HITth call of a function of the plant, just before or just after it. Nothing of this is in
the plant: the function is wrapped here, in the process that is to die.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

POINTS: dict[str, tuple[str, str, str]] = {
    "before-journal-write": ("tickplant.journal", "JournalWriter.append", "before"),
    "between-journal-and-tables": ("tickplant.journal", "JournalWriter.append", "after"),
    "between-tables-and-wakeup": ("tickplant.day", "Day.commit", "after"),
    "new-journal-segment": ("tickplant.journal", "JournalWriter._start_segment", "after"),
    "before-sync": ("tickplant.journal", "JournalWriter.sync", "before"),
    "after-sync": ("tickplant.journal", "JournalWriter.sync", "after"),
    "mid-extent": ("tickplant.segment", "Segment.allocate", "after"),
    "before-checkpoint": ("tickplant.checkpoint", "Checkpoint.write", "before"),
    "after-checkpoint": ("tickplant.checkpoint", "Checkpoint.write", "after"),
    "before-registry": ("tickplant.registry", "RegistryWriter.add", "before"),
    "after-registry": ("tickplant.registry", "RegistryWriter.add", "after"),
    "before-acknowledge": ("tickplant.ingress", "Ingress.acknowledge", "before"),
    "before-outbox-write": ("tickplant.feed.outbox", "Outbox.append", "before"),
    "after-outbox-write": ("tickplant.feed.outbox", "Outbox.append", "after"),
    "before-load": ("tickplant.hdb.store", "History.load", "before"),
    "after-load": ("tickplant.hdb.store", "History.load", "after"),
    "after-publish": ("tickplant.publisher", "Publisher.turn", "after"),
    "before-seal": ("tickplant.day", "Day.seal", "before"),
    "after-seal": ("tickplant.day", "Day.seal", "after"),
    "after-open": ("tickplant.day", "Day.open", "after"),
    "before-index": ("tickplant.hdb.store", "History.finishing", "before"),
    "before-proof": ("tickplant.hdb.loader", "proving", "before"),
    "mid-proof": ("tickplant.hdb.proof", "_compare", "after"),
    "before-proof-stored": ("tickplant.hdb.store", "History.store_proof", "before"),
    "between-proof-in-postgres-and-file": ("tickplant.hdb.proof", "_store", "before"),
    "after-proof": ("tickplant.hdb.proof", "_store", "after"),
    "after-new-table": ("tickplant.table", "AppendTable.open", "after"),
    "before-first-frame": ("tickplant.journal", "JournalWriter.append_frame", "before"),
    "after-first-frame": ("tickplant.journal", "JournalWriter.append_frame", "after"),
    "before-announcement": ("tickplant.tickerplant", "TickerPlant._announce", "before"),
}
"""Name -> module, function in it, and when."""

ROLES: dict[str, list[str]] = {
    "tickerplant": [
        "before-journal-write", "between-journal-and-tables", "between-tables-and-wakeup",
        "new-journal-segment", "before-sync", "after-sync", "mid-extent", "before-registry",
        "after-registry", "before-acknowledge", "before-checkpoint", "after-checkpoint",
    ],
    "feed": ["before-outbox-write", "after-outbox-write"],
    "hdb": ["before-load", "after-load"],
    "publisher": ["after-publish"],
}  # fmt: skip
"""Points that are reached in the middle of a day, by the role of the process."""
AT_THE_ROLL: dict[str, list[str]] = {
    "hdb": [
        "before-index", "before-proof", "mid-proof", "before-proof-stored",
        "between-proof-in-postgres-and-file", "after-proof",
    ],
}  # fmt: skip
"""Points that are reached when a date ends."""

ROLL: dict[str, dict[str, tuple[int, int]]] = {
    "tickerplant": {
        "before-seal": (1, 1), "after-seal": (1, 1), "after-open": (1, 2), "after-new-table": (1, 19),
        "before-first-frame": (1, 2), "after-first-frame": (1, 2), "before-announcement": (1, 2),
    },
    "hdb": dict.fromkeys(AT_THE_ROLL["hdb"], (1, 1)),
}  # fmt: skip
"""Points that are reached when a date ends and the next begins, and which of the first calls, counted from
the start of the process, are worth dying at."""


def arm(point: str, hit: int) -> None:
    """Have this process killed when it comes to the point for the `hit`th time."""
    module_name, path, when = POINTS[point]
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    inner: Callable[..., Any] = getattr(owner, name)
    left = hit

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if when == "before" and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def main() -> None:
    """Arm, and be the process."""
    point, hit = sys.argv[1], int(sys.argv[2])
    arm(point, hit)
    from tickplant.cli import main as command

    sys.argv = ["tickplant", *sys.argv[3:]]
    command()


if __name__ == "__main__":
    main()
