"""Recordings of venues that are heard over WebSocket: exactly what came in, to be decoded again at any time.

A file is JSON lines, zstd. The first line is the header, each other an entry in the order in which it
happened:

    {"t": "header", "format": 2, "exchange": "KRAKEN", "config": {channel: [symbols]}, "recorded": seconds}
    {"t": "http", "conn", "ts", "url", "data"}           an answer over REST
    {"t": "connect", "conn", "ts", "addr"}
    {"t": "send", "conn", "ts", "addr", "data"}          what was sent: subscriptions
    {"t": "recv", "conn", "ts", "data" or "b64"}         a frame of text, or of bytes
    {"t": "lost", "conn", "ts", "data"}                  the connection ended; data: why
    {"t": "unanswered", "conn", "ts", "url", "data"}     a request was given up; data: why
    {"t": "event", "conn", "ts", "data"}                 a row of event of kind `conn` with text `data`

`ts` is the local time in seconds. Ours have `ns` beside it, since seconds in a float64 are no
nanoseconds, so that decoding a recording gives the very rows that the live feed made. (`cryptofeed`
writes this format without `ns` and `lost`.) Read, too: lines of "<local ns> <frame>" in gzip, as
hftbacktest's collector writes them for Binance; of which of its markets they are, the frames tell.
"""

import base64
import contextlib
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from tickplant.errors import CaptureError
from tickplant.feed.capture import Batch, Capture, Head
from tickplant.feed.source import Inflated
from tickplant.feed.venue import Venue
from tickplant.feed.venues import find, venues
from tickplant.feed.venues.binance import Binance, market

SLICE_NS = 5_000_000
SLICE_FRAMES = 500
"""What is decoded goes out after so much recorded time, or so many frames."""
LINE_MAX = 1 << 28
LOOK_MAX = 1000
"""Lines without a header that are looked at for what tells the market."""


class Entry(msgspec.Struct):
    """A line of a recording but the first."""

    t: str
    conn: str = ""
    ts: float = 0.0
    ns: int = 0
    data: str | None = None
    b64: str | None = None
    url: str = ""
    addr: str = ""

    def bytes(self) -> bytes:
        """What was received. Raises ValueError if it is not base64."""
        if self.b64 is not None:
            return base64.b64decode(self.b64, validate=True)
        return (self.data or "").encode()

    @property
    def at_ns(self) -> int:
        """When, ns UTC. Raises ValueError if that is no time."""
        ns = self.ns or (round(self.ts * 1e9) if 0 <= self.ts < 1e10 else -1)
        if not 0 <= ns < 1 << 63:
            raise ValueError("its time is none")
        return ns


class Header(msgspec.Struct):
    """The first line of a recording."""

    t: str
    format: int
    exchange: str
    config: dict[str, Any] = {}


_LONG_HEADER = b'{"t":"header","format":2,'
"""How a header line begins that is longer than what a format is told by."""
_ENTRY = msgspec.json.Decoder(Entry)
_HEADER = msgspec.json.Decoder(Header)


class Recorder:
    """Writes a recording as it happens.

    What has been written is readable after a kill, but for the last block.
    """

    def __init__(self, path: Path, exchange: str, config: Mapping[str, Sequence[str]], now_ns: int) -> None:
        """Makes the file; refuses one that is there (FileExistsError)."""
        self._file = path.open("xb")
        self._stream = zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(self._file)
        head = {"t": "header", "format": 2, "exchange": exchange, "config": config, "recorded": now_ns / 1e9}
        self._write(head)

    def add(self, t: str, conn: str, ns: int, data: str | bytes = "", **more: str) -> None:
        """Write an entry; bytes that are not text go as base64."""
        entry: dict[str, Any] = {"t": t, "conn": conn, "ts": ns / 1e9, "ns": ns, **more}
        if isinstance(data, bytes):
            entry["b64"] = base64.b64encode(data).decode()
        else:
            entry["data"] = data
        self._write(entry)

    def _write(self, line: dict[str, Any]) -> None:
        self._stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> None:
        """Have all of it in the file, readable."""
        self._stream.flush(zstandard.FLUSH_BLOCK)
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._stream.close()  # type: ignore[no-untyped-call]
        self._file.close()


