"""Declared gaps: what is lost and said to be lost does not fail the proof; what is not said does."""

import numpy as np
import pytest

from tests.fix_plant import closed, rows_of, until
from tests.hdb_plant import Loading, drop, quote_rows
from tickplant import wire
from tickplant._core import framing
from tickplant.hdb import claims
from tickplant.hdb.records import Outcome


def lose(feed, *rows):
    """Frames that the outbox has not any more: published, counted, gone."""
    for name, count in rows:
        made = feed.trades(count, 1) if name == "trade" else None
        if made is None:
            feed.make("quote", quote_rows(feed, count, 1))
        feed.kept.pop()


def record(verdict, table="trade", feed=1):
    return next(r for r in verdict.records if (r.table, r.feed) == (table, feed))


def test_a_date_is_complete_with_its_declared_gaps(loading):
    feed = loading.feeds[0]
    lose(feed, ("trade", 7), ("quote", 5), ("trade", 2))
    loading.publish(10, 10)
    lose(feed, ("quote", 4))
    loading.publish(3, 3)
    date = loading.roll()
    verdict = loading.prove(date)
    assert (verdict.complete, verdict.gaps, verdict.missing) == (True, 2, {"one": 18})
    assert (record(verdict).published, record(verdict).journaled, record(verdict).missing) == (72, 63, 9)
    assert (record(verdict, "quote").published, record(verdict, "quote").missing) == (52, 9)
    assert record(verdict, feed=2).missing == 0
    assert verdict.summary().startswith("complete with 2 declared gaps: ")
    assert verdict.summary().endswith("rows missing: one 18")
    assert loading.loader.history.outcome(date) == Outcome(date, True, 2, {1: 18}, [])


def test_a_gap_of_which_a_table_has_no_rows_before_the_roll_is_accounted_for_on_the_next_date(loading):
    feed = loading.feeds[0]
    lose(feed, ("trade", 7), ("quote", 5))
    feed.send(feed.trades(1, 1))
    feed.settle()
    first = loading.prove(loading.roll())
    assert (first.complete, first.gaps, first.missing) == (True, 1, {"one": 12})
    assert (record(first).missing, record(first, "quote").missing) == (7, 0)
    loading.loader.verdict = None
    loading.publish(5, 5)
    second = loading.prove(loading.roll())
    assert (second.complete, second.gaps) == (True, 0)
    assert (record(second, "quote").published, record(second, "quote").missing) == (10, 5)


def test_a_session_whose_head_is_lost_is_complete_with_a_gap(loading):
    feed = loading.feeds[0]
    feed.restart()
    lose(feed, ("trade", 4))
    feed.send(feed.define(1, "S1"), feed.trades(3, 1))
    feed.settle()
    verdict = loading.prove(loading.roll())
    assert (verdict.complete, verdict.gaps, record(verdict).missing) == (True, 1, 4)


def test_gaps_over_a_restart_of_the_plant_are_complete(loading, site):
    feed = loading.feeds[0]
    lose(feed, ("trade", 4))
    feed.send(feed.trades(3, 1))
    feed.settle()
    closed(loading.plant)
    loading.plant = site.ticker_plant(loading.cfg)
    for each in loading.feeds:
        each.plant = loading.plant
        each.trades(2, each.number)
        each.say("hello", session=each.session, seq=each.seq)
        each.settle()
    loading.publish(5, 5)
    verdict = loading.prove(loading.roll())
    assert (verdict.complete, verdict.gaps, record(verdict).missing) == (True, 1, 4)


def test_rows_that_are_missing_and_not_declared_are_found(loading, monkeypatch):
    feed = loading.feeds[0]
    monkeypatch.setattr(loading.plant.ingress, "report", lambda *a, **b: None)
    lose(feed, ("trade", 7))
    loading.publish(10, 10)
    verdict = loading.prove(loading.roll())
    assert (verdict.complete, verdict.gaps) == (False, 0)
    assert [(r.table, r.feed) for r in verdict.records if not r.complete] == [("trade", 1)]
    assert (record(verdict).published, record(verdict).journaled) == (67, 60)


