"""Records per second from Databento DBN to rows of the plant: market by order, and trades.

A file is made up in memory: INSTRUMENTS instruments, actions in the proportions of a real day. It is
decoded in pieces of 1 MiB, as the capture does, the rows dropped. `mixed` has records of both types,
turn and turn about.

The limit is Databento's own decoder in the same process: from the same bytes to its record objects,
which it makes one by one (a tenth of the records, for it takes long), and then nothing more done with
them. Both take turns.

    python benchmarks/bench_dbn.py [--records 1000000] [--rounds 5]
"""

import time
from collections.abc import Callable

import harness
import numpy as np

from tickplant.feed.files.dbn import DbnDecoder
from tickplant.feed.files.dbn_records import library
from tickplant.feed.files.dbn_symbols import DAY_NS

GOAL = 10_000_000
PIECE = 1 << 20
INSTRUMENTS = 500
BEGIN_NS = 20_000 * DAY_NS + 3_600_000_000_000
MIX = {b"A": 0.45, b"C": 0.44, b"M": 0.07, b"T": 0.02, b"F": 0.02}


def records(count: int, rtype: int, random: np.random.Generator) -> np.ndarray:
    """Records of market by order (160) or trades (0)."""
    kind = library().MBOMsg if rtype == 160 else library().TradeMsg
    dtype = np.dtype([(name, "<" + form) for name, form in kind._dtypes])
    made = np.zeros(count, dtype)
    made["length"], made["rtype"], made["publisher_id"] = dtype.itemsize // 4, rtype, 1
    made["instrument_id"] = 5000 + (random.zipf(1.3, count) - 1) % INSTRUMENTS * 7
    made["ts_recv"] = BEGIN_NS + np.arange(count) * 1000
    made["ts_event"] = made["ts_recv"] - 20_000
    made["price"] = random.integers(100_000, 500_000, count) * 250_000_000
    made["size"] = random.integers(1, 100, count)
    made["side"] = random.choice(np.array([b"A", b"B"]), count)
    made["flags"] = 128
    made["sequence"] = np.arange(count)
    made["action"] = b"T"
    if rtype == 160:
        made["order_id"] = random.integers(1, 1 << 40, count)
        made["action"] = random.choice(np.array(list(MIX)), count, p=list(MIX.values()))
    return made


def mixed(count: int, random: np.random.Generator) -> bytes:
    """Trades and orders, turn and turn about."""
    orders, trades = (records(count // 2, rtype, random) for rtype in (160, 0))
    pair = np.dtype([("order", orders.dtype), ("trade", trades.dtype)])
    both = np.empty(count // 2, pair)
    both["order"], both["trade"] = orders, trades
    return both.tobytes()


def ours(data: bytes, count: int) -> float:
    """Records per second of one decoding of everything."""
    decoder = DbnDecoder(3, "XBEN", False)
    for number in range(INSTRUMENTS):
        decoder.symbols.add(5000 + number * 7, BEGIN_NS, BEGIN_NS + DAY_NS, f"S{number}")
    view, at = memoryview(data), 0
    begin = time.process_time()
    while at < len(data):
        _, used, _ = decoder.decode(view[at : at + PIECE], at)
        at += used
    rate = count / (time.process_time() - begin)
    assert decoder.messages.total() == count
    return rate


def theirs(data: bytes, count: int) -> float:
    """Records per second of the library's decoder, to its objects."""
    decoder = library().DBNDecoder(has_metadata=False, input_version=3)
    seen, view = 0, memoryview(data)
    begin = time.process_time()
    for at in range(0, len(data), PIECE):
        decoder.write(bytes(view[at : at + PIECE]))
        seen += len(decoder.decode())
    rate = seen / (time.process_time() - begin)
    assert seen == count
    return rate


def compare(name: str, data: bytes, count: int, rounds: int, goal: int | None) -> None:
    """Take turns, and tell."""
    runs: list[tuple[Callable[[bytes, int], float], list[float], int]] = [(ours, [], 1), (theirs, [], 10)]
    for _ in range(rounds):
        for run, rates, part in runs:
            rates.append(run(data[: len(data) // part], count // part))
    what = f"Databento DBN, {name}, to rows, one core; databento-dbn to its objects"
    harness.tell(f"dbn_{name}", what, runs[0][1], runs[1][1], "records/s", goal, absolute=True, records=count)


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 2, "records": 200_000}, rounds=5, records=1_000_000)
    count, random = arguments.records // 20 * 20, np.random.default_rng(1)
    for name, rtype in (("mbo", 160), ("trades", 0)):
        data = records(count, rtype, random).tobytes()
        compare(name, data, count, arguments.rounds, GOAL)
    compare("mixed", mixed(count, random), count, arguments.rounds, None)


if __name__ == "__main__":
    main()
