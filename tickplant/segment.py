"""Named shared memory: create, attach, allocate, remove.

posix_ipc and mmap, not multiprocessing.shared_memory: that one's tracker unlinks live segments, and
it has neither a mode nor a read-only attach. Memory is taken with fallocate before it is touched, so a
full /dev/shm is an error here and never a SIGBUS there; a segment is never made smaller.

Any user may have put a FIFO, a link, a folder or a file under one of our names. Ours is a plain file with one
link, of the user that is believed (owners.py); nothing else is mapped, written or removed. Where something
foreign has the name, ours is made as `<name>~<random>`, and found by it.
"""

import contextlib
import errno
import logging
import mmap
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import posix_ipc

from tickplant import owners, wire
from tickplant._core import framing
from tickplant._core.memory import populate
from tickplant.errors import FrameError, NotRunning, SegmentError, TableFull

log = logging.getLogger(__name__)

SHM = Path("/dev/shm")
_INSTEAD = "~"
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_told: set[str] = set()
"""Foreign things that the log has named."""


class Segment:
    """A mapped shared-memory object. It stays mapped as long as a view of it lives."""

    def __init__(self, name: str, fd: int, size: int, writable: bool) -> None:
        self.name, self.fd, self.size = name, fd, size  # the descriptor is ours from here on
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.map = mmap.mmap(fd, size, mmap.MAP_SHARED, access)

    def allocate(self, offset: int, length: int, huge: bool | None = None) -> None:
        """Make sure that bytes [offset, offset + length) have memory. Raises TableFull if not.

        In huge pages where `huge` is true, in small ones where it is false, else as the mount has them.
        """
        start = offset - offset % mmap.PAGESIZE
        if huge is not None:
            self._advise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE, start, offset + length)
            populate(self.map, start, offset + length - start)  # before fallocate, which knows no advice
        try:
            os.posix_fallocate(self.fd, offset, length)
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise SegmentError(f"can't allocate memory of {self.name}: {e.strerror}") from None
            if huge is not None:  # what fallocate took it has given back already
                self._advise(mmap.MADV_REMOVE, -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE, offset + length)
            raise TableFull(
                f"no room in {SHM} for {length:,} bytes of {self.name}; free some, "
                f"or: mount -o remount,size=SIZE {SHM}"
            ) from None
        if huge is None:
            populate(self.map, start, offset + length - start)  # where refused, first touch faults pages in

    def _advise(self, advice: int, start: int, end: int) -> None:
        if start < end:
            with contextlib.suppress(OSError):  # memory without the advice is memory all the same
                self.map.madvise(advice, start, end - start)

    def close(self) -> None:
        """Close the descriptor; the mapping goes when its last view does."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    __del__ = close

    @property
    def closed(self) -> bool:
        """Is the descriptor closed? No more memory can be allocated then."""
        return self.fd < 0


def create(name: str, size: int, mode: int = 0o640) -> Segment:
    """Create a shared-memory object of `size` bytes, none of them allocated yet.

    Raises SegmentError if one of that name exists that is ours.
    """
    fd = _make(name)
    try:
        os.ftruncate(fd, size)
        os.fchmod(fd, mode)  # as asked, whatever the umask
    except OSError as e:
        os.close(fd)
        raise SegmentError(f"can't make shared memory {SHM / name}: {e.strerror}") from None
    return Segment(name, fd, size, writable=True)


def _make(name: str) -> int:
    """A new file of the name, or of another that stands for it where that is taken; open for writing."""
    if (there := next(_paths(name, os.geteuid()), None)) is not None:
        raise SegmentError(f"shared memory {there} exists already")
    path = SHM / name
    while True:
        try:
            return int(posix_ipc.SharedMemory(f"/{path.name}", posix_ipc.O_CREX, mode=0o600).fd)
        except posix_ipc.ExistentialError:
            _tell(path)
        except (posix_ipc.PermissionsError, OSError, ValueError) as e:
            raise SegmentError(f"can't create shared memory {path}: {e}") from None
        path = SHM / f"{name}{_INSTEAD}{secrets.token_hex(8)}"


def _tell(path: Path) -> None:
    if str(path) not in _told:
        _told.add(str(path))
        log.warning("%s; it is passed by, and another name is taken", described(path))


def described(path: Path) -> str:
    """What is at a path of shared memory, for people."""
    try:
        found = path.lstat()
    except OSError:
        return f"{path} is gone"
    kinds = {
        stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
    }  # fmt: skip
    kind = kinds.get(stat.S_IFMT(found.st_mode), "device")
    links = f" with {found.st_nlink} links" if kind == "file" and found.st_nlink != 1 else ""
    return f"{path} is not this plant's: a {kind}{links} of user {owners.name(found.st_uid)}"


def _ours(found: os.stat_result, uid: int) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == uid and found.st_nlink == 1


def _paths(name: str, uid: int) -> Iterator[Path]:
    """The files that a user has made for a name: that of the name itself first."""
    path = SHM / name
    try:
        found = path.lstat()
    except OSError:
        found = None
    if found and _ours(found, uid):
        yield path
    for other in sorted(_entries(name + _INSTEAD), key=lambda entry: entry.name):
        try:
            if _ours(other.stat(follow_symlinks=False), uid):
                yield SHM / other.name
        except OSError:
            continue


def _entries(prefix: str) -> list[os.DirEntry[str]]:
    with os.scandir(SHM) as entries:
        return [entry for entry in entries if entry.name.startswith(prefix)]


def attach(name: str, *, writable: bool = False) -> Segment:
    """Map an existing shared-memory object, of this user where it is to be written, else of the plant's.

    Raises NotRunning if there is none.
    """
    users = [os.geteuid()] if writable else owners.of(_plant(name))
    fd = next((fd for uid in users if (fd := _open(name, uid, writable)) >= 0), -1)
    if fd < 0:
        raise _absent(name)
    found = os.fstat(fd)
    if found.st_blocks == 0:  # not to be touched: its first page may be the one that there is no room for
        os.close(fd)
        raise NotRunning(
            f"shared memory {SHM / name} is just being made, or has no room yet; see: tickplant status"
        )
    return Segment(name, fd, found.st_size, writable)


def _open(name: str, uid: int, writable: bool) -> int:
    """The object that a user has made for a name, open; -1 if there is none. Raises SegmentError."""
    for path in _paths(name, uid):
        try:
            fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | _OPEN)
        except FileNotFoundError:
            continue
        except PermissionError as e:
            raise SegmentError(
                f"can't open shared memory {path}: {e.strerror}; {_readable_by(path)}"
            ) from None
        except OSError as e:
            raise SegmentError(f"can't open shared memory {path}: {e.strerror}") from None
        if _ours(os.fstat(fd), uid):
            return fd
        os.close(fd)
    return -1


def _readable_by(path: Path) -> str:
    """Who may read an object, and how to become one of them."""
    try:
        found = path.lstat()
    except OSError:
        return "it is gone by now"
    user, group = owners.name(found.st_uid), owners.group(found.st_gid)
    if not found.st_mode & stat.S_IRGRP:
        return f"only user {user} may read it"
    me = owners.name(os.geteuid())
    return (
        f"user {user} and group {group} may read it, this is user {me}; as root: usermod -aG {group} {me}, "
        "and log in again"
    )


def _absent(name: str) -> NotRunning:
    path = SHM / name
    if os.path.lexists(path):
        return NotRunning(
            f"{described(path)}, and there is none of the plant's; is the ticker plant running (tickplant "
            "status)? To read a plant of another user, name its configuration: connect('FILE.toml')"
        )
    return NotRunning(f"there is no shared memory {path}; is the ticker plant running (tickplant status)?")


def _plant(name: str) -> str:
    """The plant whose object has this name."""
    return name.split(".")[1] if name.startswith("tp.") else ""


def owner(name: str) -> int | None:
    """The user whose object of this name is read here; None if there is none."""
    users = owners.candidates(_plant(name))
    return next((uid for uid in users if next(_paths(name, uid), None) is not None), None)


def exists(name: str) -> bool:
    """Is there an object of this name that this user made, be it empty?"""
    return next(_paths(name, os.geteuid()), None) is not None


def reserve(name: str) -> list[Path]:
    """The files of this name that this user made; one is made if there is none."""
    if not (found := [*_paths(name, os.geteuid())]):
        os.close(_make(name))
        found = [*_paths(name, os.geteuid())]
    return found


def remove(name: str) -> None:
    """Remove this user's objects of the name; whoever has one mapped keeps what they have."""
    for path in _paths(name, os.geteuid()):
        path.unlink(missing_ok=True)


