"""Outboxes on this host: the plant reads what their feeds keep where it lies, instead of from their sockets.

A feed has each frame in its outbox before its call returns. Where the plant can open that very file it takes
the frame from there, one wakeup after it was written, and the feed does not publish it. What makes rows
complete stays as it is: the feed's heartbeats come over its socket, what is missing is fetched, and what is
durable is acknowledged.

    feed     beside {session, seq, position, file: [device, inode], process}
                                   the next row will be `seq`, at `position` of the outbox with that lock file
    plant    follow {session}      it is read from there on; frames before that have been published
    feed     rings the doorbell after each frame
    plant    ack {..., follows}    false: publish, and say again where you are

Which file is read says the plant's own configuration, never a feed: it only proves that it means the same.
"""

import os
from pathlib import Path

from tickplant import wire
from tickplant._core.intake import Intake
from tickplant.clock import MILLISECOND_NS
from tickplant.dialogue import Beside
from tickplant.journal import SUFFIX, begins, segments

BUFFER_BYTES = 1 << 21
LOOK_NS = 50 * MILLISECOND_NS
"""How often each is looked at though nobody rang."""

Place = tuple[int, int]


def lock_file(folder: Path) -> list[int]:
    """What tells an outbox from all others, also of other hosts that have the same path: [device, inode].

    Empty if there is none that can be seen from here.
    """
    try:
        found = (folder / "lock").stat()
    except OSError:
        return []
    return [found.st_dev, found.st_ino]


class LocalOutbox:
    """One outbox, from a position on."""

    def __init__(self, folder: Path, place: Place, position: int, process: int) -> None:
        """`place`: the row at that position. Raises OSError if it can't be read."""
        self.folder, self.place, self.position, self.process = folder, place, position, process
        self._fd = -1
        path = next((p for p in reversed(segments(folder)) if begins(p) <= position), None)
        if path is None:
            raise FileNotFoundError(f"{folder} has nothing at {position}")
        self._open(path)

    def _open(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._fd, self._begins = fd, begins(path)

    def read(self, into: bytearray) -> int:
        """Bytes from the position on; how many there were. Raises OSError."""
        got = os.preadv(self._fd, [into], self.position - self._begins)
        if not got and self.position > self._begins:
            after = self.folder / f"{self.position:020d}{SUFFIX}"
            if after.exists():
                self._open(after)
                got = os.preadv(self._fd, [into], 0)
        return got

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Outboxes:
    """Those that are followed, by number of the feed."""

    def __init__(self, intake: Intake, frame_bytes: int) -> None:
        """`frame_bytes`: the most rows of one frame may have."""
        self.intake = intake
        self.followed: dict[int, LocalOutbox] = {}
        self.more: set[int] = set()
        """Those of which there is more than was read."""
        self.buffer = bytearray(max(BUFFER_BYTES, wire.HEADER_SIZE + frame_bytes))

    def follow(self, number: int, folder: Path, said: Beside) -> bool:
        """Read a feed's outbox from where it says it is; False if it is not here, or can't be read."""
        if not said.file or said.file != lock_file(folder):
            return False
        there = self.followed.get(number)
        if there and there.process == said.process:
            return True  # it goes on from where it is
        self.leave(number)
        try:
            self.followed[number] = LocalOutbox(folder, (said.session, said.seq), said.position, said.process)
        except OSError:
            return False
        return True

    def read(self, number: int) -> memoryview:
        """What is new in an outbox; empty if nothing is, or what comes before is still on its way.

        An outbox that can't be read is not followed any more.
        """
        box = self.followed.get(number)
        if box is None or (box.place[1] and self.intake.session(number) < box.place):
            return memoryview(b"")
        try:
            got = box.read(self.buffer)
        except OSError:
            self.leave(number)
            return memoryview(b"")
        (self.more.add if got == len(self.buffer) else self.more.discard)(number)
        return memoryview(self.buffer)[:got]

    def went(self, number: int, taken: int) -> None:
        """So many bytes of what was read are done with."""
        if number in self.more and not taken:
            self.leave(number)  # a frame that is longer than any may be
        elif number in self.followed:
            self.followed[number].position += taken

    def leave(self, number: int) -> None:
        """Do not follow it any more; its feed hears of it with the next acknowledgement."""
        self.more.discard(number)
        if box := self.followed.pop(number, None):
            box.close()

    def close(self) -> None:
        """Leave all."""
        for number in list(self.followed):
            self.leave(number)