def test_a_gap_that_is_declared_shorter_than_it_is_is_found(loading, monkeypatch):
    report = loading.plant.ingress.report

    def shorter(kind, **fields):
        report(kind, **fields | ({"last": fields["last"] - 1} if kind == "gap" else {}))

    monkeypatch.setattr(loading.plant.ingress, "report", shorter)
    lose(loading.feeds[0], ("trade", 7))
    loading.publish(10, 10)
    verdict = loading.prove(loading.roll())
    assert not verdict.complete
    assert "DIFFERS in trade" in verdict.summary()
    assert "1 declared gap, rows missing: one 6" in verdict.summary()


def test_a_declared_gap_does_not_excuse_another_feeds_loss(loading, monkeypatch):
    lose(loading.feeds[0], ("trade", 7))
    loading.publish(10, 10)
    monkeypatch.setattr(loading.plant.ingress, "report", lambda *a, **b: None)
    lose(loading.feeds[1], ("trade", 7))
    loading.publish(10, 10)
    verdict = loading.prove(loading.roll())
    assert [(r.table, r.feed) for r in verdict.records if not r.complete] == [("trade", 2)]


def test_a_value_changed_beside_a_declared_gap_is_found(loading, pg_admin):
    lose(loading.feeds[0], ("trade", 7))
    loading.publish(10, 10)
    loading.until_loaded()
    pg_admin.execute(f"UPDATE {loading.cfg.plant.name}.trade SET price = price + 1 WHERE row = 3".encode())
    assert not loading.prove(loading.roll()).complete


def test_what_follows_is_the_same_however_the_journal_is_cut_into_chunks(loading, monkeypatch):
    for _ in range(5):
        lose(loading.feeds[0], ("trade", 3), ("quote", 2))
        loading.publish(4, 4)
    date = loading.roll()
    whole = loading.prove(date)
    follow = claims.Claims.follow

    def frame_by_frame(self, chunk):
        for offset, size, *_ in framing.index(chunk).tolist():
            follow(self, chunk[offset : offset + size])

    monkeypatch.setattr(claims.Claims, "follow", frame_by_frame)
    assert loading.prove_again(date) == whole
    assert (whole.complete, whole.gaps, whole.missing) == (True, 5, {"one": 25})


def test_a_gap_declared_again_is_one(loading):
    feed = loading.feeds[0]
    lose(feed, ("trade", 7))
    loading.publish(10, 10)
    gap = {"about": 1, "session": feed.session, "first": feed.seq - 27, "last": feed.seq - 21}
    loading.plant.report("gap", **gap)
    loading.plant.commit()
    until(lambda: True, turning=loading.turn)
    verdict = loading.prove(loading.roll())
    assert verdict.complete
    assert verdict.missing == {"one": 7}
    assert verdict.gaps == 1


def lying(feed, **fields):
    """The next frame of trades, but for what it claims of itself."""
    made = feed.trades(3, 1)
    feed.kept.pop()
    head, rows = wire.header(made), feed.schema["trade"].rows(bytearray(made[wire.HEADER_SIZE :]))
    usual = {"seq": head.seq, "feed_row": head.feed_row, "feed_sum": head.feed_sum}
    false = feed.frame(feed.schema["trade"], rows, **(usual | fields))
    feed.kept.append(false)
    feed.send(false)
    feed.settle()


@pytest.mark.parametrize("fields", [{"feed_row": 5}, {"feed_sum": 4711}, {"feed_row": 0}])
def test_a_feed_whose_counters_lie_is_named_and_nothing_is_called_lost(loading, fields):
    lying(loading.feeds[0], **fields)
    verdict = loading.prove(loading.roll())
    assert not verdict.complete
    assert verdict.false_claims == {"one": ["trade"]}
    assert verdict.wrong == ["trade"]
    assert (
        "the counters of a feed are wrong, its rows are the same everywhere: one in trade"
        in verdict.summary()
    )
    assert record(verdict).journaled == record(verdict).postgres == 53
    assert (record(verdict).missing, verdict.gaps) == (0, 0)
    assert all(r.complete for r in verdict.records if (r.feed, r.table) != (1, "trade"))


def test_counters_that_lied_for_a_while_change_nothing(loading):
    feed = loading.feeds[0]
    total = feed.sums["trade"]
    lying(feed, feed_row=7, feed_sum=total + 1)
    loading.publish(4, 4)
    verdict = loading.prove(loading.roll())
    assert (verdict.complete, verdict.false_claims) == (True, {})


