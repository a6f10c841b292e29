"""Nasdaq TotalView-ITCH 5.0 in a BinaryFILE: a capture of one day, as Nasdaq publishes them.

The decoder is native (`tickplant._core.itch`, whose headers hold format and algorithm). This module
reads the file, plain or gzip, and knows its date. The instrument code is the stock locate. What
table each message goes to, under its section's name in the specification:

    R  Stock Directory                      instrument; lot_size is the round lot, attributes are 12
                                            codes (market category, financial status, round lots
                                            only, issue classification, issue sub-type of 2,
                                            authenticity, short sale threshold, IPO flag, LULD
                                            price tier, ETP flag, inverse indicator) and then the
                                            ETP leverage factor
    A F  Add Order                          order A; attribution is the MPID
    E    Order Executed                     order E, trade at the order's price
    C    Order Executed With Price          order E, trade unless it is not printable
    X D  Order Cancel, Order Delete         order X, D; size is what was taken away
    U    Order Replace                      order U; order_id is the new, ref_id the original order
    P    Trade (Non-Cross)                  trade, HIDDEN
    Q    Cross Trade                        trade, CROSS, condition is the cross type; 0 shares: no
    B    Broken Trade                       trade X, CORRECTION; price and size as they were printed
    I    Net Order Imbalance Indicator      imbalance

    and to status                           kind         value          reason       levels
    S    System Event                       session      event code
    H    Stock Trading Action               trading      state          reason
    h    Operational Halt                   operational  action         market code
    Y    Reg SHO Restriction                regsho       action
    L    Market Participant Position        participant  primary market maker, mode, state
                                                                        MPID
    V    MWCB Decline Level                 mwcb_levels                              level 1, 2, 3
    W    MWCB Status                        mwcb_breach  breached level
    K    Quoting Period Update              ipo          qualifier                   IPO price,
                                                                        release time (s of the day)
    J    LULD Auction Collar                luld         extension      reference, upper, lower
    N    Retail Price Improvement           rpii         interest flag
    O    Direct Directory with Capital Raise  dlcr         eligibility    minimum and maximum allowed,
                                                                        near execution price
                                            dlcr_collar  eligibility    lower, upper collar,
                                                                        near execution time

A quote row follows whatever moves the best bid or offer of the displayed orders (NaN and 0: none).
Side and aggressor: an execution's aggressor is opposite to the resting order; hidden trades have
none, as the field has said B of all of them since 14 July 2014. Messages that can't be decoded,
references to unknown orders, and damage of the file are rows of table event.
"""

import datetime
import os
import re
import zlib
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import BinaryIO

import numpy as np

from tickplant._core.itch import DTYPES, MESSAGE_LENGTHS, ItchDecoder
from tickplant.clock import now_ns
from tickplant.errors import CaptureError
from tickplant.feed.capture import Batch, Capture, Head
from tickplant.feed.source import GZIP_MAGIC, Source
from tickplant.schema import Rows

_DATE = re.compile(r"(?<!\d)(\d{8})(?!\d)|S(\d{6})-v\d")


