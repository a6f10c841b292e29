"""What the processes of test_room.py do: a ticker plant on a small /dev/shm of its own, filled up and freed.

python -m tests.room_plant SCENARIO SEED
"""

import contextlib
import itertools
import random
import shutil
import sys
import threading

import numpy as np

from faults import room
from tests.fix_plant import Site, check_claims, crashed, rows_of, until
from tickplant import segment
from tickplant._core import rowsums
from tickplant.clock import date_after
from tickplant.control import remove_all
from tickplant.errors import TableFull
from tickplant.latest import SharedLatest
from tickplant.local import connect
from tickplant.table import SharedTable

FILLER = segment.SHM / "filler"


def fill(leave):
    """Take all memory but so many bytes."""
    free()
    with FILLER.open("wb") as file:
        room.fill(file.fileno(), leave)


def free():
    FILLER.unlink(missing_ok=True)


class Running:
    """A plant with a feed, and what has been published."""

    def __init__(self, site, cfg):
        self.site, self.cfg = site, cfg
        self.plant = site.ticker_plant(cfg)
        self.raw = site.raw_feed(self.plant)
        self.dates = [self.plant.day.trading_date]

    def publish(self, count, code=0):
        for _ in range(count // 500):
            self.raw.send(self.raw.trades(500, code))
        self.raw.settle()

    def roll(self):
        self.plant.roll(date_after(self.dates[-1]))
        self.dates.append(self.plant.day.trading_date)

    def restart(self):
        crashed(self.plant)
        self.plant = self.raw.plant = self.site.ticker_plant(self.cfg)
        self.raw.send(self.raw.beat())
        self.raw.settle()

    @property
    def degraded(self):
        return self.plant.status()["degraded"]

    def brought_up(self):
        """Give room; all tables of all dates come to have what the journal has."""
        self.plant._tidy_ns = 0

        def turn():
            self.plant.turn()
            for n, code in enumerate((1, 2)):
                value = latest.get(code)
                now = -1 if value is None else int(value[2]["trade_id"])
                assert now >= seen[n], "a latest value went back"
                seen[n] = now

        free()
        self.plant.turn()
        until(lambda: all(part.segment for part in self.plant.day.latest), turning=self.plant.turn)
        latest = SharedLatest(self.cfg.plant.name, "trade")
        seen = [int(v[2]["trade_id"]) if (v := latest.get(code)) else -1 for code in (1, 2)]
        try:
            until(lambda: not self.degraded and not self.plant.finished._late, turning=turn)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.degraded}; late: {[*self.plant.finished._late]}") from None
        check_claims(self.plant)
        for date in self.dates:
            shared = SharedTable(self.cfg.plant.name, date, "trade")
            expected = rows_of(self.cfg, date, "trade")
            assert len(shared) == len(expected)
            assert shared.rows(0, len(shared)).tobytes() == expected.tobytes()
            assert shared.sealed == (date != self.dates[-1])
            assert shared.behind == 0
        rows = np.concatenate([rows_of(self.cfg, date, "trade") for date in self.dates])
        assert rows["trade_id"].tolist() == list(range(len(rows)))
        local = connect(self.cfg.plant.name)
        for code, symbol in ((1, "XTST:A"), (2, "XTST:B")):
            mine = rows[rows["instrument"] == code]
            if len(mine):
                assert local.latest("trade")[symbol]["trade_id"] == mine["trade_id"][-1]


def started(site, cfg, leave):
    """A plant that starts with so much memory; None if that is too little even for its control block."""
    fill(leave)
    try:
        return Running(site, cfg)
    except TableFull as e:
        assert "mount -o remount" in str(e)
        assert "tp." + cfg.plant.name in str(e)
        return None


def start_with_little(site, r):
    """Whatever little there is at the start, rows are taken, and shown when there is room."""
    cfg = site.configured()
    late = 0
    for leave in [0, 1 << 12, 1 << 13, 1 << 15, *(r.randrange(1 << 15, 3 << 20) for _ in range(10))]:
        running = started(site, cfg, leave)
        if running is None:
            assert leave < 1 << 15
            crashed_before_binding(site)
            continue
        running.raw.send(running.raw.define(1, "A"), running.raw.define(2, "B"))
        running.publish(6000, 1)
        running.publish(3000, 2)
        if running.degraded:
            late += 1
            assert "mount -o remount" in running.degraded
        running.publish(1000, 1)
        assert len(rows_of(cfg, running.dates[0], "trade")) == 10_000
        running.brought_up()
        running.publish(1000, 2)
        running.brought_up()
        site._open.close()
        wipe(site)
    assert late > 4


