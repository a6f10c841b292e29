"""Remote readers over real sockets: no gap and no duplicate, whatever happens to publisher and plant."""

import threading

import pytest
import zmq

from tests.fix_plant import Site, free_port, killed, trades, until
from tickplant import subscribe, subscriber, wire
from tickplant.clock import date_after
from tickplant.errors import NotRunning, RequestError, SchemaError
from tickplant.local import connect


class Running:
    """Plant and publisher turned by threads of their own, and a feed."""

    def __init__(self, site: Site, **changes):
        self.site, self.cfg = site, site.configured(**changes)
        self.plant = site.ticker_plant(self.cfg)
        self.publisher = site.publisher(self.cfg)
        self.endpoint = self.publisher.request_endpoint
        self.stop, self.lock, self.errors = threading.Event(), threading.Lock(), []
        self.threads = [threading.Thread(target=self.turn, args=(r,)) for r in (self.plant, self.publisher)]
        for thread in self.threads:
            thread.start()
        self.feed = site.feed(self.cfg)
        self.codes = [self.feed.instrument("XTST", s) for s in "ABC"]
        self.published = 0

    def turn(self, role):
        try:
            while not self.stop.is_set():
                if role is self.plant:
                    with self.lock:
                        role.turn()
                else:
                    role.turn()
        except Exception as e:
            self.errors.append(e)
            raise

    def publish(self, count):
        rows = trades(self.cfg.schema["trade"], self.published, count)
        rows["instrument"] = 1 + rows["trade_id"] % 3
        self.published += count
        self.feed.append("trade", rows)

    def settle(self):
        assert self.feed.drained(30)

    def roll(self):
        with self.lock:
            self.plant.roll(date_after(self.plant.day.trading_date))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.errors == []


@pytest.fixture
def running(site):
    made = Running(site)
    yield made
    made.end()


def take(subscription, count):
    """Batches until there are so many rows."""
    got, rows = [], 0

    def enough():
        nonlocal rows
        batch = subscription.next(0.2)
        if batch is not None:
            got.append(batch)
            rows += len(batch)
        return rows >= count

    until(enough)
    return got


def ids(got):
    return [i for b in got for i in b["trade_id"].tolist()]


def values_fit(got):
    for batch in got:
        expected = 1 + 0.25 * batch["trade_id"]
        assert (batch["price"] == expected).all()


@pytest.fixture
def reading():
    """Make subscriptions that are closed afterwards."""
    made = []

    def make(*arguments, **options):
        made.append(subscribe(*arguments, **options))
        return made[-1]

    yield make
    for subscription in made:
        subscription.close()


@pytest.mark.parametrize(
    ("from_row", "first"), [(0, 0), (1234, 1234), ({"trade": 2999}, 2999), (None, 3000), (-5, 2995)]
)
def test_from_any_row_on(running, reading, from_row, first):
    running.publish(3000)
    running.settle()
    until(lambda: running.publisher.day.rows.get(3) == 3000)
    subscription = reading(running.endpoint, ["trade"], from_row=from_row)
    running.publish(2000)
    got = take(subscription, 5000 - first)
    assert ids(got) == list(range(first, 5000))
    assert [b.first_row for b in got] == [b["trade_id"][0] for b in got]
    values_fit(got)


def test_a_row_that_is_not_there_yet_is_waited_for(running, reading):
    running.publish(10)
    running.settle()
    subscription = reading(running.endpoint, ["trade"], from_row=100)
    assert subscription.next(0.05) is None
    running.publish(200)
    assert ids(take(subscription, 110)) == list(range(100, 210))


def test_who_joins_while_rows_flow_misses_none(running, reading):
    done = threading.Event()

    def publish():
        while not done.is_set():
            running.publish(97)
            running.settle()

    worker = threading.Thread(target=publish)
    worker.start()
    try:
        got = []
        for _ in range(4):
            subscription = reading(running.endpoint, ["trade", "quote"])
            got.append((subscription, take(subscription, 2000)))
    finally:
        done.set()
        worker.join()
    total = running.published
    for subscription, batches in got:
        batches += take(subscription, total - sum(len(b) for b in batches))
        assert ids(batches) == list(range(total))
        values_fit(batches)


def test_a_slow_reader_gets_everything_and_hurts_nobody(site, reading):
    running = Running(site)
    try:
        running.publisher.pub.setsockopt(zmq.SNDHWM, 5)
        slow = reading(running.endpoint, ["trade"])
        fast = reading(running.endpoint, ["trade"])
        got = []
        for _ in range(40):
            running.publish(2000)
            got += take(fast, 2000)
        assert ids(got) == list(range(80_000))
        assert ids(take(slow, 80_000)) == list(range(80_000))
    finally:
        running.end()


def test_rows_come_live_and_nothing_is_requested_where_nothing_is_lost(running, reading):
    subscription = reading(running.endpoint, ["trade"], from_row=None)
    running.publish(500)
    assert ids(take(subscription, 500)) == list(range(500))
    assert subscription.gaps_filled == 0


