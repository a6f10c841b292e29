"""Messages per second through the ITCH decoder: orders and trades; the same with books and quotes.

A day is made up in memory: 500 stocks; first a tenth of the messages adds orders (the book before
the open), then adds, deletes, executions, replaces, cancels and hidden trades in the proportions of
a real day. It is decoded in pieces of 1 MiB, as the feed handler does, the rows dropped.

The limit is the memory: as many messages per second as if the bytes read and the bytes of the rows
written were only copied once, in the same pieces, by memcpy. Beside it itchcpp: its message objects (of a
tenth of the messages, for they take long), and its books, which give no rows. All take turns.

`itch_rows` is without books (`books = false`): all rows but the quotes. Orders are kept, for they tell at
which price an execution was.

    python benchmarks/bench_itch.py [--messages 2000000] [--rounds 7]
"""

import random
import struct
import time
from collections import defaultdict

import harness
import numpy as np
from itchcpp.book import BookManager
from itchcpp.parser import MessageParser

from tickplant._core.itch import ItchDecoder

PIECE = 1 << 20
STOCKS = 500
OPEN_NS, SESSION_NS = 34_200_000_000_000, 23_400_000_000_000
MIX = [("A", 45), ("D", 40), ("E", 5), ("U", 7), ("X", 2), ("P", 1)]

_HEAD = struct.Struct(">HcHHHI")
_ADD = struct.Struct(">QcI8sI")
_EXECUTE = struct.Struct(">QIQ")
_REPLACE = struct.Struct(">QQII")
_CANCEL = struct.Struct(">QI")
_DELETE = struct.Struct(">Q")
_TRADE = struct.Struct(">QcI8sIQ")
_LENGTHS = {"A": 36, "D": 19, "E": 31, "U": 35, "X": 23, "P": 44}


