"""Columns of the plant as Arrow, pandas and Polars: text is text, instruments have names, times are times."""

import builtins

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.batch import Batch
from tickplant.errors import ConfigError, NoColumn, SchemaError
from tickplant.frames import Frame, to_arrow
from tickplant.instruments import Instruments
from tickplant.schema import declare

TRADE = declare(
    "trade", 3, {"price": "f8", "size": "f4", "side": "S1", "trade_id": "i8", "text": "S12", "seq": "u4"}
)
AT = 1_767_605_400_123_456_789


def instruments(count=3):
    made = Instruments()
    for n in range(count):
        made.add("XTST", f"S{n}")
    return made


def rows(count=6):
    made = TRADE.empty(count)
    number = np.arange(count)
    made["ts_event"] = AT + number
    made["instrument"] = number % 4  # 0 is none
    made["price"], made["size"] = number / 4, number
    made["price"][1:2] = np.nan
    made["side"] = np.array([b"B", b"S", b""])[number % 3]
    made["text"] = np.array([b"", "é".encode(), b"twelve bytes"])[number % 3]
    made["trade_id"], made["seq"], made["flags"] = number << 40, 2**32 - 1, 5
    return made


@pytest.fixture
def batch():
    names = instruments()
    return Batch.of(rows(), "trade", 20260105, 10, lambda: names)


def test_text_compares_with_text_and_names_with_names(batch):
    df = batch.pandas()
    assert len(df[df.side == "B"]) == 2
    assert df[df["instrument"] == "XTST:S1"].trade_id.tolist() == [2 << 40]
    assert df.instrument.tolist() == ["", "XTST:S0", "XTST:S1", "XTST:S2", "", "XTST:S0"]
    assert isinstance(df.instrument.dtype, pd.CategoricalDtype)
    assert df.text.tolist() == ["", "é", "twelve bytes"] * 2
    assert str(df.ts_event.dtype) == "datetime64[ns, UTC]"
    assert df.ts_event.astype("int64").tolist() == [AT + n for n in range(6)]
    assert df.index.tolist() == list(range(10, 16))
    assert np.array_equal(df.price, rows()["price"], equal_nan=True)
    assert list(df.columns) == list(TRADE.dtype.names)


def test_arrow_has_the_types_that_are_documented(batch):
    table = batch.arrow()
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["ts_event"] == kinds["ts_plant"] == "timestamp[ns, tz=UTC]"
    assert kinds["instrument"] == "dictionary<values=string, indices=int32, ordered=0>"
    assert (kinds["side"], kinds["text"]) == ("string", "string")
    assert (kinds["price"], kinds["size"], kinds["trade_id"]) == ("double", "float", "int64")
    assert (kinds["feed"], kinds["flags"], kinds["seq"]) == ("uint16", "uint16", "uint32")
    assert table["price"].null_count == 0  # NaN is a value
    assert table["seq"].to_pylist() == [2**32 - 1] * 6
    table.validate(full=True)


def test_polars_and_whoever_takes_the_arrow_stream_get_the_same(batch):
    df = batch.polars()
    assert df.filter(pl.col("side") == "B").height == 2
    assert df["instrument"].cast(pl.String).to_list()[:3] == ["", "XTST:S0", "XTST:S1"]
    assert df.schema["ts_event"] == pl.Datetime("ns", "UTC")
    said = str(batch.arrow().to_pydict())  # NaN equals nothing
    assert str(pa.table(batch).to_pydict()) == said
    assert str(pa.RecordBatchReader.from_stream(batch.frame()).read_all().to_pydict()) == said
    assert pl.DataFrame(batch).height == 6


def test_rows_that_were_filtered_keep_their_numbers(batch):
    df = batch.only(np.asarray(batch["side"]) == b"B").pandas()
    assert df.index.tolist() == [10, 13]
    assert df.index.name == "row"
    assert batch[2:4].pandas().index.tolist() == [12, 13]


