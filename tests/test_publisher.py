"""The publisher: what it sends is what the journal says, and no request brings it down."""

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from tests.fix_plant import until
from tests.test_ingress import SAME_PLANT
from tickplant import sockets, wire
from tickplant.clock import date_after
from tickplant.control import Control
from tickplant.errors import NotRunning
from tickplant.publisher import Publisher
from tickplant.schema import Schema

HUGE = 1 << 22


@pytest.fixture
def publisher(site, cfg, plant):
    return site.publisher(cfg)


@pytest.fixture
def dealer(cfg, publisher):
    made = sockets.context().socket(zmq.DEALER)
    sockets.connect(made, cfg.publisher.request)
    yield made
    made.close(linger=0)


@pytest.fixture
def sub(cfg, publisher):
    made = sockets.context().socket(zmq.SUB)
    sockets.connect(made, cfg.publisher.publish)
    made.setsockopt(zmq.SUBSCRIBE, b"")
    until(lambda: made.poll(0), turning=publisher.turn)
    yield made
    made.close(linger=0)


def ask(publisher, dealer, *parts):
    dealer.send_multipart(parts)
    until(lambda: dealer.poll(0), turning=publisher.turn)
    head, *rest = dealer.recv_multipart()
    return wire.unpack(head), rest


def replay(publisher, dealer, date, table, row, size=HUGE):
    return ask(publisher, dealer, wire.pack("replay", date=date, table=table, row=row, bytes=size))


def received(sub, publisher, wanted):
    """Frames of rows off the wire, until there are so many rows."""
    frames, rows = [], 0

    def enough():
        nonlocal rows
        while sub.poll(0):
            frame = sub.recv()
            if wire.header(frame).kind == wire.ROWS:
                frames.append(frame)
                rows += wire.header(frame).count
        return rows >= wanted

    until(enough, turning=publisher.turn)
    return frames


def test_it_needs_a_plant(cfg, monkeypatch):
    monkeypatch.setattr(Control.wait.__func__, "__defaults__", (0.01,))
    with pytest.raises(NotRunning):
        Publisher(cfg).open()


def test_frames_are_sent_as_they_stand_in_the_journal(plant, raw, publisher, sub):
    raw.send(raw.trades(3), raw.trades(4))
    raw.settle()
    plant.commit()
    frames = received(sub, publisher, 7 + 1)
    journal = (plant.config.journal_dir / str(plant.day.trading_date)).glob("*.tpj")
    data = b"".join(p.read_bytes() for p in sorted(journal))
    assert all(f in data for f in frames)
    assert publisher.status()["behind_bytes"] == 0


def test_heartbeats_say_what_has_been_sent(plant, raw, publisher, sub):
    raw.send(raw.trades(3))
    raw.settle()
    plant.commit()

    def beat():
        while sub.poll(0):
            frame = sub.recv()
            head = wire.header(frame)
            if head.kind == wire.HEARTBEAT and wire.small_map(wire.payload(frame)).get(3) == 3:
                return head
        return None

    assert until(beat, turning=publisher.turn).trading_date == plant.day.trading_date


def test_it_describes_the_plant(plant, raw, publisher, dealer):
    raw.send(raw.trades(3))
    raw.settle()
    until(lambda: publisher.day.rows.get(3) == 3, turning=publisher.turn)
    message, _ = ask(publisher, dealer, wire.pack("describe"))
    assert message["name"] == plant.config.plant.name
    assert message["trading_date"] == plant.day.trading_date
    assert message["rows"][3] == 3
    assert message["publish"] == plant.config.publisher.publish
    described = Schema.read(message["schema"])
    assert [t.fingerprint for t in described] == [t.fingerprint for t in plant.config.schema]


def test_it_names_instruments_from_any_number_on(plant, raw, publisher, dealer, monkeypatch):
    for n in range(1, 6):
        raw.send(raw.define(n, f"S{n}"))
    raw.settle()
    names = [["XTST", f"S{n}"] for n in range(1, 6)]
    for first in (0, 1, 3, 6, 2**64 - 1):
        message, _ = ask(publisher, dealer, wire.pack("instruments", **{"from": first}))
        assert message["names"] == names[max(first, 1) - 1 :]
    monkeypatch.setattr("tickplant.publisher.NAMES_PER_REPLY", 2)
    message, _ = ask(publisher, dealer, wire.pack("instruments", **{"from": 2}))
    assert (message["from"], message["names"]) == (2, names[1:3])


def test_it_replays_any_rows_of_any_date(plant, raw, publisher, dealer):
    first = plant.day.trading_date
    raw.send(raw.trades(3), raw.trades(4))
    raw.settle()
    plant.roll(date_after(first))
    raw.send(raw.trades(2))
    raw.settle()
    until(lambda: publisher.trading_date == date_after(first), turning=publisher.turn)
    until(lambda: publisher.day.rows.get(3) == 2, turning=publisher.turn)
    message, (blob,) = replay(publisher, dealer, first, 3, 4)
    assert (message["end"], message["next"]) == (7, date_after(first))
    assert wire.header(blob).row == 3
    message, (blob,) = replay(publisher, dealer, date_after(first), 3, 0)
    assert (message["end"], message["next"]) == (2, 0)
    assert wire.header(blob).count == 2


