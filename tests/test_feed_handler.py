"""The feed: what is published gets into the plant, whatever happens to either process on the way."""

import os
import shutil
import threading

import numpy as np
import pytest
import zmq

from tests.fix_plant import check_claims, events, journaled, killed, quietly, rows_of, trades, until
from tickplant import claimants, sockets, wire
from tickplant._core import rowsums
from tickplant.dialogue import route
from tickplant.errors import AlreadyRunning, ConfigError, JournalError, JournalFull, SchemaError
from tickplant.feed import handler, outbox, repair, sender
from tickplant.feed.outbox import Outbox
from tickplant.hdb.claims import Claims
from tickplant.journal import JournalReader


def arrived(feed, plant):
    """All that was published is in the plant, and acknowledged."""
    until(lambda: feed.drained(0.0), turning=plant.turn)
    plant.commit()


def ids(plant):
    return rows_of(plant.config, plant.day.trading_date, "trade")["trade_id"].tolist()


def test_rows_published_one_by_one_and_by_array_are_the_same(site, plant, cfg):
    feed = site.feed(cfg)
    code = feed.instrument("XTST", "A", tick_size=0.5)
    rows = trades(cfg.schema["trade"], 0, 2500, code)
    names = [n for n in rows.dtype.names if n not in ("ts_recv", "ts_plant", "feed")]
    for row in rows.tolist():
        feed.trade(**{n: v for n, v in zip(rows.dtype.names, row, strict=True) if n in names})
    feed.append("trade", rows)
    arrived(feed, plant)
    found = rows_of(cfg, plant.day.trading_date, "trade")
    assert (found["ts_recv"] > 0).all()
    found["ts_recv"] = found["ts_plant"] = 0
    assert found[:2500].tobytes() == found[2500:].tobytes()
    assert feed.rows_published == 5001
    check_claims(plant)


@pytest.mark.parametrize("batch_rows", [1, 2, 1000])
def test_definitions_come_before_their_use(site, plant, cfg, batch_rows):
    feed = site.feed(cfg, batch_rows=batch_rows)
    for n in range(30):
        code = feed.instrument("XTST", f"S{n % 11}")
        feed.trade(instrument=code, trade_id=n)
        feed.quote(instrument=code, bid_price=n)
    arrived(feed, plant)
    defined = set()
    for head, payload in journaled(cfg, plant.day.trading_date):
        if head.kind == wire.ROWS and head.feed:
            rows = cfg.schema.numbered(head.table).rows(payload)
            if head.table == 1:
                defined |= set(rows["instrument"].tolist())
            assert set(rows["instrument"].tolist()) <= defined
    assert events(cfg, plant.day.trading_date, "undefined") == []
    assert ids(plant) == list(range(30))
    check_claims(plant)


def test_definitions_come_first_wherever_their_table_is_declared(site, cfg):
    tables = dict(cfg.content["tables"])
    tables["instrument"] = tables.pop("instrument")
    cfg = site.configured()
    content = dict(cfg.content) | {"tables": tables}
    cfg = type(cfg)(content, cfg.path)
    plant = site.ticker_plant(cfg)
    feed = site.feed(cfg)
    feed.trade(instrument=feed.instrument("XTST", "A"), trade_id=0)
    arrived(feed, plant)
    assert rows_of(cfg, plant.day.trading_date, "trade")["instrument"].tolist() == [1]
    assert events(cfg, plant.day.trading_date, "undefined") == []


def test_a_definition_row_is_about_the_instrument_it_defines(site, plant, cfg):
    feed = site.feed(cfg)
    rows = cfg.schema["instrument"].empty(2)
    rows["code"], rows["venue"], rows["symbol"] = [5, 6], b"XTST", [b"FIVE", b"SIX"]
    feed.append("instrument", rows)
    assert feed.instrument("XTST", "FIVE") == 5
    assert feed.instrument("XTST", "NEXT") == 7
    feed.append("trade", trades(cfg.schema["trade"], 0, 1, 6))
    arrived(feed, plant)
    numbers = rows_of(cfg, plant.day.trading_date, "instrument")["instrument"].tolist()
    assert [plant.registry.instruments[n] for n in numbers] == ["XTST:FIVE", "XTST:SIX", "XTST:NEXT"]
    assert rows_of(cfg, plant.day.trading_date, "trade")["instrument"].tolist() == [2]
    check_claims(plant)


