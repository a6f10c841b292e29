import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from oracle import core as oracle

from tickplant._core import framing
from tickplant._core.columns import Columns
from tickplant._core.intake import GAP, MALFORMED, STAGE_FULL, Intake

PARTS = [(0, 8), (8, 8), (16, 8), (24, 4), (28, 2), (30, 2), (32, 3)]
ROW, STAGE = 35, 700
SCHEMAS = {1: 11, 2: 22}
DEFINITIONS = 2
FEEDS = [0, 1, 3]
N_FEEDS = 4
SMALL = st.integers(0, 3)


def pack(codes, kind=oracle.ROWS, **fields):
    rows = bytearray(ROW * len(codes))
    for i, code in enumerate(codes):
        rows[i * ROW : i * ROW + ROW] = bytes((code + 7 * j) % 256 for j in range(ROW))
        rows[i * ROW + 24 : i * ROW + 28] = code.to_bytes(4, "little")
    fields.setdefault("schema", SCHEMAS.get(fields.get("table"), 0))
    return framing.seal(rows, kind, count=fields.pop("count", len(codes)), **fields)


class Taking(RuleBasedStateMachine):
    """The native intake against the oracle's, on messages of all sorts, over dates and recoveries."""

    def __init__(self):
        super().__init__()
        self.journal, self.began, self.begun = [], {}, set()
        self.now = 1
        self.native = self.fresh()
        self.model = self.fresh_model()
        self.date = 0

    def fresh(self):
        native = Intake([Columns(n, s, PARTS) for n, s in SCHEMAS.items()],
                             DEFINITIONS, N_FEEDS, STAGE)  # fmt: skip
        for feed in FEEDS:
            native.add_feed(feed)
        return native

    def fresh_model(self):
        return oracle.Intake({n: (ROW, s) for n, s in SCHEMAS.items()}, DEFINITIONS, FEEDS, STAGE)

    def offer(self, message, defined=False):
        self.now += 1
        at = self.native.take([message], 0, self.now, defined)
        verdict = self.model.take(message, self.now, defined)
        if verdict in (oracle.TAKEN, oracle.DUPLICATE):
            assert (at, self.native.reason) == (1, oracle.TAKEN)
        else:
            assert (at, self.native.reason) == (0, verdict)
        return verdict

    @rule(
        feed=st.sampled_from(FEEDS), table=st.sampled_from([1, 1, 2]), defined=st.booleans(),
        codes=st.lists(st.just(0) | SMALL, min_size=1, max_size=4),
        total=st.integers(0, (1 << 64) - 1), ahead=st.sampled_from([0, 0, 0, 1, 2, -1, -2, -4]),
    )  # fmt: skip
    def take_what_follows_or_nearly(self, feed, table, codes, total, defined, ahead):
        state = self.model.feeds[feed]
        seq = max(0, state.next_seq + ahead)
        self.offer(
            pack(codes, table=table, feed=feed, session=state.session, seq=seq, feed_row=seq,
                 feed_sum=total),
            defined,
        )  # fmt: skip

    @rule(feed=st.integers(0, N_FEEDS + 1), table=st.sampled_from([0, 1, 2, 3, 255, 256, 65535]),
          kind=st.sampled_from([1, 1, 1, 2, 3, 9]), session=SMALL, ahead=st.integers(-4, 3),
          codes=st.lists(st.integers(0, 5), max_size=5), schema=st.sampled_from([None, 0, 11]),
          miscount=st.sampled_from([0, 0, 0, 1, 1 << 30]))  # fmt: skip
    def take_anything(self, feed, table, kind, session, ahead, codes, schema, miscount):
        seq = self.model.feeds[feed].next_seq if feed in FEEDS else 0
        fields = {} if schema is None else {"schema": schema}
        self.offer(
            pack(codes, kind, table=table, feed=feed, session=session, seq=max(0, seq + ahead),
                 count=len(codes) + miscount, **fields)
        )  # fmt: skip

    @rule(feed=st.sampled_from(FEEDS), over=st.sampled_from([0, 1, 1 << 20, 1 << 62]),
          what=st.sampled_from(["feed_row", "seq", "session"]))  # fmt: skip
    def take_numbers_at_their_bounds(self, feed, over, what):
        state = self.model.feeds[feed]
        edge = {"feed_row": state.next_seq, "seq": (1 << 50) - 1, "session": (1 << 63) - 1}[what]
        fields = {"session": state.session, "seq": state.next_seq, "feed_row": 0} | {what: edge + over}
        verdict = self.offer(pack([0], table=1, feed=feed, **fields))
        assert (verdict == oracle.MALFORMED) == (over > 0)

    @rule(data=st.binary(max_size=200), table=st.sampled_from([1, 2]))
    def take_damaged(self, data, table):
        self.offer(data)
        frame = bytearray(pack([0, 0], table=table, feed=1, session=self.model.feeds[1].session))
        frame[len(data) % len(frame)] ^= 1 + len(data) // 2
        assert self.offer(bytes(frame)) == oracle.MALFORMED
        assert self.offer(bytes(pack([0], table=table)) + b"\0") == oracle.MALFORMED
        assert self.offer(pack([0] * 40, table=table, feed=1)) == oracle.MALFORMED

    @rule(feed=st.sampled_from(FEEDS), code=SMALL, instrument=st.integers(0, 9))
    def define(self, feed, code, instrument):
        self.native.define(feed, code, instrument)
        self.model.feeds[feed].codes[code] = instrument

    @rule(feed=st.sampled_from(FEEDS), session=SMALL, seq=SMALL)
    def begin(self, feed, session, seq):
        self.begun.add(feed)
        self.native.begin(feed, session, seq)
        self.model.feeds[feed].begin(session, seq)

    @rule(feed=st.sampled_from(FEEDS), ahead=SMALL)
    def skip(self, feed, ahead):
        self.begun.add(feed)
        self.model.feeds[feed].next_seq += ahead
        self.native.skip(feed, self.model.feeds[feed].next_seq)

    @rule()
    def commit(self):
        self.journal.append(bytes(self.native.staged()))
        self.native.clear()
        self.model.stage = b""

    @rule()
    def recover(self):
        """A new intake, given the journal alone, stands where the one before stood at its commit."""
        self.commit()
        fresh, model = self.fresh(), self.fresh_model()
        for feed, (session, seq, counters) in self.began.items():
            fresh.carry(feed, session, seq, counters)
            state = model.feeds[feed]
            state.begin(session, seq)
            state.claims = {t: oracle.Claim(rows=r, sum=s) for t, (r, s) in counters.items()}
            state.roll()
        fresh.restore(b"".join(self.journal))
        model.restore(b"".join(self.journal))
        for feed in FEEDS:
            was, now = model.feeds[feed], fresh.session(feed)
            assert now == (was.session, was.next_seq)
            assert fresh.claims(feed) == was.claimed()
            if feed not in self.begun:
                assert now == self.native.session(feed)
                assert fresh.counters(feed) == self.native.counters(feed)
                assert fresh.claims(feed) == self.native.claims(feed)

    @rule()
    def roll(self):
        self.commit()
        self.date += 1
        self.journal = []
        self.begun.clear()
        self.began = {f: (*self.native.session(f), self.native.counters(f)) for f in FEEDS}
        self.native.roll(self.date)
        self.model.trading_date = self.date
        self.model.taken = dict.fromkeys(self.model.taken, 0)
        for state in self.model.feeds.values():
            state.roll()

    @invariant()
    def the_stage_is_the_oracles_to_the_byte(self):
        assert bytes(self.native.staged()) == self.model.stage
        assert self.native.last_crc == self.model.last_crc
        assert self.native.duplicates == self.model.duplicates

    @invariant()
    def feeds_stand_where_the_oracles_stand(self):
        for feed, state in self.model.feeds.items():
            assert self.native.session(feed) == (state.session, state.next_seq)
            assert self.native.claims(feed) == state.claimed()
            codes = np.frombuffer(self.native.codes(feed), "u4").tolist()
            known = {i: c for i, c in enumerate(codes) if c != oracle.UNDEFINED}
            assert known == state.codes


