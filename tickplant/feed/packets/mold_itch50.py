"""Nasdaq TotalView-ITCH 5.0 over MoldUDP64, as Nasdaq, BX and PSX send it; from a capture of packets.

What table each message goes to is told in `itch50`. `venue_seq` is the message's number in its session,
`ts_recv` when the packet was captured or received; rows that were asked for again have flag LATE. A gap
is a row of table event: first and last are the message numbers that are missing. What was lost may have
changed any book, and nothing tells the books anew before the next session: each instrument that was
quoted gets an empty quote with Flag.STALE at the gap, and all rows of quote and order after it, made from
the orders that are known, have Flag.STALE. The date, from whose
midnight the venue's times are counted, is that of the first packet of a session, in the venue's time
zone.
"""

import datetime
import zoneinfo
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tickplant._core.itch import DTYPES, MESSAGE_LENGTHS, ItchDecoder, blocks_end
from tickplant.clock import SECOND_NS
from tickplant.errors import CaptureError
from tickplant.feed.capture import Batch, Head
from tickplant.feed.packets.arbiter import Gap, Run
from tickplant.feed.packets.capture import PacketCapture, check_venue, first_payloads, payloads_until
from tickplant.feed.packets.datagram import Endpoint
from tickplant.feed.packets.moldudp64 import (
    END_OF_SESSION,
    HEADER,
    MoldStream,
    Packet,
    Refused,
    Step,
    messages,
)
from tickplant.feed.packets.stream import Anew, Session
from tickplant.feed.sink import Sink
from tickplant.schema import Flag


class MoldItch:
    """Packets in, rows out (pure)."""

    def __init__(
        self, venue: str, timezone: str, date: datetime.date | None, stream: MoldStream | None = None,
        *, books: bool = True,
    ) -> None:  # fmt: skip
        """Without `books` none are kept, and there are no quotes.

        Raises CaptureError for a time zone that there is not, or a venue that is no 1 to 16
        characters."""
        check_venue(venue)
        try:
            self._zone = zoneinfo.ZoneInfo(timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise CaptureError(f"there is no time zone {timezone!r}") from None
        self.stream = stream or MoldStream(unnumbered=True)
        self._venue, self._date = venue, date
        self._sink = Sink(venue)
        self._ts_ns = 0
        self._books = books
        self._decoder = ItchDecoder(0, books=books)
        self._counts: Counter[str] = Counter()
        """Of the decoders of earlier sessions."""
        self._malformed = 0
        self._taken: Batch = []
        self._stale = False
        """Messages of this session were lost."""
        self._quoted = np.zeros(1 << 16, bool)
        """Of each instrument code: has it a quote that was sound?"""

    @property
    def messages(self) -> Counter[str]:
        """Messages decoded, by type."""
        return self._counts + Counter(self._decoder.counts())

    @property
    def malformed(self) -> int:
        """Messages and packets that could not be decoded."""
        return self._malformed + self._decoder.malformed

    @property
    def ignored(self) -> Counter[str]:
        """Packets and messages that say nothing."""
        return self.stream.ignored

    def packet(
        self, payload: bytes, ts_ns: int, destination: Endpoint | None = None, line: Endpoint | None = None,
        *, filled: bool = False,
    ) -> None:  # fmt: skip
        """A packet that came at `ts_ns`, on whichever line; `filled`: it was asked for again."""
        self._ts_ns = ts_ns
        self._do(self.stream.packet(payload, ts_ns, filled, line or destination))

    def tick(self, now_ns: int) -> None:
        """It is `now_ns`."""
        self._ts_ns = now_ns
        self._do(self.stream.tick(now_ns))

    def finish(self, cause: str) -> None:
        """Nothing more comes."""
        self._do(self.stream.finish(cause))

    def take(self) -> Batch:
        """The rows since the last time."""
        self._collect()
        taken, self._taken = self._taken, []
        return taken

    def _do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Run):
                self._run(step)
            elif isinstance(step, Gap):
                self._say("gap", step.cause, step.first, step.last)
                self._make_stale()
            elif isinstance(step, Session):
                if step.old is not None:
                    self._say("session", f"session {step.new!r} follows {step.old!r}")
                self._session(again=step.old is not None)
            elif isinstance(step, Anew):
                self._say("session", f"message {step}", step.seq, step.seq)
                self._session(again=True)
            elif isinstance(step, Refused):
                self._malformed += 1
                self._say("malformed", step.text)

    def _run(self, run: Run[Packet]) -> None:
        if run.item.filled:
            self._collect()
        first = run.seq + run.skip
        if self._decoder.messages != first - 1 and run.seq:
            self._decoder.seek(first)
        self._decoder.decode(messages(run), run.item.ts_ns)
        if run.item.filled:
            self._collect(Flag.LATE)

    def _session(self, *, again: bool) -> None:
        """Messages, and orders, of another session follow; `again`: not the first."""
        self._collect()
        self._counts += Counter(self._decoder.counts())
        self._malformed += self._decoder.malformed
        if again:
            self._date = None
        seconds = self._ts_ns // SECOND_NS
        date = self._date or datetime.datetime.fromtimestamp(seconds, self._zone).date()
        midnight = datetime.datetime.combine(date, datetime.time(), self._zone)
        self._stale = False
        self._quoted[:] = False
        self._decoder = ItchDecoder(int(midnight.timestamp()) * SECOND_NS, books=self._books)

    def _say(self, kind: str, text: str, first: int = 0, last: int = 0) -> None:
        self._collect()
        self._sink.event(kind, self._ts_ns, text, first=first, last=last, ts_event=self._ts_ns)
        self._taken += self._sink.take()

    def _collect(self, flag: int = 0) -> None:
        for table, rows in self._decoder.take():
            if table == "instrument":
                rows["venue"] = self._venue.encode()
            elif table in ("quote", "order") and self._stale:
                rows["flags"] |= int(Flag.STALE)
            elif table == "quote":
                self._quoted[rows["instrument"]] = True
            rows["flags"] |= int(flag)
            self._taken.append((table, rows))

    def _make_stale(self) -> None:
        """Say of each book that was quoted that it is not sound any more."""
        self._stale = True
        codes = np.flatnonzero(self._quoted)
        self._quoted[:] = False
        if not len(codes):
            return
        rows = np.zeros(len(codes), DTYPES["quote"])
        rows["ts_event"] = rows["ts_recv"] = self._ts_ns
        rows["instrument"], rows["venue_seq"] = codes, self._decoder.messages
        rows["bid_price"] = rows["ask_price"] = np.nan
        rows["flags"] = int(Flag.STALE)
        self._taken.append(("quote", rows))