@pytest.mark.parametrize(
    ("venue", "symbol"),
    [
        ("", "A"),
        ("X", ""),
        ("X" * 17, "A"),
        ("X", "A" * 49),
        ("X", "ä" * 25),
        ("X:Y", "A"),
        ("X", "\ud800"),
        ("X", "a\0"),
    ],
)
def test_names_that_can_not_be_are_refused(site, cfg, venue, symbol):
    feed = site.feed(cfg)
    with pytest.raises(SchemaError):
        feed.instrument(venue, symbol)
    assert feed.instrument("X", "A") == 1


def test_what_is_not_declared_or_does_not_fit_is_refused_and_the_feed_goes_on(site, plant, cfg):
    feed = site.feed(cfg)
    with pytest.raises(AttributeError):
        _ = feed.nonsense
    for wrong in (
        lambda: feed.row("nonsense"),
        lambda: feed.append("nonsense", np.zeros(1, [("a", "i8")])),
        lambda: feed.trade(colour=1),
        lambda: feed.trade(price="1"),
        lambda: feed.trade(side="BUY"),
        lambda: feed.append("trade", np.zeros(1, [("colour", "i8")])),
        lambda: feed.append("trade", np.zeros(3)),
        lambda: feed.append("instrument", cfg.schema["instrument"].empty(1)),
        lambda: feed.instrument("X", "A", colour=1),
    ):
        with pytest.raises(SchemaError):
            wrong()
    feed.trade(trade_id=0)
    arrived(feed, plant)
    assert ids(plant) == [0]
    check_claims(plant)


def test_a_feed_that_is_not_configured_can_not_be(cfg):
    with pytest.raises(ConfigError, match="three"):
        handler.Feed(cfg, "three")


def test_rows_go_out_soon_without_being_flushed(site, plant, cfg):
    feed = site.feed(cfg)
    feed.trade(trade_id=0)
    assert until(lambda: plant.day.intake.session(1) == (feed.session, 1), turning=plant.turn)


def test_what_was_published_while_no_plant_ran_is_delivered(site, cfg):
    for first in (0, 100):
        feed = site.feed(cfg)
        feed.append("trade", trades(cfg.schema["trade"], first, 100))
        assert not feed.drained(0.0)
        feed.close(0.0)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 200, 100))
    plant = site.ticker_plant(cfg)
    arrived(feed, plant)
    assert ids(plant) == list(range(300))
    check_claims(plant)


def test_a_session_is_later_than_the_one_before_whatever_the_clock_says(site, plant, cfg, monkeypatch):
    feed = site.feed(cfg)
    feed.trade(trade_id=0)
    arrived(feed, plant)
    feed.close(0.0)
    monkeypatch.setattr(handler, "now_ns", lambda: 1_000_000_000)
    again = site.feed(cfg)
    again.trade(trade_id=1)
    arrived(again, plant)
    assert again.session > feed.session
    assert ids(plant) == [0, 1]


def test_one_process_per_feed(site, cfg):
    feed = site.feed(cfg)
    with pytest.raises(AlreadyRunning, match="feed"):
        handler.Feed(cfg, "one").open()
    feed.close(0.0)
    site.feed(cfg)
    site.feed(cfg, "two")


def full(site, policy):
    return site.configured(outbox={"max_bytes": 100_000, "when_full": policy})


def publishing(feed, cfg, rows=10_000):
    """A thread that publishes so many trades, 100 at a time."""

    def publish():
        for first in range(0, rows, 100):
            feed.append("trade", trades(cfg.schema["trade"], first, 100))
            feed.trade(trade_id=-1 - first)  # stays in a batch

    worker = threading.Thread(target=publish)
    worker.start()
    return worker


