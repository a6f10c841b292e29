"""CSV and Parquet by declared columns: values, times, order, what is wrong, and real files."""

import datetime
import gzip
import os
import pathlib
import zipfile

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant.cli.main import cli
from tickplant.errors import CaptureError, ConfigError
from tickplant.feed.decode import decode
from tickplant.feed.files import mapping as mappings
from tickplant.feed.files.columns import Columns
from tickplant.feed.files.columns_read import numbers
from tickplant.feed.files.columns_time import times
from tickplant.feed.formats import open_capture
from tickplant.schema import Flag

pa = pytest.importorskip("pyarrow")
ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
needs_captures = pytest.mark.skipif(not (DATA / "csv").is_dir(), reason=f"no captures in {DATA}")

TRADES = """
what = "trades"
header = ["time", "name", "px", "qty", "buyer"]
venue = { value = "XTST" }
symbol = { column = "name" }
ORDER
[ts_event]
column = "time"
unit = "ms"
[[rows]]
table = "trade"
[rows.columns]
price = { column = "px", divisor = 100 }
size = "qty"
side = { column = "buyer", map = { y = "B", n = "S" } }
action = { value = "T" }
"""
HEADER = "time,name,px,qty,buyer\n"


def read(path, **options):
    capture, rows = open_capture(path, **options), {}
    for batch in capture:
        for table, made in batch:
            rows.setdefault(table, []).append(made)
    return capture, {t: np.concatenate(r) for t, r in rows.items()}


def trades(tmp_path, lines, order=""):
    (tmp_path / "map.toml").write_text(TRADES.replace("ORDER", order))
    (tmp_path / "some.csv").write_text(HEADER + lines)
    return read(tmp_path / "some.csv", mapping=str(tmp_path / "map.toml"))


def test_a_line_is_a_row_as_declared(tmp_path):
    capture, rows = trades(tmp_path, "5,ABC,1234,7.5,y\n6,XYZ,1,2,n\n")
    first, second = rows["trade"]
    assert [first[n].item() for n in ("ts_event", "price", "size", "side", "action")] == [
        5_000_000, 12.34, 7.5, b"B", b"T"]  # fmt: skip
    assert second["side"] == b"S"
    assert rows["instrument"][["code", "venue", "symbol"]].tolist() == [
        (1, b"XTST", b"ABC"),
        (2, b"XTST", b"XYZ"),
    ]
    assert rows["trade"]["instrument"].tolist() == [1, 2]
    assert (capture.messages, capture.malformed, capture.damaged) == ({"line": 2}, 0, False)


def test_a_symbol_that_table_instrument_has_no_room_for_costs_its_line(tmp_path):
    names = ["A" * 48, "A" * 49, "\u00e9" * 25]
    capture, rows = trades(tmp_path, "".join(f"5,{name},1,7.5,y\n" for name in names))
    assert rows["instrument"]["symbol"].tolist() == [b"A" * 48]
    assert (len(rows["trade"]), capture.malformed, capture.messages) == (1, 2, {"line": 1})
    assert rows["event"]["text"][0].startswith(b"column name is 'AAAA")


@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False) | st.decimals(allow_nan=False, allow_infinity=False)
    )
)
def test_decimals_become_the_nearest_float(values):
    texts = [str(v) for v in values]
    got, bad = numbers(pa.chunked_array([pa.array(texts, pa.string())]), "float")
    assert not bad.any()
    assert got.tolist() == [float(t) for t in texts]