class MoldItch50(PacketCapture):
    """A capture of packets (pcap, pcapng) with Nasdaq TotalView-ITCH 5.0 over MoldUDP64.

    `venue` is the MIC in the instrument rows (XNAS, XBOS for BX, XPSX for PSX); `date` the trading date,
    by default that of the packets, in `timezone`; `to` the addresses (IP:PORT) of the lines to read, by
    default all. All lines that are read are taken for copies of one channel. Without `books` none are kept,
    and there are no quotes.
    """

    format = "itch50-mold"

    @staticmethod
    def sniff(head: Head) -> bool:
        """Whether the first packets are MoldUDP64 with a message of ITCH 5.0 in one of them."""
        first = first_payloads(head)
        if first and all(map(_is_beat, first)):
            first = payloads_until(head.path, lambda payload: not _is_beat(payload))
        return any(map(is_mold_itch50, first))

    def __init__(
        self, path: Path, *, venue: str = "XNAS", date: datetime.date | None = None,
        timezone: str = "America/New_York", to: list[str] | None = None, books: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(path, to, MoldItch(venue, timezone, date, books=books))


def _is_beat(payload: bytes) -> bool:
    """Whether this is a heartbeat of MoldUDP64, or the end of a session."""
    return len(payload) == HEADER.size and HEADER.unpack_from(payload)[2] in (0, END_OF_SESSION)


def is_mold_itch50(payload: bytes) -> bool:
    """Whether this is a whole MoldUDP64 packet whose messages have the lengths of their types in ITCH 5.0."""
    if len(payload) < HEADER.size:
        return False
    count, at = HEADER.unpack_from(payload)[2], HEADER.size
    if not 0 < count < END_OF_SESSION or blocks_end(payload, at, count) != len(payload):
        return False
    while at < len(payload):
        length = int.from_bytes(payload[at : at + 2], "big")
        if MESSAGE_LENGTHS.get(chr(payload[at + 2])) != length:
            return False
        at += 2 + length
    return True
