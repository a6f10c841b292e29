"""Frames per second of venues over WebSocket: JSON to rows of depth, the book kept, its top told.

Frames of ten changes each near the touch of a book of a thousand levels a side are made up in memory, as
each venue writes them, and go through `Venue.receive`, as live ones do; the rows are taken every 500
frames and dropped. A line of result for each venue.

The limit is the parser: the same frames through `msgspec.json.decode`, their content dropped. Both take
turns, the medians are told. What is measured is the time of the CPU (`time.process_time`) and not that
of the clock, so that processes that take the CPU away do not count; those that share its caches and its
power with it still do.

    python benchmarks/bench_json_venues.py [--frames 20000] [--rounds 15]
"""

import json
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import harness
import msgspec

from tickplant._core.changes import ASK, BID, Changes
from tickplant._core.levels import LevelRows, Levels
from tickplant.feed.symbols import spot
from tickplant.feed.venue import Venue
from tickplant.feed.venues import venues

GOAL = 150_000
CHANGES = 10
DEPTH = 1000
SLICE = 500
PRICE = 3_000_000
BEGAN_MS = 1_628_716_000_000

Side = list[list[str]]
"""Levels as [price, size]."""


@dataclass(frozen=True)
class Writes:
    """How a venue writes its books: number, bids and offers to a frame."""

    native: str
    change: Callable[[int, Side, Side], Any]
    whole: Callable[[int, Side, Side], Any]
    rest: str = ""
    """Where the whole book is asked for, if it does not come among the frames."""
    listed: Any = None
    """A frame that comes before all others."""
    sign: Callable[[Any, Levels], None] = lambda message, book: None
    """Write the checksum of the book into a frame."""


def binance(n: int, bids: Side, asks: Side) -> Any:
    data = {"e": "depthUpdate", "E": BEGAN_MS + n, "s": "BTCUSDT", "U": n, "u": n, "b": bids, "a": asks}
    return {"stream": "btcusdt@depth@100ms", "data": data}


def bybit(kind: str) -> Callable[[int, Side, Side], Any]:
    def write(n: int, bids: Side, asks: Side) -> Any:
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": n, "seq": 7961638724 + n}
        return {"topic": "orderbook.200.BTCUSDT", "type": kind, "ts": BEGAN_MS + n, "data": data,
                "cts": BEGAN_MS + n}  # fmt: skip

    return write


def okx(kind: str) -> Callable[[int, Side, Side], Any]:
    def write(n: int, bids: Side, asks: Side) -> Any:
        sides = [[[*level, "0", "1"] for level in side] for side in (asks, bids)]
        data = {"asks": sides[0], "bids": sides[1],
                "ts": str(BEGAN_MS + n), "seqId": n, "prevSeqId": n - 1}  # fmt: skip
        return {"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": kind, "data": [data]}

    return write


def deribit(kind: str) -> Callable[[int, Side, Side], Any]:
    def levels(side: Side) -> list[Any]:
        return [["change" if float(s) else "delete", float(p), float(s)] for p, s in side]

    def write(n: int, bids: Side, asks: Side) -> Any:
        data = {"type": kind, "timestamp": BEGAN_MS + n, "prev_change_id": n - 1,
                "instrument_name": "BTC-PERPETUAL", "change_id": n, "bids": levels(bids),
                "asks": levels(asks)}  # fmt: skip
        params = {"channel": "book.BTC-PERPETUAL.100ms", "data": data}
        return {"jsonrpc": "2.0", "method": "subscription", "params": params}

    return write


def coinbase(kind: str) -> Callable[[int, Side, Side], Any]:
    def levels(name: str, side: Side) -> list[Any]:
        return [{"side": name, "event_time": "2024-08-08T00:00:00.123456Z", "price_level": p,
                 "new_quantity": s} for p, s in side]  # fmt: skip

    def write(n: int, bids: Side, asks: Side) -> Any:
        event = {
            "type": kind,
            "product_id": "BTC-USD",
            "updates": levels("bid", bids) + levels("offer", asks),
        }
        return {"channel": "l2_data", "client_id": "", "timestamp": "2024-08-08T00:00:00.123456789Z",
                "sequence_num": n, "events": [event]}  # fmt: skip

    return write


def kraken_v2(kind: str) -> Callable[[int, Side, Side], Any]:
    def levels(side: Side) -> list[Any]:
        return [{"price": float(p), "qty": float(s)} for p, s in side]

    def write(n: int, bids: Side, asks: Side) -> Any:
        data = {"symbol": "BTC/USD", "bids": levels(bids), "asks": levels(asks),
                "timestamp": "2024-08-08T00:00:00.123456Z"}  # fmt: skip
        return {"channel": "book", "type": kind, "data": [data]}

    return write


KRAKEN_LISTED = {"channel": "instrument", "type": "snapshot", "data": {"pairs": [
    {"symbol": "BTC/USD", "base": "BTC", "quote": "USD", "status": "online", "price_precision": 8,
     "qty_precision": 8}]}}  # fmt: skip


