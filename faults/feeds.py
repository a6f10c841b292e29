"""Feeds that publish too much, what they should not, or beside another; and outboxes without room."""

import contextlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

from faults.case import Case, Fault
from faults.processes import FEEDS, killed
from faults.site import ROOT, Site
from tickplant import Feed, sockets, wire
from tickplant._core import framing
from tickplant.config import ENVIRONMENT
from tickplant.errors import AlreadyRunning, TickplantError
from tickplant.schema import Rows, Table

STRANGERS = 200
MEMORY_MAX = 1 << 28
"""By which a feed, or the plant, may grow in a burst: less than a window and a queue."""
_EVIL_ROWS = 50


def restarted_later(*names: str) -> Fault:
    """kill -9 of one of these processes, which is away long enough for a small outbox to fill."""

    def fault(site: Site, choice: random.Random) -> bool:
        site.kill(choice.choice(names), choice.uniform(1.0, 3.0))
        site.pause(choice.uniform(0.5, 2.0))
        return True

    return fault


def burst(site: Site, choice: random.Random) -> bool:
    """Ten times as many rows for ten seconds; neither the feeds' memory nor the plant's follows them."""
    names = ("tickerplant", *FEEDS)
    before = {name: _memory(site, name) for name in names}
    mark = site.folder / "burst"
    mark.touch()
    most = dict(before)
    try:
        for _ in range(20):
            site.pause(0.5)
            most = {name: max(most[name], _memory(site, name)) for name in names}
    finally:
        mark.unlink()
    for name in names:
        if before[name] and most[name] - before[name] > MEMORY_MAX:
            raise TickplantError(f"{name} grew from {before[name]:,} to {most[name]:,} bytes in a burst")
    grown = ", ".join(f"{name} {(most[name] - before[name]) / (1 << 20):.1f} MiB" for name in names)
    site.figures.append(f"in 10 s of burst, resident memory grew by: {grown}")
    return True


def _memory(site: Site, name: str) -> int:
    try:
        said = json.loads((site.config.status_dir / f"{name}.json").read_text())
    except (OSError, ValueError):
        return 0
    return int(said.get("memory_bytes", 0))


def elsewhere(site: Site, feed: str, rate: float) -> tuple[Path, Path]:
    """The configuration of a feed on another host: its path, and where its outbox is."""
    content: dict[str, Any] = msgspec.toml.decode(site.feed_path(feed).read_bytes())
    data = site.folder / "elsewhere"
    content["plant"] |= {"data_dir": str(data), "run_dir": str(site.folder / "elsewhere-run")}
    content["feeds"][feed]["options"] |= {
        "path": str(data / "rival.counts"), "seed": site.seed + 1, "rate": rate
    }  # fmt: skip
    path = site.folder / "elsewhere.toml"
    data.mkdir(exist_ok=True)
    path.write_bytes(msgspec.toml.encode(content))
    return path, data / "outbox" / feed


def rival(site: Site, path: Path, feed: str) -> "subprocess.Popen[bytes]":
    """Start a feed with this configuration beside the one that runs."""
    with (site.folder / "rival.log").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tickplant", "run", "feed", feed], cwd=ROOT, stdout=out, stderr=out,
            env={"PYTHONPATH": str(ROOT), ENVIRONMENT: str(path)},
        )  # fmt: skip


def second_host(site: Site, choice: random.Random) -> bool:
    """Another host runs the same feed by the same configuration; it must end, and nothing of it be taken."""
    feed = choice.choice(("one", "two"))
    path, outbox = elsewhere(site, feed, site.rate)
    if choice.random() < 0.5:
        shutil.rmtree(outbox, ignore_errors=True)
    other = rival(site, path, feed)
    try:
        site.until(lambda: other.poll() is not None, "a second host's feed to be refused")
    finally:
        other.kill()
    if other.wait() != AlreadyRunning.exit_code:
        raise TickplantError(f"a second host's feed ended with status {other.returncode}")
    return True


def _copied(path: str, to: str) -> str:
    """Copy a file of an outbox, unless it has just been acknowledged and deleted."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(path, to)
    return to


def copied_outbox(site: Site, choice: random.Random) -> bool:
    """A copy of a feed's folder is started elsewhere and takes over; the feed must notice, and come back."""
    feed = choice.choice(("one", "two"))
    process = site.processes[f"feed-{feed}"]
    path, outbox = elsewhere(site, feed, 0.0)
    shutil.rmtree(outbox, ignore_errors=True)
    if not site.config.outbox_dir(feed).exists():
        return False  # it has just been started
    shutil.copytree(
        site.config.outbox_dir(feed), outbox, ignore=shutil.ignore_patterns("lock"), copy_function=_copied
    )
    had, running = _session(site, feed), process.running
    other = rival(site, path, feed)
    try:
        site.until(lambda: other.poll() is not None or _session(site, feed) != had, "a copy to take over")
    finally:
        other.kill()
        other.wait()
    if _session(site, feed) == had:
        return False  # it was copied in the middle of a write, and said so
    site.until(lambda: process.running is not running, "the feed to notice")
    site.until(lambda: site.publishes(f"feed-{feed}"), "the feed to come back")
    process.deaths = [d for d in process.deaths if d != f"status {AlreadyRunning.exit_code}"]
    return True


