"""The subscriber's protocol against a simulated publisher: rows in order, each once, and all in the end.

The channel loses, repeats and delays; live frames and answers overtake each other; answers are cut short.
The oracle is the publisher's journal.
"""

import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant import sequencer, wire
from tickplant._core import framing
from tickplant.batch import Skipped
from tickplant.schema import declare
from tickplant.sequencer import NO_ROW, TableSequence, Want

TABLES = [declare("a", 1, {"id": "i8"}), declare("b", 2, {"id": "i8"})]
ROUNDS = 4000


def frame_of(table, date, row, count):
    rows = table.empty(count)
    rows["id"] = date * 1000 + row + np.arange(count)
    made = framing.seal(
        rows.view("u1"), wire.ROWS, table=table.number, trading_date=date, row=row, count=count,
        schema=table.fingerprint,
    )  # fmt: skip
    return made


class Publisher:
    """What is published, in order, over some dates; and answers about what has been published so far."""

    def __init__(self, rng, dates):
        self.dates = dates
        self.frames = {(t.number, d): [] for t in TABLES for d in dates}
        self.rows = dict.fromkeys(self.frames, 0)
        self.date = dates[0]
        self.script = deque()
        for date in dates:
            for _ in range(rng.choice([0, 1, 5, 30])):
                self.script.append((rng.choice(TABLES), date, rng.randint(1, 4)))
            self.script.append(None)
        self.script.pop()

    def publish(self):
        """The next frame, or None at a change of date or the end."""
        if not self.script:
            return None
        entry = self.script.popleft()
        if entry is None:
            self.date = self.dates[self.dates.index(self.date) + 1]
            return None
        table, date, count = entry
        key = table.number, date
        frame = frame_of(table, date, self.rows[key], count)
        self.frames[key].append(frame)
        self.rows[key] += count
        return frame

    def heartbeat(self):
        return self.date, {t.number: self.rows[t.number, self.date] for t in TABLES}

    def answer(self, want, most):
        key = want.table.number, want.trading_date
        heads = [(wire.header(f), f) for f in self.frames[key]]
        found = [f for h, f in heads if h.row + h.count > want.row]
        after = min((d for d in self.dates if want.trading_date < d <= self.date), default=0)
        return want, found[:most], self.rows[key], after


class Reader:
    """A subscription without sockets: what `Subscription` does with its sequences."""

    def __init__(self, kind, publisher, from_rows, skip_behind=None):
        date, rows = publisher.heartbeat()
        self.sequences = {}
        for table in TABLES:
            there, start = rows[table.number], from_rows[table.number]
            sequence = kind(table, date, there if start is None else start)
            sequence.end = max(there, sequence.expected)
            sequence.skip_behind = skip_behind
            self.sequences[table.number] = sequence
        self.first = {n: (s.trading_date, s.expected) for n, s in self.sequences.items()}
        self.asked = {}
        self.got = {n: [] for n in self.sequences}
        self.skipped = {n: [] for n in self.sequences}

    def take(self, deliveries):
        for d in deliveries:
            if isinstance(d, Skipped):
                number = next(t.number for t in TABLES if t.name == d.table)
                assert not self.got[number] or self.got[number][-1] < (d.trading_date, d.first_row)
                self.skipped[number] += [(d.trading_date, r) for r in range(d.first_row, d.last_row + 1)]
                continue
            ids = d.table.rows(d.payload)["id"].tolist()
            assert ids == [d.trading_date * 1000 + d.first_row + i for i in range(len(ids))]
            self.got[d.table.number] += [(d.trading_date, d.first_row + i) for i in range(len(ids))]

    def live(self, frame):
        head = wire.header(frame)
        self.take(self.sequences[head.table].on_frame(frame, head))

    def beat(self, date, rows):
        for number, sequence in self.sequences.items():
            sequence.on_heartbeat(date, rows.get(number, 0))

    def newest(self, date, rows):
        for number, sequence in self.sequences.items():
            sequence.on_newest(date, rows.get(number, 0))

    def answered(self, answer):
        want, frames, end, after = answer
        if self.asked.pop(want.table.number, None):
            sequence = self.sequences[want.table.number]
            self.take(sequence.on_answer(b"".join(frames), want.trading_date, end, after)[0])

    def wants(self, again):
        for number, sequence in self.sequences.items():
            self.take(sequence.advance())
            want = sequence.want()
            if want is not None and (again or self.asked.get(number) != want):
                self.asked[number] = want
                yield want


def expected(publisher, reader):
    """All rows from where each table was begun."""
    out = {}
    for number, first in reader.first.items():
        rows = [(d, r) for d in publisher.dates for r in range(publisher.rows[number, d])]
        out[number] = [row for row in rows if row >= first]
    return out


