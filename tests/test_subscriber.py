"""Remote readers over real sockets: no gap and no duplicate, whatever happens to publisher and plant."""

import shutil
import signal
import socket
import threading

import pytest
import zmq

from tests.fix_plant import Site, free_port, killed, trades, until
from tickplant import link, subscribe, wire
from tickplant._core import framing
from tickplant.batch import Gap, NotSeen, Skipped, Waiting
from tickplant.clock import date_after
from tickplant.errors import ConfigError, NotRunning, RequestError, RowsGone, SchemaError, TooSlow
from tickplant.local import connect
from tickplant.requests import Describe, beat


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
        """Roll, and wait for the publisher: until then it answers for the date before."""
        with self.lock:
            self.plant.roll(date_after(self.plant.day.trading_date))
        until(lambda: self.publisher.dates.trading_date == self.plant.day.trading_date)

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


def test_a_row_that_is_not_there_yet_is_waited_for_and_said(running, reading, caplog):
    running.publish(10)
    running.settle()
    until(lambda: running.publisher.day.rows.get(3) == 10)
    subscription = reading(running.endpoint, ["trade"], from_row=100)
    assert subscription.next(0.05) is None
    (notice,) = subscription.notices
    assert notice == Waiting("trade", subscription.trading_date, 100, 10)
    assert str(notice) in caplog.text
    running.publish(200)
    got = take(subscription, 110)
    assert ids(got) == list(range(100, 210))
    assert got[0].notices == (notice,)


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
    event = subscription._sequences[running.cfg.schema["event"].number]
    # The row that tells of the feed's session may be live or asked for; after it there is a connection.
    until(lambda: event.expected == 1, turning=lambda: subscription.next(0.01))
    subscribed, filled = subscription._link._live_ns, subscription.gaps_filled
    until(lambda: subscription._link._live_ns > subscribed, turning=lambda: subscription.next(0.01))
    running.publish(500)
    assert ids(take(subscription, 500)) == list(range(500))
    assert subscription.gaps_filled == filled


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
    subscription = reading(running.endpoint, ["trade"], symbols=["XTST:B", "XTST:NEVER"], unknown="wait")
    running.publish(3000)
    got = take(subscription, 1000)
    assert ids(got) == list(range(1, 3000, 3))
    assert [n for b in got for n in b.numbers.tolist()] == list(range(1, 3000, 3))
    assert {subscription.instruments[i] for b in got for i in b["instrument"].tolist()} == {"XTST:B"}


def test_symbols_that_were_never_seen_are_refused_with_the_nearest_or_waited_for(running, reading):
    running.feed.instrument("XTST", "AAPL")
    running.publish(3)
    running.settle()
    until(lambda: running.publisher.day.rows.get(3) == 3)
    for symbol in ("XTST:AAPPL", "NONE:X"):
        with pytest.raises(RequestError, match=f"not seen the instrument {symbol}.*unknown="):
            subscribe(running.endpoint, ["trade"], symbols=["XTST:A", symbol])
    with pytest.raises(RequestError, match="did you mean XTST:AAPL"):
        subscribe(running.endpoint, ["trade"], symbols=["XTST:AAPPL"])
    waiting = reading(running.endpoint, ["trade"], symbols=["XTST:NEW"], unknown="wait")
    assert waiting.notices == (NotSeen(("XTST:NEW",)),)
    code = running.feed.instrument("XTST", "NEW")
    running.feed.trade(instrument=code, trade_id=99)
    running.feed.flush()
    assert ids(take(waiting, 1)) == [99]


