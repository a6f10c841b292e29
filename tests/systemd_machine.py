"""A machine to try the units on: a real systemd as PID 1 of namespaces of its own.

Whatever it writes is in memory and goes with it; whatever runs in it ends with its PID 1. Needs root, and a
kernel that lets root make namespaces, an overlay of / and a cgroup.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tickplant

CHECKOUT = Path(tickplant.__file__).parents[1]
INSIDE = Path(__file__).with_name("systemd_inside.sh")
LIFE_S = 180
"""However a test ends, the machine is gone after that."""
PATIENCE_S = 180.0
_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Unavailable(Exception):
    """No such machine can be had here; the reason."""


class Machine:
    """`boot`, use, `end`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tickplant-machine-"))
        self.cgroup: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of the machine's PID 1, seen from here."""

    def boot(self, units: Path, config: bytes, dropins: dict[str, str]) -> None:
        """Start it. `dropins`: content by unit. Raises Unavailable if it can't be had."""
        if os.geteuid() != 0:
            raise Unavailable("needs root")
        for tool in ("unshare", "nsenter", "setpriv", "pivot_root", "systemd-sysusers", "timeout"):
            if not shutil.which(tool):
                raise Unavailable(f"there is no {tool}")
        if not Path("/lib/systemd/systemd").exists():
            raise Unavailable("there is no systemd")
        self.cgroup = _new_cgroup()
        for name in ("work", "dropins"):
            (self.folder / name).mkdir()
        for unit, content in dropins.items():
            place = self.folder / "dropins" / f"{unit}.d"
            place.mkdir()
            (place / "test.conf").write_text(content)
        (self.folder / "tickplant.toml").write_bytes(config)
        self._start(units)
        self.until(lambda: self.ask("systemctl", "is-active", "basic.target") == "active", "the boot", 20)

    def _start(self, units: Path) -> None:
        base = Path(sys.base_prefix)
        enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        # It ends in time, and with us, whatever becomes of us.
        bounds = ["setpriv", "--pdeathsig", "TERM", "timeout", "-k", "2", str(LIFE_S)]
        namespaces = ["--pid", "--fork", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--kill-child"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", enter, str(self.cgroup), *bounds, "unshare", *namespaces, "sh", str(INSIDE)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=_PATH | {
                    "WORK": str(self.folder / "work"),
                    "UNITS": str(units),
                    "DROPINS": str(self.folder / "dropins"),
                    "CONFIG": str(self.folder / "tickplant.toml"),
                    "CHECKOUT": str(CHECKOUT),
                    "PACKAGES": sysconfig.get_path("platlib"),
                    "BASE": str(base),
                    "PYTHON": str(Path(sys.executable).resolve().relative_to(base.resolve())),
                },
            )  # fmt: skip
        end = time.monotonic() + 20
        while not self._is_systemd():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Unavailable(f"no systemd in namespaces: {self._log()}")
            time.sleep(0.01)

    def _is_systemd(self) -> bool:
        assert self.process is not None
        unshare = _children(self.process.pid)
        inner = _children(unshare[0]) if unshare else []
        if not inner:
            return False
        self.pid = inner[0]
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{self.pid}/exe").endswith("systemd/systemd")
        return False

    def _log(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def run(self, *command: str, patience: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root."""
        return subprocess.run(
            ["nsenter", "--all", "--target", str(self.pid), "--", *command],
            capture_output=True, text=True, check=False, timeout=patience, env=_PATH,
        )  # fmt: skip

    def ask(self, *command: str) -> str:
        """What a command says, whether it fails or not."""
        return self.run(*command).stdout.strip()

    def do(self, *command: str) -> str:
        """What a command says that must not fail."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout.strip()

    def show(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.ask("systemctl", "show", "--value", "--property", key, unit)

    def active(self, unit: str) -> bool:
        """Is it?"""
        return self.show(unit, "ActiveState") == "active"

    def main_pid(self, unit: str) -> int:
        """The main process of a service, as numbered in the machine; 0 if it has none."""
        return int(self.show(unit, "MainPID"))

    def kill(self, unit: str, how: signal.Signals) -> None:
        """Send a signal to the main process of a service."""
        self.do("kill", f"-{how.value}", str(self.main_pid(unit)))

    def file(self, path: str) -> Path:
        """A file of the machine, from here."""
        return Path(f"/proc/{self.pid}/root{path}")

    def journal(self) -> str:
        """The end of what was logged."""
        return self.ask("journalctl", "--no-pager", "--lines=60")

    def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
        """Wait for a condition; what it gave."""
        end = time.monotonic() + patience
        while not (found := condition()):
            assert time.monotonic() < end, f"waited {patience} s for {what}\n{self.journal()}"
            time.sleep(0.02)
        return found

    def end(self) -> None:
        """Power off, the hard way; leave nothing behind."""
        if self.process is not None:
            if self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            else:
                self.process.terminate()
            self.process.wait()
        if self.cgroup is not None:
            _remove_cgroup(self.cgroup)
        shutil.rmtree(self.folder)


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def _new_cgroup() -> Path:
    """A cgroup (version 2) of its own for the machine."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            folder = Path(left.split()[4]) / f"tickplant-test-{os.getpid()}"
            try:
                folder.mkdir()
            except OSError as e:
                raise Unavailable(f"no cgroup at {folder}: {e.strerror}") from None
            return folder
    raise Unavailable("no cgroup2 is mounted")


def _remove_cgroup(top: Path) -> None:
    """Once its last process has left, which is a moment after it was killed."""
    end = time.monotonic() + 10
    while top.exists():
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        assert time.monotonic() < end, f"{top} is still in use"
