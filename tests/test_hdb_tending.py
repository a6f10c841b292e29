"""When the open date is summarized, analyzed and indexed."""

import psycopg
from psycopg import sql

from tests.fix_plant import until
from tests.hdb_plant import check_stored
from tickplant.hdb import tending as module
from tickplant.hdb.tending import CAUGHT_UP_BYTES, FAR_BYTES, SMALL_ROWS, SUMMARY_ROWS, Due, Tending

LATE = CAUGHT_UP_BYTES + 1


def test_a_small_table_is_left_alone() -> None:
    assert not Tending().due({"trade": SMALL_ROWS - 1}, behind_bytes=0)


def test_a_table_is_indexed_once_and_only_by_who_has_caught_up() -> None:
    tending = Tending()
    assert tending.due({"trade": SMALL_ROWS}, behind_bytes=LATE).index == []
    assert tending.due({"trade": SMALL_ROWS + 1}, behind_bytes=0).index == ["trade"]
    assert tending.due({"trade": SMALL_ROWS + 2}, behind_bytes=0).index == []


def test_new_rows_are_summarized_in_steps_and_less_often_while_behind() -> None:
    near, late = Tending(), Tending()
    counts = range(0, 20 * SUMMARY_ROWS, SUMMARY_ROWS // 4)
    often = sum(bool(near.due({"trade": n}, behind_bytes=0).summary) for n in counts)
    seldom = sum(bool(late.due({"trade": n}, behind_bytes=LATE).summary) for n in counts)
    assert (often, seldom) == (19, 2)


def test_statistics_are_made_each_time_a_table_has_doubled() -> None:
    tending = Tending()
    counts = [n * SMALL_ROWS for n in range(1, 65)]
    assert [n for n in counts if tending.due({"trade": n}, behind_bytes=LATE).statistics] == [
        SMALL_ROWS * 2**i for i in range(7)
    ]


def test_the_index_is_dropped_when_the_loader_falls_far_behind_with_it():
    tending = Tending()
    assert tending.due({"trade": SMALL_ROWS}, 0).index == ["trade"]
    assert tending.due({"trade": SMALL_ROWS + 1}, FAR_BYTES - 1).drop == []  # what came while it was built
    assert tending.due({"trade": SMALL_ROWS + 2}, LATE).drop == []
    assert tending.due({"trade": SMALL_ROWS + 3}, LATE + FAR_BYTES - 1).drop == []
    assert tending.due({"trade": SMALL_ROWS + 4}, LATE + FAR_BYTES).drop == ["trade"]
    assert tending.due({"trade": SMALL_ROWS + 5}, LATE + FAR_BYTES).drop == []


def test_a_long_build_of_the_index_is_no_falling_behind():
    tending = Tending()
    assert tending.due({"trade": SMALL_ROWS}, 0).index == ["trade"]
    assert tending.due({"trade": 2 * SMALL_ROWS}, 5 * FAR_BYTES).drop == []
    assert tending.due({"trade": 3 * SMALL_ROWS}, 0).drop == []


def test_an_index_that_could_not_be_kept_up_with_comes_again_when_the_table_has_doubled():
    tending = Tending()
    tending.due({"trade": SMALL_ROWS}, 0)
    tending.due({"trade": SMALL_ROWS}, 0)
    assert tending.due({"trade": 2 * SMALL_ROWS}, FAR_BYTES).drop == ["trade"]
    assert tending.due({"trade": 4 * SMALL_ROWS - 1}, 0).index == []
    assert tending.due({"trade": 4 * SMALL_ROWS}, LATE).index == []
    assert tending.due({"trade": 4 * SMALL_ROWS}, 0).index == ["trade"]


def test_a_loader_that_begins_far_behind_drops_what_an_earlier_one_built_until_it_has_caught_up():
    tending = Tending()
    assert tending.due({"trade": SMALL_ROWS, "quote": 5}, FAR_BYTES).drop == ["trade"]
    assert tending.due({"trade": SMALL_ROWS + 1, "quote": SMALL_ROWS}, 2 * FAR_BYTES).drop == ["quote"]
    due = tending.due({"trade": SMALL_ROWS + 1, "quote": SMALL_ROWS}, 0)
    assert (due.drop, due.index) == ([], ["trade", "quote"])


def test_while_the_loader_is_far_behind_the_index_is_dropped_again_now_and_then():
    tending = Tending()
    counts = range(0, 20 * SUMMARY_ROWS, SUMMARY_ROWS)
    drops = [tending.due({"trade": n}, FAR_BYTES).drop for n in counts]
    assert sum(map(len, drops)) == 3


def indexed(pg_admin, namespace, leaf):
    ask = "SELECT FROM pg_indexes WHERE schemaname = %s AND indexname = %s"
    return pg_admin.execute(ask, [namespace, f"{leaf}_instrument"]).fetchone() is not None


def test_the_index_of_the_open_date_goes_and_comes_in_postgresql(loading, pg_admin, monkeypatch):
    monkeypatch.setattr(module, "SMALL_ROWS", 50)
    monkeypatch.setattr(module, "FAR_BYTES", 1 << 14)
    name, leaf = loading.cfg.plant.name, f"trade_{loading.date}"
    loading.until(lambda: indexed(pg_admin, name, leaf))
    loading.publish(10, 10)
    loading.until_loaded()
    tend = loading.loader._tend

    def far_behind(rows):
        loading.loader._position -= 1 << 20
        tend(rows)
        loading.loader._position += 1 << 20

    monkeypatch.setattr(loading.loader, "_tend", far_behind)
    loading.publish(10, 10)
    loading.until(lambda: not indexed(pg_admin, name, leaf))
    monkeypatch.setattr(loading.loader, "_tend", tend)

    def more():
        loading.publish(50, 10)
        loading.turn()
        return indexed(pg_admin, name, leaf)

    until(more)
    loading.until_loaded()
    check_stored(loading.cfg, loading.loader.history, loading.date)


def test_a_reader_in_the_way_of_the_drop_does_not_stop_loading(loading, postgres, pg_admin, caplog):
    loading.until_loaded()
    name, leaf = loading.cfg.plant.name, f"trade_{loading.date}"
    history = loading.loader.history
    list(history.tending(loading.date, Due(index=["trade"])))
    with psycopg.connect(postgres.dsn) as reader:
        reader.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name, leaf)))
        list(history.tending(loading.date, Due(drop=["trade"])))
        assert "holds a lock" in caplog.text
        assert indexed(pg_admin, name, leaf)
        loading.publish(10, 10)
        loading.until_loaded()
    list(history.tending(loading.date, Due(drop=["trade"])))
    assert not indexed(pg_admin, name, leaf)
