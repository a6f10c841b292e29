"""The protocols that come with tickplant: what is written by their declarations is read back, and real
captures are accounted for."""

import datetime
import os
import pathlib
import struct
import zoneinfo

import numpy as np
import packet_files as packets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_files import T0, A
from protocol_messages import SECOND, clock, in_packet, written

from tickplant.errors import CaptureError
from tickplant.feed.decode import decode
from tickplant.feed.formats import open_capture
from tickplant.feed.packets.declared import DeclaredFeeds, claiming
from tickplant.feed.packets.protocol_files import presets
from tickplant.feed.packets.protocol_packets import Packets
from tickplant.feed.sink import shipped_schema
from tickplant.schema import KEY_COLUMNS

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
VENUES = DATA / "venue-packets"


@st.composite
def messages(draw, protocol):
    """A declared message: (declaration, type, its fields' values)."""
    message = draw(st.sampled_from(protocol.messages))
    fields = protocol.layout(message)
    values = {}
    for field in fields:
        if field.kind == "c":
            values[field.name] = draw(st.text("ABXYZ", min_size=1, max_size=field.width)).encode()
        else:
            values[field.name] = draw(st.integers(1, min(1 << 40, (1 << 8 * field.width - 1) - 1)))
    values |= clock(protocol.time, fields, SECOND, draw(st.integers(0, 999_999_999)))
    return message, draw(st.sampled_from(message.types)), values


def plain(rule):
    """Columns that are fields as they are."""
    for column, source in rule.sources().items():
        simple = source.field and not (source.map or source.divisor > 1 or source.scaled or source.decimals)
        if simple and not source.none:
            yield column, source.field


PRESETS = presets()


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=60)
@given(st.data())
def test_a_message_that_is_written_as_declared_is_read_back(name, data):
    protocol = PRESETS[name]
    message, kind, values = data.draw(messages(protocol))
    payload = in_packet(protocol, [written(protocol, message, kind, values)])
    feeds = DeclaredFeeds(protocol)
    feeds.packet(payload, T0, A)
    feeds.finish("not in the capture")
    rows = dict(feeds.rows.take())
    assert feeds.rows.malformed == 0
    if message.ignored:
        assert (+feeds.rows.ignored, +feeds.rows.messages) == ({message.name: 1}, {})
        return
    assert (+feeds.rows.messages, +feeds.rows.ignored) == ({message.name: 1}, {})
    for rule in message.rows:
        if rule.of_order or rule.when or rule.unless or sum(r.table == rule.table for r in message.rows) > 1:
            continue
        (row,) = rows[rule.table][-1:]
        if rule.table not in ("instrument", "quote") and message.reference is None:
            assert abs(int(row["ts_event"]) - T0) < 86_400 * 10**9
        for column, field in plain(rule):
            made, value = row[column].item(), values[field]
            if isinstance(made, bytes) and isinstance(value, int):
                value = str(value).encode()
            if isinstance(made, bytes):
                assert made == value[: len(made)]
            elif not isinstance(value, bytes):
                assert made == value


@pytest.mark.parametrize("name", PRESETS)
@settings(max_examples=40)
@given(st.data())
def test_no_other_protocol_claims_packets_of_one(name, data):
    protocol = PRESETS[name]
    made = [data.draw(messages(protocol)) for _ in range(3)]
    payload = in_packet(protocol, [written(protocol, *each) for each in made])
    claims = claiming([payload])
    assert set(claims) <= {name} or len(claims) > 1  # more than one: none is taken
    if all(message.fields or message.size for message, _, _ in made):
        assert Packets(protocol).claims(payload) == 3