@pytest.mark.parametrize(("table", "row"), [(3, 7), (3, 2**64 - 1), (0, 0), (99, 0), (2**64 - 1, 5)])
def test_rows_that_are_not_there_are_an_empty_answer(plant, raw, publisher, dealer, table, row):
    raw.send(raw.trades(7))
    raw.settle()
    until(lambda: publisher.day.rows.get(3) == 7, turning=publisher.turn)
    message, (blob,) = replay(publisher, dealer, plant.day.trading_date, table, row)
    assert blob == b""
    assert message["end"] == (7 if table == 3 else 0)


@pytest.mark.parametrize("date", [0, 1, 19700101, 99991231, 2**64 - 1])
def test_dates_that_are_not_there_are_an_error(publisher, dealer, date):
    message, _ = replay(publisher, dealer, date, 3, 0)
    assert message["op"] == "error"
    assert str(date) in message["text"]


def test_a_date_that_had_just_begun_when_it_was_asked_for_is_not_taken_for_all(plant, raw, publisher, dealer):
    first = plant.day.trading_date
    second = date_after(first)
    plant.roll(second)
    raw.send(raw.trades(2))
    raw.settle()
    index = publisher._of(second)  # asked for before the publisher has gone on to it
    assert index.rows[3] == 2
    raw.send(raw.trades(3))
    raw.settle()
    assert publisher._of(second).rows[3] == 5
    plant.roll(date_after(second))
    assert publisher._of(second).sealed
    until(lambda: publisher.trading_date == date_after(second), turning=publisher.turn)
    message, _ = replay(publisher, dealer, second, 3, 0)
    assert (message["end"], message["next"]) == (5, date_after(second))


def rolled(plant, raw, times, trades):
    """Roll so often, with some trades on each date; all dates, the open one last."""
    dates = [plant.day.trading_date]
    for _ in range(times):
        raw.send(raw.trades(trades))
        raw.settle()
        plant.roll(date_after(dates[-1]))
        dates.append(plant.day.trading_date)
    return dates


def test_no_date_is_left_out_when_several_have_begun_meanwhile(plant, raw, publisher, sub):
    dates = rolled(plant, raw, 3, 2)
    frames = received(sub, publisher, 6 + 1)
    trades = [wire.header(f).trading_date for f in frames if wire.header(f).table == 3]
    assert trades == dates[:3]
    until(lambda: publisher.trading_date == dates[-1], turning=publisher.turn)


def test_only_so_many_old_dates_are_kept_open(plant, raw, publisher, dealer):
    dates = rolled(plant, raw, 7, 1)
    until(lambda: publisher.trading_date == dates[-1], turning=publisher.turn)
    for date in [*dates, *dates]:
        message, _ = replay(publisher, dealer, date, 3, 0)
        assert message["end"] == (date != dates[-1])
    assert len(publisher._indexes) <= 4


ops = st.sampled_from(["describe", "instruments", "replay", "rows", "", 7, None])
numbers = st.one_of(st.integers(-(2**63), 2**64 - 1), st.sampled_from([0, 1, 3, True, 1.5, "x", b"", [], {}]))
fields = st.dictionaries(st.sampled_from(["from", "date", "table", "row", "bytes", "x"]), numbers)


@SAME_PLANT
@given(parts=st.lists(st.binary(max_size=100), min_size=1, max_size=3))
def test_random_requests_get_an_error_and_no_more(publisher, dealer, parts):
    message, rest = ask(publisher, dealer, *parts)
    assert message["op"] == "error"
    assert rest == []


@SAME_PLANT
@given(op=ops, more=fields)
def test_random_maps_get_an_answer(plant, publisher, dealer, op, more):
    more.setdefault("date", plant.day.trading_date)
    message, _ = ask(publisher, dealer, wire.pack(op, **more))
    assert message["op"] in ("error", "plant", "instruments", "rows")
    assert ask(publisher, dealer, wire.pack("describe"))[0]["op"] == "plant"


def test_a_peer_that_does_not_read_its_answers_hurts_nobody(plant, raw, publisher, dealer):
    for _ in range(20):
        raw.send(raw.trades(700))
    raw.settle()
    until(lambda: publisher.day.rows.get(3) == 14_000, turning=publisher.turn)
    greedy = sockets.context().socket(zmq.DEALER)
    greedy.setsockopt(zmq.RCVHWM, 1)
    greedy.setsockopt(zmq.RCVBUF, 4096)
    sockets.connect(greedy, plant.config.publisher.request)
    request = wire.pack("replay", date=plant.day.trading_date, table=3, row=0, bytes=HUGE)
    for _ in range(500):
        greedy.send(request)
    before = publisher.requests
    until(lambda: publisher.requests >= before + 300, turning=publisher.turn)
    assert ask(publisher, dealer, wire.pack("describe"))[0]["op"] == "plant"
    greedy.close(linger=0)
