"""The live handler on real multicast sockets of the loopback: losses, re-requests, gaps, and a recording."""

import socket
import struct
import threading

import itch_messages as itch
import numpy as np
import packet_files as packets
import pytest

from tests.fix_plant import rows_of, until
from tickplant.errors import CaptureError, ConfigError
from tickplant.feed import handlers
from tickplant.feed.formats import open_capture
from tickplant.feed.packets.mold_live import Recorder, moldudp64
from tickplant.feed.packets.multicast import Receiver
from tickplant.feed.packets.pcap import PcapReader
from tickplant.schema import Flag
from tickplant.sockets import free_port

SESSION = b"LIVE000001"
DAY = [itch.directory(ns=1), *(itch.add(i, b"B", 100, 10_000 + i, ns=i) for i in range(2, 61))]
"""Sixty messages, numbered from 1; message i from 2 on adds order i."""


class Collected:
    """What a handler publishes, in place of a plant."""

    def __init__(self):
        self.stopping = threading.Event()
        self.rows = {}

    def append(self, table, rows):
        self.rows.setdefault(table, []).append(rows)

    def beat(self):
        pass

    def of(self, table):
        parts = list(self.rows.get(table, ()))
        return np.concatenate(parts) if parts else []


class Channel:
    """Two multicast lines and a re-request server with what was sent, but for `without`."""

    def __init__(self, without=(), deaf=0):
        self.lines = [("239.255.77.1", free_port()), ("239.255.77.2", free_port())]
        self.out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.without, self.deaf, self.asked = set(without), deaf, []
        self.answer_from = lambda source: None
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        """Answer a request with at most three messages, up to the first that is not there."""
        while request := self.server.recvfrom(100):
            (session, first, count), source = struct.unpack(">10sQH", request[0]), request[1]
            if not count:
                return
            self.asked.append((first, count))
            self.answer_from(source)
            if session != SESSION or len(self.asked) <= self.deaf:
                continue
            there = []
            while len(there) < min(3, count) and first + len(there) not in self.without:
                there.append(DAY[first + len(there) - 1])
            if there:
                self.server.sendto(packets.mold(there, first, SESSION), source)

    def send(self, line, seq, count=1):
        self.out.sendto(packets.mold(DAY[seq - 1 : seq - 1 + count], seq, SESSION), self.lines[line])

    def heartbeat(self):
        for line in self.lines:
            self.out.sendto(packets.mold([], len(DAY) + 1, SESSION), line)

    def close(self):
        self.out.sendto(struct.pack(">10sQH", SESSION, 0, 0), self.server.getsockname())
        self.thread.join()
        self.server.close()
        self.out.close()

    def options(self):
        lines = [f"{address}:{port}" for address, port in self.lines]
        server = f"127.0.0.1:{self.server.getsockname()[1]}"
        return {"lines": lines, "interface": "127.0.0.1", "requests": [server]}


@pytest.fixture
def channel():
    opened = []

    def open_channel(**options):
        opened.append(Channel(**options))
        return opened[-1]

    yield open_channel
    for one in opened:
        one.close()


def run(channel, done, send, **options):
    """The handler beside, while `send` sends and heartbeats follow until it is `done`."""
    feed = Collected()
    thread = threading.Thread(target=moldudp64, args=(feed,), kwargs={**channel.options(), **options})
    thread.start()
    try:
        until(lambda: channel.send(0, 1) or feed.rows or not thread.is_alive())
        send()
        until(lambda: channel.heartbeat() or done(feed))
    finally:
        feed.stopping.set()
        thread.join()
    return feed


def orders(feed):
    return [int(i) for rows in list(feed.rows.get("order", ())) for i in rows["order_id"]]


def test_what_one_line_loses_the_other_brings_and_what_both_lose_the_server(channel):
    lines = channel()

    def send():
        for seq in range(2, 61):
            if seq % 5:  # line A loses every fifth
                lines.send(0, seq)
            if seq % 7:  # line B every seventh; both 35
                lines.send(1, seq)

    feed = run(lines, lambda feed: len(orders(feed)) == 59, send, start=1, wait_ms=20_000)
    assert orders(feed) == list(range(2, 61))
    assert feed.of("order")["venue_seq"].tolist() == list(range(2, 61))
    assert "event" not in feed.rows
    late = feed.of("order")[feed.of("order")["flags"] & Flag.LATE != 0]
    assert 35 in late["order_id"].tolist()
    assert any(first <= 35 < first + count for first, count in lines.asked)


def test_a_lost_request_is_repeated_and_a_long_gap_is_filled_piece_by_piece(channel):
    lines = channel(deaf=2)
    done = lambda feed: len(orders(feed)) == 59  # noqa: E731
    feed = run(lines, done, lambda: lines.send(1, 60), start=1, wait_ms=20_000, request_every_ms=5)
    assert orders(feed) == list(range(2, 61))
    assert "event" not in feed.rows
    firsts = [first for first, _ in lines.asked]
    assert firsts[:3] == [2, 2, 2]
    assert {2, 5, 8, 56} <= set(firsts)


