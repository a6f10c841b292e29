"""Whole books of a few levels, one a record, to what changed in them: rows of table depth.

A book is kept by price: a level that is in it and was not is A, one of other size or number of orders is C,
one that is gone (taken, or pushed beyond the last) is D of size 0. Who applies the rows of a record holds
exactly its levels. `level` is a level's place, counted from 0: in the record, for D in the one before. The
first book of an instrument, and one after the venue cleared it, is R and then all of it, SNAPSHOT.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.feed.sink import shipped_schema
from tickplant.schema import Flag, Rows

Books = npt.NDArray[np.void]
"""Of dtype `layout`: bids then asks, best first; price NaN where there is no level."""

_SIDES = np.frombuffer(b"BS", "S1")
_UNKNOWN = -1
"""For the number of orders of a level that no record has told."""
_RESET, _DELETE, _ADD = 0, 1, 2  # the order within a record


@cache
def layout(levels: int) -> np.dtype[np.void]:
    """A book of so many levels on each side."""
    shape = (2, levels)
    return np.dtype([("price", "<f8", shape), ("size", "<f8", shape), ("orders", "<i8", shape)])


class LastBooks:
    """The last book of each instrument."""

    def __init__(self) -> None:
        self._last: dict[int, np.void] = {}

    def changes(
        self, books: Books, keys: Rows, cleared: npt.NDArray[np.bool_]
    ) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Rows of table depth for these books, and of which of them the best level changed.

        `keys` are rows with the key columns of each record; `cleared` says where a book began anew.
        """
        if not len(books):
            return shipped_schema()["depth"].empty(0), cleared
        before = self._before(books, keys["instrument"])
        fresh = (before["orders"][:, 0, 0] == _UNKNOWN) | cleared
        before["price"][fresh] = np.nan
        moved = fresh.copy()
        for field in ("price", "size"):
            now, then = books[field][:, :, 0], before[field][:, :, 0]
            moved |= ((now != then) & ~(np.isnan(now) & np.isnan(then))).any(axis=1)
        return _rows(books, before, fresh, keys), moved

    def _before(self, books: Books, codes: npt.NDArray[Any]) -> Books:
        """The book before each."""
        before = np.empty(len(books), books.dtype)
        order = np.argsort(codes, kind="stable")
        before[order[1:]] = books[order[:-1]]
        first = np.append(True, codes[order][1:] != codes[order][:-1])
        for at in order[first].tolist():
            known = self._last.get(int(codes[at]))
            if known is None:
                before["orders"][at] = _UNKNOWN
            else:
                before[at] = known
        for at in order[np.append(first[1:], True)].tolist():
            self._last[int(codes[at])] = books[at].copy()
        return before


def _rows(books: Books, before: Books, fresh: npt.NDArray[np.bool_], keys: Rows) -> Rows:
    """Rows of all changes, by record, within it R, D and then A and C from the best level down."""
    now, then = books["price"], before["price"]
    same = now[:, :, :, None] == then[:, :, None, :]
    place = same.argmax(axis=3)  # of each level of now in then
    known = same.any(axis=3)
    changed = np.zeros_like(known)
    for field in ("size", "orders"):
        changed |= books[field] != np.take_along_axis(before[field], place, axis=2)
    added = ~np.isnan(now) & ~known
    gone = ~np.isnan(then) & ~same.any(axis=2)
    reset = np.nonzero(fresh)[0]
    parts = [
        _part(keys, (reset, reset * 0, reset * 0), _RESET, b"R", None),
        _part(keys, np.nonzero(gone), _DELETE, b"D", before),
        _part(keys, np.nonzero(added), _ADD, b"A", books),
        _part(keys, np.nonzero(known & changed), _ADD, b"C", books),
    ]
    rows = np.concatenate([rows for rows, _, _ in parts])
    whole = fresh[np.concatenate([record for _, record, _ in parts])]
    rows["flags"][whole] |= np.uint16(Flag.SNAPSHOT)
    rank = np.concatenate([rank for _, _, rank in parts])
    return rows[np.argsort(rank, kind="stable")]


def _part(
    keys: Rows, where: tuple[npt.NDArray[Any], ...], phase: int, action: bytes, books: Books | None
) -> tuple[Rows, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows for changes at (record, side, level), the record of each, and their order."""
    record, side, level = where
    rows = shipped_schema()["depth"].empty(len(record))
    for name in ("ts_event", "ts_recv", "instrument", "flags", "venue_seq"):
        rows[name] = keys[name][record]
    rows["action"] = action
    if books is None:
        rows["price"] = np.nan
        rows["size"] = np.nan
    else:
        rows["level"], rows["side"] = level, _SIDES[side]
        rows["price"] = books["price"][record, side, level]
        if phase != _DELETE:
            rows["size"] = books["size"][record, side, level]
            rows["orders"] = books["orders"][record, side, level]
    levels = books.dtype["price"].shape[1] if books is not None else 1
    return rows, record, (record * 3 + phase) * 1024 + side * levels + level
