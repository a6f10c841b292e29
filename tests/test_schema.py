from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.errors import SchemaError
from tickplant.schema import KEY_COLUMNS, KEY_SIZE, SCALARS, Schema, declare

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True).filter(lambda n: n not in KEY_COLUMNS)
TYPES = st.sampled_from(sorted(SCALARS)) | st.integers(1, 255).map(lambda n: f"S{n}")
COLUMNS = st.dictionaries(NAMES, TYPES, max_size=8)


@given(NAMES, st.integers(1, 255), COLUMNS)
def test_a_row_is_packed_in_the_order_of_declaration(name, number, columns):
    table = declare(name, number, columns)
    sizes = [SCALARS.get(t) or int(t[1:]) for t in (KEY_COLUMNS | columns).values()]
    assert [c.offset for c in table.columns] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert table.row_size == sum(sizes) == table.dtype.itemsize >= KEY_SIZE
    assert [table.dtype.fields[c.name][1] for c in table.columns] == [c.offset for c in table.columns]
    assert all(table.dtype[c.name].itemsize == c.size for c in table.columns)
    assert all(table.dtype[c.name].str[0] in "<|" for c in table.columns)


@given(st.dictionaries(NAMES, COLUMNS, min_size=1, max_size=4))
def test_a_schema_is_read_back_from_its_description(declared):
    schema = Schema(declare(n, i, c) for i, (n, c) in enumerate(declared.items(), 1))
    again = Schema.read(schema.describe())
    assert again.describe() == schema.describe()
    assert [t.fingerprint for t in again] == [t.fingerprint for t in schema]
    assert len(again) == len(declared)
    for table in schema:
        assert table.name in again
        assert again[table.name].dtype == again.numbered(table.number).dtype == table.dtype


@given(COLUMNS, st.data())
def test_the_fingerprint_changes_with_name_number_and_columns(columns, data):
    one = declare("one", 1, columns)
    others = [declare("two", 1, columns), declare("one", 2, columns)]
    extra = data.draw(NAMES.filter(lambda n: n not in columns))
    others.append(declare("one", 1, {**columns, extra: "i4"}))
    if len(columns) > 1:
        others.append(declare("one", 1, dict(reversed(columns.items()))))
    assert one.fingerprint == declare("one", 1, columns, max_rows=5, latest=True).fingerprint
    assert len({t.fingerprint for t in [one, *others]}) == len(others) + 1


@given(COLUMNS, st.binary(max_size=500))
def test_rows_are_a_view_of_whole_rows_or_refused(columns, data):
    table = declare("one", 1, columns)
    if len(data) % table.row_size:
        with pytest.raises(SchemaError, match="not whole rows"):
            table.rows(data)
    else:
        assert table.rows(data).tobytes() == data
    assert table.empty(3).tobytes() == bytes(3 * table.row_size)


@pytest.mark.parametrize(
    ("name", "number", "columns", "options", "what"),
    [
        ("Trade", 1, {}, {}, "table name 'Trade' must match"),
        ("", 1, {}, {}, "table name '' must match"),
        ("t" * 32, 1, {}, {}, "must match"),
        ("trade", 0, {}, {}, "number 0"),
        ("trade", 256, {}, {}, "at most 255 tables"),
        ("trade", 1, {}, {"max_rows": 0}, "max_rows of table trade is 0"),
        ("trade", 1, {}, {"max_rows": 1 << 32}, "must be from 1 to"),
        ("trade", 1, {"flags": "u2"}, {}, r"\['flags'\], which every table has"),
        ("trade", 1, {"1st": "i8"}, {}, "column name trade.'1st'"),
        ("trade", 1, {"price; drop": "i8"}, {}, "column name"),
        ("trade", 1, {"a": "u8"}, {}, "has type 'u8'; use one of"),
        ("trade", 1, {"a": "S0"}, {}, "'S0'"),
        ("trade", 1, {"a": "S256"}, {}, "'S256'"),
        ("trade", 1, {"a": "S01"}, {}, "'S01'"),
        ("trade", 1, {"a": "f8\n"}, {}, "has type"),
        ("trade", 1, {"a": ""}, {}, "has type ''"),
    ],
)
def test_what_can_not_be_declared_is_refused(name, number, columns, options, what):
    with pytest.raises(SchemaError, match=what):
        declare(name, number, columns, **options)


GOOD = Schema([declare("trade", 1, {"price": "f8"})]).describe()


@given(st.data())
def test_what_is_no_description_is_refused(data):
    odd = st.none() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=3)
    described = {**GOOD[0]}
    key = data.draw(st.sampled_from(["name", "number", "columns"]))
    described[key] = data.draw(odd)
    for wrong in ([described], data.draw(odd), [data.draw(odd)], [{}]):
        with suppress(SchemaError):
            assert all(t.row_size >= KEY_SIZE for t in Schema.read(wrong))


def test_a_table_that_does_not_begin_with_the_key_columns_is_refused():
    columns = GOOD[0]["columns"]
    for wrong in (
        columns[1:],
        [columns[1], columns[0], *columns[2:]],
        [["ts_event", "i4"], *columns[1:]],
    ):
        with pytest.raises(SchemaError):
            Schema.read([{**GOOD[0], "columns": wrong}])


def test_tables_that_are_not_there_are_named():
    schema = Schema.read(GOOD)
    with pytest.raises(SchemaError, match="no table 'quote'; declared are trade"):
        schema["quote"]
    with pytest.raises(SchemaError, match="no table number 2"):
        schema.numbered(2)
    assert np.dtype("<f8") == schema["trade"].dtype["price"]


@pytest.mark.parametrize("change", [{"number": 0}, {"number": 256}, {"number": "x"}, {}])
def test_numbers_out_of_range_and_names_used_twice_are_refused(change):
    second = [{**GOOD[0], "name": "quote", **change}] if change else GOOD
    with pytest.raises(SchemaError):
        Schema.read([*GOOD, *second])