def test_rows_missing_by_seq_and_not_declared_are_a_loss_whatever_the_feed_claims(loading, monkeypatch):
    feed = loading.feeds[0]
    lose(feed, ("trade", 7))
    monkeypatch.setattr(loading.plant.ingress, "report", lambda *_, **__: None)
    loading.publish(3, 3)
    verdict = loading.prove(loading.roll())
    assert not verdict.complete
    assert verdict.false_claims == {}
    assert "counters" not in verdict.summary()


def test_a_value_changed_in_postgresql_is_no_false_claim(loading, pg_admin):
    loading.until_loaded()
    pg_admin.execute(f"UPDATE {loading.cfg.plant.name}.trade SET size = size + 1 WHERE row = 3".encode())
    verdict = loading.prove(loading.roll())
    assert not verdict.complete
    assert verdict.false_claims == {}


def many(feed, count):
    """A frame of trades, each of an instrument of its own, and what defines them."""
    first = int(np.flatnonzero(feed.names).max()) + 1
    defined = [feed.define(first + n, f"F{feed.number}N{first + n}") for n in range(count)]
    rows = feed.schema["trade"].empty(count)
    rows["instrument"], rows["price"] = np.arange(first, first + count), 1.5
    return [*defined, feed.make("trade", rows)]


def test_a_date_with_rows_whose_instrument_was_refused_is_complete_and_says_so(site, postgres, pg_admin):
    cfg = site.configured(hdb={"dsn": postgres.dsn, "chunk_ms": 0}, limits={"feed_instruments": 4})
    loading = Loading(site, cfg)
    try:
        feed = loading.feeds[0]
        loading.publish(5, 5)
        feed.send(*many(feed, 7))
        feed.settle()
        loading.publish(5, 5)
        first = loading.prove(loading.roll())
        assert first.complete, first.summary()
        assert first.nameless == {"one": 8}  # four definitions, and a trade of each
        assert first.summary().endswith("; rows kept without instrument: one 8")
        assert loading.prove_again(first.trading_date) == first
        loading.loader.verdict = None
        feed.send(feed.trades(3, int(np.flatnonzero(feed.names).max())))
        feed.settle()
        second = loading.prove(loading.roll())
        assert second.complete, second.summary()
        assert second.nameless == {"one": 3}
    finally:
        loading.close()
        drop(pg_admin, site.name)


def test_a_value_changed_in_postgresql_beside_refused_instruments_is_found(site, postgres, pg_admin):
    cfg = site.configured(hdb={"dsn": postgres.dsn, "chunk_ms": 0}, limits={"feed_instruments": 2})
    loading = Loading(site, cfg)
    try:
        feed = loading.feeds[0]
        feed.send(*many(feed, 4))
        feed.settle()
        loading.until_loaded()
        pg_admin.execute(f"UPDATE {site.name}.trade SET price = price + 1 WHERE row = 3".encode())
        assert not loading.prove(loading.roll()).complete
    finally:
        loading.close()
        drop(pg_admin, site.name)


@pytest.mark.parametrize("fields", [{"feed_row": 1 << 63}, {"feed_row": 10**12}])
def test_a_frame_with_numbers_out_of_range_is_refused_at_the_door_and_history_goes_on(loading, fields):
    feed = loading.feeds[0]
    lying(feed, **fields)
    loading.publish(3, 3)
    date = loading.roll()
    verdict = loading.prove(date)
    assert verdict.complete, verdict.summary()
    assert verdict.missing == {"one": 3}
    assert loading.plant.ingress.strangers > 0
    texts = [r["text"] for r in rows_of(loading.cfg, date, "event") if r["kind"] == b"malformed"]
    assert any(b"out of range" in t for t in texts)


def test_a_frame_of_a_session_that_no_clock_can_tell_is_refused_and_costs_its_feed_nothing(loading):
    feed = loading.feeds[0]
    trade = feed.schema["trade"]
    feed.send(feed.frame(trade, trade.empty(1), session=1 << 63))
    loading.publish(3, 3)
    verdict = loading.prove(loading.roll())
    assert (verdict.complete, verdict.gaps, loading.plant.ingress.strangers) == (True, 0, 1)


def test_a_counter_that_goes_back_on_the_next_date_differs_and_history_goes_on(loading):
    loading.prove(loading.roll())
    loading.loader.verdict = None
    lying(loading.feeds[0], feed_row=0)
    verdict = loading.prove(loading.roll())
    assert not verdict.complete
    assert verdict.false_claims == {"one": ["trade"]}
