"""From packed rows to frames that are on their way to the plant and kept in the outbox, or dropped.

When the outbox has no room, or its disk, `outbox.when_full` says what becomes of rows: `block`, and they have
to wait; or `drop`, and they are not published, but their seqs are used up, and the plant declares the gap.
"""

import logging

import numpy as np
import numpy.typing as npt
import zmq

from tickplant import wire
from tickplant._core.session import Session
from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.doorbell import Ringer
from tickplant.errors import JournalError, JournalFull, TickplantError
from tickplant.feed.outbox import Outbox
from tickplant.schema import Table

log = logging.getLogger(__name__)

WINDOW_BYTES = 1 << 26


class Sender:
    """The frames of one session, in order; not thread-safe."""

    def __init__(
        self, name: str, session: Session, outbox: Outbox, pub: zmq.Socket[bytes], ringer: Ringer, drops: bool
    ) -> None:
        self.name, self.session, self.outbox, self.pub, self.drops = name, session, outbox, pub, drops
        self.ringer = ringer
        self.followed = False
        """Does the plant read the outbox, so that it need only be told to look?"""
        self.writes_first = False
        """Is a frame sent only when the outbox has it?"""
        self.muted = False
        """Is it another plant that listens? Then nothing is published: the outbox keeps it."""
        self.seq = 0
        """The seq of the next row: that of those which are kept, and dropped, so far."""
        self.dropped = 0
        self.failed: TickplantError | None = None
        """Why nothing can be published any more."""
        self.sent_ns = 0
        self.rows_ns = monotonic_ns()
        """When rows of any table but event were given to it last, or it began."""
        self.blocked = ""
        """What row of table `event` is due: that rows had to wait, and how long."""
        self._unwritten: tuple[bytes, int] | None = None
        """A frame that is on its way, but had no room in the outbox yet, and its rows."""
        self._full_ns = 0

    @property
    def full(self) -> str:
        """Why there is no room; empty if there is."""
        return self.outbox.full if self._full_ns else ""

    def ahead(self) -> bool:
        """Is the plant further behind than the window?"""
        return self.outbox.waiting_bytes > WINDOW_BYTES

    def send(
        self, table: Table, rows: npt.NDArray[np.uint8] | memoryview, count: int, *, beyond: bool = False
    ) -> bool:
        """Publish packed rows as one frame, or drop them; False if there is no room and they have to wait.

        The frame is on its way while the outbox writes it down. A crash between the two takes nothing with
        it that was published: the call had not returned. `beyond`: more than outbox.max_bytes if need be.
        Raises what made the feed fail, such as its disk.
        """
        if self.failed:
            raise self.failed
        try:
            size = wire.HEADER_SIZE + count * table.row_size
            if not (self.written() and self.outbox.admit(size, beyond=beyond)):
                self._say_full()
                if self.drops:
                    self._note_rows(table)
                    # Counted and summed with the rest: what is missing can be told from what is claimed.
                    self.session.frame(table.number, rows, now_ns(), 0)
                    self._note(count)
                return self.drops
            frame = self.session.frame(table.number, rows, now_ns(), self.outbox.last_crc)
            # Further behind than the window: the plant fetches it from the outbox, this memory stays bounded.
            live = not (self.followed or self.muted or self.ahead())
            if live and not self.writes_first:
                self.pub.send(frame)
            self._unwritten = frame, count
            if self.written() and live and self.writes_first:
                self.pub.send(frame)
        except JournalError as e:
            self.failed = e  # they can't be told again: none may follow them
            raise
        self.sent_ns = monotonic_ns()
        self._note_rows(table)
        return True

    def _note_rows(self, table: Table) -> None:
        """Rows came from the venue, if they are not what the feed says of itself."""
        if table.name != "event":
            self.rows_ns = monotonic_ns()

    def written(self) -> bool:
        """Have in the outbox what is on its way; False if there is no room for it yet."""
        if self._unwritten is None:
            return True
        frame, count = self._unwritten
        try:
            self.outbox.append(frame, (self.session.number, self.seq), count)
        except JournalFull:
            self._say_full()
            if not self.drops:
                return False
            self._unwritten = None
            self._note(count)  # it has left, and is lost only if the plant did not hear it
            return True
        if self.followed:
            self.ringer.ring()
        self._unwritten = None
        self.seq += count
        if self._full_ns:
            self._say_room()
        return True

    def _note(self, count: int) -> None:
        """Do not publish rows, and have the plant know that they were there."""
        self.outbox.drop((self.session.number, self.seq + count))
        self.seq += count
        self.dropped += count

    def _say_full(self) -> None:
        if not self._full_ns:
            self._full_ns = monotonic_ns()
            what = "drops rows" if self.drops else "waits"
            log.warning("feed %s %s: %s", self.name, what, self.outbox.full)

    def _say_room(self) -> None:
        seconds = (monotonic_ns() - self._full_ns) / SECOND_NS
        self._full_ns = 0
        log.warning("feed %s: its outbox has room again after %.1f s", self.name, seconds)
        if not self.drops:
            self.blocked = f"rows waited {seconds:.1f} s for room in the outbox"