def check_simulation(seed, kind=TableSequence):
    rng = random.Random(seed)
    publisher = Publisher(rng, sorted(rng.sample(range(1, 9), rng.randint(1, 4))))
    for _ in range(rng.choice([0, 3, 40])):
        publisher.publish()
    loss, twice, late = rng.choice([0, 0.1, 0.5, 1]), rng.choice([0, 0.3]), rng.choice([0, 0.5, 0.9])
    reader = Reader(kind, publisher, {t.number: rng.choice([0, 0, 2, 50, None]) for t in TABLES})
    live, questions, answers = deque(), deque(), deque()
    for step in range(ROUNDS):
        calm = step >= 400  # faults stop
        if calm:
            loss = twice = late = 0
        frame = publisher.publish() if rng.random() < 0.5 or calm else None
        for message in [frame] * (frame is not None) + [publisher.heartbeat()] * (rng.random() < 0.2):
            live.extend([message] * (1 + (rng.random() < twice)) * (rng.random() >= loss))
        while live and rng.random() >= late:
            message = live.popleft()
            reader.live(message) if isinstance(message, bytes) else reader.beat(*message)
            if rng.random() < twice / 3 and isinstance(message, bytes):
                live.insert(rng.randint(0, len(live)), message)  # out of turn
        questions.extend(w for w in reader.wants(calm or rng.random() < 0.1) if rng.random() >= loss / 2)
        while questions and rng.random() >= late:
            want, frames, end, after = publisher.answer(questions.popleft(), rng.choice([1, 3, 99]))
            answer = want, frames[: rng.randint(0, 3)] if rng.random() < twice else frames, end, after
            answers.extend([answer] * (1 + (rng.random() < twice)) * (rng.random() >= loss / 2))
        while answers and rng.random() >= late:
            reader.answered(answers.popleft() if rng.random() < 0.8 else answers.pop())
        wanted = expected(publisher, reader)
        for number, got in reader.got.items():
            assert got == wanted[number][: len(got)]
        if calm and not publisher.script and not live and reader.got == wanted and step > 450:
            ended = all(s.trading_date == publisher.date for s in reader.sequences.values())
            if ended:
                return
    raise AssertionError("the reader never came to the end")


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 1 << 40))
def test_rows_come_in_order_each_once_and_all_in_the_end(seed):
    check_simulation(seed)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 40))
def test_so_they_do_when_hardly_anything_can_be_held(seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequencer, "HELD_BYTES_MAX", 300)
        check_simulation(seed)


class DedupeOffByOne(TableSequence):
    def _deliver(self, frame, head):
        out = super()._deliver(frame, head)
        self.expected -= bool(out)
        return out


class TakesWhatIsAhead(TableSequence):
    def on_frame(self, frame, head):
        if head.trading_date == self.trading_date and head.row == self.expected + 1:
            self.expected += 1
        return super().on_frame(frame, head)


class IgnoresHeartbeats(TableSequence):
    def on_heartbeat(self, trading_date, rows):
        pass


class ForgetsTheHeld(TableSequence):
    def release(self):
        self.held.clear()
        return []

    def want(self):
        return None if self.held else super().want()


class IgnoresLaterDates(TableSequence):
    def on_heartbeat(self, trading_date, rows):
        if trading_date == self.trading_date:
            super().on_heartbeat(trading_date, rows)


class GoesOnTooSoon(TableSequence):
    def advance(self):
        self.end = self.expected
        return super().advance()


class TakesAnyDate(TableSequence):
    def on_answer(self, frames, date, end, next_date):
        return super().on_answer(frames, self.trading_date, end, next_date)


