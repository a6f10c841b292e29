"""Batches know which rows they hold, also after slicing and choosing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.batch import Batch
from tickplant.schema import declare

TABLE = declare("t", 1, {"id": "i8"})


def batch_of(count, first):
    rows = TABLE.empty(count)
    rows["id"] = np.arange(first, first + count)
    return Batch.of(rows, "t", 20260102, first)


def numbers(batch):
    if batch.numbers is not None:
        return batch.numbers.tolist()
    return list(range(batch.first_row, batch.first_row + len(batch)))


bound = st.one_of(st.none(), st.integers(-12, 12))
steps = st.one_of(
    st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1])),
    st.lists(st.booleans(), min_size=20, max_size=20),
)


@given(count=st.integers(0, 10), first=st.integers(0, 1000), how=st.lists(steps, max_size=4))
def test_however_it_is_cut_a_batch_knows_its_rows(count, first, how):
    batch = batch_of(count, first)
    for step in how:
        batch = batch[step] if isinstance(step, slice) else batch.only(np.array(step[: len(batch)], "?"))
    assert isinstance(batch, Batch)
    assert numbers(batch) == batch["id"].tolist()
    assert (batch.table, batch.trading_date) == ("t", 20260102)
    if len(batch):
        assert batch.first_row == batch["id"][0]


def test_a_batch_is_the_rows_without_a_copy():
    rows = TABLE.empty(3)
    batch = Batch.of(rows, "t", 20260102, 7)
    rows["id"] = 5
    assert batch["id"].tolist() == [5, 5, 5]
    assert batch[1]["id"] == 5
    assert batch["id"].mean() == pytest.approx(5)
