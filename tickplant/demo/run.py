"""The demo: the plant that production runs, process by process, in a folder that is thrown away.

    janitor ◄─pipe─ demo ─► supervisor ─► tickerplant, publisher, hdb (+ PostgreSQL), a feed per source
                                       └► a local and a remote reader

When the feeds are done the day is rolled, the hdb proves it, the readers are compared with the proof. The
janitor removes everything once this process has ended, in whatever way.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.live import Live
from rich.markup import escape

from tickplant import config as configuration
from tickplant import local
from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.demo import screen
from tickplant.eod import end_of_day
from tickplant.errors import NotRunning, TickplantError
from tickplant.feed.formats import dated
from tickplant.hdb.binaries import find_binaries
from tickplant.screen import CleanConsole
from tickplant.service import PARENT
from tickplant.sockets import free_port
from tickplant.supervisor import Supervisor

log = logging.getLogger(__name__)

SECONDS = 8.0
START_PATIENCE_S = 60.0
PROOF_PATIENCE_S = 600.0
HISTORY_PATIENCE_NS = 20 * SECOND_NS
"""How long the demo's own PostgreSQL may be away, or refuse."""
TURN_S = 0.1


def settings(folder: Path, captures: Sequence[Path], seconds: float | None, date: str = "") -> dict[str, Any]:
    """The shipped configuration, with everything below `folder` and these sources."""
    content: dict[str, Any] = msgspec.toml.decode(configuration.shipped().read_bytes())
    name = f"demo{os.getpid()}"
    content["plant"] |= {"name": name, "data_dir": f"{folder}/data", "run_dir": f"{folder}/run"}
    content["tickerplant"] |= {
        "ingress": f"ipc://{folder}/run/ingress",
        "repair": f"ipc://{folder}/run/repair",
        "extent_rows": 1 << 16,
    }
    content["publisher"] |= _endpoints("publish", "request")
    content["hdb"] |= {"dsn": "", "throwaway": True}
    for number, path in enumerate(captures, 1):
        content.setdefault("feeds", {})[f"capture-{number}"] = {
            "id": number,
            "handler": "capture",
            "options": {"path": str(path.absolute())} | ({"date": date} if date and dated(path) else {}),
        }
    if not captures:
        content["feeds"] = {
            f"{kind}-sim": {
                "id": number,
                "handler": "simulated",
                "options": {
                    "venue": venue,
                    "kind": kind,
                    "seed": number,
                    "rate": rate,
                    "seconds": seconds or SECONDS,
                },
            }
            for number, (kind, venue, rate) in enumerate(
                [("equity", "XSIM", 30_000.0), ("crypto", "CSIM", 20_000.0)], 1
            )
        }
    return content


