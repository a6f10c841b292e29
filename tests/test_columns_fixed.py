"""Files of columns with fixed widths: lines, times by clock and day, counts of a day, and TWSE's formats."""

import datetime
import os
import pathlib
import zoneinfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant.errors import CaptureError, ConfigError
from tickplant.feed.decode import decode
from tickplant.feed.files import mapping as mappings
from tickplant.feed.files.columns_fixed import fixed
from tickplant.feed.files.columns_read import Account, codes
from tickplant.feed.files.columns_time import clock
from tickplant.feed.formats import open_capture
from tickplant.schema import Flag

pa = pytest.importorskip("pyarrow")
ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data")) / "twse"
needs_captures = pytest.mark.skipif(not DATA.is_dir(), reason=f"no captures in {DATA}")
MORNING = 1_731_283_200_000_000_000
"""2024-11-11 08:00 in Taipei."""


def line(preset, **values):
    """A line of a preset, its numbers filled with 0 and its texts with spaces."""
    made = mappings.named(preset)
    numbers = ("price", "size", "shares", "volume", "number")
    parts = []
    for name, width in zip(made.header, made.widths, strict=True):
        text = str(values.pop(name, "0" if name.endswith(numbers) else ""))
        parts.append(text.rjust(width, "0") if name.endswith(numbers) else text.ljust(width))
    assert not values
    return "".join(parts)


def level(side, *levels):
    return {
        f"{side}[{i}].{n}": v
        for i, both in enumerate(levels)
        for n, v in zip(("price", "size"), both, strict=True)
    }


def snapshot(time="080000000000", code="0050", bids=((19950, 7),), asks=((20000, 3),), **values):
    levels = {**level("bids", *bids), **level("asks", *asks)}
    return line("twse-snapshot", code=code, time=time, date="20241111", **levels, **values)


def order(**values):
    return line(
        "twse-orders",
        **{
            "date": "20161230",
            "code": "0050",
            "side": "B",
            "trade_type": "0",
            "time": "08300110",
            "order_no": "0000B",
            "change": "1",
            "price": "0070.40",
            "sign": "+",
            "shares": 1000,
            "broker": "000A",
            **values,
        },
    )


def chunked(*texts):
    return pa.chunked_array([list(texts)], pa.string())


def read(path, lines, **options):
    path.write_bytes(lines if isinstance(lines, bytes) else "".join(f"{x}\n" for x in lines).encode())
    capture, rows = open_capture(path, **options), {}
    for batch in capture:
        for table, made in batch:
            rows.setdefault(table, []).append(made)
    return capture, {t: np.concatenate(r) for t, r in rows.items()}


def test_snapshots_are_books_and_what_the_count_of_the_day_grew_by(tmp_path):
    capture, rows = read(
        tmp_path / "dsp",
        [
            snapshot(remark="T", volume=5, price=19950),
            snapshot("080001000000", code="9958", match="Y", price=5, volume=2),
            snapshot("080002000001", match="Y", price=19975, volume=12, bids=((19950, 7), (19900, 4))),
            snapshot("080003000000", match="Y", price=20000, volume=12 + 30),
        ],
    )
    assert (capture.mapping.what[:13], capture.messages) == ("Taiwan Stock ", {"match ": 1, "match Y": 3})
    assert rows["trade"][["ts_event", "price", "size", "action", "instrument"]].tolist() == [
        (MORNING + 10**9, 0.05, 2.0, b"T", 2),
        (MORNING + 2 * 10**9 + 1000, 199.75, 7.0, b"T", 1),
        (MORNING + 3 * 10**9, 200.0, 30.0, b"T", 1),
    ]
    own = rows["depth"][rows["depth"]["instrument"] == 1]
    assert own[["action", "side", "price", "size", "level", "flags"]].tolist()[1:] == [
        (b"A", b"B", 199.5, 7.0, 0, Flag.SNAPSHOT | Flag.CROSS),
        (b"A", b"S", 200.0, 3.0, 0, Flag.SNAPSHOT | Flag.CROSS),
        (b"A", b"B", 199.0, 4.0, 1, 0),
        (b"D", b"B", 199.0, 0.0, 1, 0),
    ]
    assert rows["quote"][["bid_price", "ask_size", "flags"]].tolist()[0] == (199.5, 3.0, Flag.CROSS)
    assert rows["instrument"][["venue", "symbol"]].tolist() == [(b"XTAI", b"0050"), (b"XTAI", b"9958")]


def test_an_intermediate_price_is_a_trade_and_no_empty_book(tmp_path):
    capture, rows = read(
        tmp_path / "dsp",
        [
            snapshot(),
            snapshot(trend="C", match="Y", price=1, volume=1, bids=(), asks=()),
            snapshot(trend="C"),
        ],
    )
    assert rows["depth"]["action"].tolist() == [b"R", b"A", b"A"]
    assert len(rows["trade"]) == 1
    assert (capture.messages.total(), capture.ignored) == (2, {"match ": 1})