@pytest.mark.parametrize("name", PRESETS)
@given(st.data())
def test_no_cut_or_changed_packet_ends_in_an_error(name, data):
    protocol = PRESETS[name]
    made = [data.draw(messages(protocol)) for _ in range(data.draw(st.integers(0, 2)))]
    payload = bytearray(in_packet(protocol, [written(protocol, *each) for each in made]))
    for at in data.draw(st.lists(st.integers(0, len(payload) - 1), max_size=4)):
        payload[at] = data.draw(st.integers(0, 255))
    feeds = DeclaredFeeds(protocol)
    feeds.packet(bytes(payload[: data.draw(st.integers(0, len(payload)))]), T0, A)
    feeds.finish("not in the capture")
    rows = dict(feeds.rows.take())
    codes = {0, *rows["instrument"]["code"].tolist()} if "instrument" in rows else {0}
    for table, found in rows.items():
        assert found.dtype == shipped_schema()[table].dtype
        assert set(found["instrument"].tolist()) <= codes
    counted = feeds.rows.malformed + feeds.rows.messages.total() + feeds.ignored.total()
    assert counted >= 1


def test_every_column_is_of_its_table():
    for protocol in PRESETS.values():
        for message in protocol.messages:
            for rule in message.rows:
                assert not rule.columns.keys() & KEY_COLUMNS.keys()


def made(name, message, **values):
    """A message of a shipped protocol, by its name and, if that is not enough, the size of its layout."""
    protocol, size = PRESETS[name], values.pop("size", None)
    kind = values.pop("kind_of", None)
    (found,) = [
        (m, t)
        for m in protocol.messages
        for t in m.types
        if m.name == message
        and (kind is None or t == kind)
        and (size is None or max(m.size, protocol.layout(m).size) == size)
    ]
    fields = protocol.layout(found[0])
    return written(protocol, *found, clock(protocol.time, fields, SECOND, 7) | values)


def rows_of(name, *packets):
    """Of packets, each (first number, messages)."""
    feeds = DeclaredFeeds(PRESETS[name])
    for seq, *sent in packets:
        feeds.packet(in_packet(PRESETS[name], sent, seq), T0, A)
    feeds.finish("not in the capture")
    return dict(feeds.rows.take()), feeds


def named(rows, table):
    names = dict(zip(*(rows["instrument"][c].tolist() for c in ("code", "symbol")), strict=True))
    return [names.get(code, b"") for code in rows[table]["instrument"].tolist()]


SERIES = dict(root=b"ABC", day=19, year=24)


def test_both_forms_of_an_option_quote_are_of_one_instrument():
    size = dict(bid_size=3, offer_size=4, participant=b"C")
    long = dict(strike=16_525, strike_code=b"B", month=b"M", code=b"C", bid=1_250, offer=1_300)
    short = dict(strike_tenths=1_652, month=b"A", bid=125, offer=130)
    rows, feeds = rows_of(
        "opra",
        (1, made("opra", "Long Quote", kind_of="kA", **SERIES, **size, **long)),
        (2, made("opra", "Short Quote", kind_of="qO", **SERIES, **size, **short)),
        (
            3,
            made(
                "opra", "Long Quote", kind_of="kG", **SERIES, **size, **long | dict(month=b"A", strike=1_652)
            ),
        ),
    )
    assert feeds.rows.messages == {"Long Quote": 2, "Short Quote": 1}
    assert named(rows, "quote") == [
        b"ABC 240119P00165250.C",
        b"ABC 240119C00165200.C",
        b"ABC 240119C00016520.C",
    ]
    assert (
        rows["quote"][["bid_price", "bid_size", "ask_price", "ask_size"]].tolist() == [(1.25, 3, 1.3, 4)] * 3
    )


def test_line_integrity_takes_no_number_of_another_message():
    beat = made("opra", "Control", type=b"N")
    quote = made("opra", "Short Quote", kind_of="qA", **SERIES, month=b"A", bid_size=1, participant=b"C")
    rows, feeds = rows_of("opra", (1, quote), (2, beat), (2, quote), (4, beat), (3, quote))
    assert rows["quote"]["venue_seq"].tolist() == [1, 2, 3]
    assert (+feeds.ignored, "event" in rows) == ({"Control": 2}, False)


