"""Rows into packed batches: one by one or as arrays, the bytes are the same; what does not fit is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.errors import SchemaError
from tickplant.feed.batch import RowBatch, conform
from tickplant.feed.sink import shipped_schema
from tickplant.schema import KEY_COLUMNS, SCALARS, declare

TYPES = [*SCALARS, "S1", "S6", "S48"]
TABLE = declare("mixed", 1, {f"c{n}": kind for n, kind in enumerate(TYPES)})
TRADE = declare("trade", 2, {"price": "f8", "size": "f4", "id": "i4", "side": "S1", "note": "S6"})
TIMES = ("ts_recv", "ts_plant")


def value_of(kind):
    if kind[0] == "S":
        return st.binary(max_size=int(kind[1:])).map(lambda b: b.rstrip(b"\0"))
    if kind[0] == "f":
        return st.floats(width=int(kind[1]) * 8)
    info = np.iinfo(kind)
    return st.integers(int(info.min), int(info.max))


rows = st.lists(
    st.fixed_dictionaries(
        {"ts_event": st.integers(0, 2**63 - 1), "instrument": st.integers(0, 2**32 - 1)},
        optional={f"c{n}": value_of(kind) for n, kind in enumerate(TYPES)},
    ),
    min_size=1,
    max_size=5,
)


@given(rows)
def test_row_by_row_and_column_by_column_are_the_same_bytes(values):
    batch = RowBatch(TABLE, len(values))
    for row in values:
        batch.add(77, row)
    array = TABLE.empty(len(values))
    for column in TABLE.columns:
        blank = np.nan if column.type[0] == "f" else b"" if column.type[0] == "S" else 0
        array[column.name] = [row.get(column.name, blank) for row in values]
    assert len(batch) == len(values)
    assert bytes(batch.packed) == conform(TABLE, array, 77).tobytes()
    batch.packed.clear()
    assert (len(batch), bytes(batch.packed)) == (0, b"")


def test_columns_not_given_are_now_nan_or_nothing():
    batch = RowBatch(TRADE, 2)
    batch.add(5, {})
    batch.add(6, {"ts_event": 1, "side": "B"})
    made = TRADE.rows(bytes(batch.packed))
    assert made["ts_event"].tolist() == [5, 1]
    assert made["ts_recv"].tolist() == [5, 6]
    assert np.isnan(made["price"]).all()
    assert made["side"].tolist() == [b"", b"B"]
    assert conform(TRADE, np.zeros(2, [("id", "i8")]), 9)["ts_recv"].tolist() == [9, 9]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colour", 1),
        ("price", "12"),
        ("price", None),
        ("price", b"1"),
        ("id", 1.5),
        ("id", 2**31),
        ("id", "1"),
        ("instrument", -1),
        ("size", 1e300),
        ("side", "BS"),
        ("side", 1),
        ("side", None),
        ("note", "äöüß"),
        ("note", "\ud800"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_leaves_no_trace(name, value):
    batch = RowBatch(TRADE, 2)
    batch.add(1, {"price": 1.0})
    with pytest.raises(SchemaError):
        batch.add(2, {name: value})
    batch.add(3, {"price": 3.0})
    assert TRADE.rows(bytes(batch.packed))["price"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("colour", [1]),
        ("price", ["12"]),
        ("price", [b"12"]),
        ("price", [None]),
        ("price", [1 + 2j]),
        ("id", [1.5]),
        ("id", [np.nan]),
        ("id", [2**31]),
        ("instrument", [-1]),
        ("size", [1e300]),
        ("side", [b"B", b"BS"]),
        ("side", [1]),
        ("note", ["äöüß"]),
        ("note", ["\ud800"]),
        ("price", np.array(["2020-01-01"], "M8[ns]")),
    ],
)
def test_an_array_with_values_that_do_not_fit_is_refused(name, values):
    array = np.asarray(values)
    given_rows = np.zeros(len(array), [(name, array.dtype)])
    given_rows[name] = array
    with pytest.raises(SchemaError):
        conform(TRADE, given_rows, 1)


def test_what_fits_is_taken_from_other_types():
    given_rows = np.zeros(2, [("price", "f4"), ("id", "i8"), ("side", "U1"), ("note", "O"), ("size", ">f8")])
    given_rows["price"], given_rows["id"], given_rows["side"] = 0.5, [7, -7], "S"
    given_rows["note"], given_rows["size"] = ["äb", b"c"], [np.inf, 0.1]
    made = conform(TRADE, given_rows, 1)
    assert made["price"].tolist() == [0.5, 0.5]
    assert made["id"].tolist() == [7, -7]
    assert made["side"].tolist() == [b"S", b"S"]
    assert made["note"].tolist() == ["äb".encode(), b"c"]
    assert made["size"].tolist() == [np.inf, np.float32(0.1)]


def test_the_callers_rows_are_never_changed():
    mine = TRADE.empty(3)
    before = mine.tobytes()
    made = conform(TRADE, mine, 5)
    assert made["ts_recv"].tolist() == [5, 5, 5]
    assert mine.tobytes() == before
    strided = np.repeat(mine, 2)[::2]
    assert conform(TRADE, strided, 5).flags.c_contiguous
    assert conform(TRADE, made, 6)["ts_recv"].tolist() == [5, 5, 5]


@pytest.mark.parametrize("wrong", [np.zeros(3), TRADE.empty(4).reshape(2, 2)])
def test_only_one_dimension_of_structured_rows_will_do(wrong):
    with pytest.raises(SchemaError, match="structured array"):
        conform(TRADE, wrong, 1)


def test_the_key_columns_come_first():
    assert list(KEY_COLUMNS) == [c.name for c in TRADE.columns[:6]]


DEFAULTS = declare("trade", 2, {"price": "f8", "size": "f8", "action": "S1", "count": "i4"},
                   defaults={"action": "T", "count": 1, "size": 0.5})  # fmt: skip


def test_a_column_that_is_not_given_has_the_default_that_its_table_declares():
    batch = RowBatch(DEFAULTS, 3)
    batch.add(7, {"price": 1.5})
    batch.add(7, {"price": 1.5, "action": "X", "count": 3, "size": 2.0})
    (bare, full) = np.frombuffer(batch.packed, DEFAULTS.dtype)
    assert bare[["ts_event", "ts_recv", "price", "size", "action", "count"]].tolist() == (
        7,
        7,
        1.5,
        0.5,
        b"T",
        1,
    )
    assert full[["size", "action", "count"]].tolist() == (2.0, b"X", 3)


def test_rows_and_arrays_of_the_same_values_are_the_same_bytes():
    batch = RowBatch(DEFAULTS, 3)
    batch.add(7, {"price": 1.5})
    one = np.array([(1.5,)], [("price", "f8")])
    assert conform(DEFAULTS, one, 7).tobytes() == bytes(batch.packed)
    given = np.array([(1.5, 0, b"")], [("price", "f8"), ("ts_event", "i8"), ("action", "S1")])
    (row,) = conform(DEFAULTS, given, 7)
    assert row[["ts_event", "ts_recv", "action"]].tolist() == (0, 7, b"")  # what is given is kept


@pytest.mark.parametrize("defaults", [{"action": "TT"}, {"action": 1}, {"count": "T"}, {"count": 1.5},
                                      {"count": 1 << 40}, {"nothing": 1}, {"ts_event": 1}])  # fmt: skip
def test_a_default_that_its_column_can_not_hold_is_refused(defaults):
    with pytest.raises(SchemaError, match="default"):
        declare("trade", 2, {"action": "S1", "count": "i4"}, defaults=defaults)


def test_a_default_changes_nothing_that_is_stored():
    plain = declare("trade", 2, {"price": "f8", "size": "f8", "action": "S1", "count": "i4"})
    assert (plain, plain.fingerprint) == (DEFAULTS, DEFAULTS.fingerprint)


def test_a_trade_of_the_shipped_table_is_a_trade():
    batch = RowBatch(shipped_schema()["trade"], 2)
    batch.add(1, {"price": 1.0})
    assert np.frombuffer(batch.packed, shipped_schema()["trade"].dtype)["action"].tolist() == [b"T"]
