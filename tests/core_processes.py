"""What the processes of the tests do: write tables and latest values, and watch them being written."""

import contextlib
import ctypes
import gc
import itertools
import json
import os
import random
import sys
from pathlib import Path

import numpy as np

from tickplant import segment, wire
from tickplant._core import framing
from tickplant._core.intake import Intake
from tickplant._core.memory import Bell, Word
from tickplant.errors import TableFull
from tickplant.latest import LatestTable, SharedLatest
from tickplant.schema import declare
from tickplant.table import AppendTable, SharedTable

DATE = 20240102
HEADS = 64
MIXED = declare(
    "mixed", 1, {"a": "i8", "b": "u4", "c": "i2", "d": "u1", "e": "f8", "f": "S3"},
    max_rows=1 << 20,
)  # fmt: skip
WIDE = declare("wide", 1, {"price": "f8", "size": "f8", "side": "S1"}, max_rows=1 << 22)
COPIES = declare("copies", 2, {f"copy_{i}": "i8" for i in range(12)}, latest=True)


def expected(first, count, table=MIXED):
    """Rows whose every cell follows from its row number and column."""
    number = np.arange(first, first + count, dtype="u8")
    rows = table.empty(count)
    for j, column in enumerate(table.columns):
        value = (number + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15 ^ j) >> np.uint64(j)
        if column.name == "instrument":
            rows[column.name] = value % np.uint64(HEADS + 3)
        elif column.type[0] == "S":
            rows[column.name] = (value % np.uint64(1000)).astype("S3")
        else:
            rows[column.name] = value.astype(rows.dtype[column.name])
    return rows


def frame(table, rows, first, *, trading_date=DATE):
    return framing.seal(
        rows.tobytes(), wire.ROWS, table=table.number, row=first, count=len(rows),
        trading_date=trading_date, schema=table.fingerprint,
    )  # fmt: skip


def opened(plant, table=MIXED, *, extent_rows=4096):
    """(writer's table, intake, was it there already)."""
    append = AppendTable(table)
    found = append.open(plant, "test", DATE, HEADS, extent_rows)
    return append, Intake([append.columns], 0, 1, 1), found


def extend(append, intake, first, count):
    """Append expected rows as a ticker plant does."""
    append.ensure(first + count)
    intake.apply(frame(append.table, expected(first, count, append.table), first))


def write_table(plant, upto, seed):
    """Append rows of the invariant, in batches of any size, from where the last writer was killed."""
    append, intake, _ = opened(plant)
    r = random.Random(int(seed))
    at = append.committed.load()
    while at < int(upto):
        count = min(r.choice((1, 2, 50, 700, 9000)), int(upto) - at)
        extend(append, intake, at, count)
        at += count


def watch_table(plant, upto):
    """Verify every cell of every row as soon as it is committed."""
    table, seen = SharedTable(plant, DATE, "mixed"), 0
    names = [c.name for c in reversed(table.table.columns)]
    while seen < int(upto):
        now = len(table)
        assert now >= seen, (now, seen)
        # Those written last are looked at first and at once: from behind, the last rows of each.
        last = {c: table.column(c, now)[max(seen, now - 64) :].copy() for c in names}
        rows = expected(seen, now - seen)
        for name in names:
            assert (last[name] == rows[name][-64:]).all(), (name, seen, now)
            assert (table.column(name, now)[seen:] == rows[name]).all(), (name, seen, now)
        seen = now


def write_copies(plant):
    """Replace the rows of instruments 0 and 1 by copies of a counter, until killed."""
    latest = LatestTable(plant, "test", COPIES, HEADS)
    columns = AppendTable(COPIES).columns
    latest.ensure(HEADS, columns)
    intake = Intake([columns], 0, 1, 1)
    batch = 3000
    rows = COPIES.empty(batch)
    last = SharedLatest(plant, "copies").get(1)
    for first in itertools.count(last[1] + 1 if last else 0, batch):
        counter = np.arange(first, first + batch)
        for column in COPIES.columns:
            if column.type == "i8":
                rows[column.name] = counter
        rows["instrument"] = counter & 1
        intake.apply(frame(COPIES, rows, first))


def whole(value):
    """The counter of a row of copies. Raises AssertionError if the row is torn."""
    date, number, row = value
    cells = {int(row[c.name]) for c in COPIES.columns if c.type == "i8"}
    assert cells == {number}, f"torn: row {number} is {row}"
    assert (date, number & 1) == (DATE, int(row["instrument"]))
    return number