def test_several_tables_are_each_complete(running, reading):
    subscription = reading(running.endpoint, ["trade", "quote", "instrument"])
    running.publish(100)
    for n in range(50):
        running.feed.quote(instrument=1, bid_price=n)
    got = take(subscription, 153)
    by_table = {name: [b for b in got if b.table == name] for name in ("trade", "quote", "instrument")}
    assert ids(by_table["trade"]) == list(range(100))
    assert [p for b in by_table["quote"] for p in b["bid_price"].tolist()] == list(range(50))
    assert sum(len(b) for b in by_table["instrument"]) == 3


def test_a_change_of_date_is_followed(running, reading):
    subscription = reading(running.endpoint, ["trade"])
    first = running.plant.day.trading_date
    for _ in range(3):
        running.publish(500)
        running.settle()
        running.roll()
    running.publish(500)
    got = take(subscription, 2000)
    assert ids(got) == list(range(2000))
    assert len(dict.fromkeys(b.trading_date for b in got)) == 4
    for date in dict.fromkeys(b.trading_date for b in got):
        mine = [b for b in got if b.trading_date == date]
        assert mine[0].first_row == 0
        assert sum(len(b) for b in mine) == 500
    assert got[0].trading_date == first


def test_symbols_leave_only_their_rows_and_these_keep_their_numbers(running, reading):
    subscription = reading(running.endpoint, ["trade"], symbols=["XTST:B", "XTST:NEVER"])
    running.publish(3000)
    got = take(subscription, 1000)
    assert ids(got) == list(range(1, 3000, 3))
    assert [n for b in got for n in b.numbers.tolist()] == list(range(1, 3000, 3))
    assert {subscription.instruments[i] for b in got for i in b["instrument"].tolist()} == {"XTST:B"}


def test_names_of_instruments_are_there_for_every_row(running, reading):
    subscription = reading(running.endpoint, ["trade"])
    for n in range(5):
        code = running.feed.instrument("XTST", f"NEW{n}")
        running.feed.trade(instrument=code, trade_id=n)
        running.feed.flush()
        (batch,) = take(subscription, 1)
        assert subscription.instruments[int(batch["instrument"][0])] == f"XTST:NEW{n}"


def test_what_can_not_be_is_refused(running, monkeypatch):
    with pytest.raises(SchemaError, match="nonsense"):
        subscribe(running.endpoint, ["nonsense"])
    with pytest.raises(SchemaError, match="VENUE:SYMBOL"):
        subscribe(running.endpoint, ["trade"], symbols=["AAPL"])
    monkeypatch.setattr(subscriber, "PATIENCE_NS", 100_000_000)
    with pytest.raises(NotRunning, match="nobody"):
        subscribe(f"ipc://{running.site.folder}/nobody", ["trade"])


def test_an_error_of_the_publisher_reaches_the_reader(running, reading):
    subscription = reading(running.endpoint, ["trade"])
    subscription._requests.socket.send(wire.pack("nonsense"))
    with pytest.raises(RequestError, match="nonsense"):
        until(lambda: subscription.next(0.1))


def test_a_name_that_can_not_be_learned_yet_loses_no_row(running, reading, monkeypatch):
    subscription = reading(running.endpoint, ["trade"])
    real, calls = subscription._learn, []

    def learn(number):
        calls.append(number)
        if len(calls) < 3:
            raise NotRunning("just restarting")
        real(number)

    monkeypatch.setattr(subscription, "_learn", learn)
    running.publish(100)
    got = []
    while not got:
        try:
            got = take(subscription, 100)
        except NotRunning:
            continue
    assert ids(got) == list(range(100))


def test_corrupted_frames_are_requested_again(running, reading):
    subscription = reading(running.endpoint, ["trade"])
    real, count = subscription._live, 0

    def live(frame):
        nonlocal count
        count += 1
        real(frame[:-1] + bytes([frame[-1] ^ 1]) if count % 3 == 0 else frame)

    subscription._live = live
    got = []
    for _ in range(30):
        running.publish(100)
        got += take(subscription, 100)
    assert ids(got) == list(range(3000))
    assert subscription.gaps_filled > 0


@pytest.mark.parametrize("tcp", [False, True])
def test_a_publisher_killed_again_and_again_leaves_no_gap(site, reading, tcp):
    changes = {}
    if tcp:
        ports = [free_port(), free_port()]
        names = ("publish", "request")
        changes = {"publisher": {n: f"tcp://127.0.0.1:{p}" for n, p in zip(names, ports, strict=True)}}
    cfg = site.configured(**changes)
    site.run_ticker_plant()
    publisher = site.run("run", "publisher")
    feed = site.feed(cfg)
    code = feed.instrument("XTST", "A")
    subscription = reading(cfg.publisher.request, ["trade"])
    got, published = [], 0
    for _ in range(3):
        for _ in range(10):
            feed.append("trade", trades(cfg.schema["trade"], published, 300, code))
            published += 300
        got += take(subscription, 500)
        killed(publisher)
        feed.append("trade", trades(cfg.schema["trade"], published, 300, code))
        published += 300
        publisher = site.run("run", "publisher")
    got += take(subscription, published - sum(len(b) for b in got))
    assert ids(got) == list(range(published))
    assert {b.trading_date for b in got} == {connect(cfg).trading_date}
    values_fit(got)
