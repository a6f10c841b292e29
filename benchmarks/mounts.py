"""Benchmarks by turns on a /dev/shm without huge pages and on one with them (`huge=advise`), in one run.

Each run has a mount namespace, and so a /dev/shm, of its own: that of the host stays as it is. Needs root.
The figures are medians of the runs' ratios to their limits.

    python benchmarks/mounts.py [--turns 3] [--quick] [NAME...]
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
MOUNTS = ("never", "advise")
FIGURES = ("recovery", "ingest_1000", "scan_first", "memory_row")
OPTIONS = {"ingest": ["--rows-each", "1000"]}
MOUNT = 'mount -t tmpfs -o mode=1777,huge="$0" tmpfs /dev/shm && exec "$@"'


def run(huge: str, name: str, options: list[str]) -> list[dict[str, float]]:
    """The results of one benchmark on a /dev/shm of its own."""
    command = [sys.executable, str(HERE / f"bench_{name}.py"), *options]
    inside = ["unshare", "--mount", "sh", "-c", MOUNT, huge, *command]
    printed = subprocess.run(inside, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["recovery", "scan", "ingest", "memory"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    options = ["--quick"] if arguments.quick else []
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name in arguments.names:
        for turn in range(arguments.turns):
            for huge in MOUNTS:
                for result in run(huge, name, options + OPTIONS.get(name, [])):
                    if result["name"] in FIGURES:
                        ratios[str(result["name"]), huge].append(float(result["ratio"]))
                        told = {k: result[k] for k in ("name", "ours", "limit", "ratio")}
                        print(f"turn {turn} {huge}: {told}", flush=True)
    for (figure, huge), each in ratios.items():
        spread = f"{min(each):.3g} to {max(each):.3g}"
        print(f"{figure} huge={huge}: {statistics.median(each):.3g} x ({spread}, {len(each)} runs)")


if __name__ == "__main__":
    main()