@pytest.mark.parametrize(("unit", "text", "ns"), [
    ("s", "1.5", 1_500_000_000),
    ("s", "1700000000", 1_700_000_000_000_000_000),
    ("ms", "1700000000123.25", 1_700_000_000_123_250_000),
    ("us", "-1", -1000),
    ("ns", "1700000000000000001", 1_700_000_000_000_000_001),
    ("iso", "2013-01-01 22:00:00.295000+00:00", 1_357_077_600_295_000_000),
    ("iso", "2013-01-01T22:00:00.000000001Z", 1_357_077_600_000_000_001),
    ("iso", "2013.01.01 22:00:00.5", 1_357_077_600_500_000_000),
    ("iso", "2013-01-02T00:00:00+02:00", 1_357_077_600_000_000_000),
    ("midnight", "34200.017459617", 1_340_285_400_017_459_617),
])  # fmt: skip
def test_times_of_each_unit_are_exact(unit, text, ns):
    rule = mappings.Time(column="t", unit=unit, timezone="America/New_York" if unit == "midnight" else "UTC")
    got, bad = times(pa.chunked_array([[text, "nonsense", ""]]), rule, datetime.date(2012, 6, 21))
    assert got[0] == ns
    assert bad.tolist() == [False, True, True]
    assert times(pa.chunked_array([[text]]), rule, datetime.date(2012, 6, 21))[0][0] == ns


@given(st.lists(st.integers(-(10**18), 10**18), min_size=1), st.sampled_from(["s", "ms", "us", "ns"]))
@settings(deadline=None)
def test_decimal_times_are_exact_to_the_ns(values, unit):
    digits = {"s": 9, "ms": 6, "us": 3, "ns": 0}[unit]
    texts = [str(v) for v in values]
    if digits:
        signs = ["-" if v < 0 else "" for v in values]
        parts = [divmod(abs(v), 10**digits) for v in values]
        texts = [f"{s}{a}.{b:0{digits}}" for s, (a, b) in zip(signs, parts, strict=True)]
    got, bad = times(pa.chunked_array([texts]), mappings.Time(column="t", unit=unit), None)
    assert not bad.any()
    assert got.tolist() == values


def test_local_times_are_reckoned_in_their_zone():
    rule = mappings.Time(column="t", unit="iso", timezone="America/New_York")
    got, _ = times(pa.chunked_array([["2024-07-01 09:30:00", "2024-12-02 09:30:00"]]), rule, None)
    assert (got // 3_600_000_000_000 % 24).tolist() == [13, 14]


@pytest.mark.parametrize(("line", "said"), [
    ("x,ABC,1,1,y", "column time is 'x'"),
    ("1,ABC,1.5,1,y", "column px is '1.5'"),
    ("1,ABC,1,one,y", "column qty is 'one'"),
    ("1,ABC,1", "3 columns, not 5"),
    ("99999999999999999,ABC,1,1,y", "column time is '99999999999999999'"),
])  # fmt: skip
def test_a_line_that_can_not_be_is_an_event_and_the_others_are_rows(tmp_path, line, said):
    capture, rows = trades(tmp_path, f"5,ABC,100,1,y\n{line}\n6,ABC,200,2,n\n")
    assert rows["trade"]["price"].tolist() == [1.0, 2.0]
    assert (capture.malformed, capture.total, capture.damaged) == (1, 3, False)
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"malformed", 3, 3)]
    assert said in rows["event"]["text"][0].decode()


