"""The way in: whatever a feed's messages suffer, its rows are journaled in order, each once."""

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fix_plant import check_claims, crashed, events, rows_of, sealed, until, whose
from tickplant import claimants, ingress, wire
from tickplant._core import framing
from tickplant._core.intake import STAGE_FULL
from tickplant.clock import now_ns
from tickplant.day import Day
from tickplant.journal import JournalWriter
from tickplant.registry import RegistryWriter

SAME_PLANT = settings(
    deadline=None,
    max_examples=60,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def ids(plant):
    return rows_of(plant.config, plant.day.trading_date, "trade")["trade_id"].tolist()


def told(plant, kind):
    plant.commit()
    return events(plant.config, plant.day.trading_date, kind)


def taken(plant, raw):
    """A heartbeat of the other feed has come through, and so has all that was sent before it."""
    seen = plant.ingress.strangers
    raw.send(b"end")
    until(lambda: plant.ingress.strangers > seen, turning=plant.turn)
    plant.commit()


def test_rows_are_journaled_in_order_and_acknowledged(plant, raw):
    raw.send(raw.define(1, "A"), raw.trades(3, 1), raw.trades(4, 1))
    raw.settle(lambda: raw.acknowledged and raw.acknowledged[-1] == (raw.session, 8))
    assert ids(plant) == list(range(7))
    rows = rows_of(plant.config, plant.day.trading_date, "trade")
    assert set(rows["feed"]) == {1}
    assert (rows["ts_plant"] > 0).all()
    check_claims(plant)


def test_a_gap_is_fetched_and_order_is_kept(plant, raw):
    first, lost, third = raw.trades(3), raw.trades(3), raw.trades(3)
    assert lost
    raw.send(first, third)
    raw.settle()
    raw.send(raw.trades(1))
    raw.settle()
    assert ids(plant) == list(range(10))
    assert told(plant, "gap") == []
    check_claims(plant)


def test_repeated_frames_are_dropped(plant, raw):
    frames = [raw.trades(2) for _ in range(4)]
    raw.send(frames[0], frames[0], frames[1], frames[0], frames[1], frames[2], frames[3], frames[2])
    raw.settle()
    taken(plant, raw)
    assert ids(plant) == list(range(8))
    assert plant.day.intake.duplicates >= 4


def test_a_heartbeat_shows_a_lost_tail(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    raw.trades(5)
    raw.send(raw.beat())
    raw.settle()
    assert ids(plant) == list(range(8))


def test_a_hello_shows_what_was_published_while_no_plant_ran(plant, raw):
    raw.trades(5)
    raw.say("hello", session=raw.session, seq=raw.seq)
    raw.settle()
    assert ids(plant) == list(range(5))


def test_after_a_restart_of_the_feed_the_old_session_comes_first(plant, raw):
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    raw.trades(4, 1)  # the tail that only the outbox has
    old = raw.session
    raw.restart()
    raw.define(1, "B")
    raw.send(raw.trades(2, 1))
    raw.settle()
    rows = rows_of(plant.config, plant.day.trading_date, "trade")
    assert rows["trade_id"].tolist() == list(range(9))
    assert [plant.registry.instruments[i] for i in rows["instrument"].tolist()] == (
        ["XTST:A"] * 7 + ["XTST:B"] * 2
    )
    assert [s for _, s, _, _ in told(plant, "session")] == [old, raw.session]
    check_claims(plant)


def test_an_old_sessions_last_words_change_nothing(plant, raw):
    late = raw.frame(raw.schema["trade"], raw.schema["trade"].empty(1), session=raw.session - 5)
    raw.send(raw.trades(2), late)
    raw.settle()
    taken(plant, raw)
    assert ids(plant) == [0, 1]


def test_what_the_outbox_has_not_any_more_is_an_event_and_rows_go_on(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    raw.trades(4)
    raw.kept.pop()
    raw.trades(2)
    raw.kept.pop()
    raw.send(raw.trades(5))
    raw.settle()
    assert told(plant, "gap") == [(1, raw.session, 3, 8)]
    assert len(ids(plant)) == 8
    assert plant.ingress.feeds[1].gaps == 1


def test_the_lost_head_of_a_session_is_an_event(plant, raw):
    raw.trades(4)
    raw.kept.pop()
    raw.send(raw.trades(1))
    raw.settle()
    assert told(plant, "gap") == [(1, raw.session, 0, 3)]


def test_an_answer_that_was_damaged_on_its_way_is_asked_for_again(plant, raw, monkeypatch):
    monkeypatch.setattr(ingress, "RETRY_NS", 0)
    raw.mute = True
    for _ in range(3):
        raw.trades(2)
    raw.send(raw.trades(2))
    raw.settle(lambda: raw.asked)
    blob = bytearray(b"".join(raw.kept))
    blob[len(raw.kept[0]) + 100] ^= 4  # in the second frame
    place = {"session": raw.asked[0]["session"], "seq": raw.asked[0]["seq"]}
    said = {"more": False, "knows": True, "mine": raw.session, **whose(plant)}
    head = wire.pack("frames", crc=framing.crc32c(b"".join(raw.kept)), **place, **said)
    raw.dealer.send_multipart([head, blob])
    until(lambda: plant.ingress.strangers, turning=plant.turn)
    raw.mute = False
    raw.settle()
    assert ids(plant) == list(range(8))
    assert told(plant, "gap") == told(plant, "malformed") == []


def test_who_does_not_answer_in_time_is_asked_for_less_and_then_for_more_again(plant, raw, monkeypatch):
    monkeypatch.setattr(ingress, "RETRY_NS", 0)
    raw.mute = True
    raw.trades(1)
    raw.send(raw.trades(1))
    raw.settle(lambda: len(raw.asked) > 10)
    sizes = [m["bytes"] for m in raw.asked]
    assert sizes[:7] == [ingress.FETCH_BYTES >> n for n in range(7)]
    assert set(sizes[7:]) == {ingress.FETCH_BYTES_MIN}
    raw.mute = False
    raw.settle()
    monkeypatch.setattr(ingress, "RETRY_NS", 1 << 60)
    raw.asked.clear()
    for _ in range(8):
        raw.trades(1)
        raw.send(raw.trades(1))
        raw.settle()
    assert raw.asked[-1]["bytes"] == ingress.FETCH_BYTES


def test_a_question_that_is_answered_twice_leads_to_one_more_question(plant, raw, monkeypatch):
    monkeypatch.setattr(ingress, "RETRY_NS", 1 << 60)
    raw.mute = True
    for _ in range(5):
        raw.trades(2)
    raw.send(raw.trades(2))
    raw.settle(lambda: raw.asked)
    for _ in range(3):
        raw.answer(raw.asked[0], most=2)
    raw.settle(lambda: len(raw.asked) > 1)
    taken(plant, raw)
    raw.serve()
    assert [m["seq"] for m in raw.asked] == [0, 4]
    raw.mute = False
    raw.answer(raw.asked[1])
    raw.settle()
    assert ids(plant) == list(range(12))


def test_answers_in_pieces_are_asked_for_one_after_the_other(plant, raw):
    for _ in range(10):
        raw.trades(2)
    raw.mute = True
    raw.send(raw.beat())

    def answered():
        while raw.asked:
            raw.answer(raw.asked.pop(0), most=3)
        return plant.day.intake.session(1) == (raw.session, 20)

    raw.settle(answered)
    assert ids(plant) == list(range(20))


def test_live_frames_that_overtake_the_answer_do_no_harm(plant, raw, monkeypatch):
    monkeypatch.setattr(ingress, "RETRY_NS", 1 << 60)  # the answer that is due has to do
    raw.send(raw.trades(2))
    raw.settle()
    raw.mute = True
    ahead = [raw.trades(2) for _ in range(3)]
    raw.send(raw.beat())
    raw.settle(lambda: raw.asked)
    raw.send(*ahead)  # the heartbeat was faster than they
    raw.settle()
    raw.trades(2)
    raw.send(raw.trades(2))  # and now there is a gap indeed, with the old answer still due
    until(lambda: plant.ingress.feeds[1].held, turning=plant.turn)
    question = raw.asked.pop(0)
    raw.answer(question)
    raw.answer(question)
    raw.mute = False
    raw.settle()
    assert ids(plant) == list(range(12))
    assert told(plant, "gap") == []
    assert len(told(plant, "session")) == 1


def test_an_answer_that_comes_again_after_a_new_session_began_does_not_bring_back_the_old(plant, raw):
    raw.mute = True
    raw.trades(3)
    raw.restart()
    raw.send(raw.trades(3))
    raw.settle(lambda: raw.asked)
    question = raw.asked.pop()
    raw.answer(question)
    raw.settle()
    raw.trades(1)
    raw.send(raw.trades(1))
    raw.settle(lambda: raw.asked)
    raw.answer(question)
    raw.mute = False
    raw.settle()
    assert ids(plant) == list(range(8))
    assert [s for _, s, _, _ in told(plant, "session")] == [raw.session - 1, raw.session]
    check_claims(plant)


def test_silent_outboxes_are_asked_again(plant, raw, monkeypatch):
    monkeypatch.setattr(ingress, "RETRY_NS", 1_000_000)
    raw.mute = True
    raw.trades(2)
    raw.send(raw.beat())
    raw.settle(lambda: len(raw.asked) >= 3)
    raw.mute = False
    raw.settle()
    assert ids(plant) == [0, 1]


def test_more_than_can_be_held_converges(site, cfg):
    cfg = site.configured(tickerplant={"held_bytes_max": 1 << 16})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.mute = True
    raw.trades(1)
    frames = [raw.trades(100) for _ in range(40)]
    raw.send(*frames)
    raw.settle(lambda: raw.asked)
    taken(plant, raw)
    assert 0 < plant.ingress.feeds[1].held_bytes <= 1 << 16
    raw.mute = False
    raw.answer(raw.asked[0], most=1)
    raw.settle()
    assert ids(plant) == list(range(4001))
    assert plant.ingress.feeds[1].held_bytes == 0


def test_frames_that_their_outbox_does_not_know_are_refused_and_not_asked_for_for_ever(plant, raw):
    raw.send(raw.trades(2))
    raw.settle()
    table = raw.schema["trade"]
    raw.send(raw.frame(table, table.empty(1), session=raw.session + 10))
    raw.settle(lambda: told(plant, "malformed"))
    asked = len(raw.asked)
    raw.send(raw.trades(2))
    raw.settle()
    assert len(raw.asked) == asked
    assert ids(plant) == list(range(4))


def strange(raw):
    table = raw.schema["trade"]
    rows = table.empty(1)
    good = raw.frame(table, rows)
    return {
        "no frame": b"hello",
        "nothing": b"",
        "a flipped bit": good[:-1] + bytes([good[-1] ^ 1]),
        "cut": good[:-1],
        "too long": good + b"x",
        "two frames": good + good,
        "unknown feed": raw.frame(table, rows, feed=3),
        "far feed": raw.frame(table, rows, feed=65535),
        "the plant's own feed": raw.frame(table, rows, feed=0),
        "unknown table": raw.frame(table, rows, table=200),
        "table 300": raw.frame(table, rows, table=300),
        "another schema": raw.frame(table, rows, schema=1),
        "no rows": raw.frame(table, table.empty(0)),
        "another count": raw.frame(table, rows, count=2),
        "a seal": framing.seal(b"", wire.SEAL, feed=1),
    }


def test_what_is_no_frame_of_ours_is_refused_and_told(plant, raw):
    messages = strange(raw)
    raw.send(raw.trades(1))
    raw.settle()
    raw.send(*messages.values())
    until(lambda: plant.ingress.strangers == len(messages), turning=plant.turn)
    raw.send(raw.trades(1))
    raw.settle()
    assert len(told(plant, "malformed")) == len(messages).bit_length()
    assert ids(plant) == [0, 1]
    check_claims(plant)


def test_a_flood_of_strange_messages_is_a_handful_of_rows(plant, raw):
    raw.send(*[b"x" * (i % 50) for i in range(1000)])
    until(lambda: plant.ingress.strangers == 1000, turning=plant.turn)
    assert len(told(plant, "malformed")) == 10


def test_fetched_rows_that_fit_no_declaration_stay_with_their_feed(plant, raw):
    raw.send(raw.trades(2))
    raw.settle()
    table = raw.schema["trade"]
    raw.kept.append(raw.frame(table, table.empty(3), schema=7))
    raw.seq += 3
    raw.send(raw.beat())
    raw.settle(lambda: plant.ingress.feeds[1].reason)
    assert "declared otherwise" in plant.status()["feeds"]["one"]["reason"]
    assert plant.day.intake.session(1) == (raw.session, 2)
    assert told(plant, "gap") == []


def test_codes_never_defined_are_kept_without_instrument(plant, raw):
    raw.send(raw.trades(2, 9), raw.trades(2, 9), raw.trades(1, 100_000), raw.trades(1, 2**32 - 1))
    raw.settle()
    rows = rows_of(plant.config, plant.day.trading_date, "trade")
    assert rows["trade_id"].tolist() == list(range(6))
    assert set(rows["instrument"]) == {0}
    firsts = [(0, 1), (4, 4), (5, 5)]  # codes never defined, and codes out of range
    assert told(plant, "undefined") == [(1, raw.session, *rows) for rows in firsts]
    assert told(plant, "gap") == []
    check_claims(plant)


def test_a_fetched_frame_with_undefined_codes_is_not_lost(plant, raw):
    raw.trades(2, 9)
    raw.trades(2, 1 << 20)
    raw.trades(2)
    raw.send(raw.beat())
    raw.settle()
    assert ids(plant) == list(range(6))
    assert told(plant, "gap") == []


@pytest.mark.parametrize(
    ("code", "venue", "symbol"),
    [
        (0, b"XTST", b"A"),
        (2**32 - 1, b"XTST", b"A"),
        (1, b"", b"A"),
        (1, b"XTST", b""),
        (1, b"X:Y", b"A"),
        (1, b"XTST", b"\xff" * 48),
        (1, b"XTST", b"a\0b"),
    ],
)
def test_definitions_that_can_not_be_are_refused_also_after_a_restart(
    site, cfg, plant, raw, code, venue, symbol
):
    rows = raw.schema["instrument"].empty(2)
    rows["code"], rows["venue"], rows["symbol"] = [code, 2], [venue, b"XTST"], [symbol, b"GOOD"]
    raw.send(raw.make("instrument", rows), raw.trades(1, 2))
    raw.settle()
    assert told(plant, "refused") == [(1, raw.session, 0, 1)]
    assert list(plant.registry.instruments) == ["XTST:GOOD"]
    plant.close()
    again = site.ticker_plant(cfg)
    assert list(again.registry.instruments) == ["XTST:GOOD"]
    raw.plant = again
    raw.trades(1, 2)

    def said_until_heard():  # what is sent before the connection is there again is gone
        raw.say("hello", session=raw.session, seq=raw.seq)
        return again.day.intake.session(1) == (raw.session, raw.seq)

    raw.settle(said_until_heard)
    assert rows_of(cfg, again.day.trading_date, "trade")["instrument"].tolist() == [1, 1]


def test_more_instruments_than_allowed_are_refused_and_their_rows_kept(site):
    cfg = site.configured(tickerplant={"instruments_max": 4})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    frames = [raw.define(n, f"S{n}") for n in (1, 2, 3)]
    rows = raw.schema["instrument"].empty(1)
    rows["code"], rows["venue"], rows["symbol"] = 3, b"XTST", b"MORE"
    raw.send(*frames, raw.make("instrument", rows), raw.trades(2, 1))
    raw.settle()
    assert told(plant, "refused") == [(1, raw.session, 3, 3)]
    assert ids(plant) == [0, 1]


def test_a_full_stage_loses_no_definition(plant, raw, monkeypatch):
    """Definitions and odd codes come when the stage has no room for them."""
    real = plant.day.intake

    class Narrow:
        def __init__(self):
            self.full = True

        def __getattr__(self, name):
            return getattr(real, name)

        reason = property(lambda self: STAGE_FULL if self.said_full else real.reason)
        said_full = False

        def take(self, messages, start, now, defined=False):
            self.full, self.said_full = not self.full, defined and self.full
            return 0 if self.said_full else real.take(messages, start, now, defined)

    plant.ingress.intake = plant.ingress.definitions.intake = Narrow()
    for n in range(1, 9):
        raw.define(n, f"S{n}")
        raw.trades(1, n)
        raw.trades(1, n + 100)
    raw.send(raw.beat())
    raw.settle()
    assert ids(plant) == list(range(16))
    assert told(plant, "gap") == []
    rows = rows_of(plant.config, plant.day.trading_date, "trade")
    assert rows["instrument"].tolist() == [n for i in range(1, 9) for n in (i, 0)]


def test_two_feeds_do_not_mix(site, plant, raw):
    other = site.raw_feed(plant, 2)
    frames, others = [raw.trades(5) for _ in range(20)], [other.trades(3) for _ in range(20)]
    for n, (a, b) in enumerate(zip(frames, others, strict=True)):
        if n % 3:
            raw.send(a)
        if n % 4:
            other.send(b)
    raw.send(raw.beat())
    other.send(other.beat())

    def both():
        other.serve()
        return all(plant.day.intake.session(f.number) == (f.session, f.seq) for f in (raw, other))

    raw.settle(both)
    rows = rows_of(plant.config, plant.day.trading_date, "trade")
    for number, count in ((1, 100), (2, 60)):
        assert rows["trade_id"][rows["feed"] == number].tolist() == list(range(count))
    check_claims(plant)


@SAME_PLANT
@given(data=st.binary(max_size=300), parts=st.lists(st.binary(max_size=60), max_size=3))
def test_random_bytes_on_the_ingress_change_nothing(plant, raw, data, parts):
    raw.pub.send(data)
    raw.pub.send_multipart([data, *parts])
    raw.send(raw.trades(1))
    raw.settle()
    assert plant.day.intake.session(1) == (raw.session, raw.seq)


extreme = st.sampled_from([0, 1, 2, 2**31, 2**32 - 1])
extreme_64 = st.sampled_from([0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1])


@SAME_PLANT
@given(
    kind=st.integers(0, 7),
    table=st.integers(0, 300),
    feed=st.integers(0, 3),
    session=extreme_64,
    seq=extreme_64,
    count=extreme,
    fit=st.booleans(),
    rows=st.integers(0, 3),
)
def test_valid_frames_that_say_absurd_things_are_survived(
    plant, raw, kind, table, feed, session, seq, count, fit, rows
):
    declared = raw.schema["trade"]
    frame = framing.seal(
        declared.empty(rows).view("u1"), kind, table=table, feed=feed, session=session, seq=seq,
        count=rows if fit else count, schema=declared.fingerprint,
    )  # fmt: skip
    raw.send(frame)
    if session < raw.session:  # what its own outbox says of later sessions is believed
        said = {"more": False, "knows": True, "mine": raw.session, **whose(plant)}
        head = wire.pack("frames", session=raw.session, seq=raw.seq, crc=framing.crc32c(frame), **said)
        raw.dealer.send_multipart([head, frame])
    raw.send(raw.trades(1))
    raw.settle()
    assert plant.day.intake.session(raw.number) == (raw.session, raw.seq)


messages = st.dictionaries(
    st.sampled_from(["op", "session", "seq", "more", "x"]),
    st.one_of(
        st.sampled_from(["hello", "frames", "ack"]),
        st.integers(-(2**63), 2**64 - 1),
        st.none(),
        st.binary(max_size=9),
    ),
)


@SAME_PLANT
@given(
    parts=st.lists(
        st.one_of(
            st.binary(max_size=200), messages.map(msgpack.packb), messages.map(msgpack.packb).map(sealed)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_random_messages_on_the_repair_socket_change_nothing(plant, raw, parts):
    raw.dealer.send_multipart(parts)
    raw.send(raw.trades(1))
    raw.settle()
    assert plant.day.intake.session(raw.number) == (raw.session, raw.seq)


def test_an_unknown_peer_on_the_repair_socket_is_refused(plant, raw):
    peer = zmq.Context.instance().socket(zmq.DEALER)
    peer.connect(plant.config.tickerplant.repair)
    peer.send(wire.pack("hello", session=1, seq=1))
    until(lambda: plant.ingress.strangers, turning=plant.turn)
    peer.close(linger=0)
    raw.send(raw.trades(1))
    raw.settle()
    assert plant.day.intake.session(raw.number) == (raw.session, raw.seq)


def test_rows_beyond_the_limits_of_a_frame_are_refused_and_rows_go_on(site):
    cfg = site.configured(limits={"frame_rows": 10, "frame_bytes": 4096})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.trades(10))
    raw.settle()
    refused = plant.ingress.strangers
    raw.send(raw.trades(11), raw.beat())
    raw.settle()
    assert told(plant, "gap") == [(1, raw.session, 10, 20)]
    raw.trades(60)  # more bytes than the socket takes in one message: only the outbox can say so
    raw.send(raw.beat())
    raw.settle()
    assert told(plant, "gap")[1:] == [(1, raw.session, 21, 80)]
    raw.send(raw.trades(3))
    raw.settle()
    assert ids(plant) == [*range(10), 81, 82, 83]
    assert plant.ingress.strangers > refused


def test_live_frames_are_bounded_in_bytes_for_each_connection(site):
    cfg = site.configured(limits={"frame_bytes": 1 << 16, "queue_bytes": 1 << 20})
    plant = site.ticker_plant(cfg)
    assert plant.sub.getsockopt(zmq.RCVHWM) * plant.sub.getsockopt(zmq.MAXMSGSIZE) <= (1 << 20) + (1 << 13)
    assert plant.router.getsockopt(zmq.RCVHWM) * plant.router.getsockopt(zmq.MAXMSGSIZE) < 1 << 27
    raw = site.raw_feed(plant)
    raw.pub.setsockopt(zmq.SNDHWM, 0)
    raw.send(*[raw.trades(500) for _ in range(200)])
    raw.settle()
    assert ids(plant) == list(range(100_000))
    assert told(plant, "gap") == []


def test_a_flood_at_the_repair_socket_does_not_hold_up_rows(site):
    cfg = site.configured(limits={"repair_messages": 5})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    peer = zmq.Context.instance().socket(zmq.DEALER)
    peer.connect(plant.config.tickerplant.repair)
    for n in range(1000):
        peer.send(b"x" * (n % 9))
    peer.send(wire.pack("hello", session=1, seq=1))
    raw.send(raw.trades(5))
    raw.settle()
    until(lambda: plant.ingress.strangers == 1001, turning=plant.turn)
    assert len(told(plant, "refused")) == 10
    peer.close(linger=0)


def test_so_many_messages_of_outboxes_are_heard_in_one_turn_and_no_more(plant, monkeypatch):
    heard = []

    def garbage():
        heard.append(1)
        assert len(heard) < 1000
        return [b"nobody", b"nothing"]

    monkeypatch.setattr(ingress, "readable", lambda socket: True)
    monkeypatch.setattr(plant.ingress, "_receive", garbage)
    plant.ingress.turn(0, plant.commit)
    assert len(heard) == plant.config.limits.repair_messages


def test_many_who_say_hello_under_other_names_are_a_handful_of_rows(plant, raw):
    peers = []
    for n in range(300):
        peer = zmq.Context.instance().socket(zmq.DEALER)
        peer.setsockopt(zmq.IDENTITY, f"stranger {n}".encode())
        peer.connect(plant.config.tickerplant.repair)
        peer.send(wire.pack("hello", session=1, seq=1))
        peers.append(peer)
    until(lambda: plant.ingress.strangers == 300, turning=plant.turn)
    assert len(told(plant, "refused")) == 9
    raw.send(raw.trades(3))
    raw.settle()
    assert ids(plant) == [0, 1, 2]
    for peer in peers:
        peer.close(linger=0)


@pytest.mark.parametrize("seq", [(1 << 64) - 1, (1 << 64) - 3, 1 << 63, (1 << 62) + 1])
def test_seqs_at_the_end_of_their_range_are_refused_though_the_outbox_says_so(plant, raw, seq):
    raw.send(raw.trades(2))
    raw.settle()
    rows = raw.schema["trade"].empty(3)
    raw.mute = True
    raw.send(raw.beat_of(raw.session, 9))
    raw.settle(lambda: raw.asked[1:])
    bad = raw.frame(raw.schema["trade"], rows, seq=seq)
    said = {"more": False, "knows": True, "mine": raw.session, **whose(plant)}
    head = wire.pack("frames", session=raw.session, seq=raw.seq, crc=framing.crc32c(bad), **said)
    raw.dealer.send_multipart([head, bad])
    until(lambda: plant.ingress.strangers, turning=plant.turn)
    raw.mute = False
    raw.send(bad, raw.trades(2))
    raw.settle()
    assert ids(plant) == list(range(4))
    assert told(plant, "gap") == []


def test_an_incumbent_that_is_alive_keeps_its_feed_from_another_outbox(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    have = raw.session
    raw.restart()
    mine = raw.session
    raw.mute = True
    raw.send(raw.trades(3))
    raw.settle(lambda: raw.asked[1:])
    raw.answer(raw.asked[-1], knows=False, mine=mine)
    raw.settle(lambda: raw.refused)
    assert raw.refused == [mine]
    assert [(a, s) for a, s, _, _ in told(plant, "rival")] == [(1, mine)]
    assert plant.day.intake.session(1) == (have, 3)
    assert plant.ingress.feeds[1].held_bytes == 0
    assert ids(plant) == [0, 1, 2]


def test_another_outbox_takes_over_once_the_incumbent_is_silent(plant, raw, monkeypatch):
    monkeypatch.setattr(claimants, "ALIVE_NS", 0)
    raw.send(raw.trades(3))
    raw.settle()
    raw.restart()
    raw.knows = False
    raw.send(raw.trades(3))
    raw.settle()
    assert ids(plant) == list(range(6))
    assert told(plant, "rival") == []


def test_another_process_in_the_very_same_session_is_refused(plant, raw):
    raw.send(raw.trades(5))
    raw.settle()
    raw.say("hello", session=raw.session, seq=5)
    until(lambda: plant.ingress.feeds[1].speaker == (raw.session, 1), turning=plant.turn)
    raw.say("hello", session=raw.session, seq=5, process=8)
    raw.settle(lambda: raw.refused)
    assert [s for _, s, _, _ in told(plant, "rival")] == [raw.session]
    assert ids(plant) == list(range(5))


def test_what_a_process_said_earlier_and_comes_late_does_not_make_it_another(plant, raw):
    raw.send(raw.trades(5))
    raw.settle()
    for seq in (5, 2, 0):
        raw.say("hello", session=raw.session, seq=seq)
    raw.send(raw.trades(1))
    raw.settle()
    assert raw.refused == []
    assert told(plant, "rival") == []
    assert ids(plant) == list(range(6))


def test_what_a_process_publishes_in_a_session_that_is_over_is_declared_exactly(plant, raw):
    raw.send(raw.trades(5))
    raw.settle()
    old = raw.session
    raw.restart()
    raw.send(raw.trades(2))
    raw.settle()
    for seq in (5, 8, 8, 12):
        raw.say("hello", session=old, seq=seq)
    raw.settle(lambda: len(raw.refused) == 4)
    assert raw.refused == [old] * 4
    assert told(plant, "gap") == [(1, old, 5, 7), (1, old, 8, 11)]
    assert ids(plant) == list(range(7))


def test_what_was_dropped_is_declared_in_its_place(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    note = framing.seal(b"", wire.HEARTBEAT, feed=1, session=raw.session, seq=10)
    raw.kept.append(note)
    raw.seq = 10
    raw.trades(2)
    raw.send(raw.beat())
    raw.settle()
    assert told(plant, "gap") == [(1, raw.session, 3, 9)]
    assert len(ids(plant)) == 5
    texts = rows_of(plant.config, plant.day.trading_date, "event")["text"].tolist()
    assert ingress.DROPPED.encode() in texts


def test_every_reason_of_an_event_fits_its_row():
    texts = (ingress.GONE, ingress.DROPPED, ingress.REFUSED, claimants.LATE, claimants.OVER, claimants.TWICE,
             claimants.BESIDE)  # fmt: skip
    assert max(len(t.encode()) for t in texts) <= 96


def test_a_clock_that_is_set_back_keeps_no_feed_waiting_for_its_repair(plant, raw, monkeypatch):
    raw.send(raw.trades(1))
    raw.settle()
    raw.mute = True
    raw.trades(2)
    raw.send(raw.trades(2))
    raw.settle(lambda: raw.asked)
    before = len(raw.asked)
    monkeypatch.setattr("tickplant.tickerplant.now_ns", lambda: now_ns() - 3 * 86_400 * 1_000_000_000)
    raw.settle(lambda: len(raw.asked) > before)
    raw.mute = False
    raw.settle()
    assert plant.day.intake.session(1) == (raw.session, 5)


class Died(BaseException):
    """As kill -9 would."""


STEPS = [
    (JournalWriter, "append", "before"),
    (JournalWriter, "append", "after"),
    (JournalWriter, "sync", "before"),
    (JournalWriter, "sync", "after"),
    (Day, "commit", "after"),
    (RegistryWriter, "add", "before"),
    (RegistryWriter, "add", "after"),
    (ingress.Ingress, "acknowledge", "before"),
]


@pytest.mark.parametrize(("owner", "name", "when"), STEPS, ids=[f"{w}-{n}" for _, n, w in STEPS])
@pytest.mark.parametrize("hit", [1, 2])
def test_a_feed_that_sends_everything_again_after_a_crash_at_any_step_has_no_row_twice(
    site, monkeypatch, owner, name, when, hit
):
    cfg = site.configured(tickerplant={"durability": "always"})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.define(1, "A"), raw.trades(3, 1))
    raw.settle()
    real, left = getattr(owner, name), [hit]

    def dies(*arguments, **options):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            raise Died
        result = real(*arguments, **options)
        if left[0] == 0:
            raise Died
        return result

    with monkeypatch.context() as patches:
        patches.setattr(owner, name, dies)
        raw.send(raw.define(2, "B"), raw.trades(3, 2), raw.define(3, "C"), raw.trades(3, 3))
        with pytest.raises(Died):
            until(lambda: False, turning=plant.turn)
    crashed(plant)
    again = raw.plant = site.ticker_plant(cfg)

    def sent_until_taken():
        raw.send(*raw.kept, *raw.kept)
        return again.day.intake.session(1) == (raw.session, raw.seq)

    raw.settle(sent_until_taken)
    raw.send(raw.trades(2, 3))
    raw.settle()
    assert ids(again) == list(range(11))
    assert list(again.registry.instruments) == ["XTST:A", "XTST:B", "XTST:C"]
    assert told(again, "gap") == []
    check_claims(again)