NONSENSE = [
    ({"tables": []}, "no table was asked for; there are: .*trade"),
    ({"tables": None}, "tables are a name or a list of names, not None"),
    ({"tables": b"trade"}, "tables are a name or a list of names, not b'trade'"),
    ({"tables": [3]}, "a table is asked for by its name, not by 3"),
    ({"tables": "tradee"}, "there is no table 'tradee'; did you mean trade"),
    ({"symbols": []}, "no symbol was asked for"),
    ({"symbols": [5]}, "a symbol is written VENUE:SYMBOL, not 5"),
    ({"symbols": 5}, "symbols are a name or a list"),
    ({"symbols": "A"}, "VENUE:SYMBOL"),
    ({"from_row": {"nix": 5}}, "from_row names 'nix', which is none of the tables asked for: trade"),
    ({"from_row": {"trade": "5"}}, "from_row is '5'; it has to be a whole number"),
    ({"from_row": "5"}, "from_row is '5'; it has to be a whole number from .* or None for now"),
    ({"from_row": 1.5}, "from_row is 1.5"),
    ({"from_row": True}, "from_row is True"),
    ({"from_row": 2**64}, "from_row is 18446744073709551616"),
    ({"from_row": -(2**64)}, "from_row is -18446744073709551616"),
    ({"trading_date": "2026-01-05"}, "a trading date is a number yyyymmdd.*not '2026-01-05'"),
    ({"trading_date": 20260231}, "a trading date is a number yyyymmdd.*not 20260231"),
    ({"trading_date": -1}, "a trading date is a number yyyymmdd"),
    ({"trading_date": 2**70}, "a trading date is a number yyyymmdd"),
    ({"behind_max": -1}, "behind_max is -1"),
    ({"queue_bytes": 0}, "queue_bytes is 0; it has to be a whole number from"),
    ({"unknown": "perhaps"}, "refuse or wait"),
    ({"plant": "another"}, "is the publisher of plant '.*, not of plant 'another'"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "what"), NONSENSE)
def test_nonsense_is_refused_at_the_door_with_what_is_allowed(running, asked, what):
    with pytest.raises((RequestError, SchemaError), match=what):
        subscribe(running.endpoint, **({"tables": ["trade"]} | asked))


def test_a_subscription_that_is_closed_says_so_and_may_be_closed_again(running):
    with subscribe(running.endpoint, "trade") as subscription:
        pass
    subscription.close()
    with pytest.raises(NotRunning, match="is closed; subscribe again"):
        next(iter(subscription))


def test_one_table_can_be_named_by_itself(running, reading):
    running.publish(3)
    assert ids(take(reading(running.endpoint, "trade", trading_date=None), 3)) == [0, 1, 2]


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
    monkeypatch.setattr(link, "PATIENCE_NS", 100_000_000)
    with pytest.raises(NotRunning, match="nobody"):
        subscribe(f"ipc://{running.site.folder}/nobody", ["trade"])


def test_an_error_of_the_publisher_reaches_the_reader(running, reading):
    subscription = reading(running.endpoint, ["trade"])
    subscription._link.dealer.send(wire.pack("nonsense"))
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


class Corrupting:
    """Every third live message comes with a bit flipped."""

    def __init__(self, sub):
        self.sub, self.count, self.left = sub, 0, 0

    def begin(self, messages, size):
        pass

    def pour(self):
        try:
            frame = self.sub.recv(zmq.DONTWAIT)
        except zmq.Again:
            return None
        self.count += 1
        return frame[:-1] + bytes([frame[-1] ^ 1]) if self.count % 3 == 0 else frame

    def close(self):
        pass


def test_corrupted_frames_are_requested_again(running, reading):
    subscription = reading(running.endpoint, ["trade"])
    subscription._arrivals._tap = Corrupting(subscription._link.sub)
    got = []
    for _ in range(30):
        running.publish(100)
        got += take(subscription, 100)
    assert ids(got) == list(range(3000))
    assert subscription.gaps_filled > 0


