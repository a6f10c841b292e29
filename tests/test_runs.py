"""Runs: the native way of rows from a journal to a reader against the plain one, frame by frame."""

import random
from contextlib import closing

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant import wire
from tickplant._core import framing, runs
from tickplant.arrivals import Arrivals
from tickplant.batch import Skipped
from tickplant.schema import declare
from tickplant.sequencer import TableSequence

SCHEMA = 7
"""A fingerprint of tables."""
TABLES = [declare("a", 1, {"id": "i8"}), declare("b", 2, {"id": "i8", "more": "S3"})]
DATES = (5, 6)
seeds = st.integers(0, 1 << 40)


def frame_of(table, date, row, count, *, kind=wire.ROWS, schema=None, size=None):
    rows = table.empty(count)
    rows["id"] = date * 1000 + row + np.arange(count)
    rows["instrument"] = (7 * rows["id"]) % 50
    payload = rows.view("u1")[:size]
    return framing.seal(
        payload, kind, table=table.number, trading_date=date, row=row, count=count,
        schema=table.fingerprint if schema is None else schema,
    )  # fmt: skip


def damaged(frame, rng):
    at = rng.randrange(len(frame))
    return frame[:at] + bytes([frame[at] ^ (1 << rng.randrange(8))]) + frame[at + 1 :]


def some_frame(rng, table, date, row):
    """A frame that follows on, and now and then one that does not, or is not valid."""
    count = rng.choice([1, 1, 2, 5])
    odd = rng.random()
    if odd < 0.7:
        return frame_of(table, date, row, count), row + count
    if odd < 0.8:
        return frame_of(table, date, max(0, row + rng.randint(-6, 3)), count), row
    if odd < 0.84:
        return damaged(frame_of(table, date, row, count), rng), row
    if odd < 0.88:
        return frame_of(table, date, row, count, schema=1), row
    if odd < 0.92:
        return frame_of(table, date, row, count, size=-1), row
    if odd < 0.96:
        return frame_of(table, rng.choice(DATES), row, count), row
    beat = framing.seal(msgpack.packb({1: row + 3}), wire.HEARTBEAT, trading_date=date)
    return beat, row


def messages_of(rng, tables):
    """Messages of one table each, as a publisher sends them, in trouble."""
    rows = dict.fromkeys((t.number for t in tables), 0)
    out = []
    for _ in range(rng.randint(0, 12)):
        table, frames = rng.choice(tables), []
        for _ in range(rng.choice([1, 1, 3, 8])):
            frame, rows[table.number] = some_frame(rng, table, DATES[0], rows[table.number])
            frames.append(frame)
        cut = rng.choice([None] * 9 + [rng.randrange(1, 60)])
        out.append(b"".join(frames)[: None if cut is None else -cut])
    return out


def told(items):
    """Rows that were handed on, by table, and the holes."""
    out = {}
    for item in items:
        if isinstance(item, Skipped):
            out.setdefault(item.table, []).append((item.trading_date, item.first_row, item.last_row))
            continue
        rows = item.table.rows(item.payload)
        if item.highest is not None:
            assert item.highest == rows["instrument"].max()
        place = out.setdefault(item.table.name, [])
        place += [(item.trading_date, item.first_row + i, bytes(row)) for i, row in enumerate(rows)]
    return out


def state(sequence):
    fields = ("trading_date", "expected", "end", "over", "closed", "next_date", "held_bytes", "_skipping")
    held = [(date, row, bytes(frame)) for date, row, frame in sequence.held]
    return [getattr(sequence, name) for name in fields], held


@pytest.fixture(scope="module")
def pair():
    with zmq.Context() as context, context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        port = push.bind_to_random_port("tcp://127.0.0.1")
        pull.connect(f"tcp://127.0.0.1:{port}")
        yield push, pull


END = b"no frame, and the last message"


class Counted(Arrivals):
    """Knows when the last message was there."""

    ended = False

    def _look_at(self, message):
        self.ended = self.ended or message == END
        return super()._look_at(message)

    def take_all(self, pair, messages):
        push, pull = pair
        for message in (*messages, END):
            push.send(message)
        items, self.ended = [], False
        while not self.ended:
            assert pull.poll(5000)
            items += self.take()
        return items