def test_a_full_outbox_blocks_the_feed_which_says_so_and_loses_nothing(site):
    cfg = full(site, "block")
    feed = site.feed(cfg)
    beats = []
    feed.beat = lambda: beats.append(1)
    worker = publishing(feed, cfg)
    until(lambda: feed.status()["waiting"])
    assert "full" in feed.status()["waiting"]
    assert "start it" in feed.status()["waiting"]
    assert feed._outbox.waiting_bytes <= 100_000
    seen = len(beats)
    until(lambda: len(beats) > seen + 2)  # its watchdog is fed meanwhile
    assert worker.is_alive()
    plant = site.ticker_plant(cfg)
    until(lambda: not worker.is_alive(), turning=plant.turn)
    arrived(feed, plant)
    assert [i for i in ids(plant) if i >= 0] == list(range(10_000))
    assert sorted(i for i in ids(plant) if i < 0) == sorted(-1 - n for n in range(0, 10_000, 100))
    assert feed.status()["waiting"] is None
    assert events(cfg, plant.day.trading_date, "gap") == []
    until(lambda: events(cfg, plant.day.trading_date, "blocked"), turning=plant.turn)
    check_claims(plant)


def test_rows_one_by_one_wait_for_room_too(site):
    cfg = full(site, "block")
    feed = site.feed(cfg, batch_rows=10)

    def publish():
        for n in range(5000):
            feed.trade(trade_id=n)

    worker = threading.Thread(target=publish)
    worker.start()
    until(lambda: feed.status()["waiting"])
    plant = site.ticker_plant(cfg)
    until(lambda: not worker.is_alive(), turning=plant.turn)
    arrived(feed, plant)
    assert ids(plant) == list(range(5000))
    check_claims(plant)


def test_a_blocked_feed_that_is_to_end_says_what_is_not_published(site):
    cfg = full(site, "block")
    feed = site.feed(cfg, batch_rows=10)
    refused = []

    def publish(call):
        try:
            for _ in range(10_000):
                call()
        except JournalFull as e:
            refused.append(str(e))

    rows = trades(cfg.schema["trade"], 0, 100)
    for call in (lambda: feed.append("trade", rows), lambda: feed.quote(bid_price=1.0)):
        worker = threading.Thread(target=publish, args=(call,))
        worker.start()
        until(lambda: feed.status()["waiting"])
        feed.stopping.set()
        worker.join()
        feed.stopping.clear()
    assert len(refused) == 2
    assert all("full" in text and "not published" in text for text in refused)
    waiting, published = len(feed._batches["quote"]), feed.rows_published
    assert waiting
    feed.close(0.0)  # these calls had returned: they are kept beyond max_bytes
    plant = site.ticker_plant(cfg)
    again = site.feed(cfg)
    arrived(again, plant)
    assert plant.day.intake.rows - len(events(cfg, plant.day.trading_date, "session")) == published + waiting
    check_claims(plant)


def gaps_and_rows(plant, feed_session):
    """The seqs of a session's trades that are there, by its journaled frames, and those declared missing."""
    cfg, date = plant.config, plant.day.trading_date
    there = set()
    for head, _ in journaled(cfg, date):
        if head.kind == wire.ROWS and head.feed == 1 and head.session == feed_session:
            there |= set(range(head.seq, head.seq + head.count))
    gone = [set(range(a, b + 1)) for _, s, a, b in events(cfg, date, "gap") if s == feed_session]
    return there, gone


def check_declared(plant):
    """What feed 1 claims to have published of trade is there or declared missing, by sum too."""
    cfg, date, table = plant.config, plant.day.trading_date, plant.config.schema["trade"]
    names = plant.registry.instruments.hashes
    claims, reader = Claims(cfg.schema, names), JournalReader(cfg.journal_dir / str(date))
    while chunk := reader.read():
        claims.follow(chunk)
    reader.close()
    rows = rows_of(cfg, date, "trade")
    total = rowsums.row_sum(rows.view("u1"), table.row_size, names)
    missing = claims.missing(1, table.number)
    claimed = plant.day.intake.claims(1)[table.number]
    assert claimed == (len(rows) + missing[0], (total + missing[1]) % (1 << 64))


