"""When there is no room for rows they wait or are dropped, as declared, and the plant knows of each."""

import errno
import json

import pytest

from tests.fix_plant import check_claims, events, journaled, killed, rows_of, until
from tickplant import wire
from tickplant.feed.outbox import Outbox
from tickplant.journal import segments

FEED = """
import json, sys
from pathlib import Path
from tests.fix_plant import trades
from tickplant import config
from tickplant.feed.handler import Feed
cfg, said, stop = config.load(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
feed, n = Feed(cfg, "one"), 0
feed.open(0.0)
def beat():
    draft = said.with_suffix(".draft")
    draft.write_text(json.dumps([n, feed.session, feed.status()]))
    draft.rename(said)
feed.beat = beat
while not stop.exists():
    feed.append("trade", trades(cfg.schema["trade"], n, 100))
    n += 100
    feed.wait(0.001)
feed.close(30.0)
beat()
"""


class Process:
    """A feed that publishes on a device of its own, until told to stop, and what it says of itself."""

    def __init__(self, site, shim, monkeypatch, cfg, fault, error=errno.ENOSPC):
        self.site, self.cfg = site, cfg
        self.full, self.said, self.stop = (site.folder / name for name in ("full", "said", "stop"))
        with monkeypatch.context() as patches:
            for name, value in {
                "LD_PRELOAD": shim, "DEVICE_FAULT": fault, "DEVICE_ERROR": error, "DEVICE_MARK": self.full,
                "DEVICE_FOLDER": cfg.outbox_dir("one"),
            }.items():  # fmt: skip
                patches.setenv(name, str(value))
            self.process = site.python("-c", FEED, str(cfg.path), str(self.said), str(self.stop))

    def says(self):
        """(rows given to the feed, its session, its status)."""
        until(self.said.exists)
        return json.loads(self.said.read_text())

    def gave(self, rows, plant):
        """Wait until so many more have been given to it."""
        have = self.says()[0]
        until(lambda: self.says()[0] >= have + rows, turning=plant.turn)

    def end(self, plant):
        """Have it end in good order; what it said last."""
        self.stop.touch()
        until(lambda: self.process.poll() is not None, turning=plant.turn)
        assert self.process.returncode == 0, self.site.logs()
        plant.commit()
        return self.says()


def configured(site, policy):
    return site.configured(outbox={"segment_bytes": 1 << 16, "when_full": policy})


def there_and_gone(plant, session):
    """Seqs of a session that are in the journal, and those declared missing."""
    date, there = plant.day.trading_date, []
    for head, _ in journaled(plant.config, date):
        if head.kind == wire.ROWS and head.feed == 1 and head.session == session:
            there += range(head.seq, head.seq + head.count)
    gaps = [(a, b) for _, s, a, b in events(plant.config, date, "gap") if s == session]
    return there, [n for a, b in gaps for n in range(a, b + 1)]


def whole(cfg):
    """The outbox has no byte that is not of a frame."""
    box = Outbox(cfg.outbox_dir("one"), "one", 1 << 16, 1 << 40)
    box.open()
    box.close()
    assert box._journal.torn is None


@pytest.mark.parametrize("fault", ["write", "short", "open"])
def test_a_disk_that_is_full_for_a_while_makes_a_feed_wait_and_nothing_is_lost(
    site, shim, monkeypatch, fault
):
    cfg = configured(site, "block")
    plant = site.ticker_plant(cfg)
    feed = Process(site, shim, monkeypatch, cfg, fault)
    feed.gave(1000, plant)
    feed.full.touch()
    until(lambda: feed.says()[2]["waiting"], turning=plant.turn)
    assert "the disk of the outbox" in feed.says()[2]["waiting"]
    assert "free space" in feed.says()[2]["waiting"]
    given = feed.says()[0]
    until(lambda: plant.day.intake.session(1)[1] >= given, turning=plant.turn)
    feed.full.unlink()
    feed.gave(1000, plant)
    rows, session, status = feed.end(plant)
    there, gone = there_and_gone(plant, session)
    assert gone == []
    assert there == list(range(len(there)))
    trade_ids = rows_of(cfg, plant.day.trading_date, "trade")["trade_id"].tolist()
    assert trade_ids == list(range(rows))
    assert len(events(cfg, plant.day.trading_date, "blocked")) >= 1
    assert status["waiting"] is None
    check_claims(plant)
    whole(cfg)


@pytest.mark.parametrize("fault", ["write", "short", "open"])
def test_while_the_disk_is_full_rows_are_dropped_and_declared_exactly(site, shim, monkeypatch, fault):
    cfg = configured(site, "drop")
    plant = site.ticker_plant(cfg)
    feed = Process(site, shim, monkeypatch, cfg, fault)
    feed.gave(1000, plant)
    feed.full.touch()
    until(lambda: feed.says()[2]["rows_dropped"] > 1000, turning=plant.turn)
    assert "drops rows: the disk of the outbox" in feed.says()[2]["degraded"]
    feed.full.unlink()
    until(lambda: feed.says()[2]["degraded"] is None, turning=plant.turn)
    rows, session, status = feed.end(plant)
    there, gone = there_and_gone(plant, session)
    assert sorted(there + gone) == list(range(rows))
    # What had left before the disk refused it may have been heard: it is not lost then.
    assert 0 < len(gone) <= status["rows_dropped"]
    assert rows_of(cfg, plant.day.trading_date, "trade")["trade_id"].tolist() == there
    whole(cfg)


def test_a_feed_killed_while_its_disk_is_full_loses_no_row_that_it_had_published(site, shim, monkeypatch):
    cfg = configured(site, "block")
    plant = site.ticker_plant(cfg)
    feed = Process(site, shim, monkeypatch, cfg, "short")
    feed.gave(1000, plant)
    feed.full.touch()
    until(lambda: feed.says()[2]["waiting"], turning=plant.turn)
    killed(feed.process)
    published = feed.says()[0]
    feed.full.unlink()
    again = site.feed(cfg)
    until(lambda: again.drained(0.0), turning=plant.turn)
    plant.commit()
    trade_ids = rows_of(cfg, plant.day.trading_date, "trade")["trade_id"].tolist()
    assert trade_ids[:published] == list(range(published))
    assert len(trade_ids) <= published + 100  # the call that had not returned
    assert list(cfg.outbox_dir("one").glob("*.torn")) == []
    assert segments(cfg.outbox_dir("one"))


def test_a_disk_that_fails_ends_the_feed(site, shim, monkeypatch):
    cfg = configured(site, "drop")
    plant = site.ticker_plant(cfg)
    feed = Process(site, shim, monkeypatch, cfg, "write", errno.EIO)
    feed.gave(1000, plant)
    feed.full.touch()
    until(lambda: feed.process.poll() is not None, turning=plant.turn)
    assert feed.process.returncode != 0
    assert "Input/output error" in site.logs()
