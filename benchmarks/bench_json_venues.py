"""Frames per second of venues over WebSocket: JSON to rows of depth, the book kept.

Frames of ten changes each near the touch of a book of a thousand levels a side are made up in memory
and go through `Venue.receive`, as live ones do; the rows are taken every 500 frames and dropped.

The limit is the parser: the same frames through `msgspec.json.decode`, their content dropped. Both
take turns, the medians are told.

    python benchmarks/bench_json_venues.py [--frames 100000] [--rounds 7]
"""

import json
import random
import time

import harness
import msgspec

from tickplant.feed.venues.binance import Binance

GOAL = 150_000
CHANGES = 10
LEVELS = 1000
SLICE = 500


def snapshot(price: int) -> bytes:
    """A book of LEVELS levels a side, as over REST."""
    bids = [[f"{(price - i) / 100:.8f}", f"{1 + i % 7}.00000000"] for i in range(1, LEVELS + 1)]
    asks = [[f"{(price + i) / 100:.8f}", f"{1 + i % 5}.00000000"] for i in range(1, LEVELS + 1)]
    return json.dumps({"lastUpdateId": 1, "bids": bids, "asks": asks}).encode()


def frames(count: int, price: int) -> list[bytes]:
    """Changes that follow one another, most near the touch; a third takes a level away."""
    r, made = random.Random(1), []
    for n in range(count):
        sides: tuple[list[list[str]], list[list[str]]] = ([], [])
        for _ in range(CHANGES):
            half, away = r.getrandbits(1), 1 + min(int(r.expovariate(0.1)), LEVELS)
            at = price + (away if half else -away)
            size = 0 if r.random() < 1 / 3 else r.randrange(1, 10**10)
            sides[half].append([f"{at / 100:.8f}", f"{size / 10**8:.8f}"])
        data = {"e": "depthUpdate", "E": 1628716000000 + n, "s": "BTCUSDT", "U": n + 2, "u": n + 2,
                "b": sides[0], "a": sides[1]}  # fmt: skip
        made.append(
            json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":")).encode()
        )
    return made


def decode(made: list[bytes], price: int) -> float:
    """Seconds to rows, for all frames."""
    venue = Binance()
    venue.respond("https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000", snapshot(price), 1)
    receive, take = venue.receive, venue.take
    start = time.perf_counter()
    for at in range(0, len(made), SLICE):
        for frame in made[at : at + SLICE]:
            receive("ws", frame, at)
        take()
    taken = time.perf_counter() - start
    if venue.account.malformed or venue.books["BTCUSDT"].gaps:
        raise RuntimeError("the frames are not read as they were meant")
    return taken


def parse(made: list[bytes]) -> float:
    """Seconds of parsing alone."""
    read = msgspec.json.decode
    start = time.perf_counter()
    for frame in made:
        read(frame)
    return time.perf_counter() - start


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 2, "frames": 20_000}, rounds=7, frames=100_000)
    price = 3_000_000
    made = frames(arguments.frames, price)
    ours, limit = [], []
    for _ in range(arguments.rounds):
        limit.append(len(made) / parse(made))
        ours.append(len(made) / decode(made, price))
    size = sum(map(len, made)) // len(made)
    what = f"JSON book deltas of {CHANGES} levels to rows and book, one core; msgspec alone"
    harness.tell("json_venues", what, ours, limit, "frames/s", GOAL, absolute=True, bytes_each=size)


if __name__ == "__main__":
    main()