def test_a_feed_that_drops_declares_exactly_what_it_dropped_and_goes_on(site):
    cfg = full(site, "drop")
    feed = site.feed(cfg)
    seqs = [feed.append("trade", trades(cfg.schema["trade"], n, 100)) for n in range(0, 10_000, 100)]
    dropped = feed.status()["rows_dropped"]
    assert dropped > 8000
    assert seqs == list(range(0, 10_000, 100))
    assert feed.rows_published == 10_000 - dropped
    assert "drops rows" in feed.status()["degraded"]
    plant = site.ticker_plant(cfg)
    arrived(feed, plant)
    feed.append("trade", trades(cfg.schema["trade"], 10_000, 100))
    arrived(feed, plant)
    there, (gone,) = gaps_and_rows(plant, feed.session)
    assert len(gone) == dropped
    assert not there & gone
    assert there | gone == set(range(10_100))
    assert ids(plant) == sorted(there)
    assert feed.status()["degraded"] is None
    check_declared(plant)


def test_the_plant_is_told_of_dropped_rows_though_none_follow(site):
    cfg = full(site, "drop")
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 10_000))
    plant = site.ticker_plant(cfg)
    until(lambda: plant.day.intake.session(1) == (feed.session, 10_000), turning=plant.turn)
    plant.commit()
    there, (gone,) = gaps_and_rows(plant, feed.session)
    assert there | gone == set(range(10_000))


DROPS = """
import os, signal, sys
from tests.fix_plant import trades
from tickplant import config
from tickplant.feed.handler import Feed
cfg = config.load(sys.argv[1])
feed = Feed(cfg, "one")
feed.open()
for first in range(0, 10_000, 100):
    feed.append("trade", trades(cfg.schema["trade"], first, 100))
print(feed.session, feed.rows_published, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_feed_dropped_just_before_it_was_killed_is_declared(site):
    cfg = full(site, "drop")
    site.python("-c", DROPS, str(cfg.path)).wait()
    session, published = map(int, site.logs().split()[-2:])
    plant = site.ticker_plant(cfg)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 7))
    arrived(feed, plant)
    there, (gone,) = gaps_and_rows(plant, session)
    assert 0 < len(there) == published
    assert there | gone == set(range(10_000))
    assert gaps_and_rows(plant, feed.session) == (set(range(7)), [])
    check_declared(plant)


class Heard:
    """A plant's drain that tells whether anything has come over its SUB."""

    def __init__(self, drain):
        self.any, self.drain = False, drain

    def wait(self, *budget):
        came = self.drain.wait(*budget)
        self.any |= came
        return came

    def __getattr__(self, name):
        return getattr(self.drain, name)


def test_rows_that_left_before_the_outbox_could_write_them_down_are_there_once(site, monkeypatch):
    cfg = site.configured(tickerplant={"follow_outboxes": False})  # else none leave before
    plant = site.ticker_plant(cfg)
    feed, heard = site.feed(cfg), Heard(plant._drain)
    feed.append("trade", trades(cfg.schema["trade"], 0, 10))
    monkeypatch.setattr(plant, "_drain", heard)
    until(lambda: heard.any, turning=plant.turn)  # from here on PUB drops nothing

    def fail(*_):
        raise JournalError("as if the process had died here")

    monkeypatch.setattr(feed._outbox, "append", fail)
    with pytest.raises(JournalError):
        feed.append("trade", trades(cfg.schema["trade"], 10, 5))
    assert feed.rows_published == 10
    with pytest.raises(JournalError):
        feed.append("trade", trades(cfg.schema["trade"], 15, 5))
    until(lambda: plant.day.intake.session(1) == (feed.session, 15), turning=plant.turn)
    feed.close(0.0)
    again = site.feed(cfg)
    again.append("trade", trades(cfg.schema["trade"], 20, 10))
    arrived(again, plant)
    assert ids(plant) == [*range(15), *range(20, 30)]
    check_claims(plant)


