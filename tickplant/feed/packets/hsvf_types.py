"""HSVF messages: their types, and the layouts of those that are decoded (SOLA HSVF Multicast
Specifications Guide for MX, HSVF-MX-005E, version 1.14).

All of a message is ASCII, its fields are of fixed width, without anything between them. Its header is

    0 number (10)   10 type (2)   12 time (20): YYYYMMDDhhmmss and microseconds, Montréal's time
"""

from functools import lru_cache
from typing import Any

import numpy as np

HEADER = 32
EXCHANGE = ord("Q")
LEVELS_MAX = 6
"""Of a message: places 1 to 5, and the implied one."""
LEGS_MAX = 99
LEG = 19
"""Bytes of a leg."""

DECODED = {
    b"C ": "Option Trade", b"CS": "Strategy Trade",
    b"H ": "Option Market Depth", b"HS": "Strategy Market Depth",
    b"JS": "Strategy Instrument Keys",
}  # fmt: skip
IGNORED = {
    b"CB": "Future Options Trade", b"CF": "Futures Trade",
    b"D ": "Option Request for Quote", b"DB": "Future Options Request for Quote",
    b"DF": "Future Request for Quote", b"DS": "Strategy Request for Quote",
    b"E ": "Instrument Schedule Notice Option", b"EB": "Instrument Schedule Notice Futures Option",
    b"EF": "Instrument Schedule Notice Future", b"ES": "Instrument Schedule Notice Strategy",
    b"F ": "Option Quote", b"FB": "Future Options Quote", b"FF": "Futures Quote", b"FS": "Strategy Quote",
    b"HB": "Future Options Market Depth", b"HF": "Futures Market Depth",
    b"I ": "Option Trade Cancellation", b"IB": "Future Options Trade Cancellation",
    b"IF": "Future Trade Cancellation", b"IS": "Strategy Trade Cancellation",
    b"J ": "Option Instrument Keys", b"JB": "Future Options Instrument Keys",
    b"JE": "Underlying Instrument Keys", b"JF": "Futures Instrument Keys",
    b"M ": "Option Auction Beginning", b"MS": "Strategy Auction Beginning",
    b"N ": "Option Summary", b"NB": "Future Options Summary", b"NF": "Futures Summary",
    b"NS": "Strategy Summary",
    b"O ": "Option Initial and Improvement Order", b"OS": "Strategy Initial and Improvement Order",
    b"Q ": "Beginning of Options Summary", b"QB": "Beginning of Future Options Summary",
    b"QF": "Beginning of Futures Summary", b"QS": "Beginning of Strategy Summary",
    b"T ": "Option Auction Ending", b"TS": "Strategy Auction Ending",
    b"XF": "Futures Trade Correction",
    b"GR": "Group Status", b"GS": "Group Status Strategies", b"KF": "Future Deliverables",
    b"L ": "Bulletins", b"S ": "End of Sales", b"TT": "Tick Table", b"U ": "End of Transmission",
    b"V ": "Circuit Assurance", b"SD": "Start of Day",
}  # fmt: skip
NO_EXCHANGE = {b"L ", b"S ", b"V "}
"""Types without the exchange behind the header."""

_Fields = list[Any]
_HEAD: _Fields = [("number", "V10"), ("type", "V2"), ("time", "u1", 20), ("exchange", "u1")]
_SYMBOLS = {b"C ": "S19", b"H ": "S19", b"CS": "S30", b"HS": "S30", b"JS": "S30"}
_SIGNED = {b"CS", b"HS"}


def _price(name: str, signed: bool) -> _Fields:
    sign = [(f"{name}_sign", "u1")] if signed else []
    return [*sign, (name, "u1", 7), (f"{name}_fraction", "u1")]


def _trade(signed: bool) -> _Fields:
    return [("volume", "u1", 8), *_price("price", signed), ("change", "V9"), ("marker", "S1"),
            ("id", "u1", 8), ("auction", "S6")]  # fmt: skip


def _depth(signed: bool, levels: int) -> _Fields:
    level: _Fields = [("place", "u1")]
    for side in ("bid", "ask"):
        level += [*_price(side, signed), (f"{side}_size", "u1", 5), (f"{side}_orders", "u1", 2)]
    return [("status", "S1"), ("count", "u1", 1), ("levels", np.dtype(level), (levels,))]


def _keys(legs: int) -> _Fields:
    return [
        ("expiry", "V5"), ("most", "u1", 6), ("least", "u1", 6), ("high", "V8"), ("low", "V8"),
        ("tick", "u1", 7), ("tick_fraction", "u1"), ("flow", "S2"), ("group", "S2"), ("instrument", "S4"),
        ("external", "V30"), ("implied", "V1"), ("code", "S2"), ("kind", "S1"), ("last", "V14"),
        ("variable", "V2"), ("count", "u1", 2), ("legs", f"V{LEG * legs}"),
    ]  # fmt: skip


@lru_cache(1024)
def layout(kind: bytes, size: int) -> np.dtype[np.void] | None:
    """How a message of a type that is decoded is laid out if it has so many bytes; none: it can't have."""
    if kind in (b"C ", b"CS"):
        found = _laid(kind, _trade(kind in _SIGNED))
        return found if found.itemsize == size else None
    one, two = (_laid(kind, _counted(kind, number)).itemsize for number in (1, 2))
    more, rest = divmod(size - one, two - one)
    most = LEGS_MAX if kind == b"JS" else LEVELS_MAX
    return None if rest or not 0 <= more < most else _laid(kind, _counted(kind, more + 1))


def _counted(kind: bytes, number: int) -> _Fields:
    """The fields of a message with so many levels or legs."""
    return _keys(number) if kind == b"JS" else _depth(kind in _SIGNED, number)


def _laid(kind: bytes, fields: _Fields) -> np.dtype[np.void]:
    return np.dtype([*_HEAD, ("symbol", _SYMBOLS[kind]), *fields])
