"""Targets: what comes in packets, and the files that packets are kept in."""

import gzip
from collections.abc import Sequence
from functools import cache
from typing import Any

from fuzz.target import Target, check, joined, pieces


def targets() -> dict[str, Target]:
    """By name."""
    return {
        "moldudp64": Target(mold, mold_corpus),
        "iex-tp": Target(iex, iex_corpus),
        "hsvf": Target(hsvf, hsvf_corpus),
        "cme-mdp3": Target(cme, cme_corpus),
        "deribit-sbe": Target(deribit, deribit_corpus),
        "pcap": Target(pcap, pcap_corpus),
    }


def mold(data: bytes) -> None:
    """Packets of MoldUDP64 with ITCH 5.0 in them."""
    from packet_files import T0

    from tickplant.feed.packets.mold_itch50 import MoldItch

    decoder = MoldItch("XNAS", "America/New_York", None)
    for number, payload in enumerate(pieces(data)):
        decoder.packet(payload, T0 + number, filled=number % 5 == 4)
    decoder.finish("the end")
    check([decoder.take()], len(data), decoder.malformed)


def mold_corpus() -> list[bytes]:
    """A session on one line and two, with a gap, a heartbeat, and its end."""
    import itch_messages as itch
    from packet_files import mold as packet

    day = itch.one_of_each()
    each = [packet([m], i) for i, m in enumerate(day, 1)]
    whole = [packet(day, 1), packet([], len(day) + 1), packet([], len(day) + 1, count=0xFFFF)]
    return [joined(each), joined(whole), joined(each[::2]), joined(each[:3] + each[:3] + each[5:9]),
            joined([*each[:2], packet(day[:2], 1, b"OTHER     ")])]  # fmt: skip


def iex(data: bytes) -> None:
    """Segments of IEX-TP."""
    from packet_files import T0, A

    from tickplant.feed.packets.iex import IexFeeds

    feeds = IexFeeds("IEXG")
    for number, payload in enumerate(pieces(data)):
        feeds.packet(payload, T0 + number, A)
    feeds.finish("not in the capture")
    check([feeds.rows.take()], len(data), feeds.rows.malformed)


def iex_corpus() -> list[bytes]:
    """Each type of message, as long as it is specified."""
    from test_iex import DEEP, LENGTHS, message, tp

    each = [message(k).ljust(n, b"\1") for k, n in LENGTHS.items()]
    return [joined([tp(each, 1)]), joined(tp([m], i) for i, m in enumerate(each, 1)),
            joined([tp(each[:3], 1), tp(each[5:], 6), tp([], 20), tp(each, 1, session=8)]),
            joined([tp([message("8", "Iq", 5, 10_000)], 1, protocol=DEEP)])]  # fmt: skip


def hsvf(data: bytes) -> None:
    """Packets of HSVF on two lines, and in batches."""
    from packet_files import T0, A, B

    from tickplant.feed.packets.hsvf import HsvfFeeds

    feeds, batches = HsvfFeeds("XMOD"), []
    for number, payload in enumerate(pieces(data)):
        feeds.packet(payload, T0 + number, B if len(payload) % 7 == 0 else A)
        if number % 3 == 2:
            batches.append(feeds.rows.take())
    feeds.finish("not in the capture")
    check([*batches, feeds.rows.take()], len(data), feeds.rows.malformed)


def hsvf_corpus() -> list[bytes]:
    """Each type that is decoded, a start of day, and a hole."""
    import test_hsvf as tests

    sound = [tests.renumbered(body, n) for n, body in enumerate(tests.BODIES, 1)]
    day = tests.message("SD", b"20231115", 1, b"20231115030000000000")
    each = [tests.packet(m) for m in sound]
    return [joined(each), joined([tests.packet(*sound)]), joined([*each[:2], *each[3:], each[0]]),
            joined([*each, tests.packet(day, *sound[1:])])]  # fmt: skip


@cache
def _cme_schema() -> Any:
    from cme_schema import SCHEMA

    from tickplant.feed.packets.sbe import Schema

    return Schema(SCHEMA)


def cme(data: bytes) -> None:
    """Packets of CME MDP 3.0 of two lines and one other feed."""
    from packet_files import T0

    from tickplant.feed.packets.cme import CmeFeeds

    feeds = CmeFeeds(_cme_schema(), "XCME")
    lines = (("224.0.31.1", 14310), ("224.0.32.1", 15310), ("224.0.31.2", 14311))
    for number, payload in enumerate(pieces(data)):
        feeds.packet(payload, T0 + number, lines[number % 3 if len(payload) % 7 else 0])
    feeds.finish("not in the capture")
    batch = feeds.take()
    check([batch], len(data), feeds.rows.malformed)


