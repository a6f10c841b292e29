"""The outbox: what a feed has published and the plant has not yet acknowledged as durable.

A journal of the feed's own frames, in the order in which they were published, over all its sessions.
The plant names a place in it by (session, seq) and is given all that follows; what it has acknowledged
is deleted segment by segment. Beside frames of rows it holds heartbeats:

    seq 0      a session begins; payload: msgpack list of the sessions before it that this outbox had
    seq > 0    rows below seq that are not there were dropped, for there was no room

What is damaged on the disk is passed by, and declared as a gap by what the frames behind it say, or, where
nothing is behind it, by the feed's own claim (claim.py).

    dropped    a file of 20 bytes: u64 session, u64 seq below which rows were dropped, u32 crc32c of them.
               Written before the call that published them returns; the heartbeat follows when there is room.
"""

import errno
import logging
import os
import secrets
import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgpack

from tickplant import wire
from tickplant._core import framing
from tickplant.clock import MILLISECOND_NS, monotonic_ns, now_ns
from tickplant.errors import JournalDamaged, JournalError, JournalFull, TickplantError
from tickplant.feed.binding import Binding, bound
from tickplant.feed.binding import read as read_binding
from tickplant.feed.claim import Claim
from tickplant.feed.extents import Run, runs
from tickplant.journal import JournalReader, JournalWriter, begins, segments
from tickplant.lock import Lock

log = logging.getLogger(__name__)

_INDEX_BYTES = 1 << 16
_READ_BYTES = 1 << 20
_RETRY_NS = 100 * MILLISECOND_NS
_SESSIONS_KEPT = 16
_DROPPED = struct.Struct("<QQI")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

DAMAGED = b"damaged"
"""Payload of a heartbeat that tells of rows which were damaged, and not dropped."""

Place = tuple[int, int]
"""(session, seq)"""


class _Journal(JournalWriter):
    """A journal for which a full disk is no failure: what was written of a frame is taken back."""

    def _fail(self, what: str, error: OSError) -> JournalError:
        if (
            error.errno in _NO_ROOM
            and what.startswith(("can't write", "can't create"))
            and self._taken_back()
        ):
            return JournalFull(f"the disk of the outbox {self.folder} is full; free space there")
        return super()._fail(what, error)

    def _cut(self, files: list[Path], damage: JournalDamaged | None) -> list[Path]:
        """Also where what is not whole was durable: it is set aside, and the claim says what it was."""
        self.durable = min(self.durable, self.position)
        return super()._cut(files, damage)

    def _taken_back(self) -> bool:
        size = self.position - self._begins
        try:
            if size:
                os.ftruncate(self._fd, size)
            elif self._fd >= 0:  # a segment that does not say whose it is must not stay
                with self._lock:
                    os.close(self._unsynced.pop(self._begins))
                    self._fd = -1
                (self.folder / f"{self.position:020d}.tpj").unlink()
        except OSError:
            return False
        return True