def both(rng):
    """Two sets of sequences that are at the same place."""
    start, skip = {t.number: rng.choice([0, 0, 2]) for t in TABLES}, rng.choice([None, None, 4])

    def made(table):
        return TableSequence(table, DATES[0], start[table.number], skip_behind=skip)

    return [{t.number: made(t) for t in TABLES} for _ in range(2)]


def check_arrivals(pair, seed):
    rng = random.Random(seed)
    messages, (native, plain) = messages_of(rng, TABLES), both(rng)
    with (
        closing(Counted(pair[1], native, {}, 2, SCHEMA)) as arrivals,
        closing(Arrivals(pair[1], plain, {}, 2, SCHEMA)) as by,
    ):
        got, wanted = [], []
        for some in (messages[:5], messages[5:]):
            newest = rng.choice([0, 3, 9])
            for sequences, items in ((native, got), (plain, wanted)):
                for sequence in sequences.values():
                    sequence.on_newest(DATES[0], newest)
                    items += sequence.advance()
            got += arrivals.take_all(pair, some)
            for message in some:
                wanted += by._look_at(message)
            for a, b in zip(native.values(), plain.values(), strict=True):
                assert state(a) == state(b)
            assert told(got) == told(wanted)
    return got


@settings(deadline=None, max_examples=300)
@given(seed=seeds)
def test_what_is_taken_natively_is_what_is_taken_frame_by_frame(pair, seed):
    check_arrivals(pair, seed)


