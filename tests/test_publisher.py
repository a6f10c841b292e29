"""The publisher: what it sends is what the journal says, and no request brings it down."""

import os
import signal
import time

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from tests.fix_plant import free_port, until
from tests.test_ingress import SAME_PLANT
from tickplant import publisher as publisher_module
from tickplant import replay as replay_module
from tickplant import sockets, wire
from tickplant.clock import date_after
from tickplant.control import Control
from tickplant.errors import NotRunning
from tickplant.latest import cell_dtype
from tickplant.link import Link
from tickplant.publisher import Publisher
from tickplant.requests import About, Describe, beat
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
            for frame in map(bytes, wire.split(sub.recv())):
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

    def found():
        while sub.poll(0):
            frame = sub.recv()
            head = wire.header(frame)
            if head.kind == wire.HEARTBEAT and beat(wire.payload(frame)).rows.get(3) == 3:
                return head
        return None

    assert until(found, turning=publisher.turn).trading_date == plant.day.trading_date


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
    for first in (0, 1, 3, 6, 2**63 - 1):
        message, _ = ask(publisher, dealer, wire.pack("instruments", **{"from": first}))
        assert message["names"] == names[max(first, 1) - 1 :]
    monkeypatch.setattr("tickplant.answers.NAMES_PER_REPLY", 2)
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


@pytest.mark.parametrize(("table", "row"), [(3, 7), (3, 2**63 - 1), (0, 0), (255, 0)])
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
    assert str(date) in message["text"] or "field 'date' of message 'replay'" in message["text"]


def test_a_date_that_had_just_begun_when_it_was_asked_for_is_not_taken_for_all(plant, raw, publisher, dealer):
    first = plant.day.trading_date
    second = date_after(first)
    plant.roll(second)
    raw.send(raw.trades(2))
    raw.settle()
    index = publisher.dates.of(second)[0]  # asked for before the publisher has gone on to it
    assert index.rows[3] == 2
    raw.send(raw.trades(3))
    raw.settle()
    assert publisher.dates.of(second)[0].rows[3] == 5
    plant.roll(date_after(second))
    assert publisher.dates.of(second)[0].sealed
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


def test_only_so_many_old_dates_are_kept_open(plant, raw, publisher, dealer, monkeypatch):
    monkeypatch.setattr(replay_module, "INDEXES_MAX", 4)
    dates = rolled(plant, raw, 7, 1)
    until(lambda: publisher.trading_date == dates[-1], turning=publisher.turn)
    for date in [*dates, *dates]:
        message, _ = replay(publisher, dealer, date, 3, 0)
        assert message["end"] == (date != dates[-1])
    assert len(publisher.dates._indexes) <= 4


ops = st.sampled_from(["describe", "instruments", "replay", "latest", "rows", "", 7, None])
numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, 1, 3, 4095, 4096, 300_000, 2**31, 2**32, 2**62, 2**63 - 1]),
    st.sampled_from([True, 1.5, "x", b"", [], {}]),
)
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
    assert message["op"] in ("error", "plant", "instruments", "rows", "latest")
    assert publisher.answers.failed == 0  # refused for a reason, not for an exception nobody thought of
    assert ask(publisher, dealer, wire.pack("describe"))[0]["op"] == "plant"


def test_a_peer_that_does_not_read_its_answers_hurts_nobody(plant, raw, publisher, dealer):
    for _ in range(200):
        raw.send(raw.trades(700))
    raw.settle()
    until(lambda: publisher.day.rows.get(3) == 140_000, turning=publisher.turn)
    greedy = sockets.context().socket(zmq.DEALER)
    greedy.setsockopt(zmq.SNDHWM, 0)
    greedy.setsockopt(zmq.RCVHWM, 1)
    sockets.connect(greedy, plant.config.publisher.request)
    request = wire.pack("replay", date=plant.day.trading_date, table=3, row=0, bytes=HUGE)
    for _ in range(5000):
        greedy.send(request)
    answers = publisher.answers
    until(lambda: answers.dropped >= 300, turning=publisher.turn)
    before = answers.requests
    assert ask(publisher, dealer, wire.pack("describe"))[0]["op"] == "plant"
    assert answers.requests - before < 100  # its turn came between those of the other
    assert answers.status()["dropped"] == answers.dropped
    greedy.close(linger=0)


