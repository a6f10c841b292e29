"""Rows of `trade` from numpy to committed, against the server reading a ready-made file by itself.

The limit is `COPY ... FROM '/file' (FORMAT binary)`: no client, no encoding, one transaction. Ours
encodes, sends, and commits every chunk with its progress, as hdb does. Both fill a fresh partition
of the same table on the same server (safe settings, a checkpoint before each), in turns.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import harness
import numpy as np
import psycopg

from tickplant.hdb.copy import HEADER, TRAILER, encode
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History
from tickplant.schema import Rows, Schema, declare

CHUNK_ROWS = 262_144
GOAL = 0.95
DATE = 20260102
CONF = Path(__file__).parent.parent / "conf" / "tickplant.toml"


def trades(count: int) -> tuple[Schema, Rows]:
    """The table `trade` as configured, and so many rows of it."""
    columns = tomllib.loads(CONF.read_text())["tables"]["trade"]["columns"]
    schema = Schema([declare("trade", 1, columns)])
    random = np.random.default_rng(1)
    rows = schema["trade"].empty(count)
    rows["ts_event"] = 1_767_312_000_000_000_000 + np.arange(count) * 11_000
    rows["ts_recv"] = rows["ts_plant"] = rows["ts_event"] + random.integers(0, 99_999, count)
    rows["instrument"] = random.integers(1, 10_000, count)
    rows["feed"] = 1
    rows["venue_seq"] = rows["trade_id"] = np.arange(count)
    rows["price"] = random.integers(100, 50_000, count) / 100
    rows["size"] = random.integers(1, 1_000, count)
    rows["side"], rows["action"] = random.choice([b"B", b"S"], count), b"T"
    return schema, rows


def timed(history: History, admin: psycopg.Connection, fill: Callable[[], None]) -> float:
    """Seconds of filling a fresh partition."""
    history.drop(DATE)
    history.load(DATE, {}, 0, 0, expected=0)
    admin.execute("CHECKPOINT")
    begin = perf_counter()
    fill()
    return perf_counter() - begin


def main() -> None:
    arguments = harness.options(__doc__, {"rounds": 1, "rows": 100_000}, rounds=7, rows=2_000_000)
    schema, rows = trades(arguments.rows)
    folder = Path(tempfile.mkdtemp(prefix="tickplant-bench-"))
    file = folder / "trade.bin"
    file.write_bytes(HEADER + encode(schema["trade"], DATE, 0, rows) + TRAILER)
    columns = ", ".join(["trading_date", "row", *(c.name for c in schema["trade"].columns)])
    server_side = f"COPY tickplant.trade_{DATE} ({columns}) FROM '{file}' (FORMAT binary)"

    def load() -> None:
        for at in range(0, len(rows), CHUNK_ROWS):
            part = rows[at : at + CHUNK_ROWS]
            history.load(DATE, {"trade": part}, at + len(part), 0, expected=at)

    try:
        with (
            PostgresServer(folder / "data", folder / "socket") as server,
            History(server.dsn, schema) as history,
            psycopg.connect(server.dsn, autocommit=True) as admin,
        ):
            history.init()
            ours, limit = [], []
            for _ in range(arguments.rounds + 1):
                limit.append(len(rows) / timed(history, admin, lambda: admin.execute(server_side)))
                ours.append(len(rows) / timed(history, admin, load))
    finally:
        shutil.rmtree(folder)
    what = "history: numpy to a committed fresh partition; COPY by the server of a file"
    harness.tell("copy", what, ours[1:], limit[1:], "rows/s", GOAL)  # the first round is for the caches


if __name__ == "__main__":
    main()
