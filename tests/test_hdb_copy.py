"""Encoding and decoding, alone and through a real server."""

import datetime
import struct

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tickplant.errors import HistoryError, SchemaError
from tickplant.hdb.copy import HEADER, TRAILER, Decoder, Encoder, decode, encode
from tickplant.hdb.store import History
from tickplant.schema import SCALARS, Rows, Schema, Table, declare

TRADE = declare("trade", 1, {"price": "f8", "size": "f4", "side": "S1", "level": "i1"})
NASTY = [
    b"\x00" * 8,
    b"\xff" * 8,
    struct.pack("<d", -0.0),
    struct.pack("<Q", 0x7FF0000000000001),  # a signalling NaN with a payload
    struct.pack("<Q", 0xFFF8DEADBEEFCAFE),
    struct.pack("<II", 0x7F800001, 0xFFC00002),  # the same for f4
    struct.pack("<q", -(1 << 63)),
    struct.pack("<q", (1 << 63) - 1),
    b"a\x00b\x00\\\n\t\xff",
]
types = st.sampled_from([*SCALARS, "S1", "S2", "S7", "S48", "S255"])
tables = st.lists(types, max_size=12).map(
    lambda kinds: declare("random", 1, {f"c{i}": kind for i, kind in enumerate(kinds)})
)


