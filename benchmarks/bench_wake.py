"""Microseconds from a commit until its reader knows, one way: a reader that spins, and one that sleeps.

Ours is the committed count of a table, stored as the ticker plant does when rows are there, and read in
Python: by `Bell.wait_above`, which can spin, and by `Table.wait`. The limit is wake.c, compiled here: two
processes without Python, and a cache line, or a bare futex. `_core` is wake.c on the plant's own words with
futex.h: ours without what Python takes. The other limit is iceoryx2, through its Python binding as ours is,
polled and with events.

Open loop: times count from when a commit was due, for which all committers spin. Two that spin need a core
each, and whoever else wants one stops them for milliseconds: so rounds are short and many, and of each way's
the quieter half is judged. The percentiles are of all.

    python benchmarks/bench_wake.py [--spin-rounds 201] [--sleep-rounds 41]
"""

import subprocess
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import harness
import wake_pace
import wake_plant

from tickplant import control, segment, table
from tickplant.clock import MILLISECOND_NS

GOAL, GOAL_ICEORYX2 = 1.5, 1.0
SPIN_INTERVAL_NS, SLEEP_INTERVAL_NS = MILLISECOND_NS // 50, MILLISECOND_NS
SPIN_COMMITS, SLEEP_COMMITS = 100, 50
"""In a round."""
WARM_UP = 1
HERE = Path(__file__).parent

Way = Callable[[int, int], list[int]]
"""(commits, ns between them) -> ns that each took."""
Rounds = list[list[float]]
"""Of each round, us that the commits took."""


def compiled(site: harness.Site) -> Path:
    """wake.c, compiled into the site's folder."""
    program = site.folder / "wake"
    headers = HERE.parent / "tickplant" / "_core"
    subprocess.run(["cc", "-std=c11", "-O2", "-I", headers, "-o", program, HERE / "wake.c"], check=True)
    return program


def native(program: Path, how: str, *words: str) -> Way:
    """A way of wake.c."""

    def run(count: int, interval: int) -> list[int]:
        command = [str(program), how, str(count), str(interval), *words]
        said = subprocess.run(command, capture_output=True, check=True, timeout=harness.PATIENCE_S)
        return [int(line) for line in said.stdout.split()]

    return run


def pair(committer: Connection, reader: Connection, asleep: bool) -> Way:
    """The way between two children."""

    def run(count: int, interval: int) -> list[int]:
        reader.send((count, asleep))
        harness.hear(reader)
        committer.send((count, interval, asleep))
        start = harness.hear(committer)
        return wake_pace.took(start, interval, harness.hear(reader))

    return run


def words(site: harness.Site) -> list[str]:
    """Where the committed count and the bell are, for wake.c."""
    name = table.segment_name(site.name, wake_plant.DATE, wake_plant.TABLE)
    places = [(name, table.COMMITTED), (f"tp.{site.name}.ctl", control.BELL)]
    return [f"{segment.SHM / file}:{offset}" for file, offset in places]


def plant_ways(site: harness.Site) -> tuple[dict[str, Way], dict[str, Way]]:
    """Ours and the bare ones: those that spin, and those that sleep."""
    committer = site.spawn(wake_plant.commit, str(site.path))
    program, places = compiled(site), words(site)
    harness.hear(committer)
    reader = site.spawn(wake_plant.read, site.name)
    harness.hear(reader)
    spinning = {"ours": pair(committer, reader, False)}
    spinning |= {"bare": native(program, "line"), "core": native(program, "spin", *places)}
    sleeping = {"ours": pair(committer, reader, True)}
    sleeping |= {"bare": native(program, "futex"), "core": native(program, "sleep", *places)}
    return spinning, sleeping


def iceoryx2_ways(site: harness.Site) -> tuple[Way, Way]:
    """iceoryx2 polled, and with events. Raises ImportError if it is not here."""
    import wake_iceoryx2

    children = [
        site.spawn(end, str(site.folder), site.name) for end in (wake_iceoryx2.commit, wake_iceoryx2.read)
    ]
    for child in children:
        harness.hear(child)
    return pair(*children, False), pair(*children, True)


def measure(ways: dict[str, Way], rounds: int, count: int, interval: int) -> dict[str, Rounds]:
    """Of each way, in turns, us of the commits of each round."""
    took: dict[str, Rounds] = {name: [] for name in ways}
    for _ in range(WARM_UP + rounds):
        for name, way in ways.items():
            took[name].append([ns / 1000 for ns in way(count, interval)])
    return {name: rounds_of[WARM_UP:] for name, rounds_of in took.items()}


def tell(name: str, what: str, ours: Rounds, limit: Rounds, goal: float | None) -> None:
    """A result: medians of the quieter rounds, and the percentiles of all commits."""
    pooled = {
        whose: harness.percentiles([us for took in rounds for us in took])
        for whose, rounds in (("ours", ours), ("limit", limit))
    }
    medians = [sorted(harness.percentiles(took)["p50"] for took in rounds) for rounds in (ours, limit)]
    quiet = [m[: (len(m) + 1) // 2] for m in medians]
    harness.tell(name, what, *quiet, "us", goal, at_most=True, digits=3, percentiles=pooled)


def report(name: str, reader: str, bare: str, other: str, took: dict[str, Rounds]) -> None:
    """The results of one kind of reader."""
    what = f"commit to a reader that {reader}"
    tell(name, f"{what}; {bare} in C", took["ours"], took["bare"], GOAL)
    tell(f"{name}_core", f"{what}, both in C; {bare} in C", took["core"], took["bare"], None)
    if "iceoryx2" in took:
        tell(f"{name}_iceoryx2", f"{what}; {other}", took["ours"], took["iceoryx2"], GOAL_ICEORYX2)


def main() -> None:
    quick = {"spin_rounds": 15, "sleep_rounds": 2}
    arguments = harness.options(__doc__, quick, spin_rounds=201, sleep_rounds=41)
    with harness.Site() as site:
        spinning, sleeping = plant_ways(site)
        try:
            spinning["iceoryx2"], sleeping["iceoryx2"] = iceoryx2_ways(site)
        except ImportError as e:
            harness.fail("wake_iceoryx2", str(e))
        spun = measure(spinning, arguments.spin_rounds, SPIN_COMMITS, SPIN_INTERVAL_NS)
        slept = measure(sleeping, arguments.sleep_rounds, SLEEP_COMMITS, SLEEP_INTERVAL_NS)
    report("wake_spin", "spins", "a cache line", "iceoryx2, polled", spun)
    report("wake_sleep", "sleeps", "a bare futex", "iceoryx2, with events", slept)


if __name__ == "__main__":
    main()
