"""Nasdaq TotalView-ITCH 5.0 as it is sent: MoldUDP64 on multicast lines, with re-requests and a
recording."""

import socket
from pathlib import Path

from tickplant.clock import MILLISECOND_NS, now_ns
from tickplant.errors import CaptureError
from tickplant.feed.handler import Feed
from tickplant.feed.packets.arbiter import HELD_MAX
from tickplant.feed.packets.capture import endpoint
from tickplant.feed.packets.datagram import Datagram, Endpoint
from tickplant.feed.packets.mold_itch50 import MoldItch
from tickplant.feed.packets.moldudp64 import MoldStream, request
from tickplant.feed.packets.multicast import Receiver
from tickplant.feed.packets.pcap import PcapWriter
from tickplant.feed.sink import Sink

TURN_S = 0.002
RECORDINGS_MAX = 10_000


class Requester:
    """Asks re-request servers for what is missing: when, whom and how much (pure but for its socket).

    A gap is asked for when it is `after_ns` old (the other line may bring it), again every `every_ns`,
    each time the next of the servers, and at once for what is left when an answer has brought a part of
    it.
    """

    def __init__(self, servers: list[Endpoint], after_ns: int, every_ns: int) -> None:
        family = socket.AF_INET6 if servers and ":" in servers[0][0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(("", 0))
        self.asked = 0
        """Requests sent."""
        self._servers, self._after_ns, self._every_ns = servers, after_ns, every_ns
        self._missing: tuple[int, int] | None = None
        self._due_ns = 0

    def answers(self, source: Endpoint) -> bool:
        """Is this one of the servers?"""
        return source in self._servers

    def turn(self, stream: MoldStream, now: int) -> None:
        """Ask for what the stream waits for, if it is time to."""
        missing = stream.missing()
        if not self._servers or missing is None or not isinstance(stream.session, bytes):
            self._missing = None
            return
        if self._missing is None or missing[0] > self._missing[1]:
            self._due_ns = now + self._after_ns
        elif missing[0] != self._missing[0]:
            self._due_ns = now
        self._missing = missing
        if now < self._due_ns:
            return
        self._due_ns = now + self._every_ns
        server = self._servers[self.asked % len(self._servers)]
        self.asked += 1
        self._send(request(stream.session, missing[0], missing[1] - missing[0] + 1), server)

    def _send(self, packet: bytes, server: Endpoint) -> None:
        try:
            self.socket.sendto(packet, server)
        except OSError:  # it is asked again, the next server first; what nobody answers is a gap
            self._due_ns = min(self._due_ns, now_ns() + MILLISECOND_NS)


class Recorder:
    """A recording of all datagrams, which ends when it can't be written; without a path there is
    none."""

    def __init__(self, path: str) -> None:
        self._writer = PcapWriter(_free(Path(path))) if path else None

    def write(self, datagrams: list[Datagram]) -> str:
        """Record these; why there will be no more of it, or nothing."""
        if self._writer is None:
            return ""
        try:
            for ts_ns, source, line, payload in datagrams:
                self._writer.write(ts_ns, source, line, payload)
            self._writer.flush()
        except CaptureError as e:
            self._writer = None
            return str(e)
        return ""

    def close(self) -> None:
        """The end of it. Raises CaptureError if the last of it can't be written."""
        if self._writer is not None:
            self._writer.close()


def _free(path: Path) -> Path:
    """This path, or with a number behind it: a recording never takes the place of another."""
    names = (path if not n else path.with_name(f"{path.name}.{n}") for n in range(RECORDINGS_MAX))
    return next((p for p in names if not p.exists()), path)


def moldudp64(
    feed: Feed, *, lines: list[str], interface: str = "", requests: list[str] | None = None,
    venue: str = "XNAS", timezone: str = "America/New_York", start: int | None = None,
    wait_ms: float = 500.0, request_after_ms: float = 5.0, request_every_ms: float = 100.0,
    held_max: int = HELD_MAX, receive_bytes: int = 1 << 25, record: str = "", books: bool = True,
) -> None:  # fmt: skip
    """Publish Nasdaq TotalView-ITCH 5.0 (BX, PSX: by `venue`) from multicast, until told to stop.

    lines             IP:PORT of each line of the channel: A and B
    interface         name or IPv4 address of the interface on which the groups are joined
    requests          IP:PORT of each re-request server; none: a gap is only waited for
    venue, timezone   of the instruments; the venue's times are counted from midnight there
    start             number of the first message that is wanted; none: of whichever comes first
    wait_ms           so long without progress, what is missing becomes a row of event, kind gap
    request_after_ms  a gap is asked for when it is so old (the other line may bring it)
    request_every_ms  and again so often
    held_max          packets that wait behind a gap; with more, what is missing is a gap at once
    receive_bytes     kept by the system for each line; it gives no more than net.core.rmem_max
    record            a new pcap of all that is received, answers included; if there is one
                      of that name, a number goes behind it
    books             whether books are kept; without them there are no quotes
    """
    stream = MoldStream(start, wait_ns=int(wait_ms * MILLISECOND_NS), held_max=held_max)
    decoder = MoldItch(venue, timezone, None, stream, books=books)
    servers = [endpoint(text) for text in requests or ()]
    receiver = Receiver([endpoint(text) for text in lines], interface, receive_bytes)
    after, every = (int(ms * MILLISECOND_NS) for ms in (request_after_ms, request_every_ms))
    with receiver:
        requester = Requester(servers, after, every)
        receiver.add(requester.socket)
        recorder = Recorder(record)
        own = requester.socket.getsockname()[:2]
        try:
            while not feed.stopping.is_set():
                got = receiver.receive(TURN_S)
                for ts_ns, source, line, payload in got:
                    if line != own or requester.answers(source):
                        decoder.packet(payload, ts_ns, line, filled=line == own)
                decoder.tick(now_ns())
                requester.turn(stream, now_ns())
                _publish(feed, decoder, recorder.write(got))
        finally:
            decoder.finish("the feed was stopped")
            _publish(feed, decoder, "")
            recorder.close()


def _publish(feed: Feed, decoder: MoldItch, failed: str) -> None:
    batch = decoder.take()
    if failed:
        sink = Sink("")
        sink.event("recording", now_ns(), failed)
        batch += sink.take()
    for table, rows in batch:
        feed.append(table, rows)
    feed.beat()
