"""At most one of a kind: a lock file that the kernel frees when its holder dies, however it dies."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TextIO

from tickplant.errors import AlreadyRunning


class Lock:
    """Held from the moment it is made until `release`."""

    def __init__(self, path: Path, holder: str) -> None:
        """`holder`: what else would hold it. Raises AlreadyRunning if it is held."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise AlreadyRunning(f"another {holder} holds {path}") from None
        with contextlib.suppress(OSError):  # for people only, and there may be no room for it
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another have it."""
        self._file.close()
