"""Outboxes with damage: what is sound behind it is used, and what is not is declared, exactly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fix_plant import Site, events, rows_of, trades, until
from tickplant import wire
from tickplant._core import framing
from tickplant.feed.claim import SESSIONS, Claim
from tickplant.feed.extents import runs
from tickplant.feed.outbox import Outbox
from tickplant.journal import segments

FRAME_ROWS = 10
FRAMES = 20


def frames_at(folder):
    """(path, offset, header) of each frame of rows."""
    found = []
    for path in segments(folder):
        data = path.read_bytes()
        for offset, _, kind, *_ in framing.index(data).tolist():
            if kind == wire.ROWS:
                found.append((path, offset, wire.header(data, offset)))
    return found


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def left_behind(site, cfg, count=FRAMES):
    """The outbox of a feed that has published while there was no plant, and ended; its frames."""
    feed = site.feed(cfg)
    for n in range(count):
        feed.append("trade", trades(cfg.schema["trade"], n * FRAME_ROWS, FRAME_ROWS))
    session = feed.session
    feed.close(0.0)
    return session, frames_at(cfg.outbox_dir("one"))


def taken(site, cfg):
    """The numbers of trades, and the gaps, that a plant has once the feed has begun again and is drained."""
    plant = site.ticker_plant(cfg)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 900, 1))
    until(lambda: feed.drained(0.0), turning=plant.turn)
    date = plant.day.trading_date
    return rows_of(cfg, date, "trade")["trade_id"].tolist(), events(cfg, date, "gap")


@pytest.mark.parametrize("which", [0, 7, FRAMES - 2, FRAMES - 1])
@pytest.mark.parametrize("at", [0, 4, 9, 40, 70, 85, 400])
def test_one_flipped_bit_costs_its_frame_alone_and_is_declared(site, cfg, which, at):
    session, frames = left_behind(site, cfg)
    path, offset, head = frames[which]
    flip(path, offset + at)
    ids, gaps = taken(site, cfg)
    lost = set(range(head.seq, head.seq + head.count))
    assert ids == [n for n in range(FRAMES * FRAME_ROWS) if n not in lost] + [900]
    assert gaps == [(1, session, head.seq, head.seq + head.count - 1)]


def test_a_tail_that_is_gone_is_declared_by_the_feeds_own_claim(site, cfg):
    session, frames = left_behind(site, cfg)
    path, offset, head = frames[-5]
    path.write_bytes(path.read_bytes()[: offset + 30])
    ids, gaps = taken(site, cfg)
    assert ids == [*range(head.seq), 900]
    assert gaps == [(1, session, head.seq, FRAMES * FRAME_ROWS - 1)]


def test_what_was_torn_in_the_middle_of_the_last_write_is_no_loss(site, cfg):
    _, frames = left_behind(site, cfg)
    path = frames[-1][0]
    with path.open("ab") as file:
        file.write(b"TP" + bytes(50))
    ids, gaps = taken(site, cfg)
    assert ids == [*range(FRAMES * FRAME_ROWS), 900]
    assert gaps == []


def test_damage_over_the_end_of_a_session_is_declared_in_both(site, cfg):
    first, _ = left_behind(site, cfg)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 300, FRAME_ROWS))
    feed.append("trade", trades(cfg.schema["trade"], 310, FRAME_ROWS))
    second = feed.session
    feed.close(0.0)
    after = frames_at(cfg.outbox_dir("one"))
    for path, offset, _ in (after[FRAMES - 1], after[FRAMES]):
        flip(path, offset + 85)
    ids, gaps = taken(site, cfg)
    assert ids == [*range((FRAMES - 1) * FRAME_ROWS), *range(310, 320), 900]
    assert gaps == [
        (1, first, (FRAMES - 1) * FRAME_ROWS, FRAMES * FRAME_ROWS - 1),
        (1, second, 0, FRAME_ROWS - 1),
    ]


def test_a_bit_that_flips_while_the_feed_runs_costs_its_frame_alone(site, cfg):
    feed = site.feed(cfg)
    for n in range(FRAMES):
        feed.append("trade", trades(cfg.schema["trade"], n * FRAME_ROWS, FRAME_ROWS))
    path, offset, head = frames_at(cfg.outbox_dir("one"))[5]
    flip(path, offset + 100)
    plant = site.ticker_plant(cfg)
    until(lambda: feed.drained(0.0), turning=plant.turn)
    date = plant.day.trading_date
    lost = set(range(head.seq, head.seq + head.count))
    ids = rows_of(cfg, date, "trade")["trade_id"].tolist()
    assert ids == [n for n in range(FRAMES * FRAME_ROWS) if n not in lost]
    assert events(cfg, date, "gap") == [(1, feed.session, head.seq, head.seq + head.count - 1)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=4))
def test_wherever_bytes_change_the_rest_is_there_and_the_gap_is_exact(damage):
    site = Site()
    try:
        cfg = site.configured(outbox={"segment_bytes": 1 << 16})
        session, frames = left_behind(site, cfg)
        files = segments(cfg.outbox_dir("one"))
        for where, change in damage:
            path = files[int(where * len(files))]
            data = bytearray(path.read_bytes())
            data[int(where * 7919 * len(data)) % len(data)] ^= change
            path.write_bytes(data)
        box = Outbox(cfg.outbox_dir("one"), "one", 1 << 16, 1 << 40, 1, cfg.plant.name)
        whole = [h for p, o, h in frames if not framing.check(p.read_bytes()[o:])]
        box.open()
        blob, more = box.fetch((0, 0), 1 << 24)
        box.close()
        heads = [wire.header(f) for f in wire.split(blob)]
        assert not more
        assert [h.seq for h in heads if h.kind == wire.ROWS] == [h.seq for h in whole]
        end = max([h.seq + h.count for h in heads if h.session == session], default=0)
        assert end == FRAMES * FRAME_ROWS
    finally:
        site.clear()


def test_a_claim_survives_whatever_is_done_to_one_of_its_records(tmp_path):
    claim = Claim(tmp_path)
    for session in range(1, SESSIONS + 5):
        for seq in range(3):
            claim.put(session, seq + 1)
    claim.close()
    again = Claim(tmp_path)
    again.close()
    assert again.ends == {s: 3 for s in range(5, SESSIONS + 5)}
    data = bytearray((tmp_path / "claim").read_bytes())
    for at in range(0, len(data), 64):
        data[at] ^= 1
    (tmp_path / "claim").write_bytes(data)
    again = Claim(tmp_path)
    again.close()
    assert set(again.ends) == set(range(5, SESSIONS + 5))
    assert set(again.ends.values()) <= {2, 3}


def test_a_sound_journal_is_one_run_per_segment(site, cfg):
    left_behind(site, cfg)
    files = segments(cfg.outbox_dir("one"))
    assert len(runs(cfg.outbox_dir("one"))) == len(files)
