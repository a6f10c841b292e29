"""Builds Nasdaq TotalView-ITCH 5.0 messages and files for tests, field by field as specified."""

import struct
from collections.abc import Iterable

HEAD = ">cHHHI"
STOCK = b"ACME"


def message(kind: str, layout: str, *fields: object, locate: int = 1, ns: int = 1000) -> bytes:
    """One message: its type, stock locate, tracking number 7 and time, then the fields."""
    head = struct.pack(HEAD, kind.encode(), locate, 7, ns >> 32, ns & 0xFFFFFFFF)
    return head + struct.pack(">" + layout, *fields)


def stock(symbol: bytes) -> bytes:
    return symbol.ljust(8)


def system(event: bytes = b"O", *, locate: int = 0, **at: int) -> bytes:
    return message("S", "c", event, locate=locate, **at)


def directory(symbol: bytes = STOCK, lot: int = 100, leverage: int = 0, **at: int) -> bytes:
    return message(
        "R",
        "8sccIcc2scccccIc",
        *(stock(symbol), b"Q", b"N", lot, b"N", b"C", b"Z ", b"P", b"N", b" ", b"1", b"N"),
        *(leverage, b"N"),
        **at,
    )


def trading(state: bytes = b"T", reason: bytes = b"", symbol: bytes = STOCK, **at: int) -> bytes:
    return message("H", "8scc4s", stock(symbol), state, b" ", reason.ljust(4), **at)


def regsho(action: bytes = b"1", **at: int) -> bytes:
    return message("Y", "8sc", stock(STOCK), action, **at)


def participant(mpid: bytes = b"MMKR", **at: int) -> bytes:
    return message("L", "4s8sccc", mpid, stock(STOCK), b"Y", b"N", b"A", **at)


def mwcb_levels(one: int, two: int, three: int, *, locate: int = 0, **at: int) -> bytes:
    return message("V", "QQQ", one, two, three, locate=locate, **at)


def mwcb_breach(level: bytes = b"1", *, locate: int = 0, **at: int) -> bytes:
    return message("W", "c", level, locate=locate, **at)


def ipo(release: int, qualifier: bytes, price: int, **at: int) -> bytes:
    return message("K", "8sIcI", stock(STOCK), release, qualifier, price, **at)


def collar(reference: int, upper: int, lower: int, extension: int, **at: int) -> bytes:
    return message("J", "8sIIII", stock(STOCK), reference, upper, lower, extension, **at)


def halt(market: bytes = b"Q", action: bytes = b"H", **at: int) -> bytes:
    return message("h", "8scc", stock(STOCK), market, action, **at)


def add(
    ref: int,
    side: bytes,
    shares: int,
    price: int,
    symbol: bytes = STOCK,
    mpid: bytes | None = None,
    **at: int,
) -> bytes:
    fields = (ref, side, shares, stock(symbol), price)
    if mpid is None:
        return message("A", "QcI8sI", *fields, **at)
    return message("F", "QcI8sI4s", *fields, mpid.ljust(4), **at)


def executed(ref: int, shares: int, match: int, **at: int) -> bytes:
    return message("E", "QIQ", ref, shares, match, **at)


def executed_at(ref: int, shares: int, match: int, price: int, printable: bytes = b"Y", **at: int) -> bytes:
    return message("C", "QIQcI", ref, shares, match, printable, price, **at)


def cancel(ref: int, shares: int, **at: int) -> bytes:
    return message("X", "QI", ref, shares, **at)


def delete(ref: int, **at: int) -> bytes:
    return message("D", "Q", ref, **at)


def replace(original: int, ref: int, shares: int, price: int, **at: int) -> bytes:
    return message("U", "QQII", original, ref, shares, price, **at)


def trade(shares: int, price: int, match: int, symbol: bytes = STOCK, **at: int) -> bytes:
    return message("P", "QcI8sIQ", 0, b"B", shares, stock(symbol), price, match, **at)


def cross(shares: int, price: int, match: int, kind: bytes = b"O", **at: int) -> bytes:
    return message("Q", "Q8sIQc", shares, stock(STOCK), price, match, kind, **at)


def broken(match: int, **at: int) -> bytes:
    return message("B", "Q", match, **at)


def imbalance(paired: int, left: int, far: int, near: int, reference: int, **at: int) -> bytes:
    fields = (paired, left, b"S", stock(STOCK), far, near, reference, b"C", b"L")
    return message("I", "QQc8sIIIcc", *fields, **at)


def retail(flag: bytes = b"A", **at: int) -> bytes:
    return message("N", "8sc", stock(STOCK), flag, **at)


def direct_listing(least: int, most: int, near: int, time: int, lower: int, upper: int, **at: int) -> bytes:
    fields = (stock(STOCK), b"Y", least, most, near, time, lower, upper)
    return message("O", "8scIIIQII", *fields, **at)


def one_of_each() -> list[bytes]:
    """A message of every type, consistent with one another."""
    return [
        system(),
        directory(leverage=3),
        trading(b"H", b"T1"),
        regsho(),
        participant(),
        mwcb_levels(410_012_345_678, 390_000_000_001, 360_000_000_000),
        mwcb_breach(b"2"),
        ipo(34_200, b"A", 170_000),
        collar(100_000, 105_000, 95_000, 2),
        halt(),
        add(1, b"B", 300, 99_900),
        add(2, b"S", 500, 100_100, mpid=b"GSCO"),
        executed(1, 100, 11),
        executed_at(2, 100, 12, 100_050),
        executed_at(2, 100, 13, 100_060, b"N"),
        cancel(2, 50),
        replace(1, 3, 400, 99_950),
        delete(2),
        trade(700, 100_001, 14),
        cross(90_000, 100_000, 15),
        broken(14),
        imbalance(1000, 200, 99_000, 99_500, 100_000),
        retail(),
        direct_listing(80_000, 180_000, 100_000, 34_200_000_000_000, 90_000, 110_000),
    ]


def file(messages: Iterable[bytes]) -> bytes:
    """The messages in a BinaryFILE."""
    return b"".join(len(m).to_bytes(2, "big") + m for m in messages)