def crashed_before_binding(site):
    site._open.close()
    wipe(site)


def wipe(site):
    remove_all(site.name)
    shutil.rmtree(site.folder / "data", ignore_errors=True)


def become_full(site, r):
    """Memory is used up at any extent, again and again; what readers see is a beginning of what there is."""
    running = Running(site, site.configured())
    running.raw.send(running.raw.define(1, "A"), running.raw.define(2, "B"))
    shared = SharedTable(site.name, running.dates[0], "trade")
    seen = late = 0
    for _ in range(12):
        fill(r.randrange(0, 1 << 20))
        running.publish(r.randrange(1, 20) * 500, r.choice((1, 2)))
        journal = rows_of(running.cfg, running.dates[0], "trade")
        assert seen <= len(shared) <= len(journal)
        seen = len(shared)
        assert shared.rows(0, seen).tobytes() == journal[:seen].tobytes()
        if seen < len(journal):
            late += 1
            behind = len(journal) - seen
            assert f"trade ({behind:,} rows)" in running.degraded
            all_of = len(journal)
            until(lambda upto=all_of: len(shared) + shared.behind == upto, turning=running.plant.turn)
        if r.random() < 0.5:
            running.brought_up()
        if r.random() < 0.3:
            running.restart()
    assert late
    running.brought_up()


def roll_when_full(site, r):
    """Dates end and begin without room; readers wait for each row of each date, and get it."""
    running = Running(site, site.configured())
    running.raw.send(running.raw.define(1, "A"), running.raw.define(2, "B"))
    running.publish(500, 1)
    got, first = [], running.dates[0]

    def read():
        for batch in connect(site.name).table("trade", first).follow():
            got.append((batch.trading_date, batch["trade_id"].tolist()))
            if batch["trade_id"][-1] == -1:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for _ in range(5):
        fill(r.choice((0, r.randrange(0, 1 << 19))))
        running.publish(r.randrange(1, 20) * 500, r.choice((1, 2)))
        running.roll()
        running.publish(r.randrange(0, 10) * 500, r.choice((1, 2)))
        if r.random() < 0.4:
            running.restart()
        if r.random() < 0.4:
            running.brought_up()
    running.brought_up()
    published = sum(len(rows_of(running.cfg, date, "trade")) for date in running.dates)
    until(lambda: sum(len(ids) for _, ids in got) == published, turning=running.plant.turn)
    assert list(itertools.chain(*(ids for _, ids in got))) == list(range(published))
    for date in running.dates:
        mine = [n for d, ids in got if d == date for n in ids]
        assert mine == rows_of(running.cfg, date, "trade")["trade_id"].tolist()


def defined(raw, codes):
    """The frame that defines these instruments of venue XTST."""
    rows = raw.schema["instrument"].empty(len(codes))
    rows["code"] = rows["instrument"] = codes
    rows["venue"], rows["symbol"] = b"XTST", [f"S{code}".encode() for code in codes]
    for code in codes:
        raw.names[code] = rowsums.name_hash(f"XTST:S{code}".encode())
    return raw.make("instrument", rows)


def more_instruments(site, r):
    """The registry and the latest values have no room; the plant goes on, and they are brought up."""
    running = Running(site, site.configured(tickerplant={"instruments_max": 20_000}))
    raw, running.raw.names = running.raw, np.zeros(20_000, np.uint64)
    raw.send(raw.define(1, "A"), raw.define(2, "B"))
    running.publish(500, 1)
    latest, known = SharedLatest(site.name, "trade"), connect(site.name)
    fill(0)
    for first in range(3, 9000, 500):
        raw.send(defined(raw, range(first, min(first + 500, 9000))))
    raw.settle()
    for code in (1, 5000, 8999):
        running.publish(500, code)
    assert running.degraded
    assert "mount -o remount" in running.degraded
    assert latest.get(8999) is None  # and no signal
    assert len(latest.snapshot(20_000)) >= 1
    assert "XTST:S8999" not in list(known.instruments)
    if r.random() < 0.5:
        running.restart()
    running.brought_up()
    assert list(known.instruments)[-1] == "XTST:S8999"
    for code in (1, 5000, 8999):
        ids = rows_of(running.cfg, running.dates[0], "trade")
        mine = ids[ids["instrument"] == code]["trade_id"]
        assert latest.get(code)[2]["trade_id"] == mine[-1]


def main():
    scenario, seed = sys.argv[1], int(sys.argv[2])
    site = Site()
    try:
        globals()[scenario](site, random.Random(seed))
    finally:
        free()
        with contextlib.suppress(FileNotFoundError):
            site.clear()
    print("well")


if __name__ == "__main__":
    main()