def test_a_paced_feed_waits_for_the_plant(site, plant, cfg, monkeypatch):
    monkeypatch.setattr(sender, "WINDOW_BYTES", 1 << 18)
    feed = site.feed(cfg, paced=True)
    widest = []

    def publish():
        for first in range(0, 60_000, 500):
            feed.append("trade", trades(cfg.schema["trade"], first, 500))
            feed.quote(bid_price=first)  # stays in a batch, for the thread beside to send
            widest.append(feed._outbox.waiting_bytes)

    worker = threading.Thread(target=publish)
    worker.start()
    until(lambda: feed._outbox.waiting_bytes > 1 << 18)
    until(lambda: not worker.is_alive(), turning=plant.turn)
    arrived(feed, plant)
    assert max(widest) < (1 << 18) + (1 << 17)
    assert ids(plant) == list(range(60_000))
    assert len(rows_of(cfg, plant.day.trading_date, "quote")) == 120
    check_claims(plant)


def test_a_paced_feed_that_is_told_to_stop_does_not_wait(site, cfg, monkeypatch):
    monkeypatch.setattr(sender, "WINDOW_BYTES", 1000)
    feed = site.feed(cfg, paced=True)
    feed.stopping.set()
    feed.append("trade", trades(cfg.schema["trade"], 0, 5000))
    assert feed.rows_published == 5000


def test_a_feed_too_far_ahead_is_fetched_from_its_outbox(site, plant, cfg, monkeypatch):
    monkeypatch.setattr(sender, "WINDOW_BYTES", 50_000)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 30_000))
    arrived(feed, plant)
    assert ids(plant) == list(range(30_000))
    check_claims(plant)


def test_many_threads_may_publish(site, plant, cfg):
    feed = site.feed(cfg, batch_rows=7)

    def publish(first):
        for n in range(first, first + 500):
            feed.trade(instrument=feed.instrument("XTST", f"S{n % 50}"), trade_id=n)

    workers = [threading.Thread(target=publish, args=(n * 1000,)) for n in range(3)]
    for worker in workers:
        worker.start()
    until(lambda: not any(w.is_alive() for w in workers), turning=plant.turn)
    arrived(feed, plant)
    rows = rows_of(cfg, plant.day.trading_date, "trade")
    for n in range(3):
        mine = [i for i in rows["trade_id"].tolist() if i // 1000 == n]
        assert mine == list(range(n * 1000, n * 1000 + 500))
    names = [plant.registry.instruments[i] for i in rows["instrument"].tolist()]
    assert names == [f"XTST:S{i % 50}" for i in (rows["trade_id"] % 1000 + rows["trade_id"] // 1000 * 1000)]
    check_claims(plant)


KILLED_BATCH = 50
KILLED = f"""
import sys
from tests.fix_plant import trades
from tickplant import config
from tickplant.feed.handler import Feed
cfg = config.load(sys.argv[1])
feed = Feed(cfg, "one")
feed.open()
code = feed.instrument("XTST", "A")
first = int(sys.argv[2])
while True:
    feed.append("trade", trades(cfg.schema["trade"], first, {KILLED_BATCH}, code))
    first += {KILLED_BATCH}
"""


def kept_in_outbox(cfg):
    """The number after the last trade in the outbox, or acknowledged before."""
    box = Outbox(cfg.outbox_dir("one"), "one", cfg.outbox.segment_bytes, 1 << 40)
    box.open()
    more, last, place = True, 0, (0, 0)
    while more:
        frames, more = box.fetch(place, 1 << 22)
        at = 0
        while at < len(frames):
            head = wire.header(frames, at)
            place = head.session, head.seq + head.count
            if head.table == cfg.schema["trade"].number:
                rows = cfg.schema["trade"].rows(frames[at + 80 : at + 80 + head.size])
                last = int(rows["trade_id"][-1]) + 1
            at += wire.HEADER_SIZE + head.size
    box.close()
    return last


def test_a_feed_killed_again_and_again_loses_nothing_that_was_in_its_outbox(site, plant, cfg):
    first = 0
    for round_ in range(3):
        process = site.python("-c", KILLED, str(cfg.path), str(first))
        had = plant.day.intake.session(1)[0]
        until(lambda had=had: plant.day.intake.session(1)[0] > had, turning=plant.turn)
        for _ in range(20 * round_):
            plant.turn()
        killed(process)
        first = max(kept_in_outbox(cfg), first)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], first, KILLED_BATCH))
    arrived(feed, plant)
    # A batch that had left when its process was killed, but was not yet in the outbox, is there again.
    rows = rows_of(cfg, plant.day.trading_date, "trade")
    once, at = np.unique(rows["trade_id"], return_index=True)
    assert once.tolist() == list(range(first + KILLED_BATCH))
    assert len(rows) - len(once) <= 3 * KILLED_BATCH
    assert (
        rows["price"][at].tobytes() == trades(cfg.schema["trade"], 0, first + KILLED_BATCH)["price"].tobytes()
    )
    assert events(cfg, plant.day.trading_date, "gap") == []
    check_claims(plant)


