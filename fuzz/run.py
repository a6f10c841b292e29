"""Runs targets under atheris, one process each, for a time shared among them."""

import argparse
import os
import random
import subprocess
import sys
import tempfile

from fuzz import ROOT
from fuzz.targets import TARGETS

MEMORY_MB, INPUT_MAX, SLOW_S = 2048, 16_384, 20
WATCHED = [
    "tickplant.feed", "tickplant.wire", "tickplant.journal", "tickplant.messages", "tickplant.requests",
    "tickplant.answers", "tickplant.replay", "tickplant.dialogue", "tickplant.ingress", "tickplant.claimants",
]  # fmt: skip
"""Modules whose branches the fuzzer sees."""
FOUND = ROOT / "fuzz" / "found"
"""Where an input that fails is left, and under its target's name those that reach new code."""


def main() -> int:
    """The command line; exit status 1 if any target failed."""
    parser = argparse.ArgumentParser(prog="bin/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--pick", type=int, default=0, help="so many targets by chance, others each time")
    parser.add_argument("--seed", type=int, default=0, help="of a run that is to be repeated; 0: a new one")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="*", help=f"of {', '.join(TARGETS)}; default all")
    given = parser.parse_args()
    if given.one:
        return _fuzz(given.one, given.seconds, given.seed)
    names = given.target or list(TARGETS)
    if given.pick:
        names = random.sample(names, min(given.pick, len(names)))
    if wrong := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(wrong))}; there are {', '.join(TARGETS)}")
    seconds = max(1, given.seconds // len(names))
    failed = []
    for name in names:
        seed = given.seed or random.randrange(1, 1 << 31)
        command = [
            sys.executable,
            "-m",
            "fuzz.run",
            "--seconds",
            str(seconds),
            "--seed",
            str(seed),
            "--one",
            name,
        ]
        with tempfile.TemporaryDirectory(prefix="tickplant-fuzz-", dir=_quick()) as place:
            done = subprocess.run(
                command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace",
                env={**os.environ, "TMPDIR": place},
            )  # fmt: skip
        print(f"{name}: {_said(done.stderr)}", flush=True)
        if done.returncode:
            failed.append(name)
            print(f"to repeat it: bin/fuzz --seconds {seconds} --seed {seed} {name}", flush=True)
            print("\n".join(done.stderr.splitlines()[-40:]), flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "no target failed")
    return 1 if failed else 0


def _quick() -> str | None:
    """Where files are written fastest, for the targets that read files."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _said(text: str) -> str:
    """The last line in which libFuzzer tells how far it is."""
    told = [line for line in text.splitlines() if "exec/s: " in line or line.startswith("Done ")]
    return told[-1].strip() if told else "it did not begin"


def _fuzz(name: str, seconds: int, seed: int) -> int:
    import atheris

    target = TARGETS[name]
    grown = FOUND / name
    grown.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.corpus()):
        (grown / f"sound-{number}").write_bytes(data)
    with atheris.instrument_imports(include=WATCHED):
        _imported()
    options = [
        f"-seed={seed}", f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={INPUT_MAX}",
        f"-timeout={SLOW_S}", f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([f"fuzz-{name}", *options, str(grown)], target.run)
    atheris.Fuzz()
    return 0


def _imported() -> None:
    """Import all modules that are to be watched."""
    import importlib
    import pkgutil

    import tickplant.feed

    for module_name in WATCHED:
        importlib.import_module(module_name)
    for module in pkgutil.walk_packages(tickplant.feed.__path__, "tickplant.feed."):
        importlib.import_module(module.name)


if __name__ == "__main__":
    sys.exit(main())