def test_the_numbers_of_the_tape_begin_anew_after_a_reset():
    trade = made("cta-cts", "Long Trade", symbol=b"ABC", participant=b"N", price=12_340_000, volume=100)
    reset = made("cta-cts", "Reset Block Sequence Number")
    rows, _feeds = rows_of("cta-cts", (8, trade, trade), (0, reset), (1, trade))
    assert rows["trade"][["venue_seq", "price", "size"]].tolist() == [(n, 12.34, 100) for n in (8, 9, 1)]
    assert rows["event"]["kind"].tolist() == [b"session"]
    assert named(rows, "trade") == [b"ABC.N"] * 3


def test_a_price_band_is_no_quote():
    quote = dict(
        symbol=b"ABC", participant=b"N", bid=10_000_000, bid_size=100, offer=11_000_000, offer_size=0
    )
    rows, _ = rows_of(
        "cta-cqs",
        (1, made("cta-cqs", "Long Quote", **quote, status=b" ")),
        (2, made("cta-cqs", "Long Quote", **quote, status=b"0")),
    )
    assert rows["quote"]["venue_seq"].tolist() == [1]
    assert np.isnan(rows["quote"]["ask_price"]).all()
    columns = ["venue_seq", "kind", "value", "level_1", "level_2"]
    assert rows["status"][columns].tolist() == [(2, b"trading", b"0", 10.0, 11.0)]


@pytest.mark.parametrize(("size", "values"), [(6, {}), (10, {"epoch": SECOND})])
def test_both_times_of_pitch_are_references(size, values):
    at = datetime.datetime.fromtimestamp(SECOND, zoneinfo.ZoneInfo("America/New_York"))
    midnight = at.hour * 3_600 + at.minute * 60 + at.second
    order = made("cboe-pitch", "Add Order Short", size=26, ns=5, order_id=9, side=b"B", qty=3, symbol=b"ABC",
                 price=1_025)  # fmt: skip
    time = made("cboe-pitch", "Time", size=size, since_midnight=midnight, **values)
    executed = made("cboe-pitch", "Order Executed", size=26, ns=8, order_id=9, qty=2, execution_id=77)
    rows, _ = rows_of("cboe-pitch", (1, time, order, executed))
    columns = ["ts_event", "order_id", "ref_id", "size", "action"]
    assert rows["order"][columns].tolist() == [
        (SECOND * 10**9 + 5, 9, 0, 3, b"A"), (SECOND * 10**9 + 8, 9, 77, 2, b"E"),
    ]  # fmt: skip
    assert (rows["order"]["price"][0], named(rows, "order")) == (10.25, [b"ABC"] * 2)


def test_an_order_of_number_zero_is_a_reference_price():
    values = dict(side=b"B", qty=100, book=9_656, price=4_998)
    rows, _ = rows_of(
        "jnx-itch", (1, *[made("jnx-itch", "Order Added", **values, order_id=n) for n in (0, 5)])
    )
    assert rows["order"][["order_id", "price"]].tolist() == [(5, 499.8)]
    assert rows["status"][["kind", "level_1"]].tolist() == [(b"reference", 499.8)]


def test_a_heartbeat_of_memx_has_no_count():
    protocol = PRESETS["memx-memoir-depth"]
    order = made("memx-memoir-depth", "Order Deleted", security=7, order_id=5)
    first, third = (in_packet(protocol, [order], seq) for seq in (1, 3))
    feeds = DeclaredFeeds(protocol)
    for payload in (first, bytes([0]) + third[1:18], third):
        feeds.packet(payload, T0, A)
    feeds.finish("not in the capture")
    rows = dict(feeds.rows.take())
    assert rows["order"]["venue_seq"].tolist() == [1, 3]
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 2, 2)]