class Itch50(Capture):
    """A day of Nasdaq TotalView-ITCH 5.0 from a file, gzip or plain (told by content, not by name).

    `venue` is the MIC in the instrument rows; `date` the trading date, by default that in the
    file's name (MMDDYYYY or YYYYMMDD; SMMDDYY-v50), in `timezone`, whose midnight the venue's times are
    counted from. Without `books` none are kept: there are no quotes, and decoding takes
    half the time. The file is read in pieces of `chunk_bytes`, one batch each;
    `recv_clock` is asked for each piece's ts_recv (ns UTC; by default the time now).

    Raises CaptureError if the file can't be read, does not begin with a message of ITCH 5.0, or nothing tells
    its date.
    """

    format = "itch50"
    EVENT_UNITS = MappingProxyType({
        "malformed": "byte", "truncated": "byte", "damaged": "byte", "orphan": "order", "duplicate": "order",
    })  # fmt: skip

    @staticmethod
    def sniff(head: Head) -> bool:
        """As `sniff` below."""
        return sniff(head.plain)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        venue: str = "XNAS",
        date: datetime.date | None = None,
        timezone: str = "America/New_York",
        books: bool = True,
        chunk_bytes: int = 1 << 20,
        recv_clock: Callable[[], int] | None = None,
    ) -> None:
        super().__init__()
        self.path = os.fspath(path)
        if not (venue.isascii() and 0 < len(venue) <= DTYPES["instrument"]["venue"].itemsize):
            raise CaptureError(f"venue {venue!r} of {self.path} must be 1 to 16 ASCII characters")
        self.venue = venue.encode()
        self.chunk_bytes = max(1, chunk_bytes)
        self.recv_clock = recv_clock or now_ns
        self.damaged = False
        try:
            zone = zoneinfo.ZoneInfo(timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise CaptureError(f"there is no time zone {timezone!r}, to read {self.path}") from None
        with self._open() as file:
            source = Source(file, 4096)
            head = next(iter(source), b"")
        if source.error:
            raise CaptureError(f"can't read {self.path}: {source.error}")
        if not sniff(head):
            raise CaptureError(
                f"{self.path} does not begin with a message of Nasdaq ITCH 5.0 in a BinaryFILE"
            )
        found = date or date_in_name(self.path)
        if found is None:
            raise CaptureError(
                f"{self.path} has times of a day, and its name does not tell which day: give --date "
                "YYYY-MM-DD (of a feed: the option `date`), or rename it like 01302019.NASDAQ_ITCH50.gz"
            )
        self.date = found
        midnight = datetime.datetime.combine(self.date, datetime.time(), zone)
        self.midnight_ns = int(midnight.timestamp()) * 1_000_000_000
        self._decoder = ItchDecoder(self.midnight_ns, books=books)

    def __iter__(self) -> Iterator[Batch]:
        """Batches of rows in the order to publish them in. Raises CaptureError if reading fails."""
        rest = b""
        with self._open() as file:
            source = Source(file, self.chunk_bytes)
            for piece in source:
                data = rest + piece
                rest = data[self._decoder.decode(data, self.recv_clock()) :]
                yield from self._take()
            if source.error:
                raise CaptureError(f"can't read {self.path}: {source.error}")
            self._decoder.decode(rest, self.recv_clock(), final=True)
            yield from self._take()
        if source.damage:
            self.damaged = True
            yield [("event", self._damage_row(source.damage))]

    def _open(self) -> BinaryIO:
        try:
            return open(self.path, "rb")
        except OSError as e:
            raise CaptureError(f"can't read {self.path}: {e.strerror}") from None

    def _take(self) -> Iterator[Batch]:
        batch = self._decoder.take()
        self.messages = Counter(self._decoder.counts())
        self.malformed = self._decoder.malformed
        self.damaged = self.damaged or self._decoder.damaged
        for table, rows in batch:
            if table == "instrument":
                rows["venue"] = self.venue
        if batch:
            yield batch

    def _damage_row(self, damage: str) -> Rows:
        row = np.zeros(1, DTYPES["event"])
        row["ts_event"] = self._decoder.ts_event
        row["ts_recv"] = self.recv_clock()
        row["kind"] = b"damaged"
        row["first"] = row["last"] = self._decoder.offset
        row["text"] = damage.encode("ascii", "replace")[:96]
        return row


def sniff(head: bytes) -> bool:
    """Whether a file that begins so (64 bytes will do) holds ITCH 5.0 in a BinaryFILE, gzip or not:
    its first message has the length of its type."""
    if head.startswith(GZIP_MAGIC):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 3)
        except zlib.error:
            return False
    return len(head) >= 3 and MESSAGE_LENGTHS.get(chr(head[2])) == int.from_bytes(head[:2], "big")


def date_in_name(path: str) -> datetime.date | None:
    """The date in a file's name, as Nasdaq names its files: 01302019.NASDAQ_ITCH50.gz,
    20191230.BX_ITCH_50.gz, S081718-v50.txt.gz."""
    for digits, short in _DATE.findall(os.path.basename(path)):
        form = "%m%d%y" if short else "%Y%m%d" if digits[:2] in ("19", "20") else "%m%d%Y"
        try:
            return datetime.datetime.strptime(short or digits, form).date()
        except ValueError:
            continue
    return None