def test_all_that_is_there_and_follows_on_is_one_delivery_for_each_table(pair):
    a = [frame_of(TABLES[0], 5, row, 3) for row in range(0, 30, 3)]
    b = [frame_of(TABLES[1], 5, row, 1) for row in range(4)]
    sequences = {t.number: TableSequence(t, 5, 0) for t in TABLES}
    with closing(Counted(pair[1], sequences, {}, 2, SCHEMA)) as arrivals:
        push, pull = pair
        push.send(b"".join(a))
        assert pull.poll(5000)
        (first,) = arrivals.take()
        assert (first.first_row, len(first.payload)) == (0, 30 * TABLES[0].row_size)
        found = arrivals.take_all(pair, [b"".join(b), frame_of(TABLES[0], 5, 30, 1)])
    assert sum(len(d.payload) // d.table.row_size for d in found) == 5


def test_rows_that_were_received_are_read_only():
    run = runs.Run(1, TABLES[0].row_size, TABLES[0].fingerprint)
    run.aim(5, 0)
    assert run.rows() is None
    assert run.take(frame_of(TABLES[0], 5, 0, 2)) > 0
    payload, highest = run.rows()
    assert run.rows() is None
    assert (payload.readonly, len(payload), highest) == (True, 2 * TABLES[0].row_size, 7)
    with pytest.raises(ValueError, match="read-only"):
        TABLES[0].rows(payload)["id"] = 0


@pytest.mark.parametrize(("number", "row_size"), [(256, 40), (1, 31)])
def test_a_table_that_can_not_be_is_refused(number, row_size):
    with pytest.raises(ValueError, match="can't be"):
        runs.Run(number, row_size, 0)


@settings(deadline=None, max_examples=200)
@given(seed=seeds)
def test_an_answer_is_taken_as_frame_by_frame_and_its_damage_noticed(seed):
    rng = random.Random(seed)
    native, plain = (TableSequence(TABLES[0], DATES[0], rng.choice([0, 2])) for _ in range(2))
    plain.expected = native.expected
    frames, row = [], 0
    for _ in range(rng.randint(0, 12)):
        frame, row = some_frame(rng, TABLES[0], DATES[0], row)
        frames.append(frame)
    blob, wanted = b"".join(frames), []
    whole = wire.split(blob)
    for frame in whole:
        head = wire.header(frame)
        if head.trading_date == plain.trading_date and head.row <= plain.expected:
            wanted += plain._deliver(frame, head)
    plain.end = max(plain.end, row)
    got, valid = native.on_answer(blob, DATES[0], row, 0)
    assert valid == sum(map(len, whole))
    assert told(got) == told(wanted)
    assert state(native) == state(plain)


def journal_of(rng, tables=3, most=12):
    """Frames end to end, of some tables and of kinds that are no rows; where each begins."""
    rows, out = {}, []
    for _ in range(rng.randint(0, most)):
        if rng.random() < 0.1:
            out.append(framing.seal(b"x" * rng.randrange(40), rng.choice([wire.STATE, wire.SEAL])))
            continue
        table, count = rng.randint(1, tables), rng.choice([0, 1, 1, 4])
        size = rng.choice([0, 10, 100])
        row = rows.get(table, 0)
        out.append(framing.seal(bytes(size), wire.ROWS, table=table, row=row, count=count))
        rows[table] = row + count
    return out


@settings(deadline=None, max_examples=300)
@given(seed=seeds)
def test_bundles_are_all_frames_that_are_short_enough_by_table_and_in_order(seed):
    rng = random.Random(seed)
    frames, most = journal_of(rng), rng.choice([80, 100, 185, 400, 5000])
    messages, sent, left = runs.bundles(b"".join(frames), most)
    heads = [(wire.header(f), f) for f in frames]
    rows = [(h, f) for h, f in heads if h.kind == wire.ROWS]
    fitting = [f for _, f in rows if len(f) <= most]
    assert (sent, left) == (len(fitting), len(rows) - len(fitting))
    split = [wire.split(m) for m in messages]
    assert all(len({wire.header(f).table for f in message}) == 1 for message in split)
    assert all(len(m) <= most for m in messages)
    for table in range(1, 4):
        mine = [bytes(f) for message in split for f in message if wire.header(f).table == table]
        assert mine == [f for f in fitting if wire.header(f).table == table]
        sizes = [len(m) for m in messages if wire.header(m).table == table]
        firsts = [len(message[0]) for message in split if wire.header(message[0]).table == table]
        assert all(a + b > most for a, b in zip(sizes, firsts[1:], strict=False)), "two that fit into one"


@settings(deadline=None, max_examples=300)
@given(seed=seeds)
def test_what_is_picked_for_an_answer_is_what_fits_of_a_table(seed):
    rng = random.Random(seed)
    frames, table, row = journal_of(rng), rng.randint(1, 3), rng.randint(0, 9)
    limit, one = rng.choice([0, 100, 300, 5000]), rng.random() < 0.5
    blob = b"".join(frames)
    cut = rng.choice([0, 0, 1])
    picked, following, over = runs.pick(blob[: len(blob) - cut], table, row, limit, one)
    out, after, at, beyond = [], row, 0, -1
    for frame in frames:
        head = wire.header(frame)
        if at + len(frame) > len(blob) - cut:
            break
        if head.kind == wire.ROWS and head.table == table and head.row + head.count > row:
            if sum(map(len, out)) + len(frame) > limit and (out or not one):
                beyond = at
                break
            out.append(frame)
            after = head.row + head.count
        at += len(frame)
    assert (bytes(picked), following, over) == (b"".join(out), after, beyond)


@settings(deadline=None, max_examples=100)
@given(seed=seeds, data=st.data())
def test_a_walk_ends_where_a_scan_of_sound_frames_would(seed, data):
    blob = b"".join(journal_of(random.Random(seed)))
    cut = data.draw(st.integers(0, len(blob)))
    ends = np.cumsum([0, *(size for _, size in framing.index(blob[:cut])[:, :2].tolist())])
    length, why = runs.walk(blob[:cut])
    assert length == ends[-1]
    assert framing.CHECKS[why] == ("good" if length == cut else "short")
    if length:
        at = int(ends[data.draw(st.integers(0, len(ends) - 2))])
        broken = blob[:at] + b"\0" + blob[at + 1 : cut]
        assert runs.walk(broken) == (at, framing.CHECKS.index("not a frame"))


@settings(deadline=None, max_examples=200)
@given(seed=seeds, step=st.sampled_from([1, 150, 1000]))
def test_places_are_the_first_and_then_a_step_apart(seed, step):
    rng = random.Random(seed)
    places, at, last, begin = runs.Places(step), 1000, {}, 1000
    for _ in range(3):
        frames = journal_of(rng)
        noted, ends, seals = [], {}, []
        for frame in frames:
            head = wire.header(frame)
            if head.kind == wire.ROWS:
                if head.table not in last or at - last[head.table] >= step:
                    last[head.table] = at
                    noted.append((head.table, head.row, at))
                ends[head.table] = head.row + head.count
            elif head.kind == wire.SEAL:
                seals.append((at - begin, len(frame)))
            at += len(frame)
        found = places.note(b"".join(frames), begin)
        assert found == (noted, sorted((t, n) for t, n in ends.items() if n), seals)
        begin = at
