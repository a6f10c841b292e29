"""Databento DBN: books of ten levels, one whole book a record, to what changed in them.

A book is kept by price: a level that is in it and was not is A, one of other size or number of orders is
C, one that is gone (taken, or pushed beyond the tenth) is D of size 0. Who applies the rows of a record
holds exactly the levels of the record. `level` is a level's place, counted from 0: in the record, for D
in the one before. The first book of an instrument, and one after the venue cleared it (action R), is R
and then all of it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.feed.dbn_records import UNDEF_PRICE
from tickplant.feed.dbn_rows import Codes, Values, letters, prices, sizes
from tickplant.feed.sink import shipped_schema
from tickplant.schema import Flag, Rows

LEVELS = 10
BOOK = np.dtype([("price", "<i8", (2, LEVELS)), ("size", "<u4", (2, LEVELS)), ("orders", "<u4", (2, LEVELS))])
UNKNOWN = (1 << 32) - 1
"""For the number of orders of a level that no record has told."""
_SIDES = np.frombuffer(b"BS", "S1")
_RESET, _DELETE, _ADD = 0, 1, 2  # the order within a record


class Books:
    """The last book of each instrument."""

    def __init__(self) -> None:
        self._last: dict[int, npt.NDArray[np.void]] = {}

    def changes(self, values: Values, codes: Codes, quotes: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Rows of table depth for these records, and for which of them the best level changed.

        `quotes` are rows with the key columns of each record.
        """
        books = _books(values)
        before = self._before(books, codes)
        fresh = (before["orders"][:, 0, 0] == UNKNOWN) | (letters(values, "action") == ord("R"))
        before["price"][fresh] = UNDEF_PRICE
        moved = fresh.copy()
        for field in ("price", "size"):
            moved |= (books[field][:, :, 0] != before[field][:, :, 0]).any(axis=1)
        return _rows(books, before, fresh, quotes), moved

    def _before(self, books: npt.NDArray[np.void], codes: Codes) -> npt.NDArray[np.void]:
        """The book before each; one that was not known has all ones for its orders."""
        before = np.empty(len(books), BOOK)
        order = np.argsort(codes, kind="stable")
        before[order[1:]] = books[order[:-1]]
        first = np.append(True, codes[order][1:] != codes[order][:-1])
        for at in order[first].tolist():
            known = self._last.get(int(codes[at]))
            if known is None:
                before["orders"][at] = UNKNOWN
            else:
                before[at] = known
        for at in order[np.append(first[1:], True)].tolist():
            self._last[int(codes[at])] = books[at].copy()
        return before


def _books(values: Values) -> npt.NDArray[np.void]:
    books = np.empty(len(values), BOOK)
    for field, short in (("price", "px"), ("size", "sz"), ("orders", "ct")):
        for side, name in enumerate(("bid", "ask")):
            for level in range(LEVELS):
                books[field][:, side, level] = values[f"{name}_{short}_{level:02}"]
    return books


def _rows(
    books: npt.NDArray[np.void], before: npt.NDArray[np.void], fresh: npt.NDArray[np.bool_], keys: Rows
) -> Rows:
    """Rows of all changes, by record, within it R, D and then A and C from the best level down."""
    now, then = books["price"], before["price"]
    same = (now[:, :, :, None] == then[:, :, None, :]) & (now != UNDEF_PRICE)[:, :, :, None]
    place = same.argmax(axis=3)  # of each level of now in then
    known = same.any(axis=3)
    changed = np.zeros_like(known)
    for field in ("size", "orders"):
        changed |= books[field] != np.take_along_axis(before[field], place, axis=2)
    added = (now != UNDEF_PRICE) & ~known
    gone = (then != UNDEF_PRICE) & ~same.any(axis=2)
    reset = np.nonzero(fresh)[0]
    parts = [
        _part(keys, (reset, reset * 0, reset * 0), _RESET, b"R", None),
        _part(keys, np.nonzero(gone), _DELETE, b"D", before),
        _part(keys, np.nonzero(added), _ADD, b"A", books),
        _part(keys, np.nonzero(known & changed), _ADD, b"C", books),
    ]
    rows = np.concatenate([p[0] for p in parts])
    rank = np.concatenate([p[1] for p in parts])
    whole = fresh[np.concatenate([p[2] for p in parts])]
    rows["flags"][whole] |= np.uint16(Flag.SNAPSHOT)
    return rows[np.argsort(rank, kind="stable")]


def _part(
    keys: Rows, where: tuple[npt.NDArray[Any], ...], phase: int, action: bytes,
    books: npt.NDArray[np.void] | None,
) -> tuple[Rows, npt.NDArray[np.int64], npt.NDArray[np.int64]]:  # fmt: skip
    """Rows for changes at (record, side, level), their order, and the record of each."""
    record, side, level = where
    rows = np.zeros(len(record), shipped_schema()["depth"].dtype)
    for name in ("ts_event", "ts_recv", "instrument", "flags", "venue_seq"):
        rows[name] = keys[name][record]
    rows["action"] = action
    if books is None:
        rows["price"] = np.nan
        rows["size"] = np.nan
    else:
        rows["level"] = level
        rows["side"] = _SIDES[side]
        rows["price"] = prices(books["price"][record, side, level])
        if phase != _DELETE:
            rows["size"] = sizes(books["size"][record, side, level])
            rows["orders"] = books["orders"][record, side, level]
    return rows, ((record * 3 + phase) * 2 + side) * LEVELS + level, record