def test_executions_of_eurex_are_rows_of_order_and_of_trade():
    values = dict(side=1, priority=1_700_000_000_000_000_000, security=567_008, match=11, qty=2)
    execution = made("eurex-eobi", "Full Order Execution", **values, price=324_700_000_000, number=3)
    rows, _ = rows_of("eurex-eobi", (5, execution, made("eurex-eobi", "Heartbeat")), (7, execution))
    columns = ["venue_seq", "price", "size", "side", "action"]
    assert rows["order"][columns].tolist() == [(5, 3247.0, 2, b"B", b"E"), (7, 3247.0, 2, b"B", b"E")]
    assert rows["trade"][columns].tolist() == [(5, 3247.0, 2, b"S", b"T"), (7, 3247.0, 2, b"S", b"T")]
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 6, 6)]


PRICES = [
    ("nasdaq-bbo", "BBO Quotation", dict(bid=12_345, bid_size=1), "quote", "bid_price", 1.2345),
    ("nasdaq-bbo", "BBO Quotation", dict(ask=12_345, ask_size=1), "quote", "ask_price", 1.2345),
    ("nasdaq-nls-plus", "Trade Report", dict(price=12_345), "trade", "price", 1.2345),
    ("nasdaq-nls-plus", "Trade Report (long form)", dict(price=12_345), "trade", "price", 1.2345),
    ("memx-memoir-depth", "Order Added", dict(price=12_345), "order", "price", 0.012345),
    ("memx-memoir-depth", "Trade", dict(price=12_345), "trade", "price", 0.012345),
    ("eurex-eobi", "Order Add", dict(price=12_345_000_000), "order", "price", 123.45),
    ("cta-cts", "Short Trade", dict(price=12_345), "trade", "price", 123.45),
    ("cta-cts", "Fractional Long Trade", dict(volume=1_500_000), "trade", "size", 1.5),
    ("cta-cqs", "Short Quote", dict(bid=12_345, bid_size=1), "quote", "bid_price", 123.45),
    ("b3-umdf", "Order", dict(price=12_345), "order", "price", 1.2345),
    ("b3-umdf", "Trade", dict(price=-(1 << 63)), "trade", "price", np.nan),
    ("jnx-itch", "Order Replaced", dict(price=12_345), "order", "price", 1234.5),
    ("cboe-pitch", "Add Order Expanded", dict(price=12_345), "order", "price", 1.2345),
    ("cboe-pitch", "Settlement", dict(price=12_345), "status", "level_1", 1.2345),
]


@pytest.mark.parametrize(("name", "message", "values", "table", "column", "wanted"), PRICES)
def test_prices_have_the_decimals_of_their_specifications(name, message, values, table, column, wanted):
    rows, _ = rows_of(name, (1, made(name, message, **values)))
    assert rows[table][column].tolist() == pytest.approx([wanted], rel=0, abs=0, nan_ok=True)


def test_a_message_that_a_venue_made_longer_is_read_but_tells_no_protocol():
    protocol = PRESETS["memx-memoir-depth"]
    plain = made("memx-memoir-depth", "Order Deleted", security=7, order_id=5)
    longer = (int.from_bytes(plain[:2], "big") + 4).to_bytes(2, "big") + plain[2:] + b"more"
    assert [claiming([in_packet(protocol, [m])]) for m in (plain, longer)] == [["memx-memoir-depth"], []]
    rows, feeds = rows_of("memx-memoir-depth", (1, longer))
    assert (rows["order"]["order_id"].tolist(), feeds.rows.malformed) == ([5], 0)


