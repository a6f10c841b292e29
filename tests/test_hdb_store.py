"""Loading: exactly once, whoever crashes; and what comes back."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from tickplant.errors import HistoryError, SchemaError
from tickplant.hdb.connection import HistoryLost
from tickplant.hdb.copy import Encoder
from tickplant.hdb.records import Proof
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import READ_ROWS, History, Progress
from tickplant.schema import Rows, Schema, declare

DATE = 20261122
PROOF = Proof(DATE, "order", 1, 5, 5, None, 5, (1 << 64) - 1, 7, None, 9, False)


def orders(history: History, first: int, count: int) -> Rows:
    """Rows whose price is their own number."""
    rows = history.schema["order"].empty(count)
    rows["price"] = np.arange(first, first + count)
    return rows


def stored(history: History) -> list[tuple[int, float]]:
    """Row number and price of all orders of the date, sorted."""
    return sorted(
        pair
        for numbers, rows in history.read_back(DATE, "order")
        for pair in zip(numbers.tolist(), rows["price"].tolist(), strict=True)
    )


def interrupted(monkeypatch: pytest.MonkeyPatch, blow: Callable[[], None]) -> None:
    """Lets `blow` fall in the middle of the next COPY, once."""
    blocks = Encoder.blocks

    def until_the_blow(self: Encoder, *arguments: Any) -> Iterator[memoryview]:
        monkeypatch.undo()
        for number, block in enumerate(blocks(self, *arguments)):
            yield block
            if number == 2:
                blow()

    monkeypatch.setattr(Encoder, "blocks", until_the_blow)


def backend(history: History) -> int:
    assert history._connection is not None
    return history._connection.info.backend_pid


def test_a_date_that_was_not_begun_has_no_progress(history: History) -> None:
    assert history.progress(DATE) == Progress(0, 0, {})


def test_rows_and_progress_go_in_together(history: History) -> None:
    everything = history.schema["everything"].empty(1)
    after = history.load(
        DATE, {"order": orders(history, 0, 3), "everything": everything}, 700, 99, expected=0
    )
    assert after == history.progress(DATE)
    assert after == Progress(700, 99, {"order": 3, "everything": 1})
    after = history.load(DATE, {"order": orders(history, 3, 2)}, 900, 1 << 31, expected=700)
    assert after == Progress(900, 1 << 31, {"order": 5, "everything": 1})
    assert stored(history) == [(i, i) for i in range(5)]


def test_a_position_may_move_without_rows(history: History) -> None:
    assert history.load(DATE, {}, 10, 1, expected=0) == Progress(10, 1, {})
    empty = orders(history, 0, 0)
    assert history.load(DATE, {"order": empty}, 20, 2, expected=10).position == 20


@pytest.mark.parametrize("expected", [0, 6, -1])
def test_from_another_position_than_expected_nothing_is_loaded(history: History, expected: int) -> None:
    before = history.load(DATE, {"order": orders(history, 0, 3)}, 5, 1, expected=0)
    with pytest.raises(HistoryError, match=f"loaded up to 5, not {expected}"):
        history.load(DATE, {"order": orders(history, 3, 3)}, 9, 2, expected=expected)
    assert history.progress(DATE) == before
    assert stored(history) == [(0, 0), (1, 1), (2, 2)]


def test_when_one_table_fails_none_is_loaded(history: History) -> None:
    wrong = declare("other", 9, {"x": "i8"}).empty(3)
    with pytest.raises(SchemaError):
        history.load(DATE, {"order": orders(history, 0, 3), "everything": wrong}, 5, 1, expected=0)
    with pytest.raises(SchemaError, match="there is no table 'quote'"):
        history.load(DATE, {"order": orders(history, 0, 3), "quote": wrong}, 5, 1, expected=0)
    assert history.progress(DATE) == Progress()
    assert stored(history) == []


def test_a_server_killed_in_the_middle_of_a_copy_costs_and_doubles_nothing(
    pg_folder: Path, history_schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = PostgresServer(pg_folder / "data", pg_folder / "s")
    with own, History(own.dsn, history_schema) as history:
        history.init()
        history.load(DATE, {"order": orders(history, 0, 10)}, 1, 1, expected=0)

        def kill() -> None:
            assert own.pid is not None
            os.kill(own.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(backend(history), signal.SIGKILL)

        interrupted(monkeypatch, kill)
        with pytest.raises(HistoryLost):
            history.load(DATE, {"order": orders(history, 10, 100_000)}, 2, 2, expected=1)
        own.start()
        reached = history.progress(DATE)
        assert reached == Progress(1, 1, {"order": 10})
        history.load(DATE, {"order": orders(history, 10, 100_000)}, 2, 2, expected=1)
        assert stored(history) == [(i, i) for i in range(100_010)]


def test_a_connection_lost_in_the_middle_of_a_copy_costs_and_doubles_nothing(
    history: History, pg_admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.load(DATE, {"order": orders(history, 0, 10)}, 1, 1, expected=0)

    def cut() -> None:
        pg_admin.execute("SELECT pg_terminate_backend(%s, 10000)", [backend(history)])

    interrupted(monkeypatch, cut)
    with pytest.raises(HistoryLost):
        history.load(DATE, {"order": orders(history, 10, 100_000)}, 2, 2, expected=1)
    assert history.progress(DATE).position == 1
    history.load(DATE, {"order": orders(history, 10, 5)}, 2, 2, expected=1)
    assert stored(history) == [(i, i) for i in range(15)]


def test_a_connection_lost_while_idle_is_noticed_and_made_again(
    history: History, pg_admin: psycopg.Connection
) -> None:
    history.load(DATE, {"order": orders(history, 0, 1)}, 1, 1, expected=0)
    pg_admin.execute("SELECT pg_terminate_backend(%s, 10000)", [backend(history)])
    with pytest.raises(HistoryLost):
        history.load(DATE, {"order": orders(history, 1, 1)}, 2, 1, expected=1)
    assert history.load(DATE, {"order": orders(history, 1, 1)}, 2, 1, expected=1).position == 2


def test_a_commit_whose_answer_is_lost_is_found_in_the_progress(
    history: History, pg_admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = psycopg.Transaction.__exit__

    def lose_the_answer(self: psycopg.Transaction, *why: Any) -> bool:
        done = commit(self, *why)
        if self.connection is history._connection and why[0] is None:
            found = pg_admin.execute(
                sql.SQL("SELECT position FROM {}").format(sql.Identifier(history.namespace, "progress"))
            )
            if found.fetchone() == (1,):
                monkeypatch.undo()
                raise psycopg.OperationalError("server closed the connection") from None
        return done

    monkeypatch.setattr(psycopg.Transaction, "__exit__", lose_the_answer)
    with pytest.raises(HistoryError):
        history.load(DATE, {"order": orders(history, 0, 3)}, 1, 1, expected=0)
    assert history.progress(DATE) == Progress(1, 1, {"order": 3})
    with pytest.raises(HistoryError, match="loaded up to 1, not 0"):
        history.load(DATE, {"order": orders(history, 0, 3)}, 1, 1, expected=0)
    assert stored(history) == [(0, 0), (1, 1), (2, 2)]


def test_of_two_loaders_at_once_the_second_is_refused(history: History, postgres: PostgresServer) -> None:
    history.load(DATE, {"order": orders(history, 0, 1)}, 1, 1, expected=0)
    with History(postgres.dsn, history.schema, history.namespace, lock_patience=0.1) as second:
        for expected in (0, 1):
            with pytest.raises(HistoryError, match="another hdb is loading"):
                second.load(DATE, {"order": orders(history, 1, 1)}, 2, 1, expected=expected)
        with pytest.raises(HistoryError, match="another hdb is loading"):
            second.drop(DATE)
        assert second.progress(DATE).position == 1
        assert stored(second) == [(0, 0)]
        history.close()
        second.load(DATE, {"order": orders(history, 1, 1)}, 2, 1, expected=1)
        with pytest.raises(HistoryError, match="another hdb is loading"):
            history.load(DATE, {"order": orders(history, 1, 1)}, 2, 1, expected=1)
    with pytest.raises(HistoryError, match="loaded up to 2, not 1"):
        history.load(DATE, {"order": orders(history, 1, 1)}, 2, 1, expected=1)
    assert stored(history) == [(0, 0), (1, 1)]


def test_a_dropped_date_is_loaded_again_from_the_start(history: History) -> None:
    history.load(DATE, {"order": orders(history, 0, 5)}, 9, 1, expected=0)
    history.load(20261121, {"order": orders(history, 0, 1)}, 3, 1, expected=0)
    history.finish(DATE)
    history.store_proof([PROOF, replace(PROOF, trading_date=20261121)])
    history.drop(DATE)
    assert history.progress(DATE) == Progress()
    assert stored(history) == []
    assert [p.trading_date for p in history.proofs()] == [20261121]
    assert history.progress(20261121).rows == {"order": 1}
    history.load(DATE, {"order": orders(history, 0, 2)}, 4, 1, expected=0)
    assert stored(history) == [(0, 0), (1, 1)]


def test_a_date_that_is_not_there_can_be_dropped(history: History) -> None:
    history.drop(DATE)
    history.drop(DATE)
    assert history.progress(DATE).position == 0


def test_a_date_dropped_by_another_is_noticed(history: History, postgres: PostgresServer) -> None:
    history.load(DATE, {"order": orders(history, 0, 5)}, 9, 1, expected=0)
    with History(postgres.dsn, history.schema, history.namespace) as other:
        history._loading = False
        assert history._connection is not None
        history._connection.execute("SELECT pg_advisory_unlock_all()")
        other.drop(DATE)
    with pytest.raises(HistoryError, match="read the progress again"):
        history.load(DATE, {"order": orders(history, 5, 1)}, 10, 1, expected=9)
    history.load(DATE, {"order": orders(history, 0, 2)}, 4, 1, expected=0)
    assert stored(history) == [(0, 0), (1, 1)]


def test_rows_can_be_loaded_after_the_date_was_finished(history: History) -> None:
    history.load(DATE, {"order": orders(history, 0, 2)}, 1, 1, expected=0)
    history.finish(DATE)
    history.load(DATE, {"order": orders(history, 2, 1)}, 2, 1, expected=1)
    history.finish(DATE)
    assert stored(history) == [(0, 0), (1, 1), (2, 2)]


def test_rows_are_read_back_in_chunks(history: History) -> None:
    count = READ_ROWS * 2 + 3
    rows = orders(history, 0, count)
    history.load(DATE, {"order": rows}, 1, 1, expected=0)
    sizes, back = [], []
    for numbers, part in history.read_back(DATE, "order"):
        sizes.append(len(part))
        back.append((numbers, part))
    assert max(sizes) <= READ_ROWS
    order = np.argsort(np.concatenate([n for n, _ in back]))
    assert np.concatenate([p for _, p in back])[order].tobytes() == rows.tobytes()


def test_reading_back_may_be_given_up_and_loading_goes_on_meanwhile(history: History) -> None:
    history.load(DATE, {"order": orders(history, 0, READ_ROWS * 3)}, 1, 1, expected=0)
    parts = history.read_back(DATE, "order")
    next(parts)
    history.load(DATE, {"order": orders(history, 0, 1)}, 2, 1, expected=1)
    parts.close()  # type: ignore[attr-defined]
    assert history.counts(DATE)["order"] == {0: READ_ROWS * 3 + 1}


def test_counts_are_by_table_and_feed(history: History) -> None:
    rows = orders(history, 0, 5)
    rows["feed"] = [1, 1, 65535, 1, 2]
    history.load(DATE, {"order": rows}, 1, 1, expected=0)
    assert history.counts(DATE) == {"order": {1: 3, 65535: 1, 2: 1}, "everything": {}}


def test_instruments_are_registered_once(history: History, pg_admin: psycopg.Connection) -> None:
    history.register([])
    history.register([(1, "XNAS", "AAPL"), (2, "BINANCE", "币安人生USDT")])
    history.register(iter([(1, "XNAS", "AAPL"), ((1 << 32) - 1, "XNAS", "")]))
    registry = sql.Identifier(history.namespace, "registry")
    found = pg_admin.execute(sql.SQL("SELECT * FROM {} ORDER BY id").format(registry))
    assert found.fetchall() == [
        (1, "XNAS", "AAPL"),
        (2, "BINANCE", "币安人生USDT"),
        ((1 << 32) - 1, "XNAS", ""),
    ]


@pytest.mark.parametrize("clash", [(1, "XNAS", "MSFT"), (2, "XNAS", "AAPL"), (1, "XNYS", "AAPL")])
def test_an_instrument_that_is_another_already_is_refused(
    history: History, pg_admin: psycopg.Connection, clash: tuple[int, str, str]
) -> None:
    history.register([(1, "XNAS", "AAPL")])
    with pytest.raises(HistoryError, match="another in"):
        history.register([(3, "XNAS", "NVDA"), clash])
    registry = sql.Identifier(history.namespace, "registry")
    found = pg_admin.execute(sql.SQL("SELECT id FROM {}").format(registry))
    assert found.fetchall() == [(1,)]


def test_a_proof_comes_back_as_it_was_and_a_later_one_takes_its_place(history: History) -> None:
    other = replace(PROOF, table="everything", feed=65535, complete=True)
    history.store_proof([PROOF, other])
    assert history.proofs(DATE) == history.proofs() == [other, PROOF]
    better = replace(PROOF, shared_memory=5, shared_memory_checksum=0, missing=3, complete=True)
    history.store_proof(iter([better]))
    assert history.proofs(DATE) == [better]  # what only the earlier one had found is not there any more
    assert history.proofs(20261121) == []


def test_tables_that_were_not_made_are_named_with_the_remedy(
    postgres: PostgresServer, history_schema: Schema, pg_namespace: str
) -> None:
    with History(postgres.dsn, history_schema, pg_namespace) as history:
        with pytest.raises(HistoryError, match="run `tickplant hdb init`"):
            history.progress(DATE)
        with pytest.raises(HistoryError, match="run `tickplant hdb init`"):
            history.load(DATE, {}, 1, 1, expected=0)
        history.init()
        assert history.load(DATE, {}, 1, 1, expected=0).position == 1


def test_a_server_that_is_not_there_is_lost_and_its_password_not_shown(
    history_schema: Schema,
) -> None:
    with tempfile.TemporaryDirectory() as nowhere:
        dsn = f"host={nowhere} user=x password=secret dbname=x"
        with History(dsn, history_schema, patience=0.2) as history:
            with pytest.raises(HistoryLost, match="no connection") as e:
                history.progress(DATE)
            assert nowhere in str(e.value)
            assert "secret" not in str(e.value)


def test_a_server_that_does_not_let_one_in_is_not_asked_again(
    postgres: PostgresServer, history_schema: Schema
) -> None:
    dsn = psycopg.conninfo.make_conninfo(postgres.dsn, dbname="none_such")
    with (
        History(dsn, history_schema, patience=3600) as history,
        pytest.raises(HistoryError, match="correct \\[hdb\\] dsn") as e,
    ):
        history.progress(DATE)
    assert not isinstance(e.value, HistoryLost)


def test_a_server_that_recovers_is_waited_for(pg_folder: Path, history_schema: Schema) -> None:
    own = PostgresServer(pg_folder / "data", pg_folder / "s", throwaway=True)
    with own, History(own.dsn, history_schema) as history:
        history.init()
        history.load(DATE, {"order": orders(history, 0, 10)}, 1, 1, expected=0)
        # The children of a killed backend's postmaster are all ended and the log is redone; while
        # that goes on, connections are refused.
        os.kill(backend(history), signal.SIGKILL)
        with pytest.raises(HistoryLost):
            history.progress(DATE)
        assert history.progress(DATE).position == 1
