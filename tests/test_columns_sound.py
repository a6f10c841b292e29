"""What in a file of columns can't be a row, how it is told, and what does not spread from it."""

import gzip
import io
import math
import tarfile
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant.errors import CaptureError, ConfigError
from tickplant.feed.files import mapping as mappings
from tickplant.feed.files.columns_read import SCALED_FROM, Account, numbers, parsed
from tickplant.feed.files.columns_time import times
from tickplant.feed.formats import open_capture

pa = pytest.importorskip("pyarrow")
HEADER = "id,price,qty,quote_qty,time,is_buyer_maker\n"
NAME = "BTCUSDT-trades-2025-01-01.csv"
GOOD = "9,100,1,1,1735776000125,false\n"


def read(path, **options):
    capture, rows = open_capture(path, **options), {}
    for batch in capture:
        for table, made in batch:
            rows.setdefault(table, []).append(made)
    return capture, {t: np.concatenate(r) for t, r in rows.items()}


@pytest.mark.parametrize(("line", "said"), [
    ("1,,2,201,1735776000123,true", "column price is ''"),
    ("1,NaN,2,201,1735776000123,true", "column price is 'NaN'"),
    ("1,inf,2,201,1735776000123,true", "column price is 'inf'"),
    ("1,0,2,201,1735776000123,true", "column price is '0'"),
    ("1,100,,201,1735776000123,true", "column qty is ''"),
    ("1,100,0,201,1735776000123,true", "column qty is '0'"),
    ("1,100,-1,201,1735776000123,true", "column qty is '-1'"),
    ("1,100,1,201,,true", "column time is ''"),
    ("1,100,1,201,0,true", "column time is '0'"),
    ("1,100,1,201,1735776000123,perhaps", "column is_buyer_maker is 'perhaps'"),
    ("1,100,1,201,1735776000123", "5 columns, not 6"),
    ('1,"100,1,201,1735776000123,true', "a quote that is not closed"),
])  # fmt: skip
def test_a_trade_that_lacks_something_is_an_event_with_its_line(tmp_path, line, said):
    (tmp_path / NAME).write_text(HEADER + GOOD + line + "\n\n" + GOOD)
    capture, rows = read(tmp_path / NAME)
    assert rows["trade"]["price"].tolist() == [100.0, 100.0]
    assert (capture.malformed, capture.total, capture.damaged) == (1, 3, False)
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"malformed", 3, 3)]
    assert said in rows["event"]["text"][0].decode()


@given(st.lists(st.tuples(st.sampled_from(['"', "", '""', '"x"', 'x"', "x"]), st.booleans()), max_size=30))
@settings(deadline=None)
def test_an_odd_quote_costs_its_line_and_no_other(made):
    lines = "\n".join(f"{text},{i}" for i, (text, _) in enumerate(made, 1))
    table = parsed(lines.encode(), 1, ["a", "b"], ",", account := Account())
    odd = {i for i, (text, _) in enumerate(made, 1) if text.count('"') % 2}
    assert {line for line, _ in account.malformed} >= odd
    kept = [int(b) for b in table["b"].to_pylist() if b.isdigit()]
    assert {*kept} | {line for line, _ in account.malformed} == {*range(1, len(made) + 1)}


def test_else_says_what_the_text_that_a_map_lacks_means(tmp_path):
    mapping = tmp_path / "map.toml"
    text = (mappings.PRESETS / "binance-usdm-trades.toml").read_text()
    mapping.write_text(text.replace('false = "B" }', 'false = "B" }, else = ""'))
    (tmp_path / NAME).write_text(HEADER + "1,100,1,201,1735776000123,perhaps\n")
    capture, rows = read(tmp_path / NAME, mapping=str(mapping))
    assert (capture.malformed, rows["trade"]["side"].tolist()) == (0, [b""])


def test_names_of_nobody_are_refused(tmp_path):
    text = (mappings.PRESETS / "binance-usdm-trades.toml").read_text()
    (tmp_path / "map.toml").write_text(text.replace('names = "binance-usdm"', 'names = "nobody"'))
    with pytest.raises(ConfigError, match="there are no names of 'nobody'"):
        mappings.named(str(tmp_path / "map.toml"))