def test_a_file_that_ends_within_a_line_is_truncated(tmp_path):
    capture, rows = trades(tmp_path, "5,ABC,100,1,y\n6,ABC,1")
    assert capture.damaged
    assert len(rows["trade"]) == 1
    assert rows["event"]["kind"].tolist() == [b"truncated"]
    assert not trades(tmp_path, "5,ABC,100,1,y\n6,ABC,1,1,y")[0].damaged


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_no_bytes_make_it_fail_or_give_more_rows_than_lines(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("x")
    (folder / "map.toml").write_text(TRADES.replace("ORDER", ""))
    (folder / "some.csv").write_bytes(HEADER.encode() + data)
    capture, rows = read(folder / "some.csv", mapping=str(folder / "map.toml"))
    assert len(rows.get("trade", ())) == capture.messages.total() <= data.count(b"\n") + data.count(b"\r") + 1


def test_lines_out_of_order_are_flagged_or_sorted_as_declared(tmp_path):
    lines = "".join(f"{t},ABC,{t},1,y\n" for t in (1000, 4000, 3000, 9000, 2000, 9000, 8500))
    as_they_come = trades(tmp_path, lines)[1]["trade"]
    assert (as_they_come["flags"] == Flag.LATE).tolist() == [False, False, True, False, True, False, True]
    whole = trades(tmp_path, lines, "window_s = inf")[1]["trade"]
    assert (whole["price"] * 100).tolist() == [1000, 2000, 3000, 4000, 8500, 9000, 9000]
    assert not whole["flags"].any()


def test_within_a_window_lines_are_sorted_and_those_beyond_it_late(tmp_path, monkeypatch):
    monkeypatch.setattr("tickplant.feed.files.columns_read.BLOCK", 60)
    lines = "".join(f"{t},ABC,{t},1,y\n" for t in (1000, 4000, 3000, 9000, 2000, 9000, 8500))
    rows = trades(tmp_path, lines, "window_s = 2")[1]["trade"]
    assert (rows["price"] * 100).tolist() == [1000, 3000, 4000, 2000, 8500, 9000, 9000]
    assert (rows["flags"] == Flag.LATE).tolist() == [False, False, False, True, False, False, False]


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from("ABC"))), st.integers(25, 200))
@settings(deadline=None, max_examples=40)
def test_sorting_the_file_is_stable_however_it_is_cut_into_blocks(tmp_path_factory, made, block):
    from tickplant.feed.files import columns_read

    lines = "".join(f"{t},{name},{i + 1},1,y\n" for i, (t, name) in enumerate(made))
    before, columns_read.BLOCK = columns_read.BLOCK, block
    try:
        _, rows = trades(tmp_path_factory.mktemp("x"), lines, "window_s = inf")
    finally:
        columns_read.BLOCK = before
    wanted = sorted(enumerate(made), key=lambda m: m[1][0])
    got = rows.get("trade", np.empty(0, [("price", "f8"), ("instrument", "u4")]))
    assert np.rint(got["price"] * 100).tolist() == [i + 1 for i, _ in wanted]
    symbols = {r["code"]: r["symbol"].decode() for r in rows.get("instrument", ())}
    assert [symbols[c] for c in got["instrument"]] == [name for _, (_, name) in wanted]


TARDIS = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"


def level(at, snapshot, side, price, amount):
    return f"deribit,BTC-PERPETUAL,{at},{at + 5},{'true' if snapshot else 'false'},{side},{price},{amount}\n"


def test_a_book_begins_anew_with_each_snapshot(tmp_path):
    lines = [
        level(1, True, "ask", 10, 5), level(1, True, "bid", 9, 4), level(2, False, "bid", 9, 0),
        level(3, False, "bid", 8, 1), level(4, True, "ask", 11, 2), level(5, True, "ask", 12, 2),
    ]  # fmt: skip
    (tmp_path / "some.csv").write_text(TARDIS + "".join(lines))
    _, rows = read(tmp_path / "some.csv")
    assert b"".join(rows["depth"]["action"].tolist()) == b"RAADCRARA"
    assert b"".join(s or b"-" for s in rows["depth"]["side"].tolist()) == b"-SBBB-S-S"
    assert (rows["depth"]["flags"] == Flag.SNAPSHOT).tolist() == [True] * 3 + [False] * 2 + [True] * 4


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda b: zstandard.ZstdCompressor().compress(b), "zip"]
)
def test_a_known_header_is_recognized_in_whatever_container(tmp_path, pack):
    data, path = (TARDIS + level(1, True, "ask", 10, 5)).encode(), tmp_path / "some"
    if pack == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("inside.csv", data)
    else:
        path.write_bytes(pack(data))
    capture, rows = read(path)
    assert (capture.format, capture.mapping.what) == ("columns", "Tardis incremental book")
    assert len(rows["depth"]) == 2