def names(prefix: str) -> list[str]:
    """Names that begin with prefix and of which this user has an object of shared memory."""
    found = set()
    for entry in _entries(prefix):
        try:
            if _ours(entry.stat(follow_symlinks=False), os.geteuid()):
                found.add(entry.name.partition(_INSTEAD)[0])
        except OSError:
            continue
    return sorted(found)


def foreign(plant: str) -> list[Path]:
    """What has a name of the plant's in shared memory and is not of its user."""
    users, found = owners.of(plant), []
    for entry in _entries(f"tp.{plant}."):
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if not any(_ours(about, uid) for uid in users):
            found.append(SHM / entry.name)
    return sorted(found)


HEADER_SIZE = 16_384
_DESCRIPTION = 1024
_LEAD = struct.Struct("<8sII")


def header_size(description: dict[str, Any]) -> int:
    """Bytes of the header that a description needs: whole pages, HEADER_SIZE at least."""
    needed = _DESCRIPTION + len(msgpack.packb(description))
    return max(HEADER_SIZE, -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE)


def describe(
    segment: Segment, magic: bytes, description: dict[str, Any], header_size: int = HEADER_SIZE
) -> None:
    """Write the header of a new segment; readers believe it once the magic, written last, is there.

        offset  0     magic, 8 bytes
                8     u32 length of the description, u32 its CRC32C
                128.. words of 8 bytes that change, each on a line of its own (see the users)
                1024  description, msgpack; never changes

    Raises SegmentError if the description does not fit.
    """
    packed = msgpack.packb(description)
    if _DESCRIPTION + len(packed) > header_size:
        raise SegmentError(f"the description of {segment.name} takes {len(packed)} bytes: too long")
    segment.map[_DESCRIPTION : _DESCRIPTION + len(packed)] = packed
    lead = _LEAD.pack(magic, len(packed), framing.crc32c(packed))
    segment.map[8:16] = lead[8:]
    segment.map[0:8] = magic


def description(segment: Segment, magic: bytes) -> dict[str, Any]:
    """The description in a segment's header. Raises SegmentError unless it is whole and of this kind."""
    if segment.size < HEADER_SIZE:
        raise SegmentError(f"{SHM / segment.name} is too short to be one of tickplant's")
    found, length, crc = _LEAD.unpack(segment.map[: _LEAD.size])
    if found == bytes(8):
        raise NotRunning(f"shared memory {SHM / segment.name} is just being made")
    packed = segment.map[_DESCRIPTION : _DESCRIPTION + min(length, segment.size)]
    if found != magic or len(packed) != length or framing.crc32c(packed) != crc:
        raise SegmentError(
            f"{SHM / segment.name} is not what it should be (damaged, or of another version); "
            "restart the ticker plant to have it made anew"
        )
    try:
        return wire.small_map(packed)
    except FrameError:
        raise SegmentError(f"{SHM / segment.name} describes nothing") from None