MICROSECOND = st.integers(10**14, 4 * 10**15)


@given(
    st.lists(st.tuples(MICROSECOND, st.sampled_from(["s", "ms", "us", "ns", "iso", "decimal"])), min_size=1)
)
@settings(deadline=None)
def test_the_unit_of_each_time_is_told_by_its_magnitude(made):
    texts, wanted = [], []
    for us, unit in made:
        step = {"s": 10**6, "ms": 1000}.get(unit, 1)
        us -= us % step
        wanted.append(us * 1000)
        whole = datetime.fromtimestamp(us // 10**6, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        texts.append({
            "s": str(us // 10**6), "ms": str(us // 1000), "us": str(us), "ns": str(us * 1000),
            "iso": f"{whole}.{us % 10**6:06}Z", "decimal": f"{us // 10**6}.{us % 10**6:06}",
        }[unit])  # fmt: skip
    rule = mappings.Time(column="t", unit="auto")
    got, bad = times(pa.chunked_array([texts]), rule, None)
    assert (got.tolist(), bad.any()) == (wanted, False)
    got, bad = times(pa.chunked_array([["nonsense", "", *texts]]), rule, None)
    assert (got[2:].tolist(), bad.tolist()) == (wanted, [True, True] + [False] * len(texts))


@pytest.mark.parametrize(("text", "ns"), [
    ("20120201 000003660", 1_328_072_403_660_000_000), ("20120701 120000", 1_341_162_000_000_000_000),
    ("20120201000003", 1_328_072_403_000_000_000),
])  # fmt: skip
def test_eastern_standard_time_has_no_summer(text, ns):
    rule = mappings.Time(column="t", unit="compact", timezone="Etc/GMT+5")
    got, bad = times(pa.chunked_array([[text, "2012"]]), rule, None)
    assert (got[0], bad.tolist()) == (ns, [False, True])


@given(st.lists(st.integers(-(10**17), 10**17)))
def test_fixed_and_pretty_prices_come_to_the_same(units):
    fixed = [u for u in units if abs(u) >= SCALED_FROM]
    pretty = [f"{'-' if u < 0 else ''}{abs(u) // 10**9}.{abs(u) % 10**9:09}" for u in fixed]
    for texts in ([str(u) for u in fixed], pretty):
        got, bad = numbers(pa.chunked_array([pa.array(texts, pa.string())]), "scaled")
        assert not bad.any()
        assert got.tolist() == [u / 10**9 for u in fixed]
    nothing, _ = numbers(pa.chunked_array([[str(2**63 - 1), ""]]), "scaled")
    assert all(map(math.isnan, nothing))


@pytest.mark.parametrize("pack", [
    lambda data: zstandard.ZstdCompressor().compress(data),
    lambda data: b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstandard.ZstdCompressor().compress(data),
    lambda data: b"".join(b"\x5f\x2a\x4d\x18\x01\0\0\0x" + zstandard.ZstdCompressor().compress(p)
                          for p in (data[:50], data[50:])),
    lambda data: gzip.compress(data[:60]) + gzip.compress(data[60:]),
])  # fmt: skip
def test_frames_and_members_are_read_one_after_the_other(tmp_path, pack):
    (tmp_path / NAME).write_bytes(pack((HEADER + GOOD * 3).encode()))
    capture, rows = read(tmp_path / NAME)
    assert (len(rows["trade"]), capture.malformed, capture.damaged) == (3, 0, False)


def archive(path, members):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, text in members:
                file.writestr(name, text)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
def test_all_members_of_an_archive_are_read_in_the_order_of_their_names(tmp_path, name):
    line = "{},100.5,2,201,1735689600123456,True,True\n"
    path = archive(tmp_path / name, [
        ("ETHUSDT-trades-2025-01-02.csv", line.format(3)), ("README.txt", "x"),
        ("BTCUSDT-trades-2025-01-01.csv", line.format(1) + line.format(2)),
    ])  # fmt: skip
    capture, rows = read(path)
    assert rows["trade"]["trade_id"].tolist() == [1, 2, 3]
    assert rows["trade"]["instrument"].tolist() == [1, 1, 2]
    assert rows["instrument"]["symbol"].tolist() == [b"BTC-USDT", b"ETH-USDT"]
    assert (capture.malformed, capture.damaged) == (0, False)