FOLDERS = {
    "Asx/Ntp.Itch.v1.05": "asx-ntp-itch",
    "B3/BinaryUmdf.v1.5": "b3-umdf",
    "B3/BinaryUmdf.v1.8": "b3-umdf",
    "Cboe/Byx.Equities.DepthOfBook.Pitch.v2.41": "cboe-pitch",
    "Cboe/Futures.DepthOfBook.Pitch.v1.1.6": "cboe-pitch",
    "Eurex/Eobi.T7.v6.0": "eurex-eobi",
    "Jnx/JnxEquities.Pts.Itch.v1.6": "jnx-itch",
    "Memx/Equities.MemiorDepth.v1.3": "memx-memoir-depth",
    "Nasdaq/Nasdaq.Equities.Bbo.Itch.v2.1.20241105": "nasdaq-bbo",
    "Nasdaq/Nasdaq.Equities.NlsPlus.Itch.4.0.20241105": "nasdaq-nls-plus",
    "Nyse/IntegratedFeed.Pillar.v2.5": "nyse-xdp",
    "Siac/Cqs.Cta.v2.10.a": "cta-cqs",
    "Siac/Cts.Cta.v2.11.b": "cta-cts",
    "Siac/Opra.Recipient.v6.2": "opra",
}
FOREIGN = {"StockTradingActionMessage"}
"""Of MEMX's folder: Nasdaq's ITCH."""
FILES = [(path, name) for folder, name in FOLDERS.items() for path in sorted((VENUES / folder).glob("*.pcap"))
         if not (name.startswith("memx") and path.stem in FOREIGN)]  # fmt: skip
TOTALS = {
    "asx-ntp-itch": 29, "b3-umdf": 7, "cboe-pitch": 36, "cta-cqs": 9, "cta-cts": 105, "eurex-eobi": 18,
    "jnx-itch": 6, "memx-memoir-depth": 61, "nasdaq-bbo": 18, "nasdaq-nls-plus": 22, "nyse-xdp": 10,
    "opra": 4,
}  # fmt: skip
"""Messages and heartbeats in all files of a protocol, as the counts in the packets' headers add up (Eurex,
B3: as their lengths do)."""


@pytest.mark.parametrize(("path", "name"), FILES, ids=[str(p.relative_to(VENUES)) for p, _ in FILES])
def test_a_real_capture_is_told_and_every_message_is_in_an_account(path, name):
    beats = path.stem == "Heartbeat" and name != "eurex-eobi"  # of nothing but a heartbeat nothing is certain
    found = decode(path, **({"protocol": name} if beats else {}))
    assert (found["format"], found["malformed"], found["damaged"]) == (name, 0, False)
    assert found["total"] == sum(found["messages"].values()) + sum(found["ignored"].values()) >= 1
    assert set(found["event_kinds"]) <= {"orphan"}


def test_executions_of_cboe_and_japannext_are_trades_at_the_price_and_against_the_side_of_their_order():
    for name, add, execute, symbol in (
        ("cboe-pitch", "Add Order Long", "Order Executed", dict(symbol=b"ABC")),
        ("jnx-itch", "Order Added", "Order Executed", dict(book=7)),
    ):
        protocol = PRESETS[name]
        ids = "execution_id" if name == "cboe-pitch" else "match"
        divisor = 10_000 if name == "cboe-pitch" else 10
        size = dict(size=min(protocol.layout(m).size for m in protocol.messages if m.name == execute))
        least = min(protocol.layout(m).size for m in protocol.messages if m.name == add)
        sent = [
            made(name, add, order_id=1, side=b"B", qty=300, price=12 * divisor, **symbol, size=least),
            made(name, execute, order_id=1, qty=100, **{ids: 77}, **size),
            made(name, execute, order_id=9, qty=40, **{ids: 78}, **size),
        ]
        rows, _ = rows_of(name, *((n, message) for n, message in enumerate(sent, 1)))
        trade = ["trade_id", "price", "size", "side", "action", "flags"]
        assert rows["trade"][trade].tolist() == [(77, 12.0, 100, b"S", b"T", 0)]
        assert rows["order"][["action", "price", "side"]].tolist()[1] == (b"E", 12.0, b"B")
        assert b"an execution of 40, of an order never added" in rows["event"]["text"].tolist()


