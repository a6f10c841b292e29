"""What is missing of what the feeds claim to have published, and declared to be.

Each frame says how many rows of its table its feed had published before it in its session, and what their
hashes come to (_core/frame.h). Where that does not follow on from the frame before, rows of the table are
missing. If the rows that are missing there, by seq, are declared (an `event` row of kind `gap` that the
plant made), they are counted here, with the sum of their hashes, which the frame behind them tells; if they
are not, they aren't, and the date does not pass its proof.

A feed hashes a row with its instrument's name. Where the plant refused the name (a limit), or never heard it
(the definition is in a gap), it keeps the row without instrument, and an `event` row says so. Of such feeds
each frame that has rows without instrument is summed again, and what its claim differs by is counted here.

A gap is known by seq at once, but of which tables its rows were only when the next frame of each comes, which
may be on the next date. So a date begins with what earlier ones have declared and not yet found, which is
what its `state` frame says to be the difference of seq and all rows counted.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant import wire
from tickplant._core import framing, rowsums
from tickplant.schema import Schema

_HEAD = np.dtype(
    [("magic", "<u2"), ("table", "<u2"), ("size", "<u4"), ("crc", "<u4"), ("prev_crc", "<u4"), ("kind", "u1"),
     ("version", "u1"), ("feed", "<u2"), ("trading_date", "<u4"), ("row", "<u8"), ("session", "<u8"),
     ("seq", "<u8"), ("feed_row", "<u8"), ("feed_sum", "<u8"), ("time_ns", "<i8"), ("count", "<u4"),
     ("schema", "<u4")]
)  # fmt: skip
"""The header of a frame, _core/frame.h, for many frames at once."""

Heads = npt.NDArray[Any]
Words = npt.NDArray[np.uint64]
_ALL = 1 << 64


@dataclass
class _Counted:
    """A session's rows of one table (or of all: then without a sum), up to some frame."""

    session: int = 0
    rows: int = 0
    total: int = 0


