"""CME MDP 3.0: SBE schemas compiled, messages of the schema to rows, lines, and a real capture."""

import os
import pathlib
import struct

import numpy as np
import packet_files as packets
import pytest
from cme_schema import SCHEMA
from hypothesis import given
from hypothesis import strategies as st
from packet_files import T0

from tickplant.errors import CaptureError
from tickplant.feed.decode import decode
from tickplant.feed.formats import open_capture
from tickplant.feed.packets import sbe
from tickplant.feed.packets.cme import CmeFeeds, CmeMdp3, is_cme
from tickplant.schema import Flag

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
CAPTURE = DATA / "cme-mdp3" / "cme_mdp3_v6_AB_first6000.pcap.gz"
needs_captures = pytest.mark.skipif(not CAPTURE.is_file(), reason=f"no {CAPTURE}")
A, B, OTHER = ("224.0.31.64", 14340), ("224.0.32.64", 15340), ("224.0.31.43", 14340)
NONE = 2**63 - 1
AT = T0 - 500


def message(template, root, *groups, version=6, length=None):
    body = root + b"".join(groups)
    length = len(root) if length is None else length
    return struct.pack("<HHHHH", len(body) + 10, length, template, 1, version) + body


def group(size, *entries):
    return struct.pack("<HB", size, len(entries)) + b"".join(e.ljust(size, b"\0") for e in entries)


ROOT_11 = struct.pack("<QB2x", AT, 0x84)


def level(px, size, security, orders, place, action, kind, seq=1):
    return struct.pack("<qiiIiBBc", px, size, security, seq, orders, place, action, kind)


def book(*entries, root=ROOT_11):
    return message(32, root, group(32, *entries))


def trades(*entries):
    orders = struct.pack("<H5xB", 16, 2) + struct.pack("<Qi4x", 77, 1) * 2
    return message(42, ROOT_11, group(32, *entries), orders)


def packet(seq, *messages, sent=None):
    return struct.pack("<IQ", seq, T0 + seq if sent is None else sent) + b"".join(messages)


def decoded(*payloads, line=A):
    feeds = CmeFeeds(sbe.Schema(SCHEMA), "XCME")
    for i, payload in enumerate(payloads):
        payload, to = payload if isinstance(payload, tuple) else (payload, line)
        feeds.packet(payload, T0 + i, to)
    feeds.finish("not in the capture")
    return feeds, dict(feeds.take())


def test_levels_are_depth_by_their_action_and_side():
    _, rows = decoded(packet(9, book(
        level(40_275_000_00, 5, 7, 3, 1, 0, b"0"), level(-125_000_0, 6, 8, 2**31 - 1, 2, 1, b"1"),
        level(1, 4, 7, 1, 3, 2, b"0"), level(NONE, 2**31 - 1, 7, 0, 1, 0, b"1"),
        level(5, 5, 7, 5, 1, 0, b"E"), level(5, 5, 7, 5, 1, 0, b"F"), level(NONE, 0, 8, 0, 0, 0, b"J"),
    )))  # fmt: skip
    depth = rows["depth"]
    assert depth[["side", "action", "size", "orders", "level", "instrument"]].tolist() == [
        (b"B", b"A", 5, 3, 1, 1), (b"S", b"C", 6, 0, 2, 2), (b"B", b"D", 0, 1, 3, 1),
        (b"S", b"A", 0, 0, 1, 1), (b"", b"R", 0, 0, 0, 2),
    ]  # fmt: skip
    assert depth["price"][:3].tolist() == [402.75, -0.125, 1e-7]
    assert np.isnan(depth["price"][3:]).all()
    assert set(depth[["ts_event", "ts_recv", "venue_seq"]].tolist()) == {(AT, T0, 9)}
    assert rows["instrument"][["code", "symbol", "venue"]].tolist() == [
        (1, b"7", b"XCME"),
        (2, b"8", b"XCME"),
    ]


def test_trades_have_their_aggressor_and_their_corrections():
    entry = "<qiiIiBB"
    feeds, rows = decoded(packet(1, trades(
        struct.pack(entry, 10**7, 2, 7, 1, 1, 1, 0), struct.pack(entry, 3 * 10**7, 4, 7, 2, 1, 2, 1),
        struct.pack(entry, 10**7, 5, 7, 3, 1, 0, 2),
    )))  # fmt: skip
    assert rows["trade"][["price", "size", "side", "action", "flags"]].tolist() == [
        (1.0, 2.0, b"B", b"T", 0),
        (3.0, 4.0, b"S", b"C", Flag.CORRECTION),
        (1.0, 5.0, b"", b"X", Flag.CORRECTION),
    ]
    assert feeds.rows.messages == {"MDIncrementalRefreshTradeSummary42": 1}