TestTaking = Taking.TestCase
TestTaking.settings = settings(max_examples=80, stateful_step_count=30)


def intake(stage=STAGE):
    made = Intake([Columns(1, 11, PARTS)], DEFINITIONS, N_FEEDS, stage)
    made.add_feed(1)
    return made


def test_a_batch_is_taken_up_to_the_first_message_that_needs_a_decision():
    i = intake()
    good = [pack([0, 0], table=1, feed=1, seq=seq) for seq in (0, 2, 4)]
    gap = pack([0], table=1, feed=1, seq=9)
    assert i.take([*good[:2], good[0], gap, good[2]], 0, 5) == 3
    assert i.reason == GAP
    assert i.take([*good[:2], good[0], gap, good[2]], 4, 5) == 5
    assert (i.frames, i.rows, i.duplicates) == (3, 6, 1)


def test_a_full_stage_takes_again_once_it_was_cleared():
    one = pack([0], table=1, feed=1)
    i = intake(len(one))
    assert i.take([one], 0, 1) == 1
    two = pack([0], table=1, feed=1, seq=1)
    assert (i.take([two], 0, 1), i.reason) == (0, STAGE_FULL)
    i.clear()
    assert i.take([two], 0, 1) == 1


def test_a_message_longer_than_the_stage_is_refused_for_good():
    i = intake(100)
    assert (i.take([pack([0], table=1, feed=1)], 0, 1), i.reason) == (0, MALFORMED)


@given(st.binary(max_size=300), st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 1 << 31))
def test_restore_and_apply_survive_any_bytes(tail, table, feed, count):
    i = intake()
    data = framing.seal(tail, oracle.ROWS, table=table, feed=feed, count=count) + tail
    i.restore(data)
    i.apply(data)
    i.restore(tail)
    i.apply(tail)
    assert i.frames == 0  # nothing was taken: this is what a journal says


def test_what_can_not_be_is_refused():
    i = intake()
    with pytest.raises(KeyError, match="no feed number"):
        i.session(2)
    with pytest.raises(KeyError, match="not below"):
        i.add_feed(N_FEEDS)
    with pytest.raises(ValueError, match="known already"):
        i.add_feed(1)
    with pytest.raises(ValueError, match="too large"):
        i.define(1, (1 << 32) - 1, 1)
    with pytest.raises(ValueError, match="start"):
        i.take([], -1, 0)
    with pytest.raises(TypeError):
        i.take(["text"], 0, 0)
    with pytest.raises(ValueError, match="table number"):
        Intake([Columns(256, 0, PARTS)], 0, 1, 1)
    with pytest.raises(ValueError, match="table number"):
        i.carry(1, 0, 0, {256: (1, 1)})