class Claims:
    """`follow` every chunk of a date's journal in order; then ask."""

    def __init__(self, schema: Schema, names: Words) -> None:
        """`names`: hash of each instrument's name."""
        self.schema, self.names = schema, names
        self._event = schema["event"]
        self._ranges: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        self._feeds: dict[int, _Counted] = defaultdict(_Counted)
        self._tables: dict[tuple[int, int], _Counted] = defaultdict(_Counted)
        self._unfound: dict[int, int] = defaultdict(int)
        self._missing: dict[tuple[int, int], tuple[int, int]] = {}
        self._refused: set[int] = set()
        """Feeds with codes that mean no instrument, as an event or the date before has said."""
        self._renamed: dict[tuple[int, int], int] = {}
        self._nameless: dict[int, int] = {}
        self.undeclared: set[int] = set()
        """Feeds of which rows are missing, by seq, without a word: whatever they claim, that is our loss."""

    @property
    def nameless_rows(self) -> dict[int, int]:
        """Rows that are kept without the instrument that their feed gave them, by feed: at most so many."""
        return dict(self._nameless)

    @property
    def gaps(self) -> int:
        """How many gaps are declared; one that is declared again after a restart is one."""
        return sum(len(r) for r in self._ranges.values())

    @property
    def missing_rows(self) -> dict[int, int]:
        """Rows in the declared gaps, by feed."""
        rows: dict[int, int] = defaultdict(int)
        for (feed, _), ranges in self._ranges.items():
            rows[feed] += sum(upto - first for first, upto in ranges)
        return dict(rows)

    def missing(self, feed: int, table: int) -> tuple[int, int]:
        """(rows, sum of hashes) of a feed and table that are claimed, declared lost and so not there.

        The sum also has what rows that are kept without instrument differ by.
        """
        rows, total = self._missing.get((feed, table), (0, 0))
        return rows, (total + self._renamed.get((feed, table), 0)) % _ALL

    def follow(self, chunk: bytes) -> None:
        """Take whole frames of the journal."""
        frames = framing.index(chunk)
        for offset, size, kind, *_ in frames[frames[:, 2] == wire.STATE].tolist():
            assert kind == wire.STATE
            self._begin(wire.small_map(wire.payload(memoryview(chunk)[offset : offset + size])))
        frames = frames[frames[:, 2] == wire.ROWS]
        if not len(frames):
            return
        self._declared(chunk)
        at = frames[:, 0]
        octets = np.frombuffer(chunk, np.uint8)[at[:, None] + np.arange(wire.HEADER_SIZE)]
        self._count(octets.view(_HEAD).reshape(-1), at, chunk)

    def _begin(self, state: dict[int, Any]) -> None:
        """Where the feeds stood when the date began."""
        for feed, was in state.items():
            self._feeds[feed] = _Counted(was["session"], was["next_seq"])
            counted = 0
            if any(code == 0 for code in memoryview(was.get("codes", b"")).cast("I")[1:]):
                self._refused.add(feed)
            for table, (rows, total) in was["counters"].items():
                self._tables[feed, int(table)] = _Counted(was["session"], rows, total)
                counted += rows
            self._unfound[feed] = max(0, was["next_seq"] - counted)

    def _declared(self, chunk: bytes) -> None:
        """Note the gaps that the plant has declared."""
        events = self._event.rows(framing.payloads(chunk, self._event.number))
        events = events[events["feed"] == 0]
        refused = (events["kind"] == b"refused") | (events["kind"] == b"undefined")
        self._refused.update(events["about"][refused].tolist())
        gaps = events[events["kind"] == b"gap"]
        for feed, session, first, last in gaps[["about", "session", "first", "last"]].tolist():
            ranges = sorted([*self._ranges[feed, session], (first, last + 1)])
            merged = ranges[:1]
            for low, high in ranges[1:]:
                if low < merged[-1][1]:
                    merged[-1] = merged[-1][0], max(high, merged[-1][1])
                else:
                    merged.append((low, high))
            self._ranges[feed, session] = merged

    def _count(self, heads: Heads, at: npt.NDArray[np.int64], chunk: bytes) -> None:
        """See where frames do not follow on, by seq and by row of their table."""
        feeds = heads["feed"].astype(np.int64)
        after = heads["seq"] + heads["count"]
        seq, _, anew = _before(heads, feeds, after, after, self._feeds)
        tables = feeds << 16 | heads["table"]
        upto = heads["feed_row"] + heads["count"]
        known = _by_key(self._tables)
        row, total, _ = _before(heads, tables, upto, heads["feed_sum"], known)
        odd = (heads["seq"] != seq) | (heads["feed_row"] != row) | anew
        if self._refused:
            whose = np.isin(feeds, list(self._refused)) & (heads["feed_row"] == row)
            for i in np.flatnonzero(whose).tolist():
                start = int(at[i]) + wire.HEADER_SIZE
                payload = memoryview(chunk)[start : start + int(heads["size"][i])]
                self._rename(heads[i], int(total[i]), payload)
        for i in np.flatnonzero(odd).tolist():
            if anew[i]:
                self._unfound[int(feeds[i])] = 0
            if heads["seq"][i] > seq[i]:
                self._jump(heads[i], int(seq[i]))
            if heads["feed_row"][i] > row[i]:
                start = int(at[i]) + wire.HEADER_SIZE
                payload = memoryview(chunk)[start : start + int(heads["size"][i])]
                self._miss(heads[i], int(row[i]), int(total[i]), payload)
        _keep(self._feeds, heads, feeds, after, after)
        _keep(known, heads, tables, upto, heads["feed_sum"])
        self._tables.update({(k >> 16, k & 0xFFFF): v for k, v in known.items()})

    def _jump(self, head: Any, expected: int) -> None:
        """Rows [expected, head.seq) of the session are not there: how many of them are declared?"""
        upto = int(head["seq"])
        ranges = self._ranges.get((int(head["feed"]), int(head["session"])), [])
        declared = sum(max(0, min(high, upto) - max(low, expected)) for low, high in ranges)
        self._unfound[int(head["feed"])] += declared
        if declared < upto - expected:
            self.undeclared.add(int(head["feed"]))

    def _rename(self, head: Any, total: int, payload: memoryview) -> None:
        """Count what a frame's claim differs by, if it has rows without instrument."""
        feed, table = int(head["feed"]), self.schema.numbered(int(head["table"]))
        nameless = int((table.rows(payload)["instrument"] == 0).sum())
        own = rowsums.row_sum(payload, table.row_size, self.names)
        if nameless and (differs := (int(head["feed_sum"]) - total - own) % _ALL):
            self._renamed[feed, table.number] = self._renamed.get((feed, table.number), 0) + differs
            self._nameless[feed] = self._nameless.get(feed, 0) + nameless

    def _miss(self, head: Any, expected: int, total: int, payload: memoryview) -> None:
        """Rows of a table are missing before this frame: count them if so many are declared."""
        feed, number = int(head["feed"]), int(head["table"])
        lost = int(head["feed_row"]) - expected
        if lost > self._unfound[feed]:
            return
        self._unfound[feed] -= lost
        own = rowsums.row_sum(payload, self.schema.numbered(number).row_size, self.names)
        rows, before = self.missing(feed, number)
        gone = (before + int(head["feed_sum"]) - total - own) % _ALL
        self._missing[feed, number] = rows + lost, gone


def _by_key(counted: dict[tuple[int, int], _Counted]) -> dict[int, _Counted]:
    return defaultdict(_Counted, {feed << 16 | table: v for (feed, table), v in counted.items()})


def _before(
    heads: Heads, keys: npt.NDArray[np.int64], rows: Words, sums: Words, known: dict[int, _Counted]
) -> tuple[Words, Words, npt.NDArray[np.bool_]]:
    """For each frame: rows and sum of its key and session before, and whether it is its session's first."""
    order = np.argsort(keys, kind="stable")
    ordered, sessions = keys[order], heads["session"][order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    last_rows, last_sums, last_session = (np.roll(a, 1) for a in (rows[order], sums[order], sessions))
    for i in first.tolist():
        was = known[int(ordered[i])]
        last_rows[i], last_sums[i], last_session[i] = was.rows, was.total, was.session
    anew = last_session != sessions
    last_rows[anew] = last_sums[anew] = 0
    found = np.empty(len(heads), np.uint64), np.empty(len(heads), np.uint64), np.empty(len(heads), bool)
    for to, values in zip(found, (last_rows, last_sums, anew), strict=True):
        to[order] = values
    return found


def _keep(
    known: dict[int, _Counted], heads: Heads, keys: npt.NDArray[np.int64], rows: Words, sums: Words
) -> None:
    """Remember the last frame of each key."""
    last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
    for i in last.tolist():
        known[int(keys[i])] = _Counted(int(heads["session"][i]), int(rows[i]), int(sums[i]))