LONG = SCHEMA.replace(
    b"</types>",
    b"""<type name="uInt64NULL" presence="optional"
    nullValue="18446744073709551615" primitiveType="uint64"/></types>""",
)
LONG = LONG.replace(b"</ns2:messageSchema>", b"""
  <ns2:message name="MDIncrementalRefreshTradeSummaryLongQty65" id="65" blockLength="11">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <group name="NoMDEntries" id="268" blockLength="40" dimensionType="groupSize">
      <field name="MDEntryPx" id="270" type="PRICE" offset="0"/>
      <field name="MDEntrySize" id="271" type="uInt64" offset="8"/>
      <field name="SecurityID" id="48" type="Int32" offset="16"/>
      <field name="AggressorSide" id="5797" type="AggressorSide" offset="28"/>
      <field name="MDUpdateAction" id="279" type="MDUpdateAction" offset="29"/>
    </group>
  </ns2:message>
  <ns2:message name="MDIncrementalRefreshBookLongQty64" id="64" blockLength="11">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <group name="NoMDEntries" id="268" blockLength="40" dimensionType="groupSize">
      <field name="MDEntryPx" id="270" type="PRICENULL" offset="0"/>
      <field name="MDEntrySize" id="271" type="uInt64NULL" offset="8"/>
      <field name="SecurityID" id="48" type="Int32" offset="16"/>
      <field name="MDPriceLevel" id="1023" type="uInt8" offset="28"/>
      <field name="MDUpdateAction" id="279" type="MDUpdateAction" offset="29"/>
      <field name="MDEntryType" id="269" type="MDEntryTypeBook" offset="30"/>
    </group>
  </ns2:message>
  <ns2:message name="MDIncrementalRefreshVolumeLongQty66" id="66" blockLength="11">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
    <group name="NoMDEntries" id="268" blockLength="24" dimensionType="groupSize">
      <field name="MDEntrySize" id="271" type="uInt64" offset="0"/>
      <field name="SecurityID" id="48" type="Int32" offset="8"/>
      <field name="MDEntryType" id="269" type="MDEntryTypeVol"/>
    </group>
  </ns2:message>
  <ns2:message name="SnapshotFullRefreshLongQty69" id="69" blockLength="59">
    <field name="SecurityID" id="48" type="Int32" offset="8"/>
    <field name="TransactTime" id="60" type="uInt64" offset="16"/>
    <group name="NoMDEntries" id="268" blockLength="27" dimensionType="groupSize">
      <field name="MDEntryPx" id="270" type="PRICENULL" offset="0"/>
      <field name="MDEntrySize" id="271" type="uInt64NULL" offset="8"/>
      <field name="MDPriceLevel" id="1023" type="Int8" offset="20"/>
      <field name="MDEntryType" id="269" type="CHAR" offset="26"/>
    </group>
  </ns2:message>
  <ns2:message name="CollateralMarketValue62" id="62" blockLength="8">
    <field name="TransactTime" id="60" type="uInt64" offset="0"/>
  </ns2:message>
</ns2:messageSchema>""")  # fmt: skip


def test_messages_with_long_quantities_are_those_without():
    huge = 5_000_000_000
    deal = struct.pack("<qQi8xBB", 10**7, huge, 7, 2, 0)
    place = struct.pack("<qQi8xBBc", 10**7, huge, 7, 1, 0, b"0")
    none = struct.pack("<qQi8xBBc", 10**7, 2**64 - 1, 7, 2, 0, b"0")
    root = struct.pack("<8xi4xQ", 7, AT).ljust(59, b"\0")
    told = [struct.pack("<qQ4xb5xc", 10**7, huge, 1, b"0"), struct.pack("<qQ4xb5xc", 10**7, 0, 1, b"9")]
    sent = [
        message(65, ROOT_11, group(40, deal)), message(64, ROOT_11, group(40, place, none)),
        message(66, ROOT_11, group(24, struct.pack("<Qi", huge, 7))), message(69, root, group(27, *told)),
        message(62, bytes(8)),
    ]  # fmt: skip
    feeds = CmeFeeds(sbe.Schema(LONG), "XCME")
    feeds.packet(packet(1, *sent), T0, A)
    rows = dict(feeds.take())
    assert rows["trade"][["price", "size", "side", "action"]].tolist() == [(1.0, huge, b"S", b"T")]
    assert rows["depth"][["action", "side", "size", "flags"]].tolist() == [
        (b"A", b"B", huge, 0), (b"A", b"B", 0, 0), (b"R", b"", 0, Flag.SNAPSHOT),
        (b"A", b"B", huge, Flag.SNAPSHOT),
    ]  # fmt: skip
    assert rows["status"][["kind", "level_1"]].tolist() == [(b"volume", huge)]
    assert rows["event"]["text"].tolist() == [b"an entry of type b'9' with update action 0"]
    assert feeds.rows.ignored == {"CollateralMarketValue62": 1}