def cme_corpus() -> list[bytes]:
    """Books, trades, a snapshot, statistics, a definition and a state."""
    import struct

    import test_cme as tests

    entry = tests.level(40_275_000_00, 5, 7, 3, 1, 0, b"0")
    deal = struct.pack("<qiiIiBB", 10**7, 2, 7, 1, 1, 1, 0)
    root = struct.pack("<IIiIQ", 100, 1, 7, 5, tests.AT).ljust(59, b"\0")
    levels = [struct.pack("<qiib4xc", 10**7 * i, i, 1, i, b"0") for i in (1, 2)]
    definition = struct.pack(
        "<20x6s6s20si6s6s5x3s8xI4xq", b"ES", b"ES", b"ESZ6", 7, b"FUT", b"FF", b"USD", 1, 5
    )
    definition = definition.ljust(216, b"\0")
    state = struct.pack("<Q6s6siHBBBB", tests.AT, b"ES", b"ES", 7, 1, 0, 17, 3, 0)
    sound = [
        tests.book(entry, entry), tests.trades(deal), tests.message(38, root, tests.group(22, *levels)),
        tests.message(27, definition), tests.message(30, state), tests.message(12, b""),
        tests.message(37, tests.ROOT_11, tests.group(16, struct.pack("<iiIB", 60, 7, 1, 1))),
        tests.message(4, struct.pack("<QB", tests.AT, 0), tests.group(2, b"\1\0")),
    ]  # fmt: skip
    return _packeted(sound, tests.packet)


def deribit(data: bytes) -> None:
    """Packets of Deribit's multicast feed."""
    from packet_files import T0, A

    from tickplant.feed.packets.deribit_sbe import DeribitFeeds

    feeds, batches = DeribitFeeds("DERIBIT"), []
    for number, payload in enumerate(pieces(data)):
        feeds.packet(payload, T0 + number, A)
        if number % 3 == 2:
            batches.append(feeds.take())
    feeds.finish("not in the capture")
    check([*batches, feeds.take()], len(data), feeds.rows.malformed)


def deribit_corpus() -> list[bytes]:
    """Each message, and a book with its changes."""
    import struct

    import test_deribit_sbe as tests

    index = tests.message(1008, b"btc_usd".ljust(16, b"\0") + struct.pack("<dQ", 25_448.5, tests.MS))
    sound = [
        tests.instrument(8, b"BTC-PERPETUAL"), tests.ticker(8), tests.trades(8, tests.trade(1)),
        tests.snapshot(8, 10, (tests.BID, 99.0, 1), (tests.ASK, 101.0, 2)),
        tests.book(8, 10, 11, (tests.BID, 0, 98.0, 1)), index, tests.message(1009, bytes(22)),
        tests.message(1005, bytes(4)), tests.message(1006, b""),
        tests.message(1007, bytes(4), tests.group(8, bytes(8))),
    ]  # fmt: skip
    return _packeted(sound, tests.packet)


def _packeted(sound: Sequence[bytes], packet: Any) -> list[bytes]:
    """Messages one by one, together, and with a hole among their packets."""
    each = [packet(i, m) for i, m in enumerate(sound, 1)]
    return [joined(each), joined([packet(1, *sound)]), joined([*each[:2], *each[3:], each[0]]),
            *(joined([packet(1, m)]) for m in sound)]  # fmt: skip


def pcap(data: bytes) -> None:
    """A capture of packets, as a file."""
    from fuzz.files import written
    from tickplant.errors import CaptureError
    from tickplant.feed.packets.pcap import PcapReader

    try:
        reader = PcapReader(written(data, "some.pcap"))
        found = [len(payload) for block in reader.blocks() for _, _, _, payload in block]
    except CaptureError:
        return
    if not data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) and sum(found) > len(data):
        raise AssertionError(f"{sum(found)} bytes of datagrams in {len(data)}")


def pcap_corpus() -> list[bytes]:
    """Both kinds of file, in both orders of bytes, and packed."""
    import packet_files as packets

    frame = packets.ethernet(packets.ipv4(b"hello"))
    six = packets.ethernet(packets.ipv6(b"hello", extensions=[(0, bytes(7))]), kind=0x86DD)
    two = [(packets.T0, frame), (packets.T0 + 1, six), (packets.T0 + 2, packets.ethernet(frame, 0x8100))]
    out = [packets.classic(two, order=order, nano=nano) for order in "<>" for nano in (True, False)]
    for order in "<>":
        out.append(packets.section(order) + packets.interface(order, resolution=9)
                   + b"".join(packets.enhanced(f, t, order) for t, f in two))  # fmt: skip
    return [*out, gzip.compress(out[0], mtime=0)]