def test_a_request_that_is_too_long_is_refused_and_one_that_is_far_too_long_cut_off(publisher, dealer, cfg):
    message, _ = ask(publisher, dealer, wire.pack("describe", more=bytes(5000)))
    assert "at most publisher.request_bytes_max = 4,096" in message["text"]
    assert ask(publisher, dealer, wire.pack("describe"), bytes(5000))[0]["op"] == "error"
    rude = sockets.context().socket(zmq.DEALER)
    events = rude.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    sockets.connect(rude, cfg.publisher.request)
    rude.send(bytes(1 << 17))
    until(lambda: events.poll(0), turning=publisher.turn)
    rude.disable_monitor()
    events.close(linger=0)
    rude.close(linger=0)
    assert ask(publisher, dealer, wire.pack("describe"))[0]["op"] == "plant"


def test_an_answer_is_no_longer_than_the_setting_whatever_is_asked_for(site, plant, raw):
    cfg = site.configured(publisher={"reply_bytes_max": 1 << 16})
    for _ in range(20):
        raw.send(raw.trades(100))
    raw.settle()
    publisher = site.publisher(cfg)
    dealer = sockets.context().socket(zmq.DEALER)
    sockets.connect(dealer, cfg.publisher.request)
    _, (blob,) = replay(publisher, dealer, plant.day.trading_date, 3, 0, 1 << 40)
    assert 50_000 < len(blob) <= 1 << 16
    dealer.close(linger=0)


def test_live_rows_have_their_turn_between_answers(plant, raw, publisher, dealer, monkeypatch):
    for _ in range(20):
        raw.send(raw.trades(700))
    raw.settle()
    until(lambda: publisher.day.rows.get(3) == 14_000, turning=publisher.turn)
    monkeypatch.setattr(publisher.answers, "settings", msgspec.structs.replace(
        publisher.settings, turn_bytes_max=100_000
    ))  # fmt: skip
    for _ in range(5):
        dealer.send(wire.pack("replay", date=plant.day.trading_date, table=3, row=0, bytes=HUGE))
    answered = []
    while sum(answered) < 5:
        before = publisher.answers.requests
        publisher.turn()
        answered.append(publisher.answers.requests - before)
    assert max(answered) == 1


def test_latest_values_are_told_in_pages_and_from_a_row_on(plant, raw, publisher, dealer):
    raw.send(*(raw.define(n, f"S{n}") for n in range(1, 6)))
    raw.send(*(raw.trades(1, 1 + n % 5) for n in range(7)))
    raw.settle()
    plant.roll(date_after(plant.day.trading_date))
    raw.send(raw.trades(2, 4))
    raw.settle()
    dtype = cell_dtype(plant.config.schema["trade"])
    found, first = [], 0
    while True:
        place = {"date": 0, "row": 0, "from": first, "bytes": 2 * dtype.itemsize}
        message, (blob,) = ask(publisher, dealer, wire.pack("latest", table=3, **place))
        cells = np.frombuffer(blob, dtype)
        assert len(cells) <= 2
        found += zip(cells["row"]["instrument"].tolist(), cells["row"]["trade_id"].tolist(), strict=True)
        first = message["next"]
        if not first:
            break
    assert found == [(1, 5), (2, 6), (3, 2), (4, 8), (5, 4)]
    since = {"date": plant.day.trading_date, "row": 0, "from": 0, "bytes": HUGE}
    _, (blob,) = ask(publisher, dealer, wire.pack("latest", table=3, **since))
    assert np.frombuffer(blob, dtype)["row"]["trade_id"].tolist() == [8]
    message, _ = ask(publisher, dealer, wire.pack("latest", table=5, **since))
    assert "order has no latest values" in message["text"]