def test_parquet_is_read_with_its_own_types(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "ethusdt-trades.parquet"
    at = datetime.datetime(2021, 1, 8, tzinfo=datetime.UTC)
    pq.write_table(pa.table({"timestamp": [at], "trade_id": [5], "price": [1.5], "quantity": [2.0],
                             "buyer_maker": ["True"]}), path)  # fmt: skip
    _, rows = read(path)
    row = rows["trade"][0]
    assert (row["ts_event"], row["trade_id"], row["side"]) == (int(at.timestamp()) * 10**9, 5, b"S")
    assert rows["instrument"]["symbol"].tolist() == [b"ETHUSDT"]
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    with pytest.raises(CaptureError):
        read(path)


MESSAGES = [
    "34200.5,1,11,100,2000000,1",
    "34201,4,11,40,2000000,1",
    "34202,5,0,7,2000500,-1",
    "34203,7,0,0,-1,-1",
]
BOOKS = [
    "9999999999,0,2000000,100",
    "9999999999,0,2000000,60",
    "2001000,5,2000000,60",
    "2001000,5,2000000,60",
]
NAME = "ABC_2012-06-21_34200000_57600000_{}_1.csv"


def lobster(path, books=BOOKS):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ReadMe.txt", "x")
        file.writestr(NAME.format("orderbook"), "\n".join(books) + "\n")
        file.writestr(NAME.format("message"), "\n".join(MESSAGES) + "\n")
    return path


def test_lobster_files_go_side_by_side(tmp_path):
    capture, rows = read(lobster(tmp_path / "x.zip"))
    begin = 1_340_285_400_000_000_000
    assert rows["order"]["action"].tolist() == [b"A", b"E"]
    assert rows["trade"][["price", "size", "side", "flags"]].tolist() == [
        (200.0, 40.0, b"S", 0), (200.05, 7.0, b"B", Flag.HIDDEN)]  # fmt: skip
    assert rows["order"]["ts_event"].tolist() == [begin + 500_000_000, begin + 1_000_000_000]
    assert rows["quote"]["bid_size"].tolist() == [100, 60, 60]
    assert np.isnan(rows["quote"]["ask_price"]).tolist() == [True, True, False]
    assert rows["quote"]["ask_size"].tolist() == [0, 0, 5]
    assert rows["depth"]["action"].tolist() == [b"R", b"A", b"C", b"A"]
    assert rows["status"]["level_1"].tolist() == [-1]
    assert rows["instrument"]["symbol"].tolist() == [b"ABC"]
    assert capture.messages == {"type 1": 1, "type 4": 1, "type 5": 1, "type 7": 1}


def test_lobster_files_in_a_folder_are_a_pair_or_messages_alone(tmp_path):
    message = tmp_path / NAME.format("message")
    message.write_text("\n".join(MESSAGES) + "\n")
    assert set(read(message)[1]) == {"instrument", "order", "trade", "status"}
    (tmp_path / NAME.format("orderbook")).write_text("\n".join(BOOKS) + "\n")
    for path in (message, tmp_path / NAME.format("orderbook")):
        assert set(read(path)[1]) == {"instrument", "order", "trade", "status", "depth", "quote"}


def test_files_side_by_side_of_different_length_are_damaged(tmp_path):
    capture, rows = read(lobster(tmp_path / "x.zip", BOOKS[:-1]))
    assert capture.damaged
    assert capture.messages.total() == 3
    assert b"fewer lines" in rows["event"]["text"][-1]


@pytest.mark.parametrize(("change", "said"), [
    (("divisor = 100", "divisor = 0"), "divisor"),
    (('"trade"', '"trades"'), "no table 'trades'"),
    (('price = {', 'prize = {'), "no column prize"),
    (('"qty"\n', '"quantity"\n'), "the file has no column quantity"),
    (('unit = "ms"', 'unit = "h"'), "unit"),
    (('what =', 'colour ='), "colour"),
])  # fmt: skip
def test_a_mapping_that_is_wrong_is_refused(tmp_path, change, said):
    path = tmp_path / "map.toml"
    text = TRADES.replace("ORDER", "")
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=said):
        mappings.named(str(path))