def test_a_count_that_falls_begins_anew(tmp_path):
    _, rows = read(tmp_path / "dsp", [snapshot(match="Y", price=1, volume=v) for v in (5, 9, 4)])
    assert rows["trade"]["size"].tolist() == [5.0, 4.0, 4.0]


def test_orders_have_a_number_of_their_own_and_their_action(tmp_path):
    changes = zip("123456", "BBBSSS", "+--+--", strict=True)
    capture, rows = read(
        tmp_path / "odr",
        [order(change=c, side=s, sign=g) for c, s, g in changes]
        + [order(order_no="zzzzz", broker="zzzz", change="9")],
    )
    assert rows["order"][["action", "side"]].tolist() == [
        (b"A", b"B"),
        (b"X", b"B"),
        (b"D", b"B"),
        (b"A", b"S"),
        (b"X", b"S"),
        (b"D", b"S"),
    ]
    first = rows["order"][0]
    assert (first["order_id"], first["price"], first["size"], first["attribution"]) == (
        11 * 62**4 + 10,
        70.4,
        1000.0,
        b"000A",
    )
    assert capture.ignored == {"change 9": 1}
    assert first["ts_event"] == 1_483_057_801_100_000_000


def test_both_sides_of_a_trade_are_counted_once(tmp_path):
    both = {
        "date": "20170531",
        "code": "9945",
        "trade_type": "2",
        "time": "13102919",
        "number": 7,
        "price": "0034.60",
        "shares": 2000,
        "order_no": "X5017",
        "broker": "014I",
    }
    _, rows = read(tmp_path / "mth", [line("twse-trades", side=s, **both) for s in "BS"])
    assert rows["trade"][["trade_id", "price", "size", "condition", "flags"]].tolist() == [
        (7, 34.6, 2000.0, b"ODD", 0),
        (7, 34.6, 2000.0, b"ODD", Flag.NON_PRINTABLE),
    ]


def test_lines_that_are_none_are_told_and_the_rest_is_read(tmp_path):
    good = order()
    capture, rows = read(
        tmp_path / "odr",
        [
            good,
            good[:-1],
            good + "x",
            order(time="24000000"),
            order(date="20161301"),
            order(order_no="a-b"),
            order(price="00x0.40"),
            "",
            good,
        ],
    )
    assert (len(rows["order"]), capture.malformed, capture.messages.total()) == (2, 6, 2)
    texts = rows["event"]["text"].tolist()
    assert texts[0].startswith(b"58 characters, not 59")
    assert texts[-1] == b"column price is '00x0.40'"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_lines_may_end_as_they_like(tmp_path, end):
    joined = (b"\r\n" if end == b"\r\n" else b"\n").join([order().encode()] * 3) + end
    capture, rows = read(tmp_path / "odr", joined)
    assert (len(rows["order"]), capture.malformed, capture.damaged) == (3, 0, False)


def test_a_file_that_ends_within_a_line_says_so(tmp_path):
    capture, rows = read(tmp_path / "odr", f"{order()}\n{order()[:30]}".encode())
    assert (len(rows["order"]), capture.malformed, capture.damaged) == (1, 0, True)
    assert rows["event"]["kind"].tolist() == [b"truncated"]


@pytest.mark.parametrize(
    "first",
    [
        "x" * 59,
        order(time="99000000"),
        order(price="nothing"),
        order(order_no="....."),
        order() + " ",
        order()[1:],
    ],
)
def test_a_file_is_recognized_by_its_first_line_only_if_all_of_it_fits(tmp_path, first):
    (tmp_path / "some").write_text(f"{first}\n")
    with pytest.raises(CaptureError, match="not a capture"):
        open_capture(tmp_path / "some")


def test_what_is_no_ascii_keeps_its_place():
    table = fixed(["a", "b"], [2, 3], account := Account())("é12 \nab\n".encode() + b"\xff 345", 1)
    assert [table[n].to_pylist() for n in "ab"] == [["??", "?"], ["12", "345"]]
    assert account.malformed == [(2, "2 characters, not 5: ab")]


def test_short_lines_that_are_together_as_long_as_one_are_none():
    assert len(fixed(["a", "b"], [2, 3], account := Account())(b"ab\nde", 1)) == 0
    assert len(account.malformed) == 2


@given(
    st.lists(
        st.lists(
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6), min_size=2, max_size=2
        )
    )
)
def test_texts_come_back_without_their_spaces(lines):
    block = "\n".join(f"{a:6}{b:>6}" for a, b in lines).encode()
    table = fixed(["a", "b"], [6, 6], account := Account())(block, 1)
    assert [list(x) for x in zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)] == lines
    assert account.malformed == []


