"""What decoders of packets have in common (pure): rows until they are taken, an account of every message."""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any, Generic, TypeVar

from tickplant.feed.capture import Batch
from tickplant.feed.packets.datagram import Endpoint
from tickplant.feed.packets.marked import MarkedRows
from tickplant.feed.packets.stream import Stream
from tickplant.feed.sink import Sink

_OF_PACKETS = {
    "duplicate": "duplicate packet", "late": "late packet", "before the first": "packet before the first",
    "old numbers": "packet of old numbers",
}  # fmt: skip
"""What is counted where packets are numbered, by what it is of messages."""


class MessageRows(ABC):
    """Messages to rows, many at once."""

    def __init__(self, venue: str) -> None:
        """`venue`: of the instruments that are defined here."""
        self.messages: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.malformed = 0
        self.sink = Sink(venue)
        """Of events and definitions."""
        self._rows = MarkedRows()

    def refuse(self, text: str, seq: int, ts_recv: int) -> None:
        """A message or a packet that can't be decoded is a row of table event."""
        self.malformed += 1
        self.sink.event("malformed", ts_recv, text, first=seq, last=seq, ts_event=ts_recv)

    @abstractmethod
    def take(self) -> Batch:
        """The rows since the last time, each table's in the order of the messages."""


R = TypeVar("R", bound=MessageRows)


class PacketDecoder(ABC, Generic[R]):
    """Packets of a venue, put in order, to its messages' rows."""

    def __init__(self, rows: R) -> None:
        self.rows = rows
        self._ignored: Counter[str] = Counter()
        """Packets and messages that were not handed on to `rows`."""
        self._ts_ns = 0
        """When the packet that is decoded now came."""

    @abstractmethod
    def packet(self, payload: bytes, ts_ns: int, destination: Endpoint, line: Endpoint | None = None) -> None:
        """A datagram that came at `ts_ns` to `destination`, of the line `line` if that is another."""

    @abstractmethod
    def finish(self, cause: str) -> None:
        """Nothing more comes; `cause` is why what is missing now will not come."""

    def take(self) -> Batch:
        """The rows since the last time."""
        return self.rows.take()

    @property
    def messages(self) -> Counter[str]:
        """Messages decoded, by type."""
        return self.rows.messages

    @property
    def malformed(self) -> int:
        """Messages and packets that could not be decoded."""
        return self.rows.malformed

    @property
    def ignored(self) -> Counter[str]:
        """What says nothing for any table, or had been there already."""
        return self.rows.ignored + self._ignored

    def _say(self, kind: str, text: str, first: int = 0, last: int = 0) -> None:
        self.rows.sink.event(kind, self._ts_ns, text, first=first, last=last, ts_event=self._ts_ns)

    def _pass_over(self, stream: Stream[Any]) -> None:
        """Account for the packets that a stream has not delivered since the last time."""
        for name, count in stream.ignored.items():
            self._ignored[_OF_PACKETS[name]] += count
        stream.ignored.clear()