def test_hellos_do_not_wait_for_a_plant_that_is_away(site, cfg, monkeypatch):
    tries = []
    real = repair.Hello.packed

    def packed(message):
        tries.append("hello")
        return real(message)

    monkeypatch.setattr(repair.Hello, "packed", packed)
    monkeypatch.setattr(repair, "SILENCE_NS", 0)
    site.feed(cfg)
    until(lambda: tries.count("hello") > 50)
    monkeypatch.setattr(repair, "SILENCE_NS", 10_000_000_000)
    with sockets.context().socket(zmq.ROUTER) as router:
        sockets.bind(router, cfg.tickerplant.repair)
        assert router.poll(30_000)
        heard = []
        while router.poll(300):
            heard.append(router.recv_multipart())
    assert len(heard) == 1


def test_a_plant_that_does_not_take_its_answers_holds_nothing_up(site, cfg, monkeypatch):
    answers = []
    real = Outbox.fetch

    def fetch(box, *arguments):
        answers.append(arguments)
        return real(box, *arguments)

    monkeypatch.setattr(Outbox, "fetch", fetch)
    with sockets.context().socket(zmq.ROUTER) as router, sockets.context().socket(zmq.SUB) as sub:
        router.setsockopt(zmq.RCVHWM, 1)
        sub.setsockopt(zmq.SUBSCRIBE, b"")
        sockets.bind(router, cfg.tickerplant.repair)
        sockets.bind(sub, cfg.tickerplant.ingress)
        feed = site.feed(cfg)
        route, _ = router.recv_multipart()
        for n in range(20):
            feed.append("trade", trades(cfg.schema["trade"], n * 5000, 5000))
        whose = {"plant": cfg.plant.name, "identity": ""}
        for _ in range(30):
            router.send_multipart([route, wire.pack("fetch", session=0, seq=0, bytes=1 << 23, **whose)])

        def sent():
            frame = sub.recv() if sub.poll(0) else b""
            head = wire.header(frame) if frame else None
            return head and head.seq + head.count > 100_000  # it, or the heartbeat after it

        try:
            until(lambda: len(answers) == 30)
            feed.trade(trade_id=4711)  # the thread that answers sends this, too
            until(sent)
        finally:  # let it end, even if it waits
            feed._ended.set()
            while feed._thread.is_alive():
                if router.poll(10):
                    router.recv_multipart()


def elsewhere(site, name):
    """The configuration on another host: the same plant, a disk of its own."""
    return site.configured(plant={"data_dir": str(site.folder / name)})