@given(
    st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2100, 1, 1)),
    st.integers(0, 9),
    st.sampled_from(["Asia/Taipei", "UTC", "America/New_York"]),
)
@settings(deadline=None)
def test_times_by_the_clock_are_exact(at, digits, zone):
    rule = mappings.Time(column="t", unit="clock", date="d", timezone=zone)
    fraction = f"{at.microsecond * 1000:09d}"[:digits]
    found, bad = clock(chunked(f"{at:%H%M%S}{fraction}"), chunked(f"{at:%Y%m%d}"), rule)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=zoneinfo.ZoneInfo(zone))
    since = at.hour * 3600 + at.minute * 60 + at.second
    assert found[0] == (int(midnight.timestamp()) + since) * 10**9 + int(fraction.ljust(9, "0"))
    assert not bad[0]


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("240000", "20240101"),
        ("236000", "20240101"),
        ("12:000", "20240101"),
        ("12000", "20240101"),
        ("", "20240101"),
        ("1200001234567890", "20240101"),
        ("120000", "20240230"),
        ("120000", ""),
        ("120000", "2024-1-1"),
        ("120000", "99991231"),
        ("120000", "10000101"),
    ],
)
def test_what_is_no_time_by_the_clock_is_told(time, day):
    rule = mappings.Time(column="t", unit="clock", date="d")
    _, bad = clock(chunked(time, "120000"), chunked(day, "20240101"), rule)
    assert bad.tolist() == [True, False]


@given(st.integers(0, 62**5 - 1))
def test_texts_in_base_62_are_numbers(number):
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = "".join(digits[number // 62**i % 62] for i in range(4, -1, -1))
    values, bad = codes(pa.array([text, "a b"]))
    assert (values[0], bad.tolist()) == (number, [False, True])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("widths = [8, ", "widths = [", "15 columns have 14 widths"),
        ("widths = [8, ", "widths = [0, ", "from 1 on"),
        ("has_header = false", "has_header = true", "has_header = false"),
        ('date = "date"\n', "", "clock needs"),
        ('unit = "clock"', 'unit = "s"', "clock needs"),
        (", base = 62", "", "go together"),
        ('["order_no", "broker"]', '["order_no", "broker", "side", "sign"]', "more than 10 characters"),
        ('["order_no", "broker"]', '["nothing", "broker"]', "no column nothing"),
        ('date = "date"', 'date = "x"', "no column x"),
    ],
)
def test_mappings_with_widths_that_can_not_be_are_refused(tmp_path, old, new, said):
    text = (mappings.PRESETS / "twse-orders.toml").read_text()
    assert old in text
    (tmp_path / "map.toml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        mappings.named(str(tmp_path / "map.toml"))


def test_flags_and_choices_of_a_book_are_checked(tmp_path):
    text = (mappings.PRESETS / "twse-snapshot.toml").read_text()
    for old, new, said in (
        ("{ CROSS", "{ CROOS", "no flag CROOS"),
        ("{ trend", "{ trends", "no column trends"),
    ):
        (tmp_path / "map.toml").write_text(text.replace(old, new))
        with pytest.raises(ConfigError, match=said):
            mappings.named(str(tmp_path / "map.toml"))


def test_the_layouts_are_as_long_as_the_venue_says():
    sizes = {n: sum(mappings.named(f"twse-{n}").widths) for n in ("snapshot", "orders", "trades")}
    assert sizes == {"snapshot": 190, "orders": 59, "trades": 63}


@needs_captures
@pytest.mark.parametrize(
    ("name", "messages", "rows"),
    [
        (
            "snapshot_Sample_new",
            {"match ": 39, "match Y": 1},
            {"instrument": 2, "trade": 1, "depth": 181, "quote": 36},
        ),
        ("order_odr", {"change 1": 13, "change 4": 16}, {"instrument": 1, "order": 29}),
        ("transaction_mth", {"side B": 16, "side S": 17}, {"instrument": 1, "trade": 33}),
    ],
)
def test_the_venue_s_own_samples_are_read_whole(name, messages, rows):
    found = decode(DATA / name)
    assert (found["messages"], found["malformed"], found["ignored"]) == (messages, 0, {})
    assert {n: t["rows"] for n, t in found["tables"].items()} == rows


@needs_captures
def test_a_real_book_has_the_levels_of_its_last_line():
    levels = {}
    for batch in open_capture(DATA / "snapshot_Sample_new"):
        for row in (r for table, rows in batch if table == "depth" for r in rows):
            key = (int(row["instrument"]), row["side"])
            if row["action"] == b"R":
                levels = {k: v for k, v in levels.items() if k[0] != key[0]}
            elif row["action"] == b"D":
                del levels[key][float(row["price"])]
            else:
                levels.setdefault(key, {})[float(row["price"])] = float(row["size"])
    last = (DATA / "snapshot_Sample_new").read_text().splitlines()[-1]
    for side, at in ((b"B", 38), (b"S", 110)):
        told = {int(last[i : i + 6]) / 100: float(last[i + 6 : i + 14]) for i in range(at, at + 70, 14)}
        assert levels[2, side] == told
