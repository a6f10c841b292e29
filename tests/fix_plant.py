"""Throw-away plants: configurations, ticker plants turned by hand, real processes, and scripted feeds."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from tickplant import Feed, config, control, segment, sockets, wire
from tickplant._core import framing, rowsums
from tickplant.config import Config
from tickplant.dialogue import route
from tickplant.errors import JournalError
from tickplant.journal import JournalReader
from tickplant.keys import ClientKeys
from tickplant.local import wait_for
from tickplant.publisher import Publisher
from tickplant.schema import Rows, Table
from tickplant.sockets import free_port
from tickplant.tickerplant import TickerPlant

PATIENCE_S = 180.0
BEAT_S = 5.0
"""A deadline that only a plant that hangs will miss."""


def until(condition: Callable[[], Any], *, turning: Callable[[], Any] | None = None) -> Any:
    """Wait for a condition, turning what has to be turned; what it gave."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "this never came true"
        if turning is None:
            time.sleep(0.005)
        else:
            turning()
    return found


class Site:
    """A folder and a name for one plant, and what runs there."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tpt"))  # not pytest's: socket paths must be short
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._open = contextlib.ExitStack()

    def configured(self, **changes: dict[str, Any]) -> Config:
        """The shipped configuration, moved here; `changes` are merged in by section."""
        content = msgspec.toml.decode(config.shipped().read_bytes())
        at = self.folder
        content["plant"] |= {"name": self.name, "data_dir": str(at / "data"), "run_dir": str(at / "run")}
        content["tickerplant"] |= {"ingress": f"ipc://{at}/in", "repair": f"ipc://{at}/rep"}
        content["tickerplant"] |= {"instruments_max": 4096, "extent_rows": 4096}
        content["publisher"] |= {"publish": f"ipc://{at}/pub", "request": f"ipc://{at}/req"}
        content["publisher"] |= {"heartbeat_ms": 20}
        content["feeds"] = {"one": {"id": 1, "handler": "none"}, "two": {"id": 2, "handler": "none"}}
        for section, values in changes.items():
            content[section] |= values
        path = at / "plant.toml"
        path.write_bytes(msgspec.toml.encode(content))
        return config.load(path)

    def ticker_plant(self, cfg: Config) -> TickerPlant:
        """A ticker plant in this process, open, to be turned by the test."""
        plant = TickerPlant(cfg)
        plant.open()
        self._open.callback(closed, plant)
        return plant

    def publisher(self, cfg: Config) -> Publisher:
        """A publisher in this process, open, to be turned by the test."""
        publisher = Publisher(cfg)
        publisher.open()
        self._open.callback(publisher.close)
        return publisher

    def feed(self, cfg: Config, name: str = "one", **options: Any) -> Feed:
        """A real feed, open."""
        feed = Feed(cfg, name, **options)
        feed.open(0.0)  # the plant is turned by the test: it can't say anything now
        self._open.callback(quietly, feed.close, 0.0)
        return feed

    def raw_feed(self, plant: TickerPlant, number: int = 1, **options: Any) -> "RawFeed":
        """A scripted feed, connected."""
        feed = RawFeed(plant, number, **options)
        self._open.callback(feed.close)
        return feed

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A process of the plant."""
        return self.python("-m", "tickplant", "--config", str(self.folder / "plant.toml"), *arguments)

    def python(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A Python process."""
        log = (self.folder / f"log.{len(self.processes)}").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=Path(__file__).parents[1],
            )  # fmt: skip
        self.processes.append(process)
        return process

    def run_ticker_plant(self) -> subprocess.Popen[bytes]:
        """A real ticker plant that is up."""
        process = self.run("run", "tickerplant")
        until(lambda: self._is_up(process.pid))
        return process

    def _is_up(self, pid: int) -> bool:
        try:
            with contextlib.suppress(config.ConfigError):
                return int(control.Control.attach(self.name).pid.load()) == pid
        except (control.NotRunning, segment.SegmentError):
            pass
        return False

    def logs(self) -> str:
        """What the processes have said."""
        return "\n".join(p.read_text() for p in sorted(self.folder.glob("log.*")))

    def clear(self) -> None:
        """End and remove everything."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._open.close()
        control.remove_all(self.name)
        shutil.rmtree(self.folder)


def killed(process: subprocess.Popen[bytes]) -> None:
    """kill -9, and the body is gone."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def quietly(call: Callable[..., Any], *arguments: Any) -> None:
    with contextlib.suppress(Exception):
        call(*arguments)


def closed(plant: TickerPlant) -> None:
    """Close a ticker plant of this process, if it is still open, and its descriptors."""
    if not plant.sub.closed:
        with contextlib.suppress(JournalError):
            plant.close()
        _left(plant)
        for lock in plant._locks:
            lock.release()
        _forget(plant)


def crashed(plant: TickerPlant) -> None:
    """End a ticker plant of this process as kill -9 would: nothing is flushed, sealed or told."""
    plant._syncer.stop()
    if plant._syncer.is_alive():
        plant._syncer.join()  # a process that is gone has no thread that still says what is durable
    _left(plant)
    journal = plant.day.journal
    with journal._syncing:
        journal._unsynced.clear()
        if journal._fd >= 0:
            os.close(journal._fd)
            journal._fd = -1
        if journal._note >= 0:
            os.close(journal._note)
            journal._note = -1
    _forget(plant)
    for lock in plant._locks:
        lock.release()


def _left(plant: TickerPlant) -> None:
    if plant._drain:
        plant._drain.close()
    if ingress := getattr(plant, "ingress", None):  # else it was refused before
        ingress.outboxes.close()
    if doorbell := getattr(plant, "doorbell", None):
        doorbell.close()
    for held in (plant.sub, plant.router, plant.admin):
        held.close(linger=0)
    plant.guard.close()


def _forget(plant: TickerPlant) -> None:
    for table in plant.day.tables:
        with table._extending:
            if table.segment:
                table.segment.close()
    for latest in plant.day.latest:
        if latest.segment:
            latest.segment.close()


class RawFeed:
    """A feed whose every message the test decides: a PUB that knows when the plant listens, and a DEALER.

    `kept` is its outbox; `made` frames go there. What is asked over the DEALER is noted in `asked`, and
    answered from `kept` by `serve` unless `mute`.
    """

    def __init__(
        self,
        plant: TickerPlant,
        number: int = 1,
        session: int | None = None,
        keys: ClientKeys | None = None,
    ) -> None:
        settings = plant.config.tickerplant
        self.plant, self.schema, self.number = plant, plant.config.schema, number
        name = self.name = next(n for n, f in plant.config.feeds.items() if f.id == number)
        self.session = session or time.time_ns()
        self.seq = 0
        self.counts: dict[str, int] = {}
        self.sums: dict[str, int] = {}
        self.names = np.zeros(4096, np.uint64)
        self.kept: list[bytes] = []
        self.asked: list[dict[str, Any]] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.refused: list[int] = []
        """Sessions that the plant told to end."""
        self.mute = False
        self.knows = True
        self.pub = sockets.context().socket(zmq.XPUB)
        self.dealer = sockets.context().socket(zmq.DEALER)
        if keys is None:
            self.dealer.setsockopt(zmq.IDENTITY, route(plant.config.plant.name, name))
        sockets.connect(self.pub, settings.ingress, keys)
        sockets.connect(self.dealer, settings.repair, keys)
        until(lambda: self.pub.poll(0), turning=plant.turn)
        self.say("hello", session=0, seq=0)
        until(lambda: plant.ingress.feeds[number].connected, turning=plant.turn)

    def restart(self) -> None:
        """Begin another session, as a feed process does that has the same outbox."""
        self.session += 1
        self.seq = 0
        self.counts, self.sums = {}, {}

    def frame(self, of: Table, rows: Rows, **fields: Any) -> bytes:
        """A frame like the next one, but for `fields`."""
        usual = {
            "table": of.number, "feed": self.number, "session": self.session, "seq": self.seq,
            "feed_row": self.counts.get(of.name, 0), "feed_sum": self.sums.get(of.name, 0),
            "time_ns": time.time_ns(), "count": len(rows), "schema": of.fingerprint,
        }  # fmt: skip
        made: bytes = framing.seal(rows.view("u1"), wire.ROWS, **(usual | fields))
        return made

    def make(self, name: str, rows: Rows) -> bytes:
        """The next frame, kept but not sent."""
        table = self.schema[name]
        total = self.sums.get(name, 0) + rowsums.row_sum(rows.view("u1"), table.row_size, self.names)
        self.sums[name] = total % (1 << 64)
        made = self.frame(table, rows)
        self.kept.append(made)
        self.counts[name] = self.counts.get(name, 0) + len(rows)
        self.seq += len(rows)
        return made

    def define(self, code: int, symbol: str) -> bytes:
        """The frame that defines an instrument of venue XTST."""
        rows = self.schema["instrument"].empty(1)
        rows["code"] = rows["instrument"] = code
        rows["venue"], rows["symbol"] = b"XTST", symbol.encode()
        self.names[code] = rowsums.name_hash(f"XTST:{symbol}".encode())
        return self.make("instrument", rows)

    def trades(self, count: int, code: int = 0) -> bytes:
        """The next frame of trades, numbered on by trade_id over all sessions."""
        first = sum(wire.header(f).count for f in self.kept if wire.header(f).table == 3)
        return self.make("trade", trades(self.schema["trade"], first, count, code))

    def beat(self) -> bytes:
        """A heartbeat that says what has been made."""
        beat: bytes = framing.seal(b"", wire.HEARTBEAT, feed=self.number, session=self.session, seq=self.seq)
        return beat

    def beat_of(self, session: int, seq: int) -> bytes:
        """A heartbeat that says anything."""
        beat: bytes = framing.seal(b"", wire.HEARTBEAT, feed=self.number, session=session, seq=seq)
        return beat

    def send(self, *messages: bytes) -> None:
        """Send live, and have the plant take all of it."""
        for message in messages:
            self.pub.send(message)

    def say(self, op: str, **fields: Any) -> None:
        if op == "hello":
            fields.setdefault("process", 1)
        self.dealer.send(wire.pack(op, **(whose(self.plant, self.name) | fields)))

    def serve(self) -> None:
        """Hear the plant, and answer what it asks for."""
        while self.dealer.poll(0):
            message = wire.unpack(self.dealer.recv())
            if message["op"] == "ack":
                self.acknowledged.append((message["session"], message["seq"]))
                continue
            if message["op"] == "refuse":
                self.refused.append(message["session"])
                continue
            if message["op"] in ("follow", "reason"):
                continue
            self.asked.append(message)
            if not self.mute:
                self.answer(message)

    def answer(self, message: dict[str, Any], most: int = 1000, **fields: Any) -> None:
        """Answer a fetch out of `kept`, with `most` frames at most."""
        place = message["session"], message["seq"]
        heads = [(wire.header(f), f) for f in self.kept]
        after = [f for h, f in heads if (h.session, h.seq + h.count) > place]
        size, now = 0, 0
        while now < min(most, len(after)) and (not now or size + len(after[now]) <= message["bytes"]):
            size += len(after[now])
            now += 1
        blob = b"".join(after[:now])
        said = {"more": len(after) > now, "knows": self.knows, "mine": self.session} | fields
        said |= whose(self.plant, self.name)
        head = wire.pack("frames", session=place[0], seq=place[1], crc=framing.crc32c(blob), **said)
        self.dealer.send_multipart([head, blob])

    def settle(self, condition: Callable[[], Any] | None = None) -> None:
        """Turn the plant and serve it until it has all that was made (or the condition holds)."""
        due = time.monotonic() + BEAT_S

        def turn() -> None:
            nonlocal due
            self.plant.turn()
            self.serve()
            if condition is None and time.monotonic() > due:  # what was sent while the plant was away is lost
                due = time.monotonic() + BEAT_S
                self.pub.send(self.beat())

        def all_there() -> bool:
            return self.plant.day.intake.session(self.number) == (self.session, self.seq)

        until(condition or all_there, turning=turn)
        self.plant.commit()

    def close(self) -> None:
        self.pub.close(linger=0)
        self.dealer.close(linger=0)


def whose(plant: TickerPlant, name: str = "one") -> dict[str, Any]:
    """What each message of a feed says of itself and its plant."""
    number = plant.config.feeds[name].id
    return {"feed": name, "number": number, "plant": plant.identity.plant, "identity": plant.identity.token}


def sealed(packed: bytes) -> bytes:
    """A control message of any content."""
    return packed + framing.crc32c(packed).to_bytes(4, "little")


def trades(table: Table, first: int, count: int, code: int = 0) -> Rows:
    """Rows whose every value follows from their number."""
    rows = table.empty(count)
    number = np.arange(first, first + count)
    rows["trade_id"], rows["ts_event"], rows["instrument"] = number, number * 1000 + 7, code
    rows["price"], rows["size"] = number * 0.25 + 1, number % 977
    rows["side"] = np.array([b"B", b"S"])[number % 2]
    return rows


def journaled(cfg: Config, trading_date: int) -> list[tuple[wire.Header, bytes]]:
    """Every frame of a date's journal."""
    reader = JournalReader(cfg.journal_dir / str(trading_date), None, None)
    out = []
    while chunk := reader.read():
        for offset, size, *_ in framing.index(chunk).tolist():
            frame = chunk[offset : offset + size]
            out.append((wire.header(frame), frame[wire.HEADER_SIZE :]))
    reader.close()
    return out


def rows_of(cfg: Config, trading_date: int, table: str) -> Rows:
    """The rows of a table in a date's journal; they are there from 0 on, without a hole."""
    declared = cfg.schema[table]
    parts, expected = [declared.empty(0)], 0
    for head, payload in journaled(cfg, trading_date):
        if head.kind == wire.ROWS and head.table == declared.number:
            assert head.row == expected
            assert head.trading_date == trading_date
            parts.append(declared.rows(payload))
            expected += head.count
    return np.concatenate(parts)


def events(cfg: Config, trading_date: int, kind: str) -> list[tuple[int, int, int, int]]:
    """(about, session, first, last) of the event rows of a kind."""
    rows = rows_of(cfg, trading_date, "event")
    rows = rows[rows["kind"] == kind.encode()]
    return [tuple(r) for r in rows[["about", "session", "first", "last"]].tolist()]


def check_claims(plant: TickerPlant) -> None:
    """What each feed claims, by count and checksum, is what journal and shared memory hold."""
    cfg, day = plant.config, plant.day
    for table in cfg.schema:
        rows = rows_of(cfg, day.trading_date, table.name)
        shared = np.empty(len(rows) * table.row_size, "u1")
        part = next(t for t in day.tables if t.table.number == table.number)
        assert part.committed.load() == len(rows)
        part.columns.gather(0, len(rows), shared)
        assert shared.tobytes() == rows.tobytes()
        counts, sums = np.zeros(8, np.uint64), np.zeros(8, np.uint64)
        names = plant.registry.instruments.hashes
        rowsums.row_sums(rows.view("u1"), table.row_size, names, counts, sums)
        for feed in day.feed_numbers:
            claim = day.intake.claims(feed).get(table.number, (0, 0))
            assert claim == (counts[feed], sums[feed]), (table.name, feed)


def admin(cfg: Config, *parts: bytes) -> zmq.Socket[bytes]:
    """A connected admin socket on which these parts have been sent."""
    asking = sockets.context().socket(zmq.REQ)
    sockets.connect(asking, f"ipc://{cfg.plant.run_dir}/tickerplant.sock")
    asking.send_multipart(parts)
    return asking


@pytest.fixture
def site() -> Iterator[Site]:
    """A place for a plant; afterwards nothing of it is left."""
    made = Site()
    try:
        yield made
    finally:
        made.clear()


@pytest.fixture
def cfg(site: Site) -> Config:
    """The configuration of a plant that nobody has run."""
    return site.configured()


@pytest.fixture
def plant(site: Site, cfg: Config) -> TickerPlant:
    """A ticker plant to be turned by the test."""
    return site.ticker_plant(cfg)


@pytest.fixture
def raw(site: Site, plant: TickerPlant) -> RawFeed:
    """A scripted feed of that plant."""
    return site.raw_feed(plant)


__all__ = ["free_port", "wait_for"]