MUTANTS = [
    DedupeOffByOne,
    TakesWhatIsAhead,
    IgnoresHeartbeats,
    ForgetsTheHeld,
    IgnoresLaterDates,
    GoesOnTooSoon,
    TakesAnyDate,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_the_simulation_notices_a_broken_reader(mutant, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROUNDS", 700)
    with pytest.raises(AssertionError):
        for seed in range(200):
            check_simulation(seed, mutant)


def heads(*frames):
    return [(f, wire.header(f)) for f in frames]


def test_a_frame_across_the_expected_row_is_cut():
    sequence = TableSequence(TABLES[0], 5, 3)
    ((frame, head),) = heads(frame_of(TABLES[0], 5, 0, 6))
    (delivery,) = sequence.on_frame(frame, head)
    assert (delivery.first_row, len(delivery.payload)) == (3, 3 * TABLES[0].row_size)


def test_a_frame_whose_size_belies_its_count_is_not_delivered():
    sequence = TableSequence(TABLES[0], 5, 0)
    frame = framing.seal(bytes(40), wire.ROWS, table=1, trading_date=5, count=9)
    assert sequence.on_frame(frame, wire.header(frame)) == []


def test_frames_of_a_date_between_are_requested():
    sequence = TableSequence(TABLES[0], 5, 0)
    ((frame, head),) = heads(frame_of(TABLES[0], 9, 0, 1))
    assert sequence.on_frame(frame, head) == []
    assert sequence.want() == Want(TABLES[0], 5, 0)
    assert sequence.on_answer(b"", 5, 0, 7) == ([], 0)
    assert sequence.advance() == []
    assert sequence.want() == Want(TABLES[0], 7, 0)
    assert sequence.on_answer(b"", 5, 4, 0) == ([], 0)  # late, and of another date
    sequence.on_answer(frame_of(TABLES[0], 7, 0, 2), 7, 2, 9)
    assert [(d.trading_date, d.first_row) for d in sequence.advance()] == [(9, 0)]
    assert sequence.want() is None


def test_a_row_that_is_far_ahead_is_waited_for():
    sequence = TableSequence(TABLES[0], 5, 100, end=100)
    ((frame, head),) = heads(frame_of(TABLES[0], 5, 0, 6))
    assert sequence.on_frame(frame, head) == []
    assert sequence.want() is None


def check_skipping(seed, kind=TableSequence):
    """Rows and holes together are every row once, in order; no hole where the reader was near enough."""
    rng = random.Random(seed)
    publisher = Publisher(rng, sorted(rng.sample(range(1, 9), rng.randint(1, 4))))
    bound = rng.choice([0, 3, 20])
    reader = Reader(kind, publisher, {t.number: 0 for t in TABLES}, skip_behind=bound)
    pause, loss = rng.choice([1, 30, 80]), rng.choice([0, 0.5])
    live = deque()
    for step in range(ROUNDS):
        frame = publisher.publish()
        live.extend([m for m in (frame, publisher.heartbeat()) if m is not None and rng.random() >= loss])
        reader.newest(*publisher.heartbeat())
        if step % pause and publisher.script:
            continue  # the reader is busy with something else
        while live:
            message = live.popleft()
            reader.live(message) if isinstance(message, bytes) else reader.beat(*message)
        for want in [*reader.wants(True)]:
            reader.answered(publisher.answer(want, rng.choice([1, 3, 99])))
        wanted = expected(publisher, reader)
        for number, got in reader.got.items():
            assert (
                sorted(got + reader.skipped[number])
                == wanted[number][: len(got) + len(reader.skipped[number])]
            )
            assert got == sorted(got)
        if not publisher.script and all(
            len(reader.got[n]) + len(reader.skipped[n]) == len(rows) for n, rows in wanted.items()
        ):
            return reader, publisher
    raise AssertionError("the reader never came to the end")


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 1 << 40))
def test_rows_and_the_holes_that_were_announced_are_all_rows(seed):
    check_skipping(seed)


class SkipsInSilence(TableSequence):
    def _skip(self):
        return [item for item in super()._skip() if not isinstance(item, Skipped)]


class MiscountsTheHole(TableSequence):
    def _skip(self):
        return [
            replace(item, last_row=item.last_row + 1) if isinstance(item, Skipped) else item
            for item in super()._skip()
        ]


class SkipsBackToTheEndItKnew(TableSequence):
    def _skip(self):
        before = self.expected
        out = super()._skip()
        if self.expected > before:
            self.expected -= 1
        return out


@pytest.mark.parametrize(
    "mutant", [SkipsInSilence, MiscountsTheHole, SkipsBackToTheEndItKnew], ids=lambda m: m.__name__
)
def test_the_simulation_notices_a_reader_that_skips_wrongly(mutant, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROUNDS", 400)
    with pytest.raises(AssertionError):
        for seed in range(100):
            check_skipping(seed, mutant)


def test_who_is_near_enough_skips_nothing_and_who_is_not_goes_on_at_the_newest_row():
    sequence = TableSequence(TABLES[0], 5, 0, skip_behind=10)
    sequence.on_newest(5, 10)
    assert sequence.advance() == []
    assert sequence.want() is None  # what is on its way is not asked for
    sequence.on_newest(5, 11)
    assert sequence.advance() == [Skipped("a", 5, 0, 10)]
    assert (sequence.expected, sequence.behind) == (11, 0)


def test_of_a_date_that_is_over_it_is_asked_first_how_many_rows_it_came_to():
    sequence = TableSequence(TABLES[0], 5, 7, skip_behind=10)
    sequence.on_newest(8, 100)
    assert sequence.behind == 100
    assert sequence.advance() == []
    assert sequence.want() == Want(TABLES[0], 5, NO_ROW)
    sequence.on_answer(b"", 5, 30, 8)
    assert sequence.advance() == [Skipped("a", 5, 7, 29)]
    assert sequence.advance() == [Skipped("a", 8, 0, 99)]
    assert sequence.want() is None


def test_what_is_held_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(sequencer, "HELD_BYTES_MAX", 1000)
    sequence = TableSequence(TABLES[0], 5, 0)
    for row in range(1, 100):
        frame = frame_of(TABLES[0], 5, row, 1)
        sequence.on_frame(frame, wire.header(frame))
        assert sequence.held_bytes == sum(len(f) for _, _, f in sequence.held) <= 1000
    first = frame_of(TABLES[0], 5, 0, 1)
    assert sequence.on_frame(first, wire.header(first))
    assert sequence.held_bytes == 0
