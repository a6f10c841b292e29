"""The outbox: what a feed has published and the plant has not yet acknowledged as durable.

A journal of the feed's own frames, in the order in which they were published, over all its sessions.
The plant names a place in it by (session, seq) and is given all that follows; what it has acknowledged
is deleted segment by segment.
"""

from bisect import bisect_right
from pathlib import Path

from tickplant import wire
from tickplant._core import core
from tickplant.clock import now_ns
from tickplant.errors import JournalError
from tickplant.journal import JournalReader, JournalWriter
from tickplant.lock import Lock

_INDEX_BYTES = 1 << 16
_READ_BYTES = 1 << 20

Place = tuple[int, int]
"""(session, seq)"""


class Outbox:
    """Append by the feed, fetch and acknowledge by the plant's requests; not thread-safe."""

    def __init__(self, folder: Path, feed: str, segment_bytes: int, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._journal = JournalWriter(folder, {"what": "outbox", "feed": feed}, segment_bytes)
        self._places: list[Place] = []
        self._positions: list[int] = []
        self._end: Place = (0, 0)
        self._session = 0
        self.acknowledged = 0
        """Position up to which the plant has acknowledged."""

    def open(self) -> None:
        """Recover what an earlier session left.

        Raises AlreadyRunning if another process has it open, JournalDamaged if it can't be trusted.
        """
        self._lock = Lock(self.folder / "lock", "process of this feed")
        try:
            self._recover()
        except JournalError:
            self._lock.release()
            raise

    def _recover(self) -> None:
        for start, chunk in self._journal.recover():
            for offset, _, kind, *_ in core.index(chunk).tolist():
                head = wire.header(chunk, offset)
                if kind == wire.ROWS:
                    self._remember((head.session, head.seq), start + offset)
                    self._end = (head.session, head.seq + head.count)
                if kind in (wire.ROWS, wire.HEARTBEAT):
                    self._session = head.session
        self.acknowledged = self._positions[0] if self._positions else self._journal.position

    def _remember(self, place: Place, position: int) -> None:
        if not self._positions or position - self._positions[-1] >= _INDEX_BYTES:
            self._places.append(place)
            self._positions.append(position)

    def begin(self) -> int:
        """Begin a session; its number: ns UTC, and above all before, whatever the clock did meanwhile."""
        session = max(now_ns(), self._session + 1)
        waiting = self.waiting_bytes
        self._journal.append_frame(wire.HEARTBEAT, b"", session=session)
        self._session = session
        if not waiting:
            self.acknowledged = self._journal.position
        return session

    @property
    def last_crc(self) -> int:
        """The chain value for the next frame."""
        return self._journal.last_crc

    @property
    def waiting_bytes(self) -> int:
        """Bytes published and not acknowledged."""
        return self._journal.position - self.acknowledged

    def admit(self, size: int) -> None:
        """Raises JournalError if there is no room for so many bytes."""
        if self.waiting_bytes + size > self.max_bytes:
            raise JournalError(
                f"the outbox {self.folder} is full: {self.waiting_bytes:,} bytes wait for the ticker "
                "plant; start it, or raise outbox.max_bytes"
            )

    def append(self, frame: bytes, place: Place, count: int) -> None:
        """Keep a frame of `count` rows that begins at this place. Raises JournalError if its disk fails."""
        position = self._journal.append(frame, wire.crc(frame))
        self._remember(place, position - len(frame))
        self._end = (place[0], place[1] + count)

    def fetch(self, after: Place, limit: int) -> tuple[bytes, bool]:
        """Frames that follow a place (of about `limit` bytes), and whether there are more."""
        at = bisect_right(self._places, after) - 1
        reader = JournalReader(self.folder, self._positions[at] if at >= 0 else None)
        out: list[bytes] = []
        size = 0
        try:
            while chunk := reader.read(self._journal.position, _READ_BYTES):
                for offset, length, kind, *_ in core.index(chunk).tolist():
                    head = wire.header(chunk, offset)
                    if kind == wire.ROWS and (head.session, head.seq + head.count) > after:
                        if out and size + length > limit:
                            return b"".join(out), True
                        out.append(chunk[offset : offset + length])
                        size += length
            return b"".join(out), False
        finally:
            reader.close()

    def acknowledge(self, place: Place) -> None:
        """All rows before this place are durable in the plant."""
        at = bisect_right(self._places, place) - 1
        if place >= self._end:
            self.acknowledged = self._journal.position
        elif at >= 0:
            self.acknowledged = max(self.acknowledged, self._positions[at])
        if at > 0 and self._journal.trim(self._positions[at]):
            del self._places[:at], self._positions[:at]

    def close(self) -> None:
        """Sync and close."""
        self._journal.close()
        self._lock.release()
