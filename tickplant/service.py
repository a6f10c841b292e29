"""How every process of the plant runs: turns until told to stop, and says how it is while it does.

state    run_dir/status/<name>.json, twice a second, replaced atomically
systemd  READY=1 once open, STATUS=..., WATCHDOG=1 from the turns themselves: a process whose data path
         hangs is restarted, however alive its threads are (sd_notify(3))
stop     SIGTERM or SIGINT end the loop after the turn; what was taken is kept
"""

import contextlib
import ctypes
import errno
import functools
import json
import logging
import os
import queue
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tickplant import faults
from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.errors import AlreadyRunning
from tickplant.rates import Rates

log = logging.getLogger(__name__)

STATUS_NS = SECOND_NS // 2
PARENT = "TICKPLANT_PARENT"
"""Environment: pid of the process that this one is to die with."""
_PR_SET_PDEATHSIG = 1


class Role(Protocol):
    """What can be run: the ticker plant, the publisher, the hdb."""

    def open(self) -> None: ...
    def turn(self) -> bool: ...
    def status(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


def notify(message: str) -> bool:
    """Tell systemd, if it started this process and listens; whether it was told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        _notifier().sendto(message.encode(), address)
    except OSError as e:
        log.debug("systemd does not listen at %s: %s", address, e.strerror)
        return False
    return True


@functools.cache
def _notifier() -> socket.socket:
    """One for all the time: without a descriptor to spare the watchdog still has to be fed."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)


def allow_descriptors() -> None:
    """Have as many descriptors as the system allows this process: tables and connections take some each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Pulse:
    """Called from the data path; feeds the watchdog and keeps the status file."""

    def __init__(self, name: str, folder: Path, status: Callable[[], dict[str, Any]]) -> None:
        self.path = folder / f"{name}.json"
        self.name, self.status = name, status
        self._next_ns = self._watch_ns = 0
        self._watch_every_ns = int(os.environ.get("WATCHDOG_USEC", "0")) * 1000 // 3
        self._started_ns = now_ns()
        self._spare = _spare()
        self._trouble: dict[str, str] = {}
        self._rates = Rates()

    def beat(self) -> None:
        """The data path has turned once more."""
        at = monotonic_ns()
        if self._watch_every_ns and at >= self._watch_ns:
            self._watch_ns = at + self._watch_every_ns
            notify("WATCHDOG=1")
        if at >= self._next_ns:
            self._next_ns = at + STATUS_NS
            self.write("running")

    def write(self, state: str) -> None:
        """Say how the process is."""
        said = {
            "name": self.name,
            "state": state,
            "pid": os.getpid(),
            "started_ns": self._started_ns,
            "written_ns": now_ns(),
            "written_monotonic_ns": monotonic_ns(),  # of the boot; by it the age is told
            "memory_bytes": resident_bytes(),
            **self._said(),
        }
        said["per_s"] = self._rates.per_s(monotonic_ns(), counters(said))
        try:
            self._replace(said)
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE) or self._spare < 0:
                self._tell("write", f"can't write {self.path}: {e.strerror}")
                return
            os.close(self._spare)  # the descriptor that was put by for this
            said["degraded"] = said.get("degraded") or (
                "no file descriptors are left, nothing new can be opened or accepted; give it more "
                "(LimitNOFILE= of its unit, or ulimit -n), and see what holds them: ls -l "
                f"/proc/{os.getpid()}/fd"
            )
            with contextlib.suppress(OSError):
                self._replace(said)
            self._spare = _spare()
            self._tell("write", str(said["degraded"]))
        else:
            self._trouble.pop("write", None)
        notify(f"STATUS={_brief(said)}")

    def _said(self) -> dict[str, Any]:
        """What the role says of itself. A defect in that is told, and does not end what works."""
        try:
            said = self.status()
        except Exception as e:
            self._tell("say", f"can't say how it is: {faults.fault(e)}")
            return {"degraded": self._trouble["say"]}
        self._trouble.pop("say", None)
        return said

    def _replace(self, said: dict[str, Any]) -> None:
        draft = self.path.with_suffix(".draft")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(said, default=str))
        draft.rename(self.path)

    def _tell(self, doing: str, trouble: str) -> None:
        """Log it once, not twice a second."""
        if trouble != self._trouble.get(doing):
            self._trouble[doing] = trouble
            log.warning("%s", trouble)

    def fail(self, error: Exception) -> None:
        """Say what ends the process."""
        said = faults.note(self.path.parent, self.name, error)
        log.debug("what ended %s", self.name, exc_info=error)
        self.status = lambda: {"error": said}
        self.write("failed")


def _spare() -> int:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


@functools.cache
def _pages() -> int:
    """Open for all the time, as is the notifier."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


COUNTERS = ("rows_published", "frames_sent", "loaded_bytes")
"""What roles count besides the rows of each table; `per_s` of a status has how fast it goes up."""


def counters(said: Mapping[str, Any]) -> dict[str, int]:
    """The counters in what a process says: by name, those of tables by the table's name."""
    found = {name: int(said[name]) for name in COUNTERS if said.get(name) is not None}
    return found | {table: int(rows) for table, rows in said.get("rows", {}).items()}


def resident_bytes() -> int:
    """Memory of this process that is not shared; 0 where that can't be known."""
    try:
        pages = os.pread(_pages(), 256, 0).split()
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


@contextlib.contextmanager
def ending(pulse: Pulse) -> Iterator[None]:
    """Have whatever ends a process said by its status, in one line with the place. Raises a TickplantError.

    But that another one runs already: the status is that one's.
    """
    try:
        yield
    except AlreadyRunning:
        raise
    except Exception as e:
        pulse.fail(e)
        raise faults.fault(e) from e


def _brief(said: dict[str, Any]) -> str:
    parts = [f"trading date {said['trading_date']}"] if "trading_date" in said else []
    if "rows" in said:
        parts.append(f"{sum(said['rows'].values()):,} rows")
    if "rows_published" in said:
        parts.append(f"{said['rows_published']:,} rows published")
    if said.get("waiting") or said.get("degraded"):
        parts.append(str(said.get("waiting") or said.get("degraded")))
    return ", ".join(parts) or said["state"]


def stop_signals(stop: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT call `stop`, which may take no lock: it comes in the middle of anything."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


def stop_event(event: threading.Event) -> None:
    """Have SIGTERM and SIGINT set an Event, in a thread of its own.

    A handler that set it while the main thread was about to wait for it would wait for ever for the lock
    that the interrupted code holds.
    """
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()  # what a handler may put into

    def wait() -> None:
        asked.get()
        event.set()

    threading.Thread(target=wait, name="stop signals", daemon=True).start()
    stop_signals(lambda: asked.put(None))


def die_with_parent() -> None:
    """End with the process named in the environment, if one is (a supervisor's children do)."""
    parent = os.environ.pop(PARENT, None)
    if parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            raise SystemExit(0)


def run(role: Role, name: str, status_dir: Path) -> None:
    """Run a role until SIGTERM or SIGINT. Raises what ends it; its status says so too."""
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True

    stop_signals(stop)
    pulse = Pulse(name, status_dir, dict)
    pulse.write("starting")
    with ending(pulse):
        role.open()
        pulse.status = role.status
        notify("READY=1")
        log.info("%s is ready", name)
        while not stopping:
            role.turn()
            pulse.beat()
        notify("STOPPING=1")
        role.close()
        pulse.write("stopped")
