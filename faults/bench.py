"""The fault bench: a real plant under a seeded schedule of faults, then every row of every store checked.

    bin/faults [--seconds N] [--mixed-seconds N] [--seed S] [--case NAME]... [--json] [--report FILE]

Each case has a plant of its own: two feeds, local and remote readers of two tables, PostgreSQL. After its
faults the feeds are stopped, the day is rolled and proven, and journal, PostgreSQL and each reader are
compared row by row with what the feeds generated. Exit status 0 only if every verdict is good.
"""

import argparse
import json
import logging
import random
import statistics
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faults import report
from faults.case import Fault
from faults.cases import CASES
from faults.check import Findings, check, journaled
from faults.growth import objects
from faults.room import own_shm
from faults.site import Site
from faults.source import TABLES
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.eod import end_of_day
from tickplant.errors import TickplantError

RATE = 20_000.0
COLUMNS = (
    ("case", 26), ("faults", 7), ("published", 11), ("lost", 6), ("duplicated", 11), ("out of order", 13),
    ("outage ms", 10), ("recovered ms", 13), ("verdict", 8),
)  # fmt: skip


@dataclass
class Outcome:
    """What came of a case."""

    case: str
    faults: int
    found: Findings
    declared_gaps: int
    outage_ms: int
    recovered_ms: int
    figures: Sequence[str] = ()
    """What its faults have measured besides."""

    @property
    def verdict(self) -> str:
        """`good`, or `bad`."""
        return "good" if self.found.good and self.faults else "bad"

    def line(self) -> str:
        """For the screen."""
        f = self.found
        cells = (
            self.case, self.faults, f"{f.published:,}", f.lost, f.duplicated, f.out_of_order, self.outage_ms,
            self.recovered_ms, self.verdict,
        )  # fmt: skip
        return "".join(
            str(c).ljust(w) if i == 0 else str(c).rjust(w)
            for i, (c, (_, w)) in enumerate(zip(cells, COLUMNS, strict=True))
        )

    def plain(self) -> dict[str, Any]:
        """For the JSON line."""
        f = self.found
        return {
            "case": self.case, "faults": self.faults, "published": f.published, "lost": f.lost,
            "duplicated": f.duplicated, "out_of_order": f.out_of_order, "declared_gaps": self.declared_gaps,
            "declared_rows": f.declared,
            "outage_ms": self.outage_ms, "recovered_ms": self.recovered_ms, "verdict": self.verdict,
            "wrong": f.wrong, "figures": list(self.figures),
        }  # fmt: skip