def _session(site: Site, feed: str) -> int:
    """The session that the plant has."""
    try:
        said = json.loads((site.config.status_dir / "tickerplant.json").read_text())
    except (OSError, ValueError):
        return 0
    return int(said.get("feeds", {}).get(feed, {}).get("session", 0))


def strangers(site: Site, choice: random.Random) -> bool:
    """Peers of no plant: many who say hello under other names, and bytes that are no messages."""
    peers = []
    for n in range(STRANGERS):
        peer = sockets.context().socket(zmq.DEALER)
        peer.setsockopt(zmq.IDENTITY, f"stranger-{choice.random()}-{n}".encode())
        sockets.connect(peer, site.config.tickerplant.repair)
        session, seq = choice.getrandbits(63), choice.getrandbits(60)
        whose = {"feed": "one", "number": 1, "plant": site.name, "identity": ""}
        peer.send(wire.pack("hello", session=session, seq=seq, process=choice.getrandbits(60), **whose))
        for _ in range(5):
            peer.send_multipart(
                [choice.randbytes(choice.randint(0, 200)) for _ in range(choice.randint(1, 4))]
            )
        peers.append(peer)
    site.pause(choice.uniform(0.2, 1.0))
    for peer in peers:
        peer.close(linger=0)
    return True


def malformed(site: Site, choice: random.Random) -> bool:
    """Live messages that are not frames, or say what can't be; some of them with a right CRC."""
    pub = sockets.context().socket(zmq.XPUB)
    sockets.connect(pub, site.config.tickerplant.ingress)
    try:
        if not pub.poll(2000):
            return False  # the plant is just not there
        table = site.config.schema["trade"]
        for _ in range(2000):
            pub.send(_odd(table, choice))
        site.pause(0.2)
    finally:
        pub.close(linger=200)
    return True


def _odd(table: Table, choice: random.Random) -> bytes:
    rows = table.empty(choice.randint(0, 5))
    good = framing.seal(
        rows.view("u1"), choice.randint(0, 7), table=choice.choice((0, 2, 3, 200, 65535)),
        feed=choice.choice((0, 3, 77, 4095, 65535)), session=choice.getrandbits(64),
        seq=choice.getrandbits(64),
        count=choice.choice((len(rows), 0, 1 << 31)), schema=choice.choice((table.fingerprint, 1)),
    )  # fmt: skip
    kind = choice.randrange(6)
    if kind == 0:
        return choice.randbytes(choice.randint(0, 300))
    if kind == 1:
        return b"XY" + good[2:]
    if kind == 2:
        return good[: choice.randrange(len(good))]
    if kind == 3:
        at = choice.randrange(len(good))
        return good[:at] + bytes([good[at] ^ 1 << choice.randrange(8)]) + good[at + 1 :]
    return good


def evil(feed: Feed, seed: int) -> None:
    """A handler whose rows are noise: all bits, instruments never defined or defined again and again."""
    random = np.random.default_rng([seed, feed.session])
    names = [t.name for t in feed.config.schema if t.name not in ("event", "instrument")]
    while not feed.wait(0.01):
        name = str(random.choice(names))
        feed.append(name, _noise(feed.config.schema[name], random))
        feed.append("instrument", _definitions(feed.config.schema["instrument"], random))


def _noise(table: Table, random: np.random.Generator) -> Rows:
    rows = table.rows(bytearray(random.bytes(table.row_size * _EVIL_ROWS)))
    rows["ts_recv"] |= 1
    return rows


def _definitions(table: Table, random: np.random.Generator) -> Rows:
    rows = table.rows(bytearray(random.bytes(table.row_size * 3)))
    rows["ts_recv"] |= 1
    rows["code"] = random.integers(1, 50, 3)
    rows["venue"] = b"XEVL"
    rows["symbol"] = [f"S{n}".encode() for n in random.integers(0, 30, 3)]
    return rows


def with_evil(content: dict[str, Any], site: Site) -> None:
    """A third feed, which is evil."""
    options = {"seed": site.seed}
    content["feeds"]["three"] = {"id": 3, "handler": "faults.feeds:evil", "options": options}


def small_outboxes(when_full: str) -> Any:
    """Outboxes that hold less than a second of rows."""

    def settings(content: dict[str, Any], site: Site) -> None:
        content["outbox"] |= {"max_bytes": 1 << 18, "segment_bytes": 1 << 16, "when_full": when_full}

    return settings


_FULL = [restarted_later("tickerplant"), killed(*FEEDS)]

CASES = {
    "feed-burst": Case([burst], mixed=False),
    "feed-second-host": Case([second_host], mixed=False),
    "feed-copied-outbox": Case([copied_outbox], mixed=False),
    "feed-evil": Case([strangers, malformed, killed("feed-three")], mixed=False, settings=with_evil),
    "feed-strangers": Case([strangers, malformed]),
    "outbox-full-block": Case(_FULL, mixed=False, settings=small_outboxes("block")),
    "outbox-full-drop": Case(_FULL, mixed=False, settings=small_outboxes("drop")),
}
