"""Cleans up after a demo, however it ended: waits for the pipe to its maker to close, then removes all.

    python -m tickplant.demo.janitor FOLDER PLANT < pipe

It ends the processes whose command line or environment names the folder, and removes the folder and the
plant's shared memory.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from tickplant import control

PATIENCE_S = 5.0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _members(folder: str) -> list[int]:
    """Processes whose command line names the demo's folder, or whose environment does."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if pid != os.getpid() and folder.encode() in said:
                found.append(pid)
    return found


def clean(folder: str, plant: str) -> None:
    """End what is left of the demo and remove what it made."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = _members(folder)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        steps = int(PATIENCE_S / 0.05)
        while any(map(_alive, left)) and (steps := steps - 1):
            time.sleep(0.05)
    control.remove_all(plant)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Wait for the end of standard input, then clean."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clean(*sys.argv[1:3])


if __name__ == "__main__":
    main()