def run(case: str, seed: int, seconds: float) -> Outcome:
    """One case, from start to verdict. Raises TickplantError if the plant does not come back."""
    choice = random.Random(f"{seed} {case}")
    with own_shm(), Site(seed, RATE, CASES[case].settings) as site:
        try:
            site.open()
            site.until(lambda: site.plant.control.written.load() > 1 << 18, "rows to flow")
            injected, recovered = _inject(site, case, choice, seconds)
            outage_ns = site.longest_outage_ns
            dates = finish(site)
            found = check(site, dates)
        except TickplantError:
            _last_words(site)
            raise
        found.wrong += site.growth.wrong()
        found.wrong += objects(site.name, len(site.dates()), site.config.schema)
        found.wrong += [f"{p.name} ended: {d}" for p in site.processes.values() for d in p.deaths]
        for date in dates:
            if not json.loads(_proof(site, date).read_text())["complete"]:
                found.wrong.append(f"the proof of {date} is not complete")
        if not found.good:
            _last_words(site)
        gaps = sum(len(_gaps(site, date)) for date in dates)
        recovery = round(statistics.median(recovered)) if recovered else 0
        return Outcome(case, injected, found, gaps, outage_ns // MILLISECOND_NS, recovery, site.figures)


def _inject(site: Site, case: str, choice: random.Random, seconds: float) -> tuple[int, list[float]]:
    """Faults one after the other; how many came to be, and the ms from each until rows flowed again."""
    faults, longest, lately, around = CASES[case].faults, 0, deque[Fault](maxlen=3), list[Fault]()
    site.longest_outage_ns = 0
    end, injected, recovered = monotonic_ns() + int(seconds * SECOND_NS), 0, []
    while monotonic_ns() < end or not injected:
        site.pause(choice.uniform(0.1, 1.0))
        fault = choice.choice(faults)
        lately.append(fault)
        injected += fault(site, choice)
        began, written = monotonic_ns(), site.plant.control.written.load()
        site.until(lambda w=written: site.plant.control.written.load() > w, "rows to flow again")  # type: ignore[misc]
        recovered.append((monotonic_ns() - began) / MILLISECOND_NS)
        if site.longest_outage_ns > longest:
            longest, around = site.longest_outage_ns, list(lately)
    if case == "mixed":
        names = ", ".join(map(case_of, around))
        site.figures.append(f"faults up to the end of the longest outage, each by its case: {names}")
    return injected, recovered


def case_of(fault: Fault) -> str:
    """The case that a fault of the mixed one is of."""
    return next(name for name, case in CASES.items() if case.mixed and fault in case.faults)


def finish(site: Site) -> list[int]:
    """Stop the feeds, end the date, wait for all proofs, and for the readers to have what the journal has.

    Returns the trading dates, oldest first.
    """
    site.quiesce()
    end_of_day(site.config)
    dates = site.dates()[:-1]
    for date in dates:
        site.until(_proof(site, date).exists, f"the proof of {date}")
        for name in TABLES:
            size = journaled(site.config.journal_dir / str(date), site.config.schema[name]).nbytes
            for kind in ("local", "remote") if size else ():
                path = site.folder / f"{kind}-{name}" / str(date)
                site.until(partial(_holds, path, size), f"the {kind} reader of {name} to have all of {date}")
    return dates


def _holds(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size


def _proof(site: Site, date: int) -> Path:
    return site.config.plant.data_dir / "proofs" / f"{date}.json"


def _gaps(site: Site, date: int) -> list[Any]:
    events = journaled(site.config.journal_dir / str(date), site.config.schema["event"])
    return [e for e in events if e["kind"] == b"gap"]


def _last_words(site: Site) -> None:
    for path in sorted(site.folder.glob("*.log")):
        for line in path.read_text(errors="replace").splitlines()[-30:]:
            print(f"{path.stem}: {line}", file=sys.stderr)


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(prog="bin/faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of faults in each case")
    parser.add_argument(
        "--mixed-seconds", type=float, help="of faults in the case mixed (default: --seconds)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="default: all")
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    parser.add_argument("--report", type=Path, help="write the outcomes as Markdown, too")
    parser.add_argument("--also", type=Path, help="with --report: what another run printed with --json")
    arguments = parser.parse_args()
    logging.getLogger("tickplant").setLevel(logging.ERROR)
    print("".join(n.ljust(w) if i == 0 else n.rjust(w) for i, (n, w) in enumerate(COLUMNS)), flush=True)
    outcomes = []
    for case in arguments.case or CASES:
        mixed = arguments.mixed_seconds if case == "mixed" else None
        try:
            outcome = run(case, arguments.seed, mixed or arguments.seconds)
        except (TickplantError, OSError) as e:
            outcome = Outcome(case, 0, Findings(wrong=[str(e)]), 0, 0, 0)
        print(outcome.line(), flush=True)
        for text in (*outcome.found.wrong, *outcome.figures):
            print(f"    {text}", flush=True)
        outcomes.append(outcome)
    mixed = f" --mixed-seconds {arguments.mixed_seconds:g}" if arguments.mixed_seconds else ""
    only = "".join(f" --case {c}" for c in arguments.case or () if len(arguments.case) < 4)
    command = f"bin/faults --seconds {arguments.seconds:g}{mixed} --seed {arguments.seed}{only}"
    made = {"seed": arguments.seed, "command": command, "cases": [o.plain() for o in outcomes]}
    if arguments.report:
        other = json.loads(arguments.also.read_text().splitlines()[-1]) if arguments.also else {}
        commands = "`, `".join([command, *([other["command"]] if other else [])])
        report.write(arguments.report, commands, [*made["cases"], *other.get("cases", [])])
    if arguments.json:
        print(json.dumps(made))
    sys.exit(any(o.verdict != "good" for o in outcomes))


if __name__ == "__main__":
    main()
