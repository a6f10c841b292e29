"""What a feed has last said to have published, kept apart from the rows: no damage to the outbox reaches it.

    outbox/NAME/claim    32 records of 32 bytes: u64 session, u64 seq below which it has published, u32 crc32c
                         of both, zeros. Each of the last 16 sessions has two, written in turn, so that one is
                         always whole.

Written in place after each frame, into blocks that the disk has given already.
"""

import os
import struct
from pathlib import Path

from tickplant._core import framing
from tickplant.errors import JournalError

NAME = "claim"
SESSIONS = 16
_RECORD = struct.Struct("<QQI12x")
_PLACE = struct.Struct("<QQ")


class Claim:
    """The file, open for writing."""

    def __init__(self, folder: Path) -> None:
        """Raises JournalError if it can't be written."""
        self._path = folder / NAME
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            data = os.pread(self._fd, 2 * SESSIONS * _RECORD.size, 0)
            if len(data) < 2 * SESSIONS * _RECORD.size:
                os.pwrite(self._fd, data.ljust(2 * SESSIONS * _RECORD.size, b"\0"), 0)
        except OSError as e:
            raise JournalError(f"can't write {self._path}: {e.strerror}; free space or mend it") from None
        self.ends, self._slots = _read(data)
        self._session, self._slot, self._turn = 0, 0, 0

    def put(self, session: int, seq: int) -> None:
        """Note that a session has published all rows below `seq`. Raises JournalError."""
        if session != self._session:
            oldest = min(range(SESSIONS), key=lambda n: self._slots.get(n, 0))
            known = (n for n, s in self._slots.items() if s == session)
            self._session, self._slot = session, next(known, oldest)
            self._slots[self._slot] = session
        packed = _PLACE.pack(session, seq)
        self._turn ^= 1
        at = (2 * self._slot + self._turn) * _RECORD.size
        try:
            os.pwrite(self._fd, _RECORD.pack(session, seq, framing.crc32c(packed)), at)
        except OSError as e:
            raise JournalError(f"can't write {self._path}: {e.strerror}") from None

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _read(data: bytes) -> tuple[dict[int, int], dict[int, int]]:
    """Ends by session, and the session of each slot."""
    ends: dict[int, int] = {}
    slots: dict[int, int] = {}
    for n in range(len(data) // _RECORD.size):
        session, seq, crc = _RECORD.unpack_from(data, n * _RECORD.size)
        if session and crc == framing.crc32c(_PLACE.pack(session, seq)):
            ends[session] = max(seq, ends.get(session, 0))
            slots[n // 2] = max(session, slots.get(n // 2, 0))
    return ends, slots