def refused(feed, cfg, plant):
    """Publish until the feed is told to end."""
    calls = 0
    while True:
        try:
            feed.append("trade", trades(cfg.schema["trade"], 1_000_000 + calls, 1))
            calls += 1
        except AlreadyRunning as e:
            return str(e), calls
        plant.turn()


def test_a_second_host_with_the_same_configuration_is_refused_and_the_first_loses_nothing(site, plant, cfg):
    first = site.feed(cfg)
    first.append("trade", trades(cfg.schema["trade"], 0, 100))
    arrived(first, plant)
    second = site.feed(elsewhere(site, "other"))
    said, calls = refused(second, cfg, plant)
    assert "another process publishes as feed one" in said
    with pytest.raises(AlreadyRunning):
        second.wait(0.0)
    assert second.rows_published == calls
    assert second._outbox.waiting_bytes > 0  # an acknowledgement of the first one's rows is not of these
    second.close(0.0)
    for n in range(100, 1000, 100):
        first.append("trade", trades(cfg.schema["trade"], n, 100))
    arrived(first, plant)
    assert ids(plant) == list(range(1000))
    assert events(cfg, plant.day.trading_date, "rival")
    assert events(cfg, plant.day.trading_date, "gap") == []
    check_claims(plant)


def test_a_second_host_is_refused_before_it_publishes_if_the_plant_runs(site, plant, cfg):
    first = site.feed(cfg)
    first.append("trade", trades(cfg.schema["trade"], 0, 100))
    arrived(first, plant)
    second, said = handler.Feed(elsewhere(site, "other"), "one"), []

    def begin():
        try:
            second.open(60.0)
        except AlreadyRunning as e:
            said.append(str(e))

    worker = threading.Thread(target=begin)
    worker.start()
    until(lambda: not worker.is_alive(), turning=plant.turn)
    assert "end it, or wait" in said[0]
    first.append("trade", trades(cfg.schema["trade"], 100, 100))
    arrived(first, plant)
    assert ids(plant) == list(range(200))


def test_an_outbox_that_was_lost_begins_above_what_the_plant_has_though_the_clock_went_back(
    site, plant, cfg, monkeypatch
):
    monkeypatch.setattr(claimants, "ALIVE_NS", 0)
    first = site.feed(cfg)
    first.append("trade", trades(cfg.schema["trade"], 0, 100))
    arrived(first, plant)
    first.close(0.0)
    monkeypatch.setattr(outbox, "now_ns", lambda: 1_000_000_000)
    second = handler.Feed(elsewhere(site, "other"), "one")
    worker = threading.Thread(target=second.open, args=(60.0,))
    worker.start()
    until(lambda: not worker.is_alive(), turning=plant.turn)
    assert second.session > first.session
    second.append("trade", trades(cfg.schema["trade"], 100, 100))
    arrived(second, plant)
    second.close(0.0)
    assert ids(plant) == list(range(200))


def test_a_feed_whose_folder_was_copied_and_started_is_fenced_and_its_rows_are_there_or_declared(
    site, plant, cfg
):
    first = site.feed(cfg)
    first.append("trade", trades(cfg.schema["trade"], 0, 100))
    arrived(first, plant)
    other = elsewhere(site, "other")
    shutil.copytree(cfg.outbox_dir("one"), other.outbox_dir("one"))
    second = site.feed(other)
    second.append("trade", trades(cfg.schema["trade"], 5000, 50))
    until(lambda: plant.day.intake.session(1)[0] == second.session, turning=plant.turn)
    said, _ = refused(first, cfg, plant)
    assert "another process" in said
    published = first.rows_published
    second.append("trade", trades(cfg.schema["trade"], 5050, 50))
    arrived(second, plant)
    there, gone = gaps_and_rows(plant, first.session)
    assert published > 100
    assert there | set().union(*gone) == set(range(published))
    assert [i for i in ids(plant) if 5000 <= i < 6000] == list(range(5000, 5100))
    assert len(ids(plant)) == len(set(ids(plant)))
    check_claims(plant)


