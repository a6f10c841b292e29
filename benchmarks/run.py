"""Runs the benchmarks one after the other, shows their results as a table, and keeps them as JSON.

Each is a process of its own, `bench_NAME.py`, that prints a line of JSON a result (`harness.tell`). One
that fails is named, and the others run on.

    python benchmarks/run.py [--quick] [--json FILE] [--report] [NAME...]
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zmq
from report import shown, write
from rich.console import Console

HERE = Path(__file__).parent
SUITE = (
    "ingest", "push", "chain", "itch", "append", "latency", "wake", "readers", "fanout", "catchup",
    "reattach", "recovery", "copy", "scan", "point", "memory", "dbn", "json_venues", "curve", "peers",
    "scaling",
)  # fmt: skip
"""In the order in which they run, and stand in docs/PERFORMANCE.md."""


def host() -> dict[str, Any]:
    """What the figures depend on, of the machine and the libraries."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / (1 << 30)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libzmq": zmq.zmq_version(),
        "numpy": importlib.metadata.version("numpy"),
        "load_before": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def run(name: str, quick: bool, console: Console) -> list[dict[str, Any]]:
    """The results of one benchmark, each shown when it is there."""
    results: list[dict[str, Any]] = []
    begin = time.monotonic()
    command = [sys.executable, str(HERE / f"bench_{name}.py"), *(["--quick"] if quick else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            result = json.loads(line)
            results.append(result | {"bench": name})
            console.print(shown(result), highlight=False, soft_wrap=True)
    if process.returncode:
        results.append({"name": name, "bench": name, "error": f"ended with status {process.returncode}"})
        console.print(f"[red]{name} ended with status {process.returncode}")
    console.print(f"[dim]{name}: {time.monotonic() - begin:.1f} s", highlight=False)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUITE)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    parser.add_argument("--report", action="store_true", help="make docs/PERFORMANCE.md of them")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SUITE):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(SUITE)}")
    console = Console()
    kept: dict[str, Any] = {"host": host(), "results": []}
    for name in arguments.names or SUITE:
        kept["results"] += run(name, arguments.quick, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n")
    if arguments.report:
        write(kept)
    goals = [r["met"] for r in kept["results"] if r.get("met") is not None]
    console.print(f"{sum(goals)} of {len(goals)} goals are met")
    sys.exit(any("error" in r for r in kept["results"]))


if __name__ == "__main__":
    main()
