"""When the open date is summarized, analyzed and indexed."""

from tickplant.hdb.tending import SMALL_ROWS, SUMMARY_ROWS, Tending


def test_a_small_table_is_left_alone() -> None:
    assert not Tending().due({"trade": SMALL_ROWS - 1}, caught_up=True)


def test_a_table_is_indexed_once_and_only_by_who_has_caught_up() -> None:
    tending = Tending()
    assert tending.due({"trade": SMALL_ROWS}, caught_up=False).index == []
    assert tending.due({"trade": SMALL_ROWS + 1}, caught_up=True).index == ["trade"]
    assert tending.due({"trade": SMALL_ROWS + 2}, caught_up=True).index == []


def test_new_rows_are_summarized_in_steps_and_less_often_while_behind() -> None:
    near, late = Tending(), Tending()
    counts = range(0, 20 * SUMMARY_ROWS, SUMMARY_ROWS // 4)
    often = sum(bool(near.due({"trade": n}, caught_up=True).summary) for n in counts)
    seldom = sum(bool(late.due({"trade": n}, caught_up=False).summary) for n in counts)
    assert (often, seldom) == (19, 2)


def test_statistics_are_made_each_time_a_table_has_doubled() -> None:
    tending = Tending()
    counts = [n * SMALL_ROWS for n in range(1, 65)]
    assert [n for n in counts if tending.due({"trade": n}, caught_up=False).statistics] == [
        SMALL_ROWS * 2**i for i in range(7)
    ]
