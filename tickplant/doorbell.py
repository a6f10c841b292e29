"""The doorbell: a FIFO by which feeds of this host tell the ticker plant to look into their outboxes.

    run_dir/doorbell    u16 each, as the host has them: the number of a feed

To ring never waits. A FIFO that is full loses the ring, not the row: the plant looks by itself now and then.
"""

import contextlib
import os
import stat
import sys
from pathlib import Path

from tickplant.errors import ConfigError

NAME = "doorbell"
_READ_BYTES = 1 << 12


class Doorbell:
    """The plant's end."""

    def __init__(self, run_dir: Path) -> None:
        """Raises ConfigError if it can't be made."""
        self.fd = self._own = -1
        self._run_dir = run_dir
        self._open()

    def _open(self) -> None:
        path = self._run_dir / NAME
        try:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path)
            if stat.S_ISFIFO(path.lstat().st_mode):
                path.chmod(0o620)  # the group's feeds ring, and take no ring away
            self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            # A FIFO that nobody has open for writing is at its end, and would wake whoever polls it.
            self._own = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            self.close()
            raise ConfigError(f"can't make the FIFO {path}: {e.strerror}") from None
        if not stat.S_ISFIFO(os.fstat(self.fd).st_mode):
            self.close()
            raise ConfigError(f"{path} is in the way: it is not a FIFO")

    def restore(self) -> bool:
        """Make it again if somebody removed it; was that so? Raises ConfigError."""
        try:
            found, own = (self._run_dir / NAME).lstat(), os.fstat(self.fd)
            if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                return False
        except OSError:
            pass
        self.close()
        self._open()
        return True

    def heard(self) -> set[int]:
        """Numbers of the feeds that have rung since."""
        try:
            rung = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return set()
        return set(memoryview(rung[: len(rung) & ~1]).cast("H"))

    def close(self) -> None:
        """Hear no more."""
        for fd in {self.fd, self._own} - {-1}:
            os.close(fd)
        self.fd = self._own = -1


class Ringer:
    """A feed's end; it comes and goes with the plant's."""

    def __init__(self, run_dir: Path, number: int) -> None:
        self._path, self._ring = run_dir / NAME, number.to_bytes(2, sys.byteorder)
        self._fd = -1

    def connect(self) -> bool:
        """Is there a plant on this host that hears?"""
        if self._fd < 0:
            with contextlib.suppress(OSError):  # no such FIFO, or nobody who reads it
                self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return self._fd >= 0

    def ring(self) -> None:
        """Tell the plant to look."""
        try:
            os.write(self._fd, self._ring)
        except BlockingIOError:
            pass
        except OSError:  # the plant is gone; the next may make another FIFO
            self.close()

    def close(self) -> None:
        """Ring no more, until connected again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