def test_a_journal_that_is_damaged_is_told_after_the_rows_before_the_damage(running, reading):
    for _ in range(8):
        running.publish(100)
        running.settle()
    until(lambda: running.publisher.day.rows.get(3) == 800)
    (path,) = running.plant.day.journal.folder.glob("*.tpj")
    data = bytearray(path.read_bytes())
    frames = [f for f in framing.index(data).tolist() if f[2:4] == [wire.ROWS, 3]]
    offset, size, *_, row, _ = frames[len(frames) // 2]
    data[offset + size - 1] ^= 1
    path.write_bytes(data)
    subscription, got = reading(running.endpoint, ["trade"]), []
    with pytest.raises(RequestError, match="is damaged at byte"):
        until(lambda: got.extend(take(subscription, 1)))
    assert ids(got) == list(range(row))


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
    said = cfg.status_dir / "publisher.json"
    until(lambda: said.exists() and '"running"' in said.read_text())
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


def rest(subscription, seconds=0.3):
    """Batches until none comes for a while."""
    got = []
    while (batch := subscription.next(seconds)) is not None:
        got.append(batch)
    return got


def test_a_reader_that_skips_is_told_which_rows_it_was_not_handed(running, reading):
    running.publish(10)
    running.settle()
    subscription = reading(running.endpoint, ["trade"], policy="skip", behind_max=500)
    first = take(subscription, 10)
    for _ in range(20):
        running.publish(100)
        running.settle()
    until(lambda: subscription._link.look() or subscription._link.newest[1].rows.get(3) == 2010)
    assert subscription.next(0.1) is None  # it goes on with what comes from now on
    running.publish(100)
    got = take(subscription, 100)
    assert (ids(first), ids(got)) == (list(range(10)), list(range(2010, 2110)))
    (notice,) = got[0].notices
    assert notice == Skipped("trade", subscription.trading_date, 10, 2009)


def test_a_reader_that_skips_and_is_near_enough_gets_every_row(running, reading):
    subscription = reading(running.endpoint, ["trade"], policy="skip", behind_max=5000)
    for _ in range(20):
        running.publish(100)
    got = take(subscription, 2000)
    assert ids(got) == list(range(2000))
    assert [b.notices for b in got] == [()] * len(got)


def test_a_reader_that_skips_skips_over_dates(running, reading):
    subscription = reading(running.endpoint, ["trade"], policy="skip", behind_max=100)
    first = running.plant.day.trading_date
    for _ in range(2):
        running.publish(300)
        running.settle()
        running.roll()
    running.publish(500)
    running.settle()
    last = running.plant.day.trading_date
    until(
        lambda: subscription._link.look() or subscription._link.newest == (last, subscription._link.newest[1])
    )
    until(lambda: subscription._link.look() or subscription._link.newest[1].rows.get(3) == 500)
    assert rest(subscription) == []
    running.publish(7)
    got = take(subscription, 7)
    assert ids(got) == list(range(1100, 1107))
    between = date_after(first)
    assert [(n.trading_date, n.first_row, n.last_row) for n in got[0].notices] == [
        (first, 0, 299), (between, 0, 299), (last, 0, 499),
    ]  # fmt: skip


def test_a_reader_that_is_to_die_is_told_how_far_behind_it_is(running, reading):
    subscription = reading(running.endpoint, ["trade"], policy="die", behind_max=500)
    running.publish(100)
    assert ids(take(subscription, 100)) == list(range(100))
    running.publish(3000)
    running.settle()
    until(lambda: subscription._link.look() or subscription._link.newest[1].rows.get(3) == 3100)
    with pytest.raises(TooSlow, match="3,000 rows behind, at row 100"):
        subscription.next(0.1)


def test_a_conflating_reader_is_handed_the_newest_row_of_each_instrument(running, reading):
    running.publish(30)
    running.settle()
    until(lambda: running.publisher.day.rows.get(3) == 30)
    subscription = reading(running.endpoint, ["trade"], policy="conflate")
    (batch,) = take(subscription, 3)
    assert sorted(batch["trade_id"].tolist()) == [27, 28, 29]
    assert (batch.numbers.tolist(), batch.passed_over) == ([27, 28, 29], 27)
    for _ in range(10):
        running.publish(99)
        running.settle()
    until(lambda: subscription._link.look() or subscription._link.newest[1].rows.get(3) == 1020)
    newest = {}
    passed = handed = 0
    while max(newest.values(), default=0) < 1019:
        batch = subscription.next(1.0)
        newest |= dict(zip(batch["instrument"].tolist(), batch["trade_id"].tolist(), strict=True))
        passed, handed = passed + batch.passed_over, handed + len(batch)
    assert sorted(newest.values()) == [1017, 1018, 1019]
    assert passed + handed == 990


def test_what_a_conflating_reader_missed_is_asked_of_the_latest_values(running, reading):
    subscription = reading(running.endpoint, ["trade"], policy="conflate", from_row=None)
    arrivals, lost = subscription._arrivals, []
    real = arrivals._look_at
    arrivals._look_at = lambda m: lost.append(m) or [] if wire.header(m).kind == wire.ROWS else real(m)
    running.publish(300)
    running.settle()
    running.roll()
    (batch,) = take(subscription, 3)
    assert batch["trade_id"].tolist() == [297, 298, 299]
    assert lost
    assert subscription.gaps_filled >= 1


def test_only_tables_with_latest_values_can_be_conflated(running):
    with pytest.raises(SchemaError, match="latest = true"):
        subscribe(running.endpoint, ["order"], policy="conflate")
    with pytest.raises(ConfigError, match="catch-up, conflate, skip, die"):
        subscribe(running.endpoint, ["trade"], policy="hurry")


@pytest.mark.parametrize("policy", ["catch-up", "conflate", "skip", "die"])
def test_no_more_than_its_queue_is_kept_for_a_reader_that_does_not_read(site, reading, policy):
    running = Running(site, publisher={"queue_bytes_max": 1 << 20})
    try:
        subscription = reading(running.endpoint, ["trade"], policy=policy, queue_bytes=1 << 20)
        for _ in range(60):
            running.publish(5000)
        running.settle()
        until(lambda: running.publisher.day.rows.get(3) == 300_000)
        kept = 0

        def drained():
            nonlocal kept
            message = subscription._link.sub.recv()
            kept += len(message)
            assert len(message) <= wire.LIVE_MAX
            head = wire.header(message)
            return head.kind == wire.HEARTBEAT and beat(wire.payload(message)).rows.get(3) == 300_000

        until(drained, turning=lambda: None)
        # Its queue here and there, and what the system has between them; of more than 20 MiB.
        assert 0 < kept < 6 << 20
        if policy == "catch-up":
            assert sum(len(b) for b in take(subscription, 300_000)) == 300_000
    finally:
        running.end()


def test_a_reader_goes_on_at_a_row_of_an_earlier_date(running, reading):
    dates = [running.plant.day.trading_date]
    for _ in range(3):
        running.publish(100)
        running.settle()
        running.roll()
        dates.append(running.plant.day.trading_date)
    running.publish(50)
    subscription = reading(running.endpoint, ["trade"], from_row=60, trading_date=dates[1])
    got = take(subscription, 190)
    assert ids(got) == list(range(160, 350))
    assert [*dict.fromkeys(b.trading_date for b in got)] == dates[1:]
    assert (got[0].first_row, subscription.trading_date) == (60, dates[1])


def test_a_date_that_can_not_be_had_is_refused_with_where_its_rows_are(running):
    first = running.plant.day.trading_date
    for row in (None, -5):
        running.publish(10)
        running.settle()
        running.roll()
        with pytest.raises(RequestError, match="give the row"):
            subscribe(running.endpoint, ["trade"], from_row=row, trading_date=first)
    with pytest.raises(RequestError, match="has not begun"):
        subscribe(running.endpoint, ["trade"], trading_date=20991231)
    with pytest.raises(RequestError, match=f"no trading date 20010101; there are: {first} to"):
        subscribe(running.endpoint, ["trade"], trading_date=20010101)
    proofs = running.cfg.plant.data_dir / "proofs"
    proofs.mkdir(exist_ok=True)
    (proofs / f"{first}.json").write_text("{}")
    shutil.rmtree(running.cfg.journal_dir / str(first))
    with pytest.raises(
        RowsGone, match=f"{first} is gone.*PostgreSQL: SELECT \\* FROM {running.cfg.plant.name}"
    ):
        subscribe(running.endpoint, ["trade"], trading_date=first)


def test_a_date_whose_journal_goes_while_it_is_read_is_an_error_and_no_hole(running, reading, monkeypatch):
    first = running.plant.day.trading_date
    monkeypatch.setattr("tickplant.questions.REPLY_BYTES", 1000)
    running.publish(3000)
    running.settle()
    running.roll()
    subscription = reading(running.endpoint, ["trade"], trading_date=first)
    assert subscription.next(5.0)["trade_id"][0] == 0
    (running.cfg.plant.data_dir / "proofs").mkdir(exist_ok=True)
    (running.cfg.plant.data_dir / "proofs" / f"{first}.json").write_text("{}")
    shutil.rmtree(running.cfg.journal_dir / str(first))
    got = []
    with pytest.raises(RowsGone, match="PostgreSQL"):
        until(lambda: got.append(subscription.next(0.1)))
    assert [b.first_row for b in got if b is not None] == sorted(b.first_row for b in got if b is not None)


def test_gaps_are_told_without_subscribing_to_events(running, reading):
    with running.lock:
        running.plant.report("gap", about=1, session=9, first=5, last=7, text="the outbox has lost it")
        running.plant.report("malformed", about=1)
    running.publish(10)
    subscription = reading(running.endpoint, ["trade"])
    expected = Gap(subscription.trading_date, 1, 9, 5, 7, "the outbox has lost it")
    got = take(subscription, 10)
    until(lambda: got.extend(rest(subscription, 0.05)) or subscription.gaps)
    running.publish(10)
    got += take(subscription, 10)
    assert {b.table for b in got} == {"trade"}
    assert list(subscription.gaps) == [expected]
    assert [n for b in got for n in b.notices] == [expected]
    assert connect(running.cfg).gaps() == [expected]


def is_free(endpoint):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", int(endpoint.rpartition(":")[2])))
            s.listen()
        except OSError:
            return False
        return True


def test_a_publisher_that_came_back_elsewhere_is_found(site, reading):
    request = f"tcp://127.0.0.1:{free_port()}"
    running = Running(site, publisher={"publish": "tcp://127.0.0.1:*", "request": request})
    try:
        subscription = reading(request, ["trade"])
        running.publish(10)
        assert ids(take(subscription, 10)) == list(range(10))
        running.stop.set()
        running.threads[1].join()
        before = running.publisher.endpoint
        running.publisher.close()
        running.threads[0].join()
        running.stop.clear()
        until(lambda: is_free(request))  # libzmq gives it back in a thread of its own
        running.publisher.open()
        assert running.publisher.endpoint != before
        running.threads = [
            threading.Thread(target=running.turn, args=(r,)) for r in (running.plant, running.publisher)
        ]
        for thread in running.threads:
            thread.start()
        running.publish(10)
        assert ids(take(subscription, 10)) == list(range(10, 20))
        assert subscription._link._pushed[0].endpoint == running.publisher.endpoint
    finally:
        running.end()


def test_a_stalled_plant_is_told_from_a_dead_one_and_from_a_silent_publisher(site, reading):
    cfg = site.configured()
    plant, publisher = site.run_ticker_plant(), site.run("run", "publisher")
    until((site.folder / "req").exists)
    subscription = reading(cfg.publisher.request, ["trade"])
    until(lambda: subscription.state == "running")
    assert subscription.idle < 60
    plant.send_signal(signal.SIGSTOP)
    until(lambda: subscription.state == "stalled")
    assert connect(cfg).state == "stalled"
    assert subscription.idle >= 2
    assert connect(cfg).idle >= 2
    plant.send_signal(signal.SIGCONT)
    until(lambda: subscription.state == "running")
    killed(plant)
    until(lambda: subscription.state == "dead")
    assert connect(cfg).state == "dead"
    killed(publisher)
    until(lambda: subscription.state == "unknown")


def test_a_publisher_of_another_plant_is_refused_by_name(running, reading):
    running.publish(3)
    first = reading(running.endpoint, "trade", plant=running.site.name)
    assert ids(take(first, 3)) == [0, 1, 2]
    assert first.plant.plant == running.site.name
    again = reading(running.endpoint, "trade", plant=first.plant)  # a position of this very plant
    assert ids(take(again, 3)) == [0, 1, 2]
    other = first.plant._replace(token="f" * 32)
    with pytest.raises(RequestError, match=f"publisher of plant '{running.site.name}' .*, not of plant"):
        subscribe(running.endpoint, "trade", plant=other)
    running.publisher.answers.identity = "f" * 32  # another one answers at the same endpoint
    first._link.tell(Describe())
    assert first._link.dealer.poll(30_000)
    with pytest.raises(RequestError, match="another plant now .ffffffff.*not of plant.*subscribe anew"):
        first._take_answer()


def test_a_heartbeat_of_another_plant_is_refused_too(running, reading):
    running.publish(3)
    subscription = reading(running.endpoint, "trade")
    assert ids(take(subscription, 3)) == [0, 1, 2]
    subscription._link.plant = subscription.plant._replace(token="e" * 32)
    with pytest.raises(RequestError, match="is the publisher of another plant now"):
        until(lambda: subscription.next(0.1))


def test_a_subscription_says_what_it_is(running, reading):
    running.publish(3)
    subscription = reading(running.endpoint, ["trade", "quote"])
    take(subscription, 3)
    said = repr(subscription)
    assert said.startswith(f"subscription to {running.endpoint}, plant '{running.site.name}'")
    assert f"trade at row 3 of {subscription.trading_date}, quote at row 0" in said
