"""A conflating reader against a simulated plant: the newest rows, and never an older one after a newer."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant import wire
from tickplant._core import framing
from tickplant.conflation import TableConflation
from tickplant.schema import declare

TABLE = declare("a", 1, {"id": "i8"}, latest=True)


def frame_of(date, row, instruments):
    rows = TABLE.empty(len(instruments))
    rows["instrument"] = instruments
    rows["id"] = date * 10_000 + row + np.arange(len(instruments))
    return framing.seal(
        rows.view("u1"), wire.ROWS, table=1, trading_date=date, row=row, count=len(rows),
        schema=TABLE.fingerprint,
    )  # fmt: skip


class Plant:
    """What has been published, and the latest values."""

    def __init__(self, instruments):
        self.instruments, self.date, self.rows = instruments, 1, 0
        self.latest, self.total = {}, 0

    def publish(self, rng):
        chosen = [rng.randrange(1, self.instruments) for _ in range(rng.randint(1, 4))]
        frame = frame_of(self.date, self.rows, chosen)
        for instrument in chosen:
            self.latest[instrument] = (self.date, self.rows)
            self.rows += 1
            self.total += 1
        return frame

    def roll(self):
        self.date, self.rows = self.date + 1, 0

    def answer(self, want, slots):
        upto = min(want.first + slots, self.instruments)
        since = (want.trading_date, want.row)
        found = [(i, p) for i, p in sorted(self.latest.items()) if want.first <= i < upto and p >= since]
        rows = TABLE.empty(len(found))
        rows["instrument"] = [i for i, _ in found]
        rows["id"] = [d * 10_000 + r for _, (d, r) in found]
        dates = np.array([d for _, (d, _) in found], np.int64)
        numbers = np.array([r for _, (_, r) in found], np.int64)
        return want, rows, dates, numbers, upto if upto < self.instruments else 0


class Reader:
    def __init__(self, conflation):
        self.conflation, self.newest = conflation, {}
        self.handed = self.passed = 0

    def take(self):
        for batch in self.conflation.take():
            assert len(np.unique(batch.rows["instrument"])) == len(batch.rows)
            assert (np.diff(batch.numbers) > 0).all()
            self.handed += len(batch.rows)
            self.passed += batch.passed_over
            for instrument, number, value in zip(
                batch.rows["instrument"].tolist(),
                batch.numbers.tolist(),
                batch.rows["id"].tolist(),
                strict=True,
            ):
                place = (batch.trading_date, number)
                assert place > self.newest.get(instrument, (0, -1))
                assert value == place[0] * 10_000 + place[1]
                self.newest[instrument] = place


def check(seed, kind=TableConflation):
    rng = random.Random(seed)
    plant = Plant(rng.choice([2, 5, 40]))
    for _ in range(rng.choice([0, 10])):
        plant.publish(rng)
    reader = Reader(kind(TABLE, (plant.date, plant.rows), rng.choice([None, (1, 0)])))
    begun = {} if reader.conflation.want() else dict(plant.latest)
    loss = rng.choice([0, 0.1, 0.5])
    open_question = None
    for step in range(200):
        if rng.random() < 0.03:
            plant.roll()
        if rng.random() < 0.7 and step < 150:
            frame = plant.publish(rng)
            if rng.random() >= loss:
                reader.conflation.on_frame(frame, wire.header(frame))
        if rng.random() < 0.2 or step >= 150:
            reader.conflation.on_heartbeat(plant.date, plant.rows)
        if open_question is None and reader.conflation.want() and rng.random() < 0.5:
            open_question = plant.answer(reader.conflation.want(), rng.choice([1, 3, 100]))
        elif open_question and rng.random() < 0.5:
            reader.conflation.on_latest(*open_question)
            open_question = None
        if reader.conflation.due and rng.random() < 0.3:
            reader.take()
    while want := reader.conflation.want():
        reader.conflation.on_latest(*plant.answer(want, 100))
    reader.take()
    untouched = {i: p for i, p in begun.items() if plant.latest[i] == p}
    assert untouched | reader.newest == plant.latest
    assert reader.conflation.want() is None


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 1 << 40))
def test_the_newest_row_of_every_instrument_is_handed_out_and_never_an_older_after_it(seed):
    check(seed)


class IgnoresHoles(TableConflation):
    def want(self):
        return None


class AsksFromTooLateOn(TableConflation):
    def _reach(self, date, first, end):
        super()._reach(date, first, end)
        if self._missed is not None:
            self._missed = (self._missed[0], self._missed[1] + 1)


class TakesWhateverComes(TableConflation):
    def _merge(self, rows, dates, numbers):
        if len(rows):
            self._grow(int(rows["instrument"].max()) + 1)
            self._places["row"][rows["instrument"]] = -1
        super()._merge(rows, dates, numbers)


class ForgetsLaterPages(TableConflation):
    def on_latest(self, want, rows, dates, numbers, page):
        super().on_latest(want, rows, dates, numbers, 0)


MUTANTS = [IgnoresHoles, AsksFromTooLateOn, TakesWhateverComes, ForgetsLaterPages]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_the_simulation_notices_a_broken_reader(mutant):
    with pytest.raises(AssertionError):
        for seed in range(100):
            check(seed, mutant)


def test_rows_that_newer_ones_took_the_place_of_are_counted():
    conflation = TableConflation(TABLE, (1, 0), None)
    for row in range(0, 12, 4):
        frame = frame_of(1, row, [1, 2, 1, 2])
        conflation.on_frame(frame, wire.header(frame))
    (batch,) = conflation.take()
    assert batch.rows["id"].tolist() == [10_010, 10_011]
    assert batch.passed_over == 10
    assert conflation.take() == []


def test_a_frame_whose_size_belies_its_count_is_left_out():
    conflation = TableConflation(TABLE, (1, 0), None)
    frame = framing.seal(bytes(40), wire.ROWS, table=1, trading_date=1, count=9)
    conflation.on_frame(frame, wire.header(frame))
    assert conflation.take() == []
