"""Feeds on the plant's host: their outboxes are read, and everything is there once, whatever happens."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fix_plant import check_claims, crashed, events, rows_of, trades, until
from tickplant import outboxes, wire
from tickplant._core import framing
from tickplant._core.columns import Columns
from tickplant._core.intake import MALFORMED, TAKEN, Intake
from tickplant.feed import sender
from tickplant.feed.sink import shipped_schema
from tickplant.journal import begins, segments

TRADE = shipped_schema()["trade"]


@pytest.fixture
def feed(site, plant, cfg):
    """One that is followed, and whose session has begun."""
    made = site.feed(cfg)
    publish(made, 1)
    until(lambda: made._sender.followed and made.drained(0.0), turning=plant.turn)
    return made


@pytest.fixture
def published(feed):
    """Frames of rows that are published over the feed's socket from here on."""
    frames, pub = [], feed._sender.pub

    class Counting:
        def send(self, frame):
            frames.append(frame)
            pub.send(frame)

    feed._sender.pub = Counting()
    return frames


def publish(feed, count):
    feed.append("trade", trades(TRADE, feed.rows_published, count))


def complete(feed, plant):
    """All rows are in the plant once and in order, and none is declared missing."""
    until(lambda: feed.drained(0.0), turning=plant.turn)
    plant.commit()
    rows = rows_of(plant.config, plant.day.trading_date, "trade")
    assert rows["trade_id"].tolist() == list(range(feed.rows_published))
    assert events(plant.config, plant.day.trading_date, "gap") == []
    check_claims(plant)


def test_rows_come_from_the_outbox_and_not_over_the_socket(plant, feed, published):
    duplicates = plant.day.intake.duplicates
    for count in (1, 1000, 3):
        publish(feed, count)
    complete(feed, plant)
    assert published == []
    assert plant.day.intake.duplicates == duplicates
    assert plant.status()["feeds"]["one"]["beside"]


def test_a_ring_is_all_that_the_plant_waits_for(plant, feed):
    plant.ingress._read_ns = 1 << 62  # it does not look by itself
    publish(feed, 10)
    until(lambda: plant.day.intake.session(1) == (feed.session, 11), turning=plant.turn)


def test_a_ring_that_is_lost_costs_no_row(plant, feed, published, monkeypatch):
    monkeypatch.setattr(feed._ringer, "ring", lambda: None)
    publish(feed, 10)
    complete(feed, plant)
    assert published == []


def test_where_it_is_not_wanted_feeds_publish(site):
    cfg = site.configured(tickerplant={"follow_outboxes": False})
    plant, feed = site.ticker_plant(cfg), site.feed(cfg)
    for _ in range(3):
        publish(feed, 10)
        complete(feed, plant)
    assert not feed._sender.followed


def test_an_outbox_that_is_another_is_not_read(plant, site, cfg, monkeypatch):
    real = outboxes.lock_file
    monkeypatch.setattr(outboxes, "lock_file", lambda folder: [real(folder)[0], real(folder)[1] + 1])
    feed = site.feed(cfg)
    asked, follow = [], plant.ingress.outboxes.follow
    monkeypatch.setattr(plant.ingress.outboxes, "follow", lambda *a: asked.append(follow(*a)))
    until(lambda: asked, turning=plant.turn)
    assert asked == [False]
    publish(feed, 10)
    complete(feed, plant)
    assert not feed._sender.followed


@pytest.mark.parametrize("at", range(0, 60, 7))
def test_the_plant_is_killed_and_comes_back(site, cfg, at):
    plant, feed = site.ticker_plant(cfg), site.feed(cfg)
    for n in range(60):
        if n == at:
            until(lambda plant=plant: feed._sender.followed, turning=plant.turn)
            crashed(plant)
        if n == at + 5 or (n == 59 and at + 5 > 59):
            plant = site.ticker_plant(cfg)
        publish(feed, 1 + n % 7)
        if not at <= n < at + 5:
            plant.turn()
    complete(feed, plant)
    until(lambda: plant.status()["feeds"]["one"]["beside"], turning=plant.turn)
    publish(feed, 5)
    complete(feed, plant)


def test_a_feed_of_which_the_plant_lets_go_is_followed_again(plant, feed):
    plant.ingress.outboxes.leave(1)

    def more():
        publish(feed, 1)
        plant.turn()

    until(lambda: plant.status()["feeds"]["one"]["beside"], turning=more)
    until(lambda: feed._sender.followed, turning=plant.turn)
    complete(feed, plant)


def test_a_feed_that_is_not_followed_publishes(plant, feed, published, monkeypatch):
    monkeypatch.setattr(plant.ingress.outboxes, "follow", lambda *_: False)
    plant.ingress.outboxes.leave(1)

    def more():
        publish(feed, 1)
        plant.turn()

    until(lambda: published, turning=more)
    complete(feed, plant)


def test_a_feed_comes_back_in_another_session(site, plant, cfg, feed):
    publish(feed, 99)
    before = feed.session
    feed.close(0.0)
    again = site.feed(cfg)
    again.append("trade", trades(TRADE, 100, 50))
    until(lambda: again._sender.followed, turning=plant.turn)
    again.append("trade", trades(TRADE, 150, 50))
    until(lambda: again.drained(0.0), turning=plant.turn)
    plant.commit()
    assert again.session > before
    assert rows_of(cfg, plant.day.trading_date, "trade")["trade_id"].tolist() == list(range(200))
    assert events(cfg, plant.day.trading_date, "gap") == []
    check_claims(plant)