def test_who_subscribes_to_more_than_there_is_is_cut_off_and_others_come_back(plant, raw, publisher, sub):
    strange = sockets.context().socket(zmq.SUB)
    strange.setsockopt(zmq.SNDHWM, 0)
    sockets.connect(strange, publisher.endpoint)
    for n in range(publisher.settings.topic_bytes_max // 8 + 10):
        strange.setsockopt(zmq.SUBSCRIBE, b"%08d" % n)
    until(lambda: publisher.cuts, turning=publisher.turn)
    strange.close(linger=0)
    while sub.poll(0):
        sub.recv()

    def more():
        raw.send(raw.trades(3))
        raw.settle()
        publisher.turn()

    until(lambda: sub.poll(0) and wire.header(sub.recv()).kind == wire.ROWS, turning=more)
    assert publisher.status()["cuts"] == publisher.cuts


def test_a_frame_too_long_to_be_sent_live_is_left_to_be_fetched(plant, raw, publisher, sub, dealer):
    raw.send(raw.trades(2000))
    raw.settle()
    until(lambda: publisher.day.rows.get(3) == 2000, turning=publisher.turn)
    raw.send(raw.trades(1))
    raw.settle()
    live = [wire.header(f) for f in received(sub, publisher, 2)]
    assert [(h.row, h.count) for h in live if h.table == 3] == [(2000, 1)]
    assert publisher.status()["frames_too_long"] == 1
    _, (blob,) = replay(publisher, dealer, plant.day.trading_date, 3, 0)
    assert wire.header(blob).count == 2000


def test_frames_of_a_table_that_are_there_together_are_one_message_of_bounded_size(
    plant, raw, publisher, sub
):
    raw.send(*(raw.trades(200) for _ in range(20)))
    raw.settle()
    messages = []

    def all_there():
        while sub.poll(0):
            messages.append([wire.header(f) for f in wire.split(sub.recv())])
        return sum(h.count for m in messages for h in m if h.kind == wire.ROWS and h.table == 3) == 4000

    until(all_there, turning=publisher.turn)
    bundles = [m for m in messages if m[0].kind == wire.ROWS]
    assert len(bundles) < 20
    for bundle in bundles:
        assert len({h.table for h in bundle}) == 1
        assert sum(h.size + wire.HEADER_SIZE for h in bundle) <= wire.LIVE_MAX


def test_heartbeats_say_how_the_plant_is(plant, publisher, sub):
    def said():
        frame = sub.recv() if sub.poll(0) else None
        return beat(wire.payload(frame)) if frame else None

    plant.turn()
    first = until(said, turning=publisher.turn)
    assert (first.plant, first.beat_ms) == ("running", publisher.settings.heartbeat_ms)
    assert 0 <= first.moved_ms < 60_000
    plant.close()
    until(lambda: (last := said()) and last.plant == "stopped", turning=publisher.turn)


def test_readers_that_end_while_they_are_not_listened_to_do_not_end_the_publisher(site):
    ports = [free_port(), free_port()]
    cfg = site.configured(publisher={
        n: f"tcp://127.0.0.1:{p}" for n, p in zip(("publish", "request"), ports, strict=True)
    })  # fmt: skip
    site.run_ticker_plant()
    publisher = site.run("run", "publisher")
    date = Control.attach(cfg.plant.name).date.load()
    for _ in range(3):
        context = zmq.Context()
        greedy, strange = context.socket(zmq.DEALER), context.socket(zmq.SUB)
        for rude, endpoint in ((greedy, cfg.publisher.request), (strange, cfg.publisher.publish)):
            rude.setsockopt(zmq.SNDHWM, 0)
            sockets.connect(rude, endpoint)
        request = wire.pack("replay", date=date, table=3, row=0, bytes=HUGE)
        for n in range(20_000):
            greedy.send(request)
            strange.setsockopt(zmq.SUBSCRIBE, b"%08d" % n)
        assert greedy.poll(30_000)
        publisher.send_signal(signal.SIGSTOP)  # it falls behind them
        context.destroy(linger=0)
        publisher.send_signal(signal.SIGCONT)
    link = Link(cfg.publisher.request, None, None, 1 << 20)
    end = time.monotonic() + 4  # a ping is due every second
    while time.monotonic() < end:
        assert link.ask(Describe(), About).trading_date == date
    link.close()
    assert publisher.poll() is None


class Timed:
    """A bell that remembers how long it was waited for."""

    def __init__(self, bell):
        self.bell, self.waits = bell, []

    def wait_above(self, word, position, timeout_ns):
        self.waits.append(timeout_ns)
        return self.bell.wait_above(word, position, timeout_ns)


def test_while_somebody_asks_requests_are_looked_for_more_often(publisher, dealer, monkeypatch):
    monkeypatch.setattr(publisher_module, "ASKING_NS", 1 << 60)
    publisher._asked_ns = -(1 << 60)
    publisher.control.bell = bell = Timed(publisher.control.bell)
    publisher.turn()
    ask(publisher, dealer, wire.pack("describe"))
    publisher.turn()
    assert bell.waits[0] == publisher_module.TURN_NS
    assert bell.waits[-1] == publisher_module.ASKED_TURN_NS


def latest_from(plant, first, size=HUGE):
    place = {"date": 0, "row": 0, "from": first, "bytes": size}
    return wire.pack("latest", table=plant.config.schema["trade"].number, **place)


@pytest.mark.parametrize("first", [2, 4096, 300_000, 2**32, 2**62, 2**63 - 1])
def test_latest_values_from_beyond_the_instruments_are_none(plant, raw, publisher, dealer, first):
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    message, (cells,) = ask(publisher, dealer, latest_from(plant, first))
    assert (message["op"], message["next"], cells) == ("latest", 0, b"")
    assert len(ask(publisher, dealer, latest_from(plant, 1))[1][0])


SOUND = {"table": 3, "date": 0, "row": 0, "bytes": 1}


def said(op, **fields):
    return wire.pack(op, **(SOUND | fields))


REFUSED = [
    (said("latest"), "missing required field `from`"),
    (said("latest", **{"from": 2**63}), "field 'from' of message 'latest'"),
    (said("latest", **{"from": -1}), "field 'from' of message 'latest'"),
    (said("latest", table=256, **{"from": 0}), "field 'table' of message 'latest'"),
    (said("replay", date=10**9), "field 'date' of message 'replay'"),
    (said("replay", row="0"), "field 'row' of message 'replay'"),
    (said("replay", check=0), "field 'check' of message 'replay'"),
    (said("describe", date="today"), "field 'date' of message 'describe'"),
    (said("subscribe"), "no message 'subscribe' here; there are: describe, instruments, replay, latest"),
]


@pytest.mark.parametrize(("request_", "why"), REFUSED)
def test_a_request_that_is_not_sound_is_refused_with_the_field_and_counted(publisher, dealer, request_, why):
    before = publisher.answers.refused
    message, _ = ask(publisher, dealer, request_)
    assert message["op"] == "error"
    assert why in message["text"]
    assert publisher.status()["refused"] == before + 1


def test_whatever_goes_wrong_with_an_answer_costs_its_sender_an_error_and_the_log_a_line(
    publisher, dealer, caplog, monkeypatch
):
    def broken(asked):
        raise ZeroDivisionError("a defect")

    monkeypatch.setitem(publisher.answers._kinds, Describe, broken)
    for _ in range(5):
        message, _ = ask(publisher, dealer, wire.pack("describe"))
        assert "failed to answer this (ZeroDivisionError: a defect)" in message["text"]
    assert publisher.status()["failed"] == 5
    told = [r for r in caplog.records if "could not be answered" in r.message]
    assert len(told) == 3  # the 1st, 2nd and 4th
    assert ask(publisher, dealer, wire.pack("instruments", **{"from": 0}))[0]["op"] == "instruments"


def test_the_same_request_a_thousand_times_costs_no_descriptor_and_no_memory(plant, raw, publisher, dealer):
    for _ in range(30):
        raw.send(raw.trades(700))
    raw.settle()
    until(lambda: publisher.day.rows.get(3) == 21_000, turning=publisher.turn)

    def held():
        return len(os.listdir("/proc/self/fd"))

    counts = []
    for _ in range(300):
        replay(publisher, dealer, plant.day.trading_date, 3, 0, 1 << 16)
        ask(publisher, dealer, latest_from(plant, 0))
        for row in (0, 900):  # a reader that joins, and reads on
            replay(publisher, dealer, plant.day.trading_date, 3, row, 1 << 16)
        counts.append(held())
    assert max(counts[30:]) <= max(counts[:30])


def test_a_publisher_over_which_another_plant_begins_ends_and_says_so(plant, publisher):
    (plant.config.plant.data_dir / "identity").write_text("0" * 32)
    with pytest.raises(NotRunning, match="holds another plant now: 00000000"):
        until(lambda: False, turning=publisher.turn)