def watch_copies(plant, updates):
    """Read all the time until so many updates went by; rows are whole and never go back."""
    latest = SharedLatest(plant, "copies")
    while latest.get(1) is None:
        os.sched_yield()
    seen = [-1, whole(latest.get(1))]
    upto = seen[1] + int(updates)
    while min(seen) < upto:
        for code in (0, 1):
            value = latest.get(code)
            now = -1 if value is None else whole(value)
            assert now >= seen[code], (now, seen)
            seen[code] = now
        cells = latest.cells(0, 2)
        for number, row in zip(cells["number"].tolist(), cells["row"], strict=True):
            seen[number & 1] = max(seen[number & 1], whole((DATE, number, row)))


def bounce(path, me, rounds):
    """Answer each increment of the other's counter by one of one's own: each round a sleep."""
    with open(path, "r+b", buffering=0) as file:
        memory = np.memmap(file, np.uint8, "r+")
    mine, theirs = int(me) * 64, 64 - int(me) * 64
    counts = [Word(memory, at, True) for at in (mine, theirs)]
    bells = [Bell(Word(memory, at + 8, True)) for at in (mine, theirs)]
    for number in range(1, int(rounds) + 1):
        if me == "0":
            counts[0].store(number)
            bells[0].ring()
        while bells[1].wait_above(counts[1], number - 1, 10_000_000_000) < number:
            pass
        if me == "1":
            counts[0].store(number)
            bells[0].ring()


def fill_table(plant):
    """Append until shared memory is full; say how far it went and that all of it is readable."""
    append, intake, _ = opened(plant)
    at = 0
    try:
        while at < MIXED.max_rows:
            extend(append, intake, at, 1000)
            at += 1000
    except TableFull as e:
        shared = SharedTable(plant, DATE, "mixed")
        assert len(shared) == at
        assert (shared.rows(0, at) == expected(0, at)).all()
        assert append.full is e
        print(f"full: {e}")


def in_huge_pages(name):
    """Bytes of an object that this process has mapped by huge pages."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, value = line.split()[:2]
        if not key.endswith(":"):
            ours = name in line
        elif ours and key == "ShmemPmdMapped:":
            total += int(value) * 1024
    return total


def huge_table(rows):
    """Fill a large table and a small one; what memory they take, and how it is mapped."""
    append, intake, _ = opened("large", WIDE, extent_rows=1 << 18)
    rows = int(rows)
    for at in range(0, rows, 50_000):
        extend(append, intake, at, 50_000)
    small, small_intake, _ = opened("small")
    extend(small, small_intake, 0, 1000)
    writer = in_huge_pages(append.segment.name)
    shared = SharedTable("large", DATE, "wide")
    append.segment.map = None
    del append, intake
    gc.collect()
    assert (shared.rows(0, rows) == expected(0, rows, WIDE)).all()
    blocks = {name: segment.SHM.joinpath(name).stat().st_blocks * 512 for name in segment.names("tp.")}
    print(json.dumps({
        "writer": writer, "reader": in_huge_pages(shared.segment.name), "bytes": WIDE.row_size * rows,
        "blocks": blocks[shared.segment.name], "small": in_huge_pages(small.segment.name),
        "small_blocks": blocks[small.segment.name],
    }))  # fmt: skip


def fill_huge_table():
    """Fill a large table until shared memory is full, make room, go on."""
    filler = segment.SHM / "filler"
    filler.write_bytes(bytes(40 << 20))
    append, intake, _ = opened("large", WIDE, extent_rows=1 << 18)
    at, why = 0, ""
    try:
        while at < WIDE.max_rows:
            extend(append, intake, at, 1000)
            at += 1000
    except TableFull as e:
        why = str(e)
    rows = at
    filler.unlink()
    with contextlib.suppress(TableFull):
        while at < WIDE.max_rows:
            extend(append, intake, at, 1000)
            at += 1000
    found = SharedTable("large", DATE, "wide").rows(0, at)
    sound = bool((found == expected(0, at, WIDE)).all())
    print(json.dumps({"why": why, "rows": rows, "after": at, "sound": sound}))


def fill_latest(plant):
    """Take slots until shared memory is full."""
    latest = LatestTable(plant, "test", COPIES, 1 << 20)
    columns = AppendTable(COPIES).columns
    try:
        latest.ensure(1 << 20, columns)
    except TableFull as e:
        print(f"full: {e}")


def scribble(plant):
    """Write to a reader's view past numpy's back: the kernel ends this process."""
    view = SharedTable(plant, DATE, "mixed").column("a", 1)
    ctypes.memset(view.ctypes.data, 1, 8)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