def _endpoints(*names: str) -> dict[str, str]:
    """An endpoint with a free port for each name: its own, so that who is restarted is found again."""
    ports: set[int] = set()
    while len(ports) < len(names):
        ports.add(free_port())
    return {name: f"tcp://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}


def demo(captures: Sequence[Path], seconds: float | None, as_json: bool, date: str = "") -> int:
    """Run the demo; 0 if the day is complete everywhere, else 1."""
    logging.getLogger("tickplant").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="tickplant-demo-"))
    folder.chmod(0o711)  # root's PostgreSQL may have to come through, as `nobody`
    content = settings(folder, captures, seconds, date)
    plant = Config(content, folder / "tickplant.toml")
    plant.path.write_bytes(msgspec.toml.encode(content))
    janitor = subprocess.Popen(
        [sys.executable, "-P", "-m", "tickplant.demo.janitor", str(folder), plant.plant.name],
        stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        return Demo(plant, captures, seconds, as_json).run()
    finally:
        assert janitor.stdin is not None
        janitor.stdin.close()
        janitor.wait()


class Demo:
    """One demo, from start to verdict."""

    def __init__(self, plant: Config, captures: Sequence[Path], seconds: float | None, as_json: bool) -> None:
        self.plant, self.captures, self.seconds, self.as_json = plant, captures, seconds, as_json
        self.console = CleanConsole(stderr=as_json)
        self.supervisor = Supervisor(plant, plant.path, log_dir=plant.plant.data_dir / "log")
        self.began_ns = monotonic_ns()
        self.readers: list[subprocess.Popen[bytes]] = []
        self.stopped = False

    def run(self) -> int:
        """Start, watch, roll, prove, report."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
        try:
            with self.console.status("starting ticker plant, publisher, PostgreSQL and readers"):
                self._start()
            self._watch()
            with self.console.status("rolling the day and proving it"):
                date = int(end_of_day(self.plant)["sealed"])
                proof = self._proof(date)
                self._wait(lambda: all(r.poll() is not None for r in self.readers), "the readers to end")
            return self._report(date, proof)
        except TickplantError as e:
            self.console.print(f"[red]{escape(str(e))}[/]")
            self._last_words()
            return e.exit_code
        finally:
            self.supervisor.stop()
            for reader in self.readers:
                reader.kill()

    def _start(self) -> None:
        find_binaries()  # without PostgreSQL nothing would ever be proven
        for role in ("tickerplant", "publisher", "hdb"):
            self.supervisor.add(role, "run", role)
        self._wait(lambda: self._says("tickerplant") and self._says("publisher"), "the plant to start")
        date = local.wait_for(self.plant.plant.name, START_PATIENCE_S).trading_date
        endpoint = self._said("publisher")["request"]
        for extra in ([], [endpoint]):
            command = ["-P", "-m", "tickplant.demo.reader", str(self.plant.path), str(date), *extra]
            self.readers.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, PARENT: str(os.getpid())},
                    process_group=0,
                )
            )
        self._wait(lambda: self._says("reader-local") and self._says("reader-remote"), "the readers to start")
        for name in self.plant.feeds:
            self.supervisor.add(f"feed-{name}", "run", "feed", name)

    def _watch(self) -> None:
        """Show what flows until every feed has finished, or the seconds are over."""
        feeds = [c for n, c in self.supervisor.children.items() if n.startswith("feed-")]
        end = monotonic_ns() + int((self.seconds or 1e9) * SECOND_NS)
        picture = screen.Screen(self.plant)
        show = self.console.is_terminal and not self.as_json
        live = Live(console=self.console, refresh_per_second=4, transient=True) if show else None
        if live:
            live.start()
        try:
            while not all(c.finished for c in feeds):
                self._turn()
                if live:
                    live.update(picture.draw())
                if self.captures and monotonic_ns() > end:
                    self.supervisor.stop([c.name for c in feeds])
                time.sleep(TURN_S)
        finally:
            if live:
                live.stop()

    def _turn(self) -> None:
        """Keep the children alive; a feed that keeps failing ends the demo."""
        for child in self.supervisor.turn():
            if child.name.startswith("feed-") or child.restarts > 3:
                said = self._said(child.name).get("error") or "see its log below"
                raise TickplantError(f"{child.name} failed: {said}")
        if (since := self._said("hdb").get("waiting_since_ns")) and now_ns() - since > HISTORY_PATIENCE_NS:
            raise TickplantError(f"the hdb can't go on: {self._said('hdb').get('waiting')}")
        for reader in self.readers:
            if reader.poll() not in (None, 0):
                raise TickplantError(f"a reader ended with status {reader.returncode}")

    def _wait(self, done: Any, what: str, patience_s: float = START_PATIENCE_S) -> None:
        end = monotonic_ns() + int(patience_s * SECOND_NS)
        while not done():
            self._turn()
            if monotonic_ns() > end:
                raise NotRunning(f"waited {patience_s:.0f} s in vain for {what}")
            time.sleep(0.02)

    def _said(self, name: str) -> dict[str, Any]:
        path = self.plant.status_dir / f"{name}.json"
        try:
            said = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _says(self, name: str) -> bool:
        return self._said(name).get("state") == "running"

    def _proof(self, date: int) -> dict[str, Any]:
        path = self.plant.plant.data_dir / "proofs" / f"{date}.json"
        self._wait(path.exists, "the proof", PROOF_PATIENCE_S)
        proof: dict[str, Any] = json.loads(path.read_text())
        return proof

    def _report(self, date: int, proof: dict[str, Any]) -> int:
        remote, near = self._said("reader-remote"), self._said("reader-local")
        seconds = (monotonic_ns() - self.began_ns) / SECOND_NS
        result = screen.result(date, proof, remote, near, seconds, [t.name for t in self.plant.schema])
        if self.as_json:
            print(json.dumps(result), flush=True)
        else:
            screen.show(result, self._events(date), self.console)
        return 0 if result["complete"] else 1

    def _events(self, date: int) -> list[str]:
        """What was lost, refused or damaged, from the day's journal (its tables may be gone by now)."""
        return screen.events(self.plant, date)

    def _last_words(self) -> None:
        for path in sorted((self.plant.plant.data_dir / "log").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-5:]
            for line in lines:
                self.console.print(f"{path.stem}: {line}", markup=False, highlight=False)
