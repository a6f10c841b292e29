"""The books of HSVF: messages that tell some levels of each side, to changes of prices (pure).

A level is told by its place, 1 to 5; one of size 0 is none, and so are those behind it. Places that a
message does not tell stay as they were. What is not known is told apart from what is empty: until each of
the five places of both sides was told once, a book's rows have Flag.STALE; when it is whole, it begins
anew, R and SNAPSHOT. Where messages were lost, the books of their line are not known any more: R, STALE.
"""

from typing import NamedTuple

import numpy as np

from tickplant.feed.files.books import Books, LastBooks, layout
from tickplant.feed.packets.hsvf_fields import Floats, Ints, Which
from tickplant.feed.sink import shipped_schema
from tickplant.schema import Flag, Rows

LEVELS = 5
_STALE, _SNAPSHOT = np.uint16(Flag.STALE), np.uint16(Flag.SNAPSHOT)


class Heard(NamedTuple):
    """What messages told, one record each, in their order."""

    keys: Rows
    """The key columns of each, and its number; `flags` are filled in here."""
    lines: Ints
    """The line that each came from."""
    books: Books
    """The levels that it told; price NaN: none."""
    told: Which
    """Which of them it told: (messages, side, place)."""


class Told:
    """Levels that messages tell, one message a record."""

    def __init__(self, messages: int) -> None:
        self.books: Books = np.zeros(messages, layout(LEVELS))
        self.books["price"] = np.nan
        self.places = np.zeros((messages, 2, LEVELS), np.bool_)

    def tell(self, side: int, which: Which, places: Ints, prices: Floats, sizes: Ints, orders: Ints) -> None:
        """A level of one side (0 bid, 1 ask) of some messages; arguments have one value for each."""
        full = np.flatnonzero(which & (sizes > 0))
        at = (full, side, places[full])
        self.places[at] = True
        for name, values in (("price", prices), ("size", sizes), ("orders", orders)):
            self.books[name][at] = values[full]
        empty = np.flatnonzero(which & (sizes == 0))
        row, place = np.nonzero(np.arange(LEVELS) >= places[empty][:, None])
        gone = (empty[row], side, place)
        self.places[gone] = True
        self.books["price"][gone] = np.nan
        self.books["size"][gone] = self.books["orders"][gone] = 0


class LineBooks:
    """The last book of each instrument, by its code."""

    def __init__(self) -> None:
        self._last = LastBooks()
        self._books = np.zeros(0, layout(LEVELS))
        self._told = np.zeros((0, 2, LEVELS), np.bool_)
        self._begun = np.zeros(0, np.bool_)
        self._lines = np.zeros(0, np.int64)

    def changes(self, heard: Heard) -> Rows:
        """Rows of table depth."""
        unique = np.unique(heard.keys["instrument"]).astype(np.int64)
        if not len(unique):
            return shipped_schema()["depth"].empty(0)
        self._grow(int(unique[-1]) + 1)
        known = len(unique)
        # Each instrument's messages in their order, and before them what was known of its book.
        order = np.argsort(np.concatenate([unique, heard.keys["instrument"]]), kind="stable")
        first = order < known
        books, told = self._filled(heard, unique, order, first)
        whole = np.asarray(told.all(axis=(1, 2)))
        begun = np.concatenate([self._begun[unique], np.ones(len(heard.lines), np.bool_)])[order]
        fresh = np.append(True, ~begun[:-1] | (whole[1:] & ~whole[:-1]))
        last = np.append(first[1:], True)
        self._books[unique], self._told[unique], self._begun[unique] = books[last], told[last], True
        self._lines[unique] = heard.lines[order[last] - known]
        back = order[~first] - known
        out = np.empty(len(heard.lines), books.dtype)
        begins, stale = np.empty((2, len(out)), np.bool_)
        out[back], begins[back], stale[back] = books[~first], fresh[~first], ~whole[~first]
        heard.keys["flags"] = np.where(stale, _STALE, np.uint16(0))
        rows, _ = self._last.changes(out, heard.keys, begins)
        rows["flags"][(rows["flags"] & _STALE) != 0] &= ~_SNAPSHOT
        return rows

    def lost(self, line: int, seq: int, ts_recv: int) -> Rows:
        """Messages of a line are missing, up to number `seq`: rows that end its books."""
        codes = np.flatnonzero(self._begun & (self._lines == line))
        self._begun[codes] = False
        self._told[codes] = False
        rows = shipped_schema()["depth"].empty(len(codes))
        rows["instrument"], rows["action"], rows["flags"], rows["venue_seq"] = codes, b"R", _STALE, seq
        rows["ts_event"] = rows["ts_recv"] = ts_recv
        rows["price"] = rows["size"] = np.nan
        return rows

    def _filled(self, heard: Heard, unique: Ints, order: Ints, first: Which) -> tuple[Books, Which]:
        """Each place as it was told last, and whether it was, after each message."""
        books = np.concatenate([self._books[unique], heard.books])[order]
        told = np.concatenate([self._told[unique], heard.told])[order]
        books["price"][first] = np.where(told[first], books["price"][first], np.nan)
        at = np.arange(len(order))[:, None, None]
        source = np.maximum.accumulate(np.where(told | first[:, None, None], at, 0), axis=0)
        for name in ("price", "size", "orders"):
            books[name] = np.take_along_axis(books[name], source, axis=0)
        return books, np.take_along_axis(told, source, axis=0)

    def _grow(self, size: int) -> None:
        more = size - len(self._begun)
        if more <= 0:
            return
        more = max(more, len(self._begun), 256)
        self._books = np.concatenate([self._books, np.zeros(more, self._books.dtype)])
        self._told = np.concatenate([self._told, np.zeros((more, 2, LEVELS), np.bool_)])
        self._begun = np.append(self._begun, np.zeros(more, np.bool_))
        self._lines = np.append(self._lines, np.zeros(more, np.int64))