def test_volume_statistics_and_states_are_status():
    volume = message(37, ROOT_11, group(16, struct.pack("<iiIB", 60, 7, 1, 1)))
    statistic = struct.pack("<qiIBBc", -97_000_000, 7, 1, 255, 0, b"N")
    gone = struct.pack("<qiIBBc", 10**7, 7, 1, 1, 2, b"4")
    status = struct.pack("<Q6s6siHBBBB", AT, b"ES", b"ES", 7, 1, 0, 17, 3, 0)
    of_group = struct.pack("<Q6s6siHBBBB", AT, b"ES", b"ES", 2**31 - 1, 1, 0, 21, 0, 0)
    _, rows = decoded(packet(1, volume, message(35, ROOT_11, group(24, statistic, gone)), message(30, status),
                             message(30, of_group)))  # fmt: skip
    assert rows["status"][["kind", "value", "reason", "instrument"]].tolist() == [
        (b"volume", b"", b"", 1),
        (b"low_offer", b"", b"", 1),
        (b"open", b"deleted", b"", 1),
        (b"trading", b"17", b"3", 1),
        (b"group", b"21", b"ES", 0),
    ]
    assert rows["status"]["level_1"][:3].tolist() == [60.0, -9.7, 1.0]


def test_snapshots_begin_with_a_reset_and_channel_resets_are_of_all_books():
    root = struct.pack("<IIiIQ", 100, 1, 7, 5, AT).ljust(59, b"\0")
    entries = [struct.pack("<qiib4xc", 10**7 * i, i, 1, i, b"0") for i in (1, 2)]
    snapshot = message(38, root, group(22, *entries, struct.pack("<qiib4xc", 10**7, 0, 0, 0, b"7")))
    reset = message(4, struct.pack("<QB", AT, 0), group(2, b"\1\0"))
    _, rows = decoded(packet(1, snapshot, reset))
    assert rows["depth"][["action", "side", "level", "flags", "instrument"]].tolist() == [
        (b"R", b"", 0, Flag.SNAPSHOT, 1),
        (b"A", b"B", 1, Flag.SNAPSHOT, 1),
        (b"A", b"B", 2, Flag.SNAPSHOT, 1),
        (b"R", b"", 0, 0, 0),
    ]
    assert rows["status"][["kind", "level_1", "flags"]].tolist() == [(b"high", 1.0, Flag.SNAPSHOT)]


def test_definitions_name_securities():
    root = bytearray(216)
    struct.pack_into("<6s6s20si6s6s", root, 20, b"ES", b"ES", b"ESZ6", 7, b"FUT", b"FFIXSX")
    struct.pack_into("<3s", root, 73, b"USD")
    struct.pack_into("<I4xq", root, 84, 1, 2_500_000)
    struct.pack_into("<q", root, 140, 50 * 10**7)
    _, rows = decoded(packet(1, message(27, bytes(root)), book(level(1, 1, 7, 1, 1, 0, b"0"))))
    names = [
        "code",
        "symbol",
        "kind",
        "currency",
        "base",
        "tick_size",
        "lot_size",
        "multiplier",
        "attributes",
    ]
    assert rows["instrument"][names].tolist() == [
        (1, b"ESZ6", b"future", b"USD", b"ES", 0.25, 1.0, 50.0, b"FFIXSX ES")
    ]
    assert rows["depth"]["instrument"].tolist() == [1]


def test_a_symbol_that_is_no_text_leaves_the_security_s_number():
    root = bytearray(216)
    struct.pack_into("<20si", root, 32, b"\xff" * 20, 7)
    _, rows = decoded(packet(1, message(27, bytes(root))))
    assert rows["instrument"]["symbol"].tolist() == [b"7"]