def test_an_order_that_is_known_by_its_replacement_only_has_trades_without_a_side():
    sent = [
        made("jnx-itch", "Order Replaced", old_id=5, order_id=6, qty=300, price=120),
        made("jnx-itch", "Order Executed", order_id=6, qty=200, match=77),
        made("jnx-itch", "Order Replaced", old_id=6, order_id=7, qty=100, price=130),
        made("jnx-itch", "Order Executed", order_id=7, qty=100, match=78),
        made("jnx-itch", "Order Executed", order_id=7, qty=1, match=79),
    ]
    rows, _ = rows_of("jnx-itch", (1, *sent))
    assert rows["trade"][["trade_id", "price", "size", "side"]].tolist() == [
        (77, 12.0, 200, b""),
        (78, 13.0, 100, b""),
    ]
    assert b"an execution of 1, of an order never added" in rows["event"]["text"].tolist()


BEATS = {
    "asx-ntp-itch": (struct.pack(">10sQH", b"ABC", 1, 0), "Order Deleted"),
    "cboe-pitch": (struct.pack("<HBBI", 8, 0, 1, 0), "Delete Order"),
}
"""Heartbeats, and a message that tells the protocol."""


@pytest.mark.parametrize("count", [1, 200, 4000])
@pytest.mark.parametrize("name", BEATS)
def test_a_capture_that_begins_with_heartbeats_is_told_by_what_comes_after_them(tmp_path, name, count):
    beat, message = BEATS[name]
    sent = [beat] * count + [in_packet(PRESETS[name], [made(name, message, side=b"B")])] * 2
    path = tmp_path / "day.pcap"
    path.write_bytes(packets.classic([(T0, packets.ethernet(packets.ipv4(p))) for p in sent]))
    assert open_capture(path).format == name
    path.write_bytes(packets.classic([(T0, packets.ethernet(packets.ipv4(p))) for p in sent[:count]]))
    with pytest.raises(CaptureError, match=f"could be of .*{name}"):
        open_capture(path)


def test_a_type_of_one_byte_without_a_layout_claims_nothing():
    body = b"G" + bytes(40)
    payload = struct.pack(">10sQHH", b"0000000001", 77, 1, len(body)) + body
    assert claiming([payload] * 50) == []
    assert Packets(PRESETS["nasdaq-nls-plus"]).evidence(payload) in (None, 0.0)


@pytest.mark.parametrize("name", TOTALS)
def test_all_real_captures_of_a_protocol_have_as_many_messages_as_counted(name):
    paths = [path for path, of in FILES if of == name]
    if not paths:
        pytest.skip(f"no captures in {VENUES}")
    assert sum(decode(path, protocol=name)["total"] for path in paths) == TOTALS[name]


LAGS = {"cta-cqs": 2 * 3_600, "cta-cts": 2 * 3_600, "nyse-xdp": 3 * 3_600}
"""Seconds; the participant's own times may be old when the consolidated tape or a summary repeats them."""


@pytest.mark.parametrize(("path", "name"), FILES, ids=[str(p.relative_to(VENUES)) for p, _ in FILES])
def test_times_and_prices_of_a_real_capture_are_plausible(path, name):
    for batch in open_capture(path, protocol=name):
        for table, rows in batch:
            lag = np.abs(rows["ts_event"] - rows["ts_recv"])
            assert lag.max() < LAGS.get(name, 1) * 10**9
            for column in ("price", "bid_price", "ask_price"):
                if column in rows.dtype.names and table in ("trade", "order", "quote"):
                    prices = rows[column][~np.isnan(rows[column])]
                    assert ((prices > 0.01) & (prices < 1e6)).all()
            for column in ("size", "bid_size", "ask_size"):
                if column in rows.dtype.names:
                    sizes = rows[column][~np.isnan(rows[column])]
                    assert ((sizes >= 0) & (sizes < 1e6)).all()
