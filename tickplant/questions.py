"""What a remote reader has asked its publisher for and not been answered: per table one request at a time."""

from tickplant.clock import monotonic_ns
from tickplant.link import RETRY_NS, Link
from tickplant.requests import LatestFrom, Replay
from tickplant.sequencer import Want

REPLY_BYTES = 1 << 20
ASKED_MAX = 4
"""Requests at once; a publisher keeps only so many answers for one reader."""


class Questions:
    """Over one link, for the tables of one subscription."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._asked: dict[int, Want] = {}
        self._asked_ns: dict[int, int] = {}
        self._doubted: set[int] = set()
        """Tables of which the last answer was not all valid frames."""

    def __bool__(self) -> bool:
        return bool(self._asked)

    def open(self, number: int) -> Want | None:
        """What is asked for of a table and not answered, if anything."""
        return self._asked.get(number)

    def follow(self, number: int, want: Want | None) -> None:
        """This is wanted of a table now: ask for it, again after a silence, unless too much is asked for."""
        now = monotonic_ns()
        if want != self._asked.get(number):
            self._asked.pop(number, None)
        elif now - self._asked_ns.get(number, 0) < RETRY_NS:
            return
        if want is not None and len(self._asked.keys() | {number}) <= ASKED_MAX:
            self.ask(want)

    def ask(self, want: Want) -> None:
        """Ask for this, in the place of what is asked for of its table."""
        number = want.table.number
        self._asked[number], self._asked_ns[number] = want, monotonic_ns()
        date, row = want.trading_date, want.row
        if want.first is None:
            # The publisher is to check frames only if the last were not valid, and to say so if they are
            # damaged where they lie.
            check = number in self._doubted
            self._link.tell(Replay(date=date, table=number, row=row, bytes=REPLY_BYTES, check=check))
        else:
            self._link.tell(LatestFrom(date=date, table=number, row=row, bytes=REPLY_BYTES, first=want.first))

    def answered(self, want: Want) -> None:
        """This is done with, if it is still asked for."""
        if self._asked.get(want.table.number) == want:
            del self._asked[want.table.number]

    def doubt(self, number: int, damaged: bool) -> None:
        """Was an answer about this table damaged?"""
        (self._doubted.add if damaged else self._doubted.discard)(number)
