"""At most one of a kind: a lock file that the kernel frees when its holder dies, however it dies.

Only its user can open it, for whoever can open a file can hold its lock.
"""

import contextlib
import fcntl
import os
import stat
import weakref
from pathlib import Path

from tickplant import owners
from tickplant.errors import AlreadyRunning, SegmentError

_MODE = 0o600
_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """Held from the moment it is made until `release`."""

    def __init__(self, path: Path, holder: str) -> None:
        """`holder`: what else would hold it.

        Raises AlreadyRunning if it is held, SegmentError if what is at the path is no lock of ours.
        """
        self._fd = -1
        self._fd = _open(path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise AlreadyRunning(f"another {holder} holds {path} (find it: fuser -v {path})") from None
        _held.add(self)
        with contextlib.suppress(OSError):  # for people only, and there may be no room for it
            os.ftruncate(self._fd, 0)
            os.write(self._fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = release


def _give_up_copies() -> None:
    """A forked child's copies of descriptors would keep the locks after their holder is gone."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_give_up_copies)


def _open(path: Path) -> int:
    """The lock file, made if it is not there. Root's is of the folder's owner, who has to open it later."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, flags, _MODE)
    except OSError as e:
        raise SegmentError(f"can't open the lock {path}: {e.strerror}; see: ls -l {path}") from None
    found, folder = os.fstat(fd), path.parent.stat()
    try:
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise SegmentError(f"{path} is in the way: it is not a plain file with one link; remove it")
        if found.st_uid not in (os.geteuid(), folder.st_uid):
            raise SegmentError(
                f"{path} is in the way: it is of user {owners.name(found.st_uid)}; remove it, or: "
                f"chown {owners.name(os.geteuid())} {path}"
            )
        if stat.S_IMODE(found.st_mode) != _MODE:
            os.fchmod(fd, _MODE)
        if os.geteuid() == 0 and found.st_uid != folder.st_uid and not folder.st_mode & stat.S_ISVTX:
            os.fchown(fd, folder.st_uid, folder.st_gid)
    except (OSError, SegmentError):
        os.close(fd)
        raise
    return fd