def test_what_nobody_has_is_a_gap_and_the_rest_goes_on(channel):
    lines = channel(without=[20, 21])
    done = lambda feed: len(orders(feed)) == 57  # noqa: E731
    feed = run(lines, done, lambda: lines.send(0, 22, 39), start=1, wait_ms=400, request_every_ms=20)
    event = feed.of("event")
    known = [i for i in range(2, 61) if i not in (20, 21)]
    assert orders(feed) == known
    assert event[["kind", "first", "last"]].tolist() == [(b"gap", 20, 21)]
    assert event["text"][0] == b"not on any line within 400 ms"


def test_all_that_is_received_is_recorded_and_can_be_replayed(channel, tmp_path):
    lines = channel()
    path = tmp_path / "day.pcap"
    path.write_bytes(b"an earlier one")
    done = lambda feed: len(orders(feed)) == 59  # noqa: E731
    feed = run(lines, done, lambda: lines.send(0, 60), start=1, wait_ms=20_000, record=str(path))
    assert path.read_bytes() == b"an earlier one"
    recorded = list(PcapReader(tmp_path / "day.pcap.1"))
    assert {line for _, _, line, _ in recorded} >= {lines.lines[0]}
    assert recorded[0][3] == packets.mold(DAY[:1], 1, SESSION)
    assert {source for _, source, _, _ in recorded} >= {lines.server.getsockname()}
    again = [r for b in open_capture(tmp_path / "day.pcap.1") for t, r in b if t == "order"]
    assert np.concatenate(again)["order_id"].tolist() == orders(feed)


def test_only_a_server_that_was_asked_may_answer(channel):
    lines = channel(deaf=10**6)
    feed = Collected()
    options = {**lines.options(), "start": 1, "wait_ms": 20_000, "request_every_ms": 5}
    asking = []
    lines.answer_from = asking.append
    thread = threading.Thread(target=moldudp64, args=(feed,), kwargs=options)
    thread.start()
    try:
        until(lambda: lines.send(0, 2) or asking)
        lines.out.sendto(packets.mold([itch.add(77, b"B", 1, 1)], 1, SESSION), ("127.0.0.1", asking[0][1]))
        told = len(asking) + 1  # it is asked for again after the stranger was heard
        until(lambda: len(asking) > told or feed.rows)
        until(lambda: lines.send(1, 1) or 2 in orders(feed))
        assert orders(feed) == [2]
        assert feed.of("instrument")["lot_size"].tolist() == [100]
    finally:
        feed.stopping.set()
        thread.join()


def test_the_plant_has_what_the_lines_sent(site, channel):
    lines = channel()
    options = {**lines.options(), "start": 1, "wait_ms": 20_000.0, "venue": "XBOS"}
    cfg = site.configured(feeds={"mine": {"id": 7, "handler": "moldudp64", "options": options}})
    plant = site.ticker_plant(cfg)
    feed, handler = handlers.prepare(cfg, "mine")
    feed.open()
    thread = threading.Thread(target=handler)
    thread.start()
    try:
        until(lambda: lines.send(0, 1) or feed.rows_published)
        lines.send(1, 60)

        def turning():
            lines.heartbeat()
            plant.turn()

        until(lambda: plant.day.intake.session(7) == (feed.session, 1 + 59 + 59), turning=turning)
    finally:
        feed.stopping.set()
        thread.join()
    plant.commit()
    assert rows_of(cfg, plant.day.trading_date, "order")["order_id"].tolist() == list(range(2, 61))
    assert list(plant.registry.instruments) == ["XBOS:ACME"]
    feed.close(0.0)


def test_lines_that_can_not_be_received_are_refused():
    with pytest.raises(ConfigError, match="'nonsense' is not an IP address"):
        Receiver([("nonsense", 5)])
    with pytest.raises(CaptureError, match="can't receive 192.0.2.77:5000"):
        Receiver([("192.0.2.77", 5000)])
    with pytest.raises(CaptureError, match=r"can't receive 239.255.77.9:\d+ on nowhere"):
        Receiver([("239.255.77.9", free_port())], "nowhere")


def test_a_recording_that_can_not_be_written_ends_and_says_so(tmp_path, monkeypatch):
    recorder = Recorder(str(tmp_path / "day.pcap"))
    writer = recorder._writer

    def full():
        raise CaptureError("can't record to day.pcap: No space left on device")

    monkeypatch.setattr(writer, "flush", full)
    datagrams = [(1, ("127.0.0.1", 5), ("127.0.0.2", 6), b"x")]
    assert recorder.write(datagrams) == "can't record to day.pcap: No space left on device"
    assert recorder.write(datagrams) == ""
    recorder.close()
    writer.close()
    with pytest.raises(CaptureError, match="can't record to"):
        Recorder(str(tmp_path / "nowhere" / "day.pcap"))