class Outbox:
    """Append by the feed, fetch and acknowledge by the plant's requests; not thread-safe."""

    def __init__(
        self, folder: Path, feed: str, segment_bytes: int, max_bytes: int, number: int = 0, plant: str = ""
    ) -> None:
        """`feed`, `number`, `plant`: whose it is."""
        self.folder, self.max_bytes, self.number = folder, max_bytes, number
        self.binding = Binding(feed, number, plant)
        about = {"what": "outbox", "feed": feed, "number": number, "plant": plant}
        self._journal = _Journal(folder, about, segment_bytes)
        self._places: list[Place] = []
        self._positions: list[int] = []
        self._end: Place = (0, 0)
        self._session = 0
        self._sessions: list[int] = []
        self._dropped: Place = (0, 0)
        self._retry_ns = 0
        self._reached: Place = (0, 0)
        self._runs: list[Run] = []
        """What is sound; the last goes on to the end."""
        self._missed: list[Place] = []
        """Ends of sessions whose last rows are damaged."""
        self.acknowledged = 0
        """Position up to which the plant has acknowledged."""
        self.full = ""
        """Why there is no room, as `admit` found last; empty if there was."""

    def open(self) -> None:
        """Recover what an earlier session left.

        Raises AlreadyRunning if another process has it open, ConfigError if it is another feed's or another
        plant's, JournalDamaged if it can't be trusted.
        """
        self._lock = Lock(self.folder / "lock", "process of this feed")
        try:
            mine = self.binding
            self.binding = bound(self.folder, mine.feed, mine.number, mine.plant)
            self._bind(self.binding)
            self._claim = Claim(self.folder)
            self._recover()
            self._open_dropped()
        except TickplantError:
            self._lock.release()
            raise

    def meet(self, token: str) -> None:
        """The plant is met for the first time: from now on the rows are for that one alone."""
        self._bind(self.binding.met(token))

    def _bind(self, to: Binding) -> None:
        self.binding = to
        try:
            if read_binding(self.folder) != to:
                to.write(self.folder)
        except OSError as e:
            raise JournalError(
                f"can't write into {self.folder}: {e.strerror}; free space or mend the disk"
            ) from None

    def _recover(self) -> None:
        ends: dict[int, int] = {}
        self._runs = runs(self.folder)
        for start, chunk in self._sound():
            for offset, length, kind, *_ in framing.index(chunk).tolist():
                head = wire.header(chunk, offset)
                ends[head.session] = max(ends.get(head.session, 0), head.seq + head.count)
                if kind == wire.ROWS:
                    self._remember((head.session, head.seq), start + offset)
                if kind == wire.ROWS or (kind == wire.HEARTBEAT and head.seq):
                    self._end = (head.session, head.seq + head.count)
                elif kind == wire.HEARTBEAT:
                    before = chunk[offset + wire.HEADER_SIZE : offset + length]
                    self._sessions = msgpack.unpackb(before) if before else []
                if kind in (wire.ROWS, wire.HEARTBEAT) and not self.knows(head.session):
                    self._session = head.session  # its beginning may have been deleted
                    self._sessions = [*self._sessions, head.session][-_SESSIONS_KEPT:]
        self.acknowledged = self._positions[0] if self._positions else self._journal.position
        self._miss(ends)

    def _sound(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """The sound frames, by their position; then the journal can be appended to."""
        for start, end in self._runs[:-1]:
            reader = JournalReader(self.folder, start)
            try:
                while chunk := reader.read(end):
                    yield (reader.position or 0) - len(chunk), chunk
            finally:
                reader.close()
        yield from self._journal.recover(self._runs[-1][0] if self._runs else None)
        self._runs = self._runs or [(self._journal.position, self._journal.position)]
        holes = [(a[1], b[0]) for a, b in pairwise(self._runs) if a[1] != b[0]]
        if holes:
            where = ", ".join(f"bytes {a:,} to {b:,}" for a, b in holes)
            log.error("the outbox %s is damaged: %s; what was there is declared as a gap", self.folder, where)

    def _miss(self, ends: dict[int, int]) -> None:
        """Compare what each session says to have published with what is there of it."""
        claimed = self._claim.ends
        self._missed = sorted((s, seq) for s, seq in claimed.items() if seq > ends.get(s, 0))
        if self._missed:
            self._end = self._dropped = max(self._end, self._missed[-1])
            log.error("the outbox %s lacks rows that were published, up to %s", self.folder, self._missed[-1])
        self._session = max([self._session, *claimed])
        self._sessions = sorted({*self._sessions, *claimed})[-_SESSIONS_KEPT:]

    def _open_dropped(self) -> None:
        """Have the note of what is dropped, with its place on the disk taken, so that it can't be refused."""
        path = self.folder / "dropped"
        try:
            self._note = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            note = os.pread(self._note, _DROPPED.size, 0)
            if len(note) < _DROPPED.size:
                os.pwrite(self._note, bytes(_DROPPED.size), 0)
        except OSError as e:
            raise JournalError(f"can't write {path}: {e.strerror}; free space or mend the disk") from None
        if len(note) == _DROPPED.size and framing.crc32c(note[:16]) == _DROPPED.unpack(note)[2]:
            self._dropped = max(self._dropped, _DROPPED.unpack(note)[:2])

    def _remember(self, place: Place, position: int) -> None:
        if not self._positions or position - self._positions[-1] >= _INDEX_BYTES:
            self._places.append(place)
            self._positions.append(position)

    def begin(self, above: int = 0) -> int:
        """Begin a session; its number: ns UTC, and above all before, whatever the clock did meanwhile.

        If the clock went back, it is some way above: two copies of one outbox do not begin the same session.
        `above`: the session that the plant knows. Raises JournalFull if the disk has no room.
        """
        session, least = now_ns(), max(self._session, above)
        if session <= least:
            session = least + 1 + secrets.randbelow(1 << 30)
        waiting = self.waiting_bytes
        self._tell()
        before = msgpack.packb(self._sessions)
        self._journal.append_frame(wire.HEARTBEAT, before, feed=self.number, session=session)
        self._session = session
        self._sessions = [*self._sessions, session][-_SESSIONS_KEPT:]
        if not waiting:
            self.acknowledged = self._journal.position
        return session

    @property
    def end(self) -> Place:
        """Behind the last row of the last session that has any: those that were dropped count."""
        return max(self._end, self._dropped)

    def knows(self, session: int) -> bool:
        """Is it one of this outbox's sessions (of the last few)?"""
        return session in self._sessions

    @property
    def last_crc(self) -> int:
        """The chain value for the next frame."""
        return self._journal.last_crc

    @property
    def position(self) -> int:
        """Where the next frame will be."""
        return self._journal.position

    @property
    def waiting_bytes(self) -> int:
        """Bytes published and not acknowledged."""
        return self._journal.position - self.acknowledged

    @property
    def settled(self) -> bool:
        """Has the plant all that was published, and does it know what was dropped?"""
        return not self.waiting_bytes and self._dropped <= self._reached

    def admit(self, size: int, *, beyond: bool = False) -> bool:
        """Is there room for a frame of so many bytes? An empty outbox has; `beyond`: whatever max_bytes says.

        To be asked before the frame is chained to `last_crc`. Raises JournalError if the disk fails.
        """
        waiting = self.waiting_bytes
        if waiting and waiting + size > self.max_bytes and not beyond:
            self.full = (
                f"the outbox {self.folder} is full: {waiting:,} bytes wait for the ticker plant; "
                "start it, or raise outbox.max_bytes"
            )
            return False
        if monotonic_ns() < self._retry_ns or not self._told():
            return False
        self.full = ""
        return True

    def _refused(self, error: JournalFull) -> None:
        self.full, self._retry_ns = str(error), monotonic_ns() + _RETRY_NS

    def append(self, frame: bytes, place: Place, count: int) -> None:
        """Keep a frame of `count` rows that begins at this place.

        Raises JournalFull if its disk is full: the same frame has to be tried again, or dropped.
        Raises JournalError if its disk fails.
        """
        try:
            position = self._journal.append(frame, wire.crc(frame))
        except JournalFull as e:
            self._refused(e)
            raise
        self._remember(place, position - len(frame))
        self._end = (place[0], place[1] + count)
        self._claim.put(*self._end)

    def drop(self, upto: Place) -> None:
        """Note that the rows from the last one kept up to this place are not, so that the plant is told.

        Raises JournalError if that can't be noted.
        """
        note = struct.pack("<QQ", *upto)
        try:
            os.pwrite(self._note, note + struct.pack("<I", framing.crc32c(note)), 0)
        except OSError as e:
            raise JournalError(f"can't write {self.folder / 'dropped'}: {e.strerror}") from None
        self._dropped = upto
        self._claim.put(*upto)

    def _tell(self) -> None:
        """Put what was dropped in its place among the frames. Raises JournalFull."""
        if self._dropped > self._end:
            session, seq = self._dropped
            self._journal.append_frame(wire.HEARTBEAT, b"", feed=self.number, session=session, seq=seq)
            self._end = self._dropped

    def _told(self) -> bool:
        """The same, as far as there is room."""
        try:
            self._tell()
        except JournalFull as e:
            self._refused(e)
            return False
        return True

    def fetch(self, after: Place, limit: int) -> tuple[bytes, bool]:
        """Frames that follow a place (of about `limit` bytes), and whether there are more."""
        self._told()
        try:
            return self._fetch(after, limit)
        except JournalDamaged as e:  # since it was opened
            log.error("%s; what is sound behind it is used", e)
            self._runs = runs(self.folder) or self._runs
            return self._fetch(after, limit)

    def _fetch(self, after: Place, limit: int) -> tuple[bytes, bool]:
        at = bisect_right(self._places, after) - 1
        out: list[bytes] = []
        size = 0
        missed = [m for m in self._missed if m > after]
        for head, frame in self._following(self._positions[at] if at >= 0 else 0):
            if (head.session, head.seq + head.count) <= after:
                continue
            while missed and missed[0][0] < head.session:
                out.append(self._lost(missed.pop(0)))
            if out and size + len(frame) > limit:
                return b"".join(out), True
            out.append(frame)
            size += len(frame)
        return b"".join([*out, *map(self._lost, missed)]), False

    def _lost(self, upto: Place) -> bytes:
        """What says that rows up to there were damaged."""
        session, seq = upto
        lost: bytes = framing.seal(DAMAGED, wire.HEARTBEAT, feed=self.number, session=session, seq=seq)
        return lost

    def _following(self, position: int) -> Iterator[tuple[wire.Header, bytes]]:
        """Frames that tell of rows, from a position on, whatever is damaged between them."""
        files = segments(self.folder)
        position = max(position, begins(files[0])) if files else position
        for begin, end in [*self._runs[:-1], (self._runs[-1][0], self._journal.position)]:
            if max(begin, position) >= end:
                continue
            reader = JournalReader(self.folder, max(begin, position))
            try:
                while chunk := reader.read(end, _READ_BYTES):
                    for offset, length, kind, *_ in framing.index(chunk).tolist():
                        head = wire.header(chunk, offset)
                        if kind == wire.ROWS or (kind == wire.HEARTBEAT and head.seq):
                            yield head, chunk[offset : offset + length]
            finally:
                reader.close()

    def acknowledge(self, place: Place) -> None:
        """All rows before this place are durable in the plant."""
        self._reached = max(self._reached, place)
        at = bisect_right(self._places, place) - 1
        if place >= self._end:
            self.acknowledged = self._journal.position
        elif at >= 0:
            self.acknowledged = max(self.acknowledged, self._positions[at])
        if at > 0 and self._journal.trim(self._positions[at]):
            del self._places[:at], self._positions[:at]

    def close(self) -> None:
        """Sync and close."""
        try:
            self._told()
            self._journal.close()
        finally:
            if self._note >= 0:
                os.close(self._note)
                self._note = -1
            self._claim.close()
            self._lock.release()