def test_a_member_that_nobody_knows_is_refused_by_name(tmp_path):
    path = archive(tmp_path / "x.zip", [(NAME, HEADER + GOOD), ("other.csv", "a,b\n1,2\n")])
    with pytest.raises(CaptureError, match=f"other.csv in it can't be read as {NAME} can"):
        open_capture(path)


PARQUET = {
    "timestamp": pa.array([1_735_689_600_000_000], pa.timestamp("us", "UTC")), "trade_id": pa.array([5]),
    "price": pa.array([1.5]), "quantity": pa.array([2.0]), "buyer_maker": pa.array(["True"]),
}  # fmt: skip


def parquet(tmp_path, **columns):
    import pyarrow.parquet as pq

    path = tmp_path / "ethusdt-trades.parquet"
    pq.write_table(pa.table({**PARQUET, **columns}), path)
    return path


@pytest.mark.parametrize("column", [
    pa.array([[1.5]]), pa.array([{"a": 1.5}]), pa.array([[("a", 1.5)]], pa.map_(pa.string(), pa.float64())),
    pa.array([[1.5]], pa.list_(pa.float64(), 1)), pa.array([[1.5]], pa.large_list(pa.float64())),
])  # fmt: skip
def test_a_parquet_column_without_one_value_a_row_is_refused_by_name(tmp_path, column):
    with pytest.raises(CaptureError, match="column price of .* has values of type"):
        open_capture(parquet(tmp_path, price=column))


NO_INSTANTS = [pa.array([1], pa.time64("us")), pa.array([1], pa.duration("s")), pa.array([True])]


@pytest.mark.parametrize("column", NO_INSTANTS)
def test_a_parquet_column_that_can_be_no_time_is_refused_by_name(tmp_path, column):
    with pytest.raises(CaptureError, match="column timestamp of .* has values of type"):
        open_capture(parquet(tmp_path, timestamp=column))


@pytest.mark.parametrize(("name", "column", "value"), [
    ("price", pa.array(["1.5"]).dictionary_encode(), 1.5),
    ("price", pa.array(["1.5"], pa.large_string()), 1.5),
    ("price", pa.array([b"1.5"]), 1.5), ("price", pa.array([1.5], pa.float32()), 1.5),
    ("price", pa.array(["15.00"]).cast(pa.decimal128(10, 2)), 15.0),
    ("price", pa.array([3], pa.uint64()), 3.0),
    ("side", None, b"S"),
])  # fmt: skip
def test_a_parquet_column_of_another_type_has_its_values(tmp_path, name, column, value):
    columns = {"price": column} if column is not None else {"buyer_maker": pa.array([True])}
    if column is None:
        columns["buyer_maker"] = columns["buyer_maker"].cast(pa.string()).dictionary_encode()
    capture, rows = read(parquet(tmp_path, **columns))
    assert capture.malformed == 0
    assert rows["trade"][name].tolist() == [value]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_parquet_times_of_any_unit_and_zone_are_instants(tmp_path, unit, zone):
    at = pa.array([1_735_689_600], pa.timestamp("s", zone)).cast(pa.timestamp(unit, zone))
    _, rows = read(parquet(tmp_path, timestamp=at))
    assert rows["trade"]["ts_event"].tolist() == [1_735_689_600_000_000_000]


@pytest.mark.parametrize(
    "column", [pa.array([None], pa.null()), pa.array([None], pa.float64()), pa.array([math.nan])]
)
def test_parquet_rows_that_lack_a_price_are_malformed(tmp_path, column):
    capture, rows = read(parquet(tmp_path, price=column))
    assert capture.malformed == 1
    assert "trade" not in rows
    assert rows["event"]["first"].tolist() == [1]