def test_numbers_in_one_piece_are_not_copied():
    price, codes = np.arange(100.0), np.zeros(100, np.uint32)
    ts = np.arange(100) + AT
    table = to_arrow({"price": price, "instrument": codes, "ts_event": ts}, lambda: instruments(50))
    addresses = [
        table["price"].chunk(0).buffers()[1].address,
        table["instrument"].chunk(0).indices.buffers()[1].address,
        table["ts_event"].chunk(0).buffers()[1].address,
    ]
    assert addresses == [price.ctypes.data, codes.ctypes.data, ts.ctypes.data]


@pytest.mark.parametrize("count", [0, 1, 5, 5000])
@pytest.mark.parametrize("known", [0, 1, 3, 2000])
def test_few_and_many_rows_of_few_and_many_instruments_have_the_same_names(count, known):
    names, numbers = instruments(known), np.arange(count, dtype=np.uint32) % (known + 1)
    table = to_arrow({"instrument": numbers}, lambda: names)
    assert table["instrument"].to_pylist() == [names[int(n)] for n in numbers]
    assert to_arrow({"instrument": numbers})["instrument"].to_pylist() == numbers.tolist()


def test_a_number_without_a_name_yet_is_shown_as_one():
    numbers = np.array([0, 1, 9], np.uint32)
    assert to_arrow({"instrument": numbers}, lambda: instruments(1))["instrument"].to_pylist() == [
        "", "XTST:S0", "#9",
    ]  # fmt: skip


def test_names_that_come_later_are_there():
    names, numbers = instruments(1), np.ones(10, np.uint32)
    assert to_arrow({"instrument": numbers}, lambda: names)["instrument"].to_pylist() == ["XTST:S0"] * 10
    names.add("XTST", "LATE")
    assert to_arrow({"instrument": numbers + 1}, lambda: names)["instrument"][0].as_py() == "XTST:LATE"


@given(values=st.lists(st.binary(max_size=9), max_size=40), width=st.integers(1, 9))
def test_any_bytes_become_text(values, width):
    column = np.array([v[:width] for v in values], f"S{width}")
    table = to_arrow({"text": column})
    assert table["text"].to_pylist() == [v.decode("utf-8", "backslashreplace") for v in column.tolist()]
    table.validate(full=True)


def test_text_of_many_rows_is_converted_in_parts(monkeypatch):
    monkeypatch.setattr("tickplant.frames._CHUNK", 7)
    column = np.array([b"%d" % n for n in range(40)])
    table = to_arrow({"text": column})
    assert table["text"].num_chunks == 6
    assert table["text"].to_pylist() == [str(n) for n in range(40)]


def test_a_frame_is_a_dict_of_plain_arrays_still():
    plain = {"price": np.arange(3.0), "side": np.array([b"B", b"S", b"B"])}
    frame = Frame(plain, None, "table trade")
    assert frame["side"] is plain["side"]
    assert (len(frame), frame.rows, list(frame)) == (2, 3, ["price", "side"])
    assert frame.numpy() == plain
    with pytest.raises(KeyError, match="^there is no column 'pricee' in table trade; did you mean price?"):
        _ = frame["pricee"]


def test_a_wrong_column_of_a_batch_says_which_there_are(batch):
    with pytest.raises(NoColumn, match="'prise' in table trade; did you mean price. there are: ts_event, "):
        _ = batch["prise"]
    with pytest.raises(SchemaError):
        _ = batch["x"]
    assert batch[["price", "side"]].dtype.names == ("price", "side")


def test_what_is_not_installed_is_said_with_the_command(batch, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name in ("polars", "pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=r"pyarrow is not installed; run: pip install 'tickplant\[frames\]'"
    ):
        batch.arrow()
    with pytest.raises(ConfigError, match="polars is not installed"):
        batch.polars()


def test_a_batch_shows_its_first_and_last_rows(batch):
    shown = repr(batch)
    assert shown.splitlines()[0] == "table trade of 20260105: 6 rows"
    assert "XTST:S1" in shown
    assert "2026-01-05 09:30:00.123456789" in shown
    many = repr(Batch.of(rows(1000), "trade", 20260105, 5))
    assert len(many.splitlines()) <= 2 + 11 + 1
    assert "1,004" in many
    assert str(batch) == repr(batch)
    assert repr(batch["price"]).startswith("array(")
    assert repr(batch[:0]).startswith("table trade of 20260105: 0 rows; columns: ts_event")
