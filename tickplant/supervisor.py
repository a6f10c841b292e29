"""A whole plant in the foreground: starts every process of a configuration and restarts what dies.

For development, the demo, and hosts without systemd. The children are the same commands that the systemd
units run; each dies with this process, whatever kills it.
"""

import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tickplant import faults
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.config import ENVIRONMENT, Config
from tickplant.control import Control
from tickplant.errors import AlreadyRunning, NotRunning
from tickplant.lock import Lock
from tickplant.service import PARENT

log = logging.getLogger(__name__)

BACKOFF_MAX_NS = 5 * SECOND_NS
STOP_PATIENCE_S = 20.0
LEFT_OVER_NS = 5 * SECOND_NS


@dataclass
class Child:
    """A process to be kept alive."""

    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started_ns: int = 0
    start_at_ns: int = 0
    finished: bool = False
    """It ended by itself with status 0: its work is done."""


@dataclass
class Supervisor:
    """`start`, then `turn` now and then, then `stop`."""

    config: Config
    path: Path
    log_dir: Path | None = None
    """Where each child's output goes; None: with ours."""
    children: dict[str, Child] = field(default_factory=dict)
    _lock: Lock | None = None

    def add(self, name: str, *arguments: str) -> Child:
        """Have a process run: `tickplant <arguments>`."""
        child = Child(name, list(arguments))
        self.children[name] = child
        return child

    def add_plant(self) -> None:
        """Have all processes of the plant run, and its feeds.

        Raises AlreadyRunning if another supervisor of this plant runs, or its ticker plant without one.
        """
        self._lock = Lock(self.config.plant.run_dir / "up.lock", "`tickplant up` of this plant")
        self._refuse_second()
        for role in ("tickerplant", "publisher", "hdb"):
            self.add(role, "run", role)
        for name in self.config.feeds:
            self.add(f"feed-{name}", "run", "feed", name)

    def _refuse_second(self) -> None:
        """One whose supervisor was killed a moment ago ends by itself."""
        end_ns = monotonic_ns() + LEFT_OVER_NS
        while running := _running(self.config.plant.name):
            if monotonic_ns() > end_ns:
                raise AlreadyRunning(
                    f"plant {self.config.plant.name} runs already, its ticker plant is process {running}: "
                    "look at it (tickplant status), or stop it first (systemctl stop tickplant.target)"
                )
            signal.sigtimedwait([], 0.05)

    def turn(self) -> list[Child]:
        """Start what is to be started, see what has died; the children that died of themselves."""
        died = []
        now = monotonic_ns()
        for child in self.children.values():
            if child.process is not None and (status := child.process.poll()) is not None:
                self._ended(child, status, now)
                if status != 0:
                    died.append(child)
            if child.process is None and not child.finished and now >= child.start_at_ns:
                self._start(child)
        return died

    def _ended(self, child: Child, status: int, now: int) -> None:
        child.process = None
        child.finished = status == 0
        if status == 0:
            log.info("%s is done", child.name)
            return
        lived = now - child.started_ns
        child.restarts = 0 if lived > 10 * SECOND_NS else child.restarts + 1
        wait = min(100 * MILLISECOND_NS * 2 ** min(child.restarts, 10), BACKOFF_MAX_NS)
        child.start_at_ns = now + wait
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        why = faults.recent(self.config.status_dir, child.name)
        how += f" ({why})" if status > 0 and why else ""
        log.warning("%s ended with %s; starting it again in %.1f s", child.name, how, wait / SECOND_NS)

    def _start(self, child: Child) -> None:
        out = None
        if self.log_dir:
            self.log_dir.mkdir(parents=True, exist_ok=True)
            out = (self.log_dir / f"{child.name}.log").open("ab")
        child.started_ns = monotonic_ns()
        child.process = subprocess.Popen(
            # -P: the current folder is not on the path, so that no other tickplant in it is run.
            [sys.executable, "-P", "-m", "tickplant", *child.arguments],
            env={**os.environ, ENVIRONMENT: str(self.path), PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            process_group=0,  # Ctrl-C in a terminal is for us: `stop` has its order
        )  # fmt: skip
        if out:
            out.close()

    def stop(self, names: list[str] | None = None) -> None:
        """End children in good order: feeds first, so that what they sent is taken."""
        order = sorted(names or self.children, key=lambda n: not n.startswith("feed-"))
        feeds = [n for n in order if n.startswith("feed-")]
        for group in (feeds, [n for n in order if n not in feeds]):
            running = [p for n in group if (p := self.children[n].process) is not None]
            for process in running:
                process.send_signal(signal.SIGTERM)
            for name in group:
                child = self.children[name]
                if child.process is not None:
                    try:
                        child.process.wait(STOP_PATIENCE_S)
                    except subprocess.TimeoutExpired:
                        log.warning("%s did not stop; killed", name)
                        child.process.kill()
                        child.process.wait()
                child.process, child.finished = None, True
        if names is None and self._lock:
            self._lock.release()


def _running(plant: str) -> int | None:
    """The process id of a plant's ticker plant that runs; None if none does."""
    try:
        control = Control.attach(plant)
    except NotRunning:
        return None
    return int(control.pid.load()) if control.state() in ("running", "stalled") else None