class Recording(Capture):
    """A recording, decoded by its venue's decoder as it was live."""

    def __init__(self, path: str | os.PathLike[str], *, venue: str = "") -> None:
        """`venue`: name of the decoder, by default the one that the header tells.

        Raises CaptureError if it can't be read, or is of a venue that has no decoder.
        """
        super().__init__()
        self.path = Path(path)
        self._file = Inflated(self.path)
        self._lines = _lines(self._file)
        first = next(self._lines, b"")
        self._plain = not first.startswith(b"{")
        if self._plain:
            looked = [first, *itertools.islice(self._lines, LOOK_MAX)] if first else []
            self._lines = itertools.chain(looked, self._lines)
        exchange = _market(looked) if self._plain and _exchange(first) else _exchange(first)
        kinds = venues()
        recorded = next((k for k in kinds.values() if exchange in (*k.RECORDED, k.NAME)), None)
        kind = find(venue) if venue else recorded
        if kind is None:
            raise CaptureError(
                f"{self.path} is a recording of {venue or exchange!r}, for which there is no decoder; "
                f"there are: {', '.join(sorted(kinds))}"
            )
        self.format = kind.NAME
        self.decoder: Venue = kind()

    @staticmethod
    def sniff(head: Head) -> bool:
        """A header line of the format, or a line of time and frame."""
        first, newline, _ = head.plain.partition(b"\n")
        if not newline and first.startswith(_LONG_HEADER):
            return True
        return bool(_exchange(first))

    def __iter__(self) -> Iterator[Batch]:
        decoder, begun_ns, frames = self.decoder, 0, 0
        for line in self._lines:
            try:
                entry = _plain_entry(line) if self._plain else _ENTRY.decode(line)
                self._take(entry)
            except (msgspec.MsgspecError, ValueError) as e:
                self._refuse_line(line, e)
                continue
            self.at_ns, frames = entry.at_ns, frames + 1
            if frames >= SLICE_FRAMES or self.at_ns - begun_ns >= SLICE_NS:
                begun_ns, frames = self.at_ns, 0
                yield from self._batch()
        if self._file.damage:
            self.damaged = True
            decoder.sink.event("damaged", self.at_ns, f"the recording breaks off: {self._file.damage}")
        yield from self._batch()
        decoder.books.clear()

    def _take(self, entry: Entry) -> None:
        decoder, data = self.decoder, entry.bytes()
        if entry.t == "recv":
            decoder.receive(entry.conn, data, entry.at_ns)
        elif entry.t == "http":
            decoder.respond(entry.url, data, entry.at_ns)
        elif entry.t == "lost":
            decoder.lost(entry.conn, entry.at_ns, entry.data or "")
        elif entry.t == "connect":
            decoder.urls[entry.conn] = entry.addr
            decoder.connected(entry.conn, entry.at_ns)
        elif entry.t == "unanswered":
            decoder.unanswered(entry.url, entry.at_ns, entry.data or "")
        elif entry.t == "event":
            decoder.sink.event(entry.conn, entry.at_ns, entry.data or "")
        elif entry.t == "send":
            decoder.sent(entry.conn, entry.data or "")
        else:
            raise ValueError(f"an entry of type {entry.t!r}")
        decoder.requests.clear()  # what was asked for then is in the recording
        decoder.replies.clear()
        decoder.pongs.clear()

    def _batch(self) -> Iterator[Batch]:
        account = self.decoder.account
        self.messages, self.ignored = account.messages, account.ignored
        self.malformed = account.malformed
        if batch := self.decoder.take():
            yield batch

    def _refuse_line(self, line: bytes, error: Exception) -> None:
        self.decoder.malformed += 1
        n = self.decoder.malformed
        if line.endswith(b"\n"):
            text = f"a line of the recording is not one: {error}"
            self.decoder.sink.event("malformed", self.at_ns, text, first=n, last=n)
        else:
            self.damaged = True
            text = "the recording breaks off inside a line"
            self.decoder.sink.event("truncated", self.at_ns, text, first=n, last=n)


def _exchange(first: bytes) -> str:
    """What a first line says of whose recording it is; "" if it is none."""
    try:
        if first[:1] == b"{":
            header = _HEADER.decode(first)
            return header.exchange if header.t == "header" and header.format == 2 else ""
        when, _, frame = first.partition(b" ")
        return "BINANCE" if when.isdigit() and len(when) == 19 and frame.startswith(b"{") else ""
    except msgspec.MsgspecError:
        return ""


def _market(lines: Sequence[bytes]) -> str:
    """Which of the venue's markets lines of time and frame are of: the first message that tells says it."""
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError):
            if name := market(line.partition(b" ")[2]):
                return name
    return Binance.NAME


def _plain_entry(line: bytes) -> Entry:
    when, _, frame = line.partition(b" ")
    return Entry(t="recv", conn="ws", ns=int(when), data=frame.decode())


def _lines(file: Inflated) -> Iterator[bytes]:
    """The lines of a file, without empty ones. One that was cut off ends without a newline."""
    with file:
        stream = io.BufferedReader(file)
        while line := stream.readline(LINE_MAX):
            if line != b"\n":
                yield line