def sign_kraken(message: Any, book: Levels) -> None:
    message["data"][0]["checksum"] = zlib.crc32(book.digits(ASK, 10) + book.digits(BID, 10))


def sign_okx(message: Any, book: Levels) -> None:
    total = zlib.crc32(book.alternating(25))
    message["data"][0]["checksum"] = total - (total >> 31 << 32)


def bitstamp(n: int, bids: Side, asks: Side) -> Any:
    data = {"timestamp": str(BEGAN_MS // 1000), "microtimestamp": str(BEGAN_MS * 1000 + n), "bids": bids,
            "asks": asks}  # fmt: skip
    return {"data": data, "channel": "diff_order_book_btcusd", "event": "data"}


VENUES = {
    "binance": Writes(
        "BTCUSDT", binance, lambda n, b, a: {"lastUpdateId": n, "bids": b, "asks": a},
        "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000",
    ),
    "bitstamp": Writes(
        "btcusd", bitstamp, lambda n, b, a: bitstamp(n, b, a)["data"],
        "https://www.bitstamp.net/api/v2/order_book/btcusd",
    ),
    "bybit": Writes("spot/BTCUSDT", bybit("delta"), bybit("snapshot")),
    "coinbase": Writes("BTC-USD", coinbase("update"), coinbase("snapshot")),
    "deribit": Writes("BTC-PERPETUAL", deribit("change"), deribit("snapshot")),
    "kraken-v2": Writes(
        "BTC/USD", kraken_v2("update"), kraken_v2("snapshot"), listed=KRAKEN_LISTED, sign=sign_kraken
    ),
    "okx": Writes("BTC-USDT", okx("update"), okx("snapshot"), sign=sign_okx),
}  # fmt: skip


def written(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


BOOK: tuple[Side, Side] = (
    [[f"{(PRICE - i) / 100:.8f}", f"{1 + i % 7}.00000000"] for i in range(1, DEPTH + 1)],
    [[f"{(PRICE + i) / 100:.8f}", f"{1 + i % 5}.00000000"] for i in range(1, DEPTH + 1)],
)
"""As of number 1."""


def frames(count: int, writes: Writes) -> list[bytes]:
    """The book, then changes that follow one another, most near the touch; a third takes a level away."""
    r, book = random.Random(1), Levels(LevelRows(), 1)
    messages = [writes.whole(1, *BOOK)]
    book.load(Changes().halves(*map(written, BOOK)), 1, 1)
    for n in range(2, count + 2):
        sides: tuple[Side, Side] = ([], [])
        for _ in range(CHANGES):
            half, away = r.getrandbits(1), 1 + min(int(r.expovariate(0.1)), DEPTH)
            at = PRICE + (away if half else -away)
            size = 0 if r.random() < 1 / 3 else r.randrange(1, 10**10)
            sides[half].append([f"{at / 100:.8f}", f"{size / 10**8:.8f}"])
        messages.append(writes.change(n, *sides))
        book.change(Changes().halves(*map(written, sides)), 1, 1)
        writes.sign(messages[-1], book)
    return list(map(written, messages))


def decode(made: list[bytes], kind: type[Venue], writes: Writes) -> float:
    """Seconds of CPU to rows, for all frames but the first, which is the book."""
    venue = kind()
    venue.known[writes.native] = spot("BTC", "USD")
    if writes.listed:
        venue.receive("spot", written(writes.listed), 1)
    if writes.rest:
        venue.respond(writes.rest, made[0], 1)
    else:
        venue.receive("spot", made[0], 1)
    receive, take = venue.receive, venue.take
    take()
    start = time.process_time()
    for at in range(1, len(made), SLICE):
        for frame in made[at : at + SLICE]:
            receive("spot", frame, at)
        take()
    taken = time.process_time() - start
    if venue.malformed or venue.books[writes.native].gaps or not venue.books[writes.native].live:
        raise RuntimeError(f"{kind.NAME}: the frames are not read as they were meant")
    return taken


def parse(made: list[bytes]) -> float:
    """Seconds of CPU of parsing alone."""
    read = msgspec.json.decode
    start = time.process_time()
    for frame in made:
        read(frame)
    return time.process_time() - start


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "frames": 1_000}, rounds=15, frames=20_000)
    for name, writes in VENUES.items():
        made = frames(arguments.frames, writes)
        ours, limit = [], []
        for _ in range(arguments.rounds):
            limit.append(arguments.frames / parse(made[1:]))
            ours.append(arguments.frames / decode(made, venues()[name], writes))
        what = f"{name}: JSON book deltas of {CHANGES} levels to rows and book, one core; msgspec alone"
        size = sum(map(len, made)) // len(made)
        harness.tell(f"json_{name}", what, ours, limit, "frames/s", GOAL, absolute=True, bytes_each=size)


if __name__ == "__main__":
    main()
