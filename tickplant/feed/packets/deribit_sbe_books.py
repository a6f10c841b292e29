"""The books of Deribit's multicast feed: messages book and snapshot to changes of levels (pure).

A change names the one before it (prev_change_id), a snapshot the last that is in it. Both may be cut into
several messages, of which only the last says so (is_last); a book takes them whole. Snapshots come again
and again, on channels of their own: one that has nothing new says nothing.

What follows a hole in a channel's packets may be the rest of a change whose beginning is missing. Parts
come right after one another, so only the first message behind the hole can be that: it is not taken, and
its book is out of step until the next snapshot.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tickplant._core.changes import ASK, BID, Changes
from tickplant._core.levels import LevelRows, Levels
from tickplant.feed.book import KEPT_LEVELS_MAX, Book, Rule
from tickplant.feed.packets.sbe import Part, Schema
from tickplant.feed.sink import Sink
from tickplant.feed.times import MS_NS

BOOK, SNAPSHOT = 1001, 1004
NUMBER_MAX = 2**63 - 1
TIME_MAX_MS = NUMBER_MAX // MS_NS
_HALVES = (ASK, BID)
_CREATED, _DELETED = 0, 2
_FIELDS = {BOOK: ("time_ms", "prev_change_id", "change_id", "is_last"),
           SNAPSHOT: ("time_ms", "change_id", "is_last")}  # fmt: skip
_LEVEL = {BOOK: ("side", "change", "price", "amount"), SNAPSHOT: ("side", "price", "amount")}


@dataclass
class _State:
    """A book, and what has begun to come of it."""

    book: Book
    channel: int = 0
    """Of its changes."""
    parts: dict[int, tuple[int, Changes]] = field(default_factory=dict)
    """By template: the change's number and the levels of a change or snapshot whose end is to come."""
    behind: int = 0
    """The book's number when a snapshot came that was older; 0: none did."""


class Books:
    """All books, by the venue's number of the instrument."""

    def __init__(self, schema: Schema, sink: Sink) -> None:
        self.levels = LevelRows()
        self._sink = sink
        self._templates = schema.templates
        self._unpackers: dict[tuple[int, int, int], struct.Struct] = {}
        self._states: dict[int, _State] = {}
        self._begun: dict[int, set[tuple[int, int]]] = {}
        """By channel: (instrument, template) of what has begun to come."""

    def message(
        self, template: int, parts: list[Part], instrument: int, code: Callable[[], tuple[int, str]],
        channel: int, ts_recv: int, sure: bool,
    ) -> None:  # fmt: skip
        """A message book or snapshot. `code()` gives the instrument's code and name; not `sure`: it follows
        a hole.

        Raises ValueError, with nothing done, if it is not as the venue documents it.
        """
        known = self._templates[template]
        (values,) = self._unpacked(template, 0, parts[0])
        ms, number, last = int(values[0]), int(values[-2]), values[-1]
        prev = int(values[1]) if template == BOOK else 0
        if ms > TIME_MAX_MS or max(number, prev) > NUMBER_MAX or last > 1 or prev > number:
            raise ValueError(f"{known.name} {number} after {prev} at {ms} ms, is_last {last}")
        levels = self._unpacked(template, 1, parts[1]) if len(parts) > 1 and parts[1].blocks else []
        changes = _fill(Changes(), levels)
        state = self._state(instrument, code)
        if template == BOOK:
            state.channel = channel
        if not sure:
            if template == BOOK:
                state.book.gap(ts_recv, "it may lack what was in missing packets", number, number)
            return
        begun = state.parts.pop(template, None)
        if begun is not None and begun[0] == number:
            _fill(begun[1], levels)
            changes = begun[1]
        key = (instrument, template)
        if not last:
            self._keep(state, key, channel, number, changes, ts_recv)
            return
        self._begun.get(channel, set()).discard(key)
        if template == BOOK:
            state.book.change(changes, ms * MS_NS, ts_recv, last=number, prev=prev)
        else:
            self._load(state, changes, ms * MS_NS, ts_recv, number)

    def rename(self, instrument: int, code: int, name: str, ts_recv: int) -> None:
        """An instrument has another code and name from now on."""
        state = self._states.get(instrument)
        if state is not None and state.book.code != code:
            state.book.gap(ts_recv, f"it is {name} from now on")
            state.book.levels = Levels(self.levels, code)
            state.book.code, state.book.name = code, name

    def lost(self, channel: int, ts_recv: int, cause: str, *, all_of_it: bool = False) -> None:
        """Packets of a channel are missing: what had begun to come is given up; `all_of_it`: the channel
        begins anew, so all its books are out of step."""
        for instrument, template in sorted(self._begun.pop(channel, ())):
            state = self._states[instrument]
            state.parts.pop(template, None)
            if template == BOOK:
                state.book.gap(ts_recv, cause)
        if all_of_it:
            for state in self._states.values():
                if state.channel == channel:
                    state.book.gap(ts_recv, cause)
                    state.behind = 0

    def _unpacked(self, template: int, index: int, part: Part) -> list[tuple[float, ...]]:
        """The fields of a message's root, or of the entries of its group."""
        known = self._unpackers.get((template, index, part.length))
        if known is None:
            found = self._templates[template]
            block = found.groups[0].block if index else found.root
            names = _LEVEL[template] if index else _FIELDS[template]
            known = self._unpackers[template, index, part.length] = block.unpacker(names, part.length)
        return list(known.iter_unpack(part.data))

    def _state(self, instrument: int, code: Callable[[], tuple[int, str]]) -> _State:
        state = self._states.get(instrument)
        if state is None:
            number, name = code()
            book = Book(Levels(self.levels, number), self._sink, number, name, Rule.CHAIN)
            state = self._states[instrument] = _State(book)
        return state

    def _keep(
        self, state: _State, key: tuple[int, int], channel: int, number: int, changes: Changes, ts_recv: int
    ) -> None:
        """More of a change or snapshot is to come."""
        begun = self._begun.setdefault(channel, set())
        if len(changes) <= KEPT_LEVELS_MAX:
            state.parts[key[1]] = (number, changes)
            begun.add(key)
            return
        begun.discard(key)
        if key[1] == BOOK:
            state.book.gap(ts_recv, f"a change of more than {KEPT_LEVELS_MAX} levels", number, number)

    def _load(self, state: _State, levels: Changes, ts_event: int, ts_recv: int, number: int) -> None:
        """A snapshot of a book that is in step is taken if it is newer; or if it is older than what the
        book had one snapshot before, for then the venue counts anew."""
        book = state.book
        if book.live and number <= book.seq and not number < state.behind:
            state.behind = book.seq if number < book.seq else 0
            return
        state.behind = 0
        book.snapshot(levels, ts_event, ts_recv, number)


def _fill(changes: Changes, levels: list[tuple[float, ...]]) -> Changes:
    for side, *what, price, amount in levels:
        action = what[0] if what else _CREATED
        if side > 1 or action > _DELETED:
            raise ValueError(f"a level with side {side} and change {action}")
        changes.add(_HALVES[int(side)], price, 0.0 if action == _DELETED else amount)
    return changes