def test_rows_of_a_table_are_in_the_order_of_the_messages():
    mixed = [book(level(i * 10**7, 1, 7, 1, 1, 0, b"0")) for i in range(1, 4)]
    longer = message(32, ROOT_11 + b"new", group(40, level(4 * 10**7, 1, 7, 1, 1, 0, b"0")))
    _, rows = decoded(packet(1, mixed[0], longer), packet(2, mixed[1], longer, mixed[2]))
    assert rows["depth"]["price"].tolist() == [1.0, 4.0, 2.0, 4.0, 3.0]
    assert rows["depth"]["venue_seq"].tolist() == [1, 1, 2, 2, 2]


def test_shorter_blocks_of_an_earlier_version_lack_their_last_fields():
    short = message(32, ROOT_11[:8], group(26, level(10**7, 1, 7, 1, 1, 0, b"0")[:26]))
    feeds, rows = decoded(packet(1, short))
    assert "depth" not in rows
    assert rows["event"]["text"].tolist() == [b"an entry of type b'' with update action 0"]
    assert feeds.rows.messages.total() == 1


def test_what_can_not_be_decoded_is_counted_and_an_event():
    good = book(level(1, 1, 7, 1, 1, 0, b"0"))
    bad = [
        message(99, b""), message(32, ROOT_11, struct.pack("<HB", 32, 9)), message(32, ROOT_11, b"\x20"),
        message(32, ROOT_11, struct.pack("<HB", 0, 1)), message(32, b"", length=11),
    ]  # fmt: skip
    feeds, rows = decoded(packet(1, *bad, good), packet(2, good, b"\5\0"), packet(3, b"\xff" * 12), b"abc")
    assert feeds.rows.malformed == len(bad) + 3
    assert rows["event"]["kind"].tolist() == [b"malformed"] * (len(bad) + 3)
    assert rows["event"]["first"].tolist() == [1] * len(bad) + [2, 3, 0]
    assert len(rows["depth"]) == 2


def test_messages_that_say_nothing_are_ignored_by_name():
    feeds, _ = decoded(packet(1, message(12, b"")), packet(2, message(39, bytes(35))))
    assert feeds.rows.ignored == {"AdminHeartbeat12": 1, "QuoteRequest39": 1}


def test_messages_of_the_schema_that_nobody_knows_are_malformed():
    schema = sbe.Schema(SCHEMA.replace(b'name="QuoteRequest39"', b'name="Surprise39"'))
    feeds = CmeFeeds(schema, "XCME")
    feeds.packet(packet(1, message(39, bytes(35))), T0, A)
    ((_, events),) = feeds.take()
    assert events["text"].tolist() == [b"Surprise39 is not a message of MDP 3.0 that is known"]
    assert feeds.rows.malformed == 1


def test_two_lines_are_one_and_others_are_feeds_of_their_own():
    one = [packet(seq, book(level(seq, 1, 7, 1, 1, 0, b"0"))) for seq in range(1, 7)]
    feeds, rows = decoded(
        (one[0], A), (one[1], B), (one[0], B), (one[3], A), (one[2], B), (one[0], OTHER), (one[5], A)
    )
    assert rows["depth"]["venue_seq"].tolist() == [1, 2, 3, 4, 1, 6]
    assert rows["event"][["kind", "first", "last"]].tolist() == [(b"gap", 5, 5)]
    assert +feeds.ignored == {"duplicate packet": 1}


def test_numbers_that_begin_anew_are_taken_and_an_event():
    entry = book(level(1, 1, 7, 1, 1, 0, b"0"))
    _, rows = decoded(packet(8, entry), packet(1, entry, sent=T0 + 99), packet(2, entry, sent=T0 + 100))
    assert rows["depth"]["venue_seq"].tolist() == [8, 1, 2]
    assert rows["event"]["kind"].tolist() == [b"session"]


def test_a_week_that_begins_with_1_is_decoded_and_told_even_if_its_times_went_back():
    entry = book(level(1, 1, 7, 1, 1, 0, b"0"))
    old = [packet(n, entry) for n in range(1000, 1010)]
    feeds, rows = decoded(*old, *(packet(n, entry) for n in range(1, 21)))
    assert rows["depth"]["venue_seq"].tolist() == [*range(1000, 1010), *range(1, 21)]
    assert rows["event"][["kind", "text"]].tolist() == [
        (b"session", b"packet 1 follows 1009: the numbers begin anew")
    ]
    assert (+feeds.ignored).total() == 0


def captured(tmp_path, *payloads):
    path = tmp_path / "cme.pcap"
    path.write_bytes(packets.classic([(T0, packets.ethernet(packets.ipv4(p, to=A))) for p in payloads]))
    (tmp_path / "schema.xml").write_bytes(SCHEMA)
    return path, str(tmp_path / "schema.xml")