def rows_of(table: Table, draw: st.DrawFn, most: int = 40) -> Rows:
    """Rows of any bytes whatever, and often of the nasty ones."""
    count = draw(st.integers(0, most))
    words = st.one_of(st.sampled_from(NASTY), st.binary(min_size=8, max_size=8))
    seed = b"".join(draw(st.lists(words, min_size=1, max_size=20)))
    need = count * table.row_size
    return np.frombuffer((seed * (need // len(seed) + 1))[:need], table.dtype)


@st.composite
def table_and_rows(draw: st.DrawFn) -> tuple[Table, Rows]:
    table = draw(tables)
    return table, rows_of(table, draw)


@given(table_and_rows(), st.integers(0, 1 << 62))
def test_what_was_encoded_is_decoded_bit_by_bit(case: tuple[Table, Rows], first: int) -> None:
    table, rows = case
    numbers, back = decode(table, HEADER + encode(table, 20261122, first, rows) + TRAILER)
    assert back.tobytes() == rows.tobytes()
    assert numbers.tolist() == list(range(first, first + len(rows)))


@given(table_and_rows(), st.data())
def test_a_stream_may_come_split_anywhere(case: tuple[Table, Rows], data: st.DataObject) -> None:
    table, rows = case
    stream = HEADER + encode(table, 20261122, 0, rows) + TRAILER
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder(table)
    parts = [decoder.feed(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    decoder.close()
    assert b"".join(back.tobytes() for _, back in parts) == rows.tobytes()
    assert [n for numbers, _ in parts for n in numbers] == list(range(len(rows)))


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bits_come_back_from_postgresql(history: History, data: st.DataObject) -> None:
    rows = rows_of(history.schema["everything"], data.draw)
    history.drop(20261122)
    history.load(20261122, {"everything": rows}, 1, 0, expected=0)
    back = [r.tobytes() for _, r in history.read_back(20261122, "everything")]
    assert b"".join(back) == rows.tobytes()


@given(table_and_rows())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_of_any_columns_comes_back_from_postgresql(
    history: History, pg_admin: psycopg.Connection, case: tuple[Table, Rows]
) -> None:
    table, rows = case
    drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE")
    pg_admin.execute(drop.format(sql.Identifier(history.namespace)))
    with History(pg_admin.info.dsn, Schema([table]), history.namespace) as other:
        other.init()
        other.load(20261122, {"random": rows}, 1, 0, expected=0)
        back = [r.tobytes() for _, r in other.read_back(20261122, "random")]
    assert b"".join(back) == rows.tobytes()


def test_postgresql_sees_the_values_that_numpy_has(history: History, pg_admin: psycopg.Connection) -> None:
    rows = history.schema["everything"].empty(1)
    values = {"c_i1": -128, "c_i2": -32768, "c_i4": -(1 << 31), "c_i8": -(1 << 63)}
    values |= {"c_u1": 255, "c_u2": 65535, "c_u4": (1 << 32) - 1, "c_f4": -1.5, "c_f8": 0.1}
    values |= {"c_s1": b"\xff", "instrument": (1 << 32) - 1, "feed": 65535}
    for name, value in values.items():
        rows[name] = value
    history.load(20240229, {"everything": rows}, 1, 0, expected=0)
    names = ["trading_date", "row", *values]
    ask = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.Identifier(history.namespace, "everything"),
    )
    row = pg_admin.execute(ask).fetchone()
    assert row == (datetime.date(2024, 2, 29), 0, *values.values())


def test_row_numbers_may_be_given_one_by_one() -> None:
    rows = TRADE.empty(3)
    numbers = np.array([7, 5, 1 << 40])
    back, _ = decode(TRADE, HEADER + encode(TRADE, 20261122, numbers, rows) + TRAILER)
    assert back.tolist() == [7, 5, 1 << 40]


def test_more_rows_than_a_block_are_encoded_in_order() -> None:
    count = Encoder(TRADE).block_rows * 3 + 1
    rows = TRADE.empty(count)
    rows["price"] = np.arange(count)
    numbers, back = decode(TRADE, HEADER + encode(TRADE, 20261122, 9, rows) + TRAILER)
    assert np.array_equal(back, rows)
    assert np.array_equal(numbers, np.arange(9, 9 + count))


def test_rows_picked_from_others_are_encoded_as_they_are() -> None:
    rows = TRADE.empty(10)
    rows["price"] = np.arange(10)
    _, back = decode(TRADE, HEADER + encode(TRADE, 20261122, 0, rows[::-3]) + TRAILER)
    assert back["price"].tolist() == [9, 6, 3, 0]


def test_rows_of_another_table_are_refused() -> None:
    with pytest.raises(SchemaError, match="are not rows of table trade"):
        encode(TRADE, 20261122, 0, declare("quote", 2, {"bid": "f8"}).empty(1))


def test_too_few_row_numbers_are_refused() -> None:
    with pytest.raises(SchemaError, match="1 row numbers for 2 rows"):
        encode(TRADE, 20261122, np.array([1]), TRADE.empty(2))


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(HistoryError, match="20260230 is not a date"):
        encode(TRADE, 20260230, 0, TRADE.empty(1))


@pytest.mark.parametrize("cut", [0, 5, len(HEADER), -1, -2, -3, -40])
def test_a_stream_that_ends_early_is_an_error(cut: int) -> None:
    stream = HEADER + encode(TRADE, 20261122, 0, TRADE.empty(2)) + TRAILER
    with pytest.raises(HistoryError, match="ended early"):
        decode(TRADE, stream[:cut])


def test_bytes_after_the_end_are_an_error() -> None:
    stream = HEADER + encode(TRADE, 20261122, 0, TRADE.empty(1)) + TRAILER
    with pytest.raises(HistoryError):
        decode(TRADE, stream + b"\0")


def test_something_else_than_a_stream_is_an_error() -> None:
    with pytest.raises(HistoryError, match="not a binary COPY stream"):
        decode(TRADE, b"x" * 100)


@pytest.mark.parametrize(
    ("set_to", "complaint"),
    [
        ("price = NULL", "row 1: price is NULL"),
        ("c_u1 = 256", "row 1: a value is too large"),
        ("c_u4 = -1", "row 1: a value is too large"),
        ("c_i1 = 128", "row 1: a value is too large"),
        ("c_s255 = 'short'", "row 1: c_s255 is 5 bytes, not 255"),
    ],
)
def test_what_someone_changed_by_hand_is_an_error_and_not_a_row(
    history: History, pg_admin: psycopg.Connection, set_to: str, complaint: str
) -> None:
    name = "order" if "price" in set_to else "everything"
    rows = history.schema[name].empty(3)
    history.load(20261122, {name: rows}, 1, 0, expected=0)
    leaf = sql.Identifier(history.namespace, f"{name}_20261122")
    column = set_to.split()[0]
    parent = sql.Identifier(history.namespace, name)
    free = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL")
    pg_admin.execute(free.format(parent, sql.Identifier(column)))
    update = sql.SQL("UPDATE {} t SET " + set_to + " WHERE t.row = 1")  # type: ignore[arg-type]
    pg_admin.execute(update.format(leaf))
    with pytest.raises(HistoryError, match=complaint):
        list(history.read_back(20261122, name))