def test_what_another_process_is_told_to_be_durable_is_kept(site, cfg):
    with sockets.context().socket(zmq.ROUTER) as router:
        sockets.bind(router, cfg.tickerplant.repair)
        feed = site.feed(cfg)
        feed.append("trade", trades(cfg.schema["trade"], 0, 100))
        route, _ = router.recv_multipart()
        whose = {"plant": cfg.plant.name, "identity": ""}
        for session in (feed.session + 1, feed.session - 1, 1 << 62):
            router.send_multipart(
                [route, wire.pack("ack", session=session, seq=1 << 40, follows=False, **whose)]
            )
        ask = wire.pack("fetch", session=0, seq=0, bytes=1 << 20, **whose)
        router.send_multipart([route, ask])
        while wire.unpack((answer := router.recv_multipart())[1])["op"] != "frames":
            pass
        assert wire.header(answer[2]).count == 100
        assert feed._outbox.waiting_bytes > 7000
        done = wire.pack("ack", session=feed.session, seq=100, follows=False, **whose)
        router.send_multipart([route, done])
        assert until(lambda: feed.drained(0.0))


def test_a_feed_that_is_told_to_end_says_how_far_it_has_published_and_nothing_after_that(
    site, cfg, monkeypatch
):
    with sockets.context().socket(zmq.ROUTER) as router:
        sockets.bind(router, cfg.tickerplant.repair)
        feed = site.feed(cfg)
        said = []

        def heard():
            while router.poll(0):
                sender, message = router.recv_multipart()
                said.append((sender, wire.unpack(message)))
            return said and said[-1][1]["op"] == "hello"

        try:
            until(heard)
            monkeypatch.setattr(repair, "SILENCE_NS", 1 << 62)  # it says nothing by itself any more
            heard()
            feed.append("trade", trades(cfg.schema["trade"], 0, 123))
            said.clear()
            whose = {"plant": cfg.plant.name, "identity": ""}
            over = wire.pack("refuse", session=feed.session, have=feed.session + 1, **whose)
            router.send_multipart([route(cfg.plant.name, "one"), over])
            until(heard)
            assert [(m["session"], m["seq"]) for _, m in said] == [(feed.session, 123)]
            with pytest.raises(AlreadyRunning):
                feed.append("trade", trades(cfg.schema["trade"], 123, 1))
        finally:
            quietly(feed.close, 0.0)


def in_child(work):
    """What `work` says in a forked child, which ends at once."""
    there, here = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = work() or "nothing"
        except BaseException as e:
            said = f"{type(e).__name__}: {e}"
        os.write(here, said.encode())
        os._exit(0)
    os.close(here)
    with os.fdopen(there, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize("first", [0, 3])
def test_a_forked_child_that_publishes_is_refused_and_its_parent_goes_on(site, cfg, plant, first):
    feed = site.feed(cfg)
    push = feed.trade
    for n in range(first):
        feed.trade(price=1.0, trade_id=n)
    uses = (
        lambda: push(price=2.0), lambda: feed.trade(price=2.0), lambda: feed.instrument("XTST", "C"),
        lambda: feed.append("trade", trades(cfg.schema["trade"], 0, 3)), feed.flush,
    )  # fmt: skip
    for use in uses:
        said = in_child(use)
        assert said.startswith("Forked: feed one is one of process"), said
        assert "open the feed after the fork" in said
    assert in_child(feed.close) == "nothing"
    feed.trade(price=1.0, trade_id=first)
    arrived(feed, plant)
    assert ids(plant) == list(range(first + 1))


def test_a_child_that_outlives_its_parent_does_not_keep_the_feed(site, cfg):
    feed = site.feed(cfg)
    wait, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        os.read(wait, 1)  # until its parent's parent lets it go
        os._exit(0)
    try:
        feed.close(0.0)
        site.feed(cfg).close(0.0)
    finally:
        os.close(end)
        os.close(wait)
        os.waitpid(child, 0)