def test_a_capture_is_told_by_its_content_and_needs_a_schema(tmp_path):
    path, schema = captured(
        tmp_path, packet(1, message(12, b"")), packet(2, book(level(1, 1, 7, 1, 1, 0, b"0")))
    )
    assert isinstance(open_capture(path, schema=schema), CmeMdp3)
    with pytest.raises(CaptureError, match=r"give it with --schema FILE"):
        open_capture(path)
    with pytest.raises(CaptureError, match="can't read"):
        open_capture(path, schema=str(tmp_path / "none.xml"))
    found = decode(path, schema=schema)
    assert (found["total"], found["ignored"]) == (2, {"AdminHeartbeat12": 1})
    assert not is_cme(packet(1, b"xx")) and not is_cme(struct.pack("<IQ", 1, 5) + message(12, b""))  # noqa: PT018


@pytest.mark.parametrize(("text", "said"), [
    (b"no XML", "not an SBE schema"),
    (b"<other/>", "it is <other>, must be <messageSchema>"),
    (b"<messageSchema byteOrder='bigEndian'/>", "big-endian"),
    (SCHEMA.replace(b'name="PRICENULL"', b'name="OTHER"'), "KeyError"),
    (SCHEMA.replace(b'id="32"', b'id="x"'), "ValueError"),
])  # fmt: skip
def test_schemas_that_can_not_be_read_are_refused(text, said):
    with pytest.raises(CaptureError, match=said):
        sbe.Schema(text)


def test_a_schema_gives_offsets_exponents_nulls_and_constants():
    templates = sbe.Schema(SCHEMA).templates
    entries = templates[32].groups[0].block
    assert entries.by_name["MDEntryPx"].encoding == sbe.Encoding("i8", NONE, -7)
    assert entries.by_name["MDEntryType"].offset == 26
    assert templates[42].groups[1].dimensions.size == 8
    assert templates[37].groups[0].block.by_name["MDEntryType"].encoding.constant == "e"
    assert templates[27].root.by_name["Symbol"].encoding.size == 20
    assert sbe.Schema(SCHEMA.replace(b' offset="', b' was="')).templates[32].groups[0].block.by_name[
        "MDEntryType"].offset == 26  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([4, 12, 27, 30, 32, 35, 37, 38, 42, 99]), st.binary(max_size=90),
                          st.integers(0, 70)), max_size=5), st.binary(max_size=30))  # fmt: skip
def test_no_message_makes_the_decoder_fail_and_each_is_accounted_for(found, behind):
    feeds = CmeFeeds(sbe.Schema(SCHEMA), "XCME")
    parts = [message(template, body, length=length) for template, body, length in found]
    feeds.packet(packet(1, *parts), T0, A)
    feeds.take()
    rows = feeds.rows
    assert rows.messages.total() + rows.ignored.total() + rows.malformed == len(found)
    feeds.packet(packet(2, behind), T0, A)
    feeds.take()


@given(st.integers(-(2**53), 2**53))
def test_prices_round_as_decimal_text_does(mantissa):
    _, rows = decoded(packet(1, book(level(mantissa, 1, 7, 1, 1, 0, b"0"))))
    sign, digits = "-" if mantissa < 0 else "", f"{abs(mantissa):08d}"
    assert rows["depth"]["price"][0] == float(f"{sign}{digits[:-7]}.{digits[-7:]}")


@needs_captures
def test_a_real_capture_of_both_lines_has_the_known_messages(tmp_path):
    (tmp_path / "schema.xml").write_bytes(SCHEMA)
    found = decode(CAPTURE, schema=str(tmp_path / "schema.xml"))
    assert found["messages"] == {
        "MDIncrementalRefreshBook32": 5738, "MDIncrementalRefreshTradeSummary42": 111,
        "MDIncrementalRefreshVolume37": 111, "MDIncrementalRefreshSessionStatistics35": 243,
    }  # fmt: skip
    assert found["ignored"] == {"AdminHeartbeat12": 9, "duplicate packet": 3000}
    assert (found["malformed"], found["damaged"], found["events"]) == (0, False, [])
    rows = {name: table["rows"] for name, table in found["tables"].items()}
    assert rows == {"instrument": 73, "depth": 3236, "status": 537, "trade": 197}
    assert (found["tables"]["trade"]["size_sum"], found["tables"]["trade"]["notional_sum"]) == (
        713.0,
        96_228.0,
    )