def test_the_outbox_goes_on_in_other_files_and_what_is_done_with_is_deleted(site):
    cfg = site.configured(outbox={"segment_bytes": 1 << 16})
    plant, feed = site.ticker_plant(cfg), site.feed(cfg)
    until(lambda: feed._sender.followed, turning=plant.turn)
    first = begins(segments(feed._outbox.folder)[0])
    for n in range(300):
        publish(feed, 50)
        if n % 3:
            plant.turn()
    complete(feed, plant)
    assert feed._sender.followed
    assert begins(segments(feed._outbox.folder)[0]) > first


def test_more_than_is_read_at_once_comes_all(plant, feed, published):
    ours = plant.ingress.outboxes
    ours.buffer = bytearray(wire.HEADER_SIZE + plant.config.limits.frame_bytes)
    publish(feed, 20_000)
    plant.turn()
    assert ours.more == {1}
    complete(feed, plant)
    assert ours.more == set()
    assert published == []


def test_an_outbox_that_can_not_be_read_any_more_is_left(plant, feed):
    plant.ingress.outboxes.followed[1].close()
    publish(feed, 10)
    until(lambda: not feed._sender.followed or not plant.ingress.outboxes.followed, turning=plant.turn)
    complete(feed, plant)


def gaps(plant):
    events = rows_of(plant.config, plant.day.trading_date, "event")
    return events[events["kind"] == b"gap"]


def trades_of(plant):
    plant.commit()
    return rows_of(plant.config, plant.day.trading_date, "trade")["trade_id"].tolist()


def test_bytes_that_are_wrong_are_not_taken(plant, feed):
    position = feed._outbox.position
    publish(feed, 10)
    publish(feed, 10)
    path = segments(feed._outbox.folder)[-1]
    with path.open("r+b") as file:
        file.seek(position - begins(path) + wire.HEADER_SIZE + 100)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    until(lambda: len(gaps(plant)), turning=plant.turn)  # the feed finds the damage as the plant fetches
    until(lambda: trades_of(plant)[-1:] == [20], turning=plant.turn)
    assert [(g["first"], g["last"]) for g in gaps(plant)] == [(1, 10)]
    assert trades_of(plant) == [0, *range(11, 21)], "the frame behind the damaged one is there"
    assert not feed._sender.failed


def test_no_memory_grows_while_the_plant_is_away(plant, feed, published, monkeypatch):
    monkeypatch.setattr(sender, "WINDOW_BYTES", 1 << 30)
    for _ in range(50):
        publish(feed, 1000)
    assert published == []
    complete(feed, plant)


def written(random_, count):
    """Frames as in an outbox: of rows, with a segment's and a heartbeat's between."""
    out, seq = [], 0
    for n in range(count):
        rows = trades(TRADE, seq, random_.randint(1, 20))
        rows["instrument"] = 0
        if random_.random() < 0.2:
            out.append(framing.seal(b"\x80", wire.SEGMENT))
        head = {"feed": 1, "session": 7, "seq": seq, "feed_row": seq, "schema": TRADE.fingerprint}
        out.append(framing.seal(rows.view("u1"), wire.ROWS, table=TRADE.number, count=len(rows), **head))
        if random_.random() < 0.2 and n:
            out.append(out[-1])  # a duplicate
        seq += len(rows)
    return out, seq


def intake():
    columns = Columns(TRADE.number, TRADE.fingerprint, [(c.offset, c.size) for c in TRADE.columns])
    made = Intake([columns], 1, 3, 1 << 22)
    made.limit(1 << 18, 1 << 16)
    made.add_feed(1)
    made.add_feed(2)
    made.begin(1, 7, 0)
    made.define(1, 0, 0)
    return made


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_what_is_read_in_pieces_is_taken_as_messages_are(random_, count):
    frames, rows = written(random_, count)
    whole, pieces = intake(), intake()
    messages = [f for f in frames if wire.header(f).kind == wire.ROWS]
    assert whole.take(messages, 0, 5) == len(messages)
    file, at, seen = b"".join(frames), 0, 0
    while at < len(file):
        seen = min(len(file), seen + random_.randint(1, 3000))
        at += pieces.take_written(1, file[at:seen], 0, 5)
        assert pieces.reason == TAKEN
        assert at <= seen
    assert bytes(pieces.staged()) == bytes(whole.staged())
    assert pieces.session(1) == whole.session(1) == (7, rows)


@given(st.binary(max_size=400), st.integers(0, 500))
def test_any_bytes_are_refused_or_waited_for_and_never_read_beyond(data, start):
    made = intake()
    at = made.take_written(1, data, start, 5)
    assert made.rows == 0
    assert at == start or at <= len(data)


def test_frames_of_another_feed_are_not_taken():
    made = intake()
    frames, _ = written(random.Random(1), 1)
    assert made.take_written(2, frames[-1], 0, 5) == 0
    assert made.reason == MALFORMED
    assert np.frombuffer(made.staged(), "u1").size == 0
