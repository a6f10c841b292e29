"""A throw-away plant for faults: every process by name, to be killed, stopped and started again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from faults import proxy
from faults.growth import Growth
from faults.proxy import Proxy
from faults.source import TABLES, Counts
from tickplant import config, local
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.config import ENVIRONMENT, Config
from tickplant.errors import TickplantError
from tickplant.hdb.server import PostgresServer
from tickplant.keys import READERS
from tickplant.service import PARENT
from tickplant.sockets import free_port

Settings = Callable[[dict[str, Any], "Site"], None]

Damaged = tuple[int, int, int, int]
"""Number of a feed, session, first and last row of a frame of its outbox that was damaged."""

PATIENCE_S = 120.0
ROOT = Path(__file__).parent.parent


@dataclass
class Process:
    """One process of the site."""

    name: str
    command: list[str]
    settings: Path
    """The configuration that it is started with."""
    running: subprocess.Popen[bytes] | None = None
    start_at_ns: int = 0
    expected: bool = False
    """Its next end is a fault that was injected."""
    deaths: list[str] = field(default_factory=list)
    """How it ended when nobody had asked it to."""


def _endpoint() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


class Site:
    """A folder, a plant of two feeds, and readers that write down what they see."""

    def __init__(self, seed: int, rate: float, settings: Settings = lambda content, site: None) -> None:
        """`settings` may change the configuration before it is written."""
        self.seed, self.rate = seed, rate
        self.environment: dict[str, str] = {}
        """For every process of the site; `settings` may add to it."""
        self.witness: list[Callable[[], list[str]]] = []
        """What has been seen in the meantime: each says in the end what of it is not so."""
        self.figures: list[str] = []
        """What faults have measured besides, for the report."""
        self.damaged: list[Damaged] = []
        """What was damaged beyond repair: it has to be declared, and nothing else."""
        self.strangers = 0
        """Feeds of other plants that have spoken to this one."""
        self.folder = Path(tempfile.mkdtemp(prefix="tpf"))  # socket paths must be short
        self.folder.chmod(0o711)
        content = msgspec.toml.decode(config.shipped().read_bytes())
        self.name = self.folder.name.lower().replace("_", "x")
        self.away = self.folder / "away"
        """The keys that were copied to where feeds and remote readers are, if there are keys."""
        content["plant"] |= {"name": self.name, "data_dir": f"{self.folder}/data"}
        content["plant"] |= {"run_dir": f"{self.folder}/run"}
        content["tickerplant"] |= {"ingress": _endpoint(), "repair": _endpoint(), "extent_rows": 1 << 14}
        content["tickerplant"]["follow_outboxes"] = True
        content["tickerplant"]["keep_days"] = 36_500  # a case may end many dates, which are then compared
        content["tickerplant"]["segment_bytes"] = 1 << 20  # so that segments end while faults go on
        content["tickerplant"]["checkpoint_bytes"] = 1 << 18  # and restarts begin at checkpoints
        content["outbox"] |= {"segment_bytes": 1 << 18}
        content["publisher"] |= {"publish": _endpoint(), "request": _endpoint()}
        content["hdb"] |= {"dsn": "", "throwaway": True}
        content["feeds"] = {
            name: {"id": number, "handler": "faults.source:run", "options": self._options(name)}
            for number, name in enumerate(("one", "two"), 1)
        }
        self.server: PostgresServer | None = None
        """PostgreSQL, where it is the bench's and not the plant's own."""
        self.closing = contextlib.ExitStack()
        settings(content, self)
        self.path = self.folder / "plant.toml"
        self.path.write_bytes(msgspec.toml.encode(content))
        self.config: Config = config.load(self.path)
        # What a feed elsewhere is configured with: the plant's endpoints, as they are called over there.
        content["tickerplant"] |= {
            e: proxy.endpoint(content["tickerplant"][e]) for e in ("ingress", "repair")
        }
        content["security"]["keys_dir"] = str(self.away)
        for number, name in enumerate(self.config.feeds):
            # The first may have its outbox read by the plant, the others publish.
            content["tickerplant"]["follow_outboxes"] &= number == 0
            self.feed_path(name).write_bytes(msgspec.toml.encode(content))
        self.network = Proxy(seed, self._links())
        self.processes: dict[str, Process] = {}
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "tickplant.demo.janitor", str(self.folder), self.name],
            stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.longest_outage_ns = self._moved_ns = self._written = 0
        self.growth = Growth()

    def _links(self) -> list[proxy.Link]:
        """The ways between feeds and plant, and between plant and remote readers."""
        plant, publisher = self.config.tickerplant, self.config.publisher
        # With CURVE it can't be seen which frames make one message; those of PUB are messages each.
        pairs = () if self.config.security.curve else ("up", "down")
        return [
            proxy.link("ingress", plant.ingress, ("up",)),
            proxy.link("repair", plant.repair, pairs),
            proxy.link("publish", publisher.publish, ("down",)),
            proxy.link("request", publisher.request, pairs),
        ]

    def _options(self, feed: str) -> dict[str, Any]:
        return {"path": f"{self.folder}/{feed}.counts", "seed": self.seed, "rate": self.rate / 2}

    def feed_path(self, feed: str) -> Path:
        """The configuration that a feed is started with."""
        return self.folder / f"feed-{feed}.toml"

    def counts(self, feed: str) -> Counts:
        """What the runs of a feed have published."""
        return Counts(self.folder / f"{feed}.counts")

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._janitor.stdin is not None
        for process in self.processes.values():
            if process.running:
                process.running.kill()
                process.running.wait()
        if self.server:
            self.server.stop(patience=5.0)
        self.closing.close()
        self._janitor.stdin.close()
        self._janitor.wait()
        self.network.close()

    def open(self) -> int:
        """Start everything; the trading date."""
        self.network.start()
        for role in ("tickerplant", "publisher", "hdb"):
            self.add(role, "-m", "tickplant", "run", role)
        self.plant = local.wait_for(self.name, PATIENCE_S)
        date = self.plant.trading_date
        for kind, where in (("local", ()), ("remote", (proxy.endpoint(self.config.publisher.request),))):
            for table in TABLES:
                name = f"{kind}-{table}"
                extra = list(where)
                what = [str(self.path), str(self.folder / name), table, str(date)]
                if kind == "remote" and self.config.security.curve:
                    extra.append(str(self.away / READERS / f"{name}.key_secret"))
                self.add(name, "-m", "faults.reader", *what, *extra)
        for name in self.config.feeds:
            self.add(f"feed-{name}", "-m", "tickplant", "run", "feed", name, settings=self.feed_path(name))
        return date

    def add(self, name: str, *arguments: str, settings: Path | None = None) -> None:
        """Have a process run, with the plant's configuration or another; one that ends is started again."""
        self.processes[name] = Process(name, list(arguments), settings or self.path)
        self._start(self.processes[name])

    def _start(self, process: Process, *, failpoint: tuple[str, int] | None = None) -> None:
        command = process.command
        if failpoint:
            command = ["-m", "faults.failpoint", failpoint[0], str(failpoint[1]), *command[2:]]
        with (self.folder / f"{process.name}.log").open("ab") as out:
            process.running = subprocess.Popen(
                [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, process_group=0,
                cwd=ROOT, env={**os.environ, ENVIRONMENT: str(process.settings), PARENT: str(os.getpid()),
                               "PYTHONPATH": str(ROOT), **self.environment},
            )  # fmt: skip

    def turn(self) -> None:
        """Start again what has ended; watch how long the plant stands still, and what its processes hold."""
        now = monotonic_ns()
        self.growth.look({p.name: p.running.pid for p in self.processes.values() if p.running})
        for process in self.processes.values():
            if process.running and (status := process.running.poll()) is not None:
                process.running, process.start_at_ns = None, process.start_at_ns or now
                if not process.expected:
                    process.deaths.append(f"status {status}")
                    process.start_at_ns = now + SECOND_NS // 2
                process.expected = False
            if process.running is None and now >= process.start_at_ns:
                process.start_at_ns = 0
                self._start(process)
        if (written := self.plant.control.written.load()) != self._written:
            self._written, self._moved_ns = written, now
        self.longest_outage_ns = max(self.longest_outage_ns, now - (self._moved_ns or now))

    def until(self, done: Callable[[], Any], what: str) -> None:
        """Turn until something holds. Raises TickplantError when it does not in time."""
        end = monotonic_ns() + int(PATIENCE_S * SECOND_NS)
        while not done():
            self.turn()
            if monotonic_ns() > end:
                raise TickplantError(f"waited {PATIENCE_S:.0f} s in vain for {what}; logs: {self.folder}")
            time.sleep(0.005)

    def pause(self, seconds: float) -> None:
        """Turn for a while."""
        end = monotonic_ns() + int(seconds * SECOND_NS)
        while monotonic_ns() < end:
            self.turn()
            time.sleep(0.005)

    def kill(self, name: str, down_s: float) -> None:
        """kill -9; it is started again after `down_s`."""
        process = self.processes[name]
        self.until(lambda: process.running, f"{name} to run")
        assert process.running is not None
        process.expected = True
        process.start_at_ns = monotonic_ns() + int(down_s * SECOND_NS)
        process.running.kill()

    def kill_at(
        self, name: str, point: str, hit: int, patience_s: float, cause: Callable[[], Any] | None = None,
        provoke: Callable[[], Any] = lambda: None,
    ) -> bool:  # fmt: skip
        """Have a process die at a step of its work (faults.failpoint); whether it came to that.

        `cause` is called when the process is armed, `provoke` again and again until then.
        """
        self.kill(name, 0.0)
        process = self.processes[name]
        assert process.running is not None
        process.running.wait()
        process.expected, process.start_at_ns = False, 0
        self._start(process, failpoint=(point, hit))
        armed, end = process.running, monotonic_ns() + int(patience_s * SECOND_NS)
        process.expected, process.start_at_ns = True, 1
        if cause:
            cause()
        while armed.poll() is None and monotonic_ns() < end:
            provoke()
            self.turn()
            time.sleep(0.005)
        if armed.poll() is None:  # it never came there: end it here
            process.start_at_ns = 1
            armed.kill()
            return False
        return True

    def stop(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after some seconds."""
        process = self.processes[name].running
        if process:
            process.send_signal(signal.SIGSTOP)
            self.pause(seconds)
            process.send_signal(signal.SIGCONT)

    def postmaster(self) -> int | None:
        """The process of PostgreSQL, if it runs."""
        try:
            return int((self.config.plant.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def dates(self) -> list[int]:
        """The trading dates that have begun, oldest first."""
        return sorted(int(p.name) for p in self.config.journal_dir.glob("[0-9]" * 8))

    def publishes(self, name: str) -> bool:
        """Does this process itself say that it runs?"""
        process = self.processes[name]
        try:
            said = json.loads((self.config.status_dir / f"{process.name}.json").read_text())
        except (OSError, ValueError):
            return False
        pid = process.running.pid if process.running else 0
        return bool(said["pid"] == pid and said["state"] == "running")

    def quiesce(self) -> None:
        """Stop the feeds in good order, and wait until the plant has taken all that they have published."""
        for name in self.config.feeds:
            process = self.processes[f"feed-{name}"]
            # One that has just begun knows no good order yet; and it defines its instruments first.
            self.until(partial(self.publishes, process.name), f"feed {name} to run")
            process.expected, process.start_at_ns = True, 1 << 62
            assert process.running is not None
            process.running.terminate()
            self.until(lambda p=process: p.running is None, f"feed {name} to be drained")  # type: ignore[misc]
        still = 200 * MILLISECOND_NS
        self.until(lambda: monotonic_ns() - self._moved_ns > still, "the plant to come to rest")
