"""Whether packets say that the numbers of a channel began anew (pure: no sockets, no clock, no protocol).

Venues begin the numbers of a channel again: each week, each day, after a failover. Some protocols say so (a
session, a reset), many do not. Then it looks like a number below the next one, as a late copy of a packet
from the other line does. It is a restart if one of these holds, the first that does:

    later    the packet was sent later than any before it. A copy has the time of its original.
    other    the line had told higher numbers before, and OTHERS packets in a row have other messages than
             those that were delivered under their numbers.
    run      the line had told numbers more than REORDERED higher, and RUN packets of it, or all to the end of
             the capture, go up from there; nothing like them was heard, and they are in no gap.

A packet that may be the first of a run is kept until that is decided. A copy never counts, nor does a packet
of a line that only lags behind. After a restart packets of the old numbers still come from a slower line:
those are told by when they were sent, else by what is in them, else by which numbers are nearer.
"""

from collections.abc import Hashable
from enum import Enum
from typing import NamedTuple

REMEMBERED = 1024
"""Packets whose content is remembered, to tell copies."""
LINES_MAX = 64
REORDERED = 16
"""So many packets back a network puts packets of one line in another order."""
RUN, OTHERS, LEAST = 4, 2, 2
"""Packets in a row that are a restart; `LEAST` at the end of a capture."""


class Told(NamedTuple):
    """What a packet tells beside its number."""

    line: Hashable = None
    """The line that it came on; None: not a line that goes up, as answers to requests."""
    sent_ns: int = 0
    """When it was sent, in any unit that goes up, the same in copies; 0: not told."""
    mark: int | None = None
    """The same in copies, and most likely not in others; None: nothing is known of that."""


NOTHING = Told()


class Verdict(Enum):
    """What a packet is."""

    TAKE = 1
    """Of the present numbers: the next one, one that is ahead, or a copy."""
    KEEP = 2
    """Perhaps the first ones after a restart: nothing is done with it before that is decided."""
    ANEW = 3
    """The numbers began anew."""
    OLD = 4
    """Of the numbers before the restart."""


class _Line:
    """What was heard on one line."""

    def __init__(self) -> None:
        self.turn = 0
        """Restarts that its numbers have seen."""
        self.end = 0
        """Above the highest number since."""
        self.kept_end = 0
        """Above the numbers that are kept; 0: none are."""
        self.kept = self.others = 0


class Restarts:
    """Judges the packets of one channel."""

    def __init__(self) -> None:
        self._turn = 0
        self._lines: dict[Hashable, _Line] = {}
        self._sent_ns = self._old_sent_ns = self._began_ns = 0
        self._marks: dict[int, tuple[int, int]] = {}
        self._old_marks: dict[int, tuple[int, int]] = {}
        self._old_next = 0

    def usual(self, seq: int, size: int, told: Told) -> bool:
        """Whether the next packet is one that nothing is to be asked of; then it is remembered."""
        line, sent_ns, _ = told
        heard = self._lines.get(line)
        if heard is None or heard.turn != self._turn or heard.kept_end or seq < heard.end:
            return False
        if 0 < sent_ns <= self._old_sent_ns:
            return False
        self._hear(heard, seq, size, told)
        return True

    def judge(self, seq: int, size: int, told: Told, following: int | None, gave_up: bool) -> Verdict:
        """What a packet of `size` messages from number `seq` on is. `following` is the next number;
        `gave_up`: that `seq` would not come was said before."""
        line = self._line(told)
        if following is not None and self.is_old(seq, size, told, following):
            _remember(self._old_marks, seq, size, told.mark)
            return Verdict.OLD
        if line.turn != self._turn:
            line.turn, line.end = self._turn, 0
        if following is None or seq >= following:
            line.kept_end = line.kept = line.others = 0
            self._hear(line, seq, size, told)
            return Verdict.TAKE
        known = self._marks.get(seq)
        if known is not None and (told.mark is None or known == (size, told.mark)):
            return Verdict.TAKE
        if self.is_later(told):
            return Verdict.ANEW
        other = known is not None and known[0] == size
        strange = known is None and not gave_up and line.end - seq > REORDERED
        if told.line is None or told.mark is None or seq >= line.end or not (other or strange):
            return Verdict.TAKE
        return self._kept(line, seq, size, other)

    def is_old(self, seq: int, size: int, told: Told, following: int) -> bool:
        """Whether a packet is of the numbers before the last restart."""
        if not self._turn:
            return False
        if self._old_sent_ns and told.sent_ns:
            if told.sent_ns < self._old_sent_ns:
                return True
            if told.sent_ns >= self._began_ns:
                return False
        mine = (size, told.mark)
        if told.mark is not None and self._marks.get(seq) == mine:
            return False
        if told.mark is not None and self._old_marks.get(seq) == mine and seq > following:
            return True
        line = self._lines.get(told.line)
        if line is not None and line.turn == self._turn and not self._old_sent_ns:
            return False  # a line does not go back to the old numbers
        return abs(seq - self._old_next) < abs(seq - following)

    def is_later(self, told: Told) -> bool:
        """Whether a packet was sent later than any of the present numbers."""
        return told.sent_ns > self._sent_ns > 0

    def begin(self, following: int | None, sent_ns: int) -> None:
        """The numbers begin anew, with a packet that was sent at `sent_ns`; 0: that does not tell old from
        new."""
        self._turn += 1
        self._began_ns = sent_ns
        self._old_sent_ns, self._sent_ns = self._sent_ns if sent_ns else 0, 0
        self._old_marks, self._marks = self._marks, {}
        self._old_next = following or 0
        for line in self._lines.values():
            line.kept_end = line.kept = line.others = 0

    def join(self, seq: int, size: int, told: Told) -> None:
        """A packet is of the numbers that begin."""
        line = self._line(told)
        if line.turn != self._turn:
            line.turn, line.end = self._turn, 0
        self._hear(line, seq, size, told)

    def lost(self, seq: int, size: int) -> tuple[int, int] | None:
        """The first and last of the old numbers that had not been heard before this old packet; they count as
        heard from now on. None: it is a copy."""
        end = seq + size
        if end <= self._old_next:
            return None
        first, self._old_next = self._old_next, end
        return first, end - 1

    def _kept(self, line: _Line, seq: int, size: int, other: bool) -> Verdict:
        if seq < line.kept_end:
            return Verdict.TAKE
        line.kept_end = seq + size
        line.kept += 1
        line.others += other
        return Verdict.ANEW if line.kept >= RUN or line.others >= OTHERS else Verdict.KEEP

    def _line(self, told: Told) -> _Line:
        line = self._lines.get(told.line)
        if line is None:
            if len(self._lines) >= LINES_MAX:
                self._lines.pop(next(iter(self._lines)))
            line = self._lines[told.line] = _Line()
            line.turn = self._turn
        return line

    def _hear(self, line: _Line, seq: int, size: int, told: Told) -> None:
        _, sent_ns, mark = told
        line.end = max(line.end, seq + size)
        if sent_ns > self._sent_ns:
            self._sent_ns = sent_ns
        _remember(self._marks, seq, size, mark)


def _remember(marks: dict[int, tuple[int, int]], seq: int, size: int, mark: int | None) -> None:
    """What is in a packet, unless that is known of its number; the oldest is forgotten."""
    if mark is not None and seq not in marks:
        if len(marks) >= REMEMBERED:
            del marks[next(iter(marks))]
        marks[seq] = (size, mark)