class Day:
    """Makes up messages that refer to one another as a venue's do."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.out = bytearray()
        self.live: list[tuple[int, int, int, int]] = []  # ref, stock, side, shares
        self.middle = [self.random.randrange(5_00, 500_00) * 100 for _ in range(STOCKS)]
        self.moved = [0] * STOCKS
        self.weights = [1 / (rank + 8) for rank in range(STOCKS)]
        self.ref = self.match = 1

    def head(self, kind: str, stock: int, ns: int) -> None:
        self.out += _HEAD.pack(
            _LENGTHS[kind], kind.encode(), stock + 1, 0, ns >> 32 & 0xFFFF, ns & 0xFFFFFFFF
        )

    def price(self, stock: int, side: int) -> int:
        away = 100 * (5 + min(int(self.random.expovariate(0.15)), 400))
        return self.middle[stock] + 100 * self.moved[stock] + (away if side else -away)

    def pick(self) -> tuple[int, int, int, int]:
        """Take an order out of the live ones: the later it came, the more likely."""
        live = self.live
        at = len(live) - 1 - int(len(live) * self.random.random() ** 4)
        live[at], live[-1] = live[-1], live[at]
        return live.pop()

    def message(self, kind: str, stock: int, ns: int) -> None:
        if kind in "AP":
            side, shares = self.random.getrandbits(1), 100 * self.random.randrange(1, 10)
            price, symbol = self.price(stock, side), b"S%-7d" % stock
            self.head(kind, stock, ns)
            if kind == "P":
                self.match += 1
                self.out += _TRADE.pack(0, b"B", shares, symbol, price, self.match)
                return
            self.ref += 1
            self.out += _ADD.pack(self.ref, b"BS"[side : side + 1], shares, symbol, price)
            self.live.append((self.ref, stock, side, shares))
            if not self.ref % 16:  # to and fro, but never so far that old orders would trade
                self.moved[stock] = max(-4, min(4, self.moved[stock] + self.random.choice((-1, 1))))
            return
        ref, stock, side, shares = self.pick()
        self.head(kind, stock, ns)
        if kind == "D":
            self.out += _DELETE.pack(ref)
        elif kind == "U":
            self.ref += 1
            self.out += _REPLACE.pack(ref, self.ref, shares, self.price(stock, side))
            self.live.append((self.ref, stock, side, shares))
        else:
            taken = shares if kind == "E" and shares == 100 else shares // 2
            self.match += 1
            self.out += _EXECUTE.pack(ref, taken, self.match) if kind == "E" else _CANCEL.pack(ref, taken)
            if shares > taken:
                self.live.append((ref, stock, side, shares - taken))


def day(messages: int, seed: int = 1) -> bytes:
    """The bytes of a day of so many messages, the same for the same seed."""
    d = Day(seed)
    early = messages // 10
    stocks = d.random.choices(range(STOCKS), d.weights, k=messages)
    kinds = ["A"] * early + d.random.choices([k for k, _ in MIX], [w for _, w in MIX], k=messages - early)
    for i, (kind, stock) in enumerate(zip(kinds, stocks, strict=True)):
        d.message(kind, stock, OPEN_NS + SESSION_NS * i // messages)
    return bytes(d.out)


def decode(data: bytes, *, books: bool) -> tuple[float, int, int]:
    """Seconds, messages and bytes of rows of one decoding of the whole day."""
    decoder, view, at, written = ItchDecoder(0, books=books), memoryview(data), 0, 0
    start = time.perf_counter()
    while at < len(data):
        at += decoder.decode(view[at : at + PIECE])
        for _, rows in decoder.take():
            written += rows.nbytes
    return time.perf_counter() - start, decoder.messages, written


def copy(read: int, written: int) -> float:
    """Seconds to copy so many bytes with memcpy, in pieces."""
    source = np.ones(PIECE * 2, np.uint8)
    target = np.zeros(PIECE * 64, np.uint8)
    pieces = (read + written) // source.size
    start = time.perf_counter()
    for i in range(pieces):
        at = i % 32 * source.size
        target[at : at + source.size] = source
    return (time.perf_counter() - start) * (read + written) / (pieces * source.size)


def objects(data: bytes) -> float:
    """Seconds of itchcpp from the bytes to its message objects, one by one."""
    begin = time.perf_counter()
    for _ in MessageParser().parse_stream(data):
        pass
    return time.perf_counter() - begin


def books(data: bytes) -> float:
    """Seconds of itchcpp's books of all stocks, from the same bytes, without rows."""
    manager = BookManager()
    for stock in range(STOCKS):
        manager.track_symbol(f"S{stock}")
    begin = time.perf_counter()
    manager.process_stream(data)
    return time.perf_counter() - begin


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 2, "messages": 200_000}, rounds=7, messages=2_000_000)
    data, part = day(arguments.messages), day(arguments.messages // 10)
    messages = arguments.messages
    row_bytes, book_bytes = decode(data, books=False)[2], decode(data, books=True)[2]
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(arguments.rounds):
        rates["copy rows"].append(messages / copy(len(data), row_bytes))
        rates["rows"].append(messages / decode(data, books=False)[0])
        rates["objects"].append(messages // 10 / objects(part))
        rates["copy books"].append(messages / copy(len(data), book_bytes))
        rates["with books"].append(messages / decode(data, books=True)[0])
        rates["books"].append(messages / books(data))
    for name, ours, what, limit, goal, absolute in (
        ("itch_rows", "rows", "ITCH to rows, one core; memcpy of what is read and written", "copy rows",
         30_000_000, True),
        ("itch_rows_itchcpp", "rows", "the same; itchcpp to message objects", "objects", 10, False),
        ("itch_books", "with books", f"ITCH to rows and full books of {STOCKS} stocks, one core; memcpy",
         "copy books", 8_000_000, True),
        ("itch_books_itchcpp", "with books", "the same; itchcpp's books, without rows", "books", 2, False),
    ):  # fmt: skip
        harness.tell(name, what, rates[ours], rates[limit], "messages/s", goal, absolute=absolute)


if __name__ == "__main__":
    main()