def test_what_is_not_known_or_not_told_is_refused(tmp_path):
    (tmp_path / "some.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CaptureError, match="not a capture"):
        open_capture(tmp_path / "some.csv")
    with pytest.raises(CaptureError, match="--mapping"):
        Columns(tmp_path / "some.csv")
    with pytest.raises(ConfigError, match="no mapping 'x'"):
        Columns(tmp_path / "some.csv", mapping="x")
    (tmp_path / "some.csv").write_text("timestamp,bid,ask\n")
    with pytest.raises(CaptureError, match="symbol"):
        Columns(tmp_path / "some.csv")
    (tmp_path / "some.csv").write_text("34200.5,1,11,100,2000000,1\n")
    with pytest.raises(CaptureError, match="--date"):
        Columns(tmp_path / "some.csv", mapping="lobster-message")


def test_every_preset_can_be_read():
    assert len(mappings.presets()) >= 11


def test_the_command_takes_a_mapping(tmp_path):
    trades(tmp_path, "5,ABC,100,1,y\n")
    done = CliRunner().invoke(cli, ["decode", str(tmp_path / "some.csv"), "--json", "--mapping",
                                     str(tmp_path / "map.toml")])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert '"size_sum": 1.0' in done.output


# Real files; the figures are those of the README beside them.


@needs_captures
@pytest.mark.parametrize(("name", "lines", "table", "first"), [
    ("truefx_usdjpy-ticks.csv", 1000, "quote", "2013-01-01T22:00:00.295"),
    ("tardis_bitmex_trades_XBTUSD.csv", 10, "trade", "2020-03-01"),
    ("tardis_deribit_incremental_book_L2_BTC-PERPETUAL.csv", 15, "depth", "2020-04-01"),
    ("tardis_binance-futures_book_snapshot_5_BTCUSDT.csv", 10, "depth", "2020-09-01"),
    ("binance_btcusdt-trades.parquet", 2001, "trade", "2021-01-08T00:00:00.278"),
    ("binance_btcusdt-quotes.parquet", 451, "quote", "2021-01-08"),
    ("binance-um_depth-snap.csv", 100, "depth", "2022-11-01"),
    ("binance-um_depth-update.csv", 100, "depth", "2022-11-0"),
])  # fmt: skip
def test_real_files_give_the_known_counts(name, lines, table, first):
    found = decode(DATA / "csv" / name)
    assert (found["total"], found["malformed"], found["damaged"]) == (lines, 0, False)
    at = datetime.datetime.fromtimestamp(found["tables"][table]["first_ts_event"] / 1e9, datetime.UTC)
    assert at.isoformat().startswith(first)


@needs_captures
def test_the_lobster_day_gives_the_known_counts_and_sums():
    path = DATA / "lobster" / "LOBSTER_SampleFile_AMZN_2012-06-21_1.zip"
    capture, rows = read(path)
    counts = {"type 1": 27_845, "type 2": 16, "type 3": 18_235, "type 4": 8_974, "type 5": 2_445}
    assert capture.messages == counts
    executed = rows["order"]["action"] == b"E"
    assert rows["order"]["size"][executed].sum() == 613_248
    hidden = rows["trade"]["flags"] == Flag.HIDDEN
    assert rows["trade"]["size"][hidden].sum() == 197_507
    midnight = 1_340_251_200_000_000_000
    times_ = np.concatenate([rows[t]["ts_event"] for t in ("order", "trade")])
    assert (times_.min() - midnight, times_.max() - midnight) == (34_200_017_459_617, 57_599_959_359_650)
    assert rows["quote"][["ask_price", "ask_size", "bid_price", "bid_size"]][-1].tolist() == (
        220.64,
        100,
        220.51,
        249,
    )
