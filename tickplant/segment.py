"""Named shared memory: create, attach, allocate, remove.

posix_ipc and mmap, not multiprocessing.shared_memory: that one's tracker unlinks live segments, and it
has neither a mode nor a read-only attach. Memory is taken with fallocate before it is touched, so a
full /dev/shm is an error here and never a SIGBUS there; a segment is never made smaller.
"""

import errno
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import msgpack
import posix_ipc

from tickplant import wire
from tickplant._core import framing
from tickplant._core.memory import populate
from tickplant.errors import FrameError, NotRunning, SegmentError, TableFull

SHM = Path("/dev/shm")


class Segment:
    """A mapped shared-memory object. It stays mapped as long as a view of it lives."""

    def __init__(self, name: str, fd: int, size: int, writable: bool) -> None:
        self.name, self.fd, self.size = name, fd, size  # the descriptor is ours from here on
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.map = mmap.mmap(fd, size, mmap.MAP_SHARED, access)

    def allocate(self, offset: int, length: int) -> None:
        """Make sure that bytes [offset, offset + length) have memory. Raises TableFull if not."""
        try:
            os.posix_fallocate(self.fd, offset, length)
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise SegmentError(f"can't allocate memory of {self.name}: {e.strerror}") from None
            raise TableFull(
                f"no room in {SHM} for {length:,} bytes of {self.name}; free some, "
                f"or: mount -o remount,size=SIZE {SHM}"
            ) from None
        start = offset - offset % mmap.PAGESIZE
        populate(self.map, start, offset + length - start)  # where refused, first touch faults pages in

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

    Raises SegmentError if one of that name exists.
    """
    try:
        shm = posix_ipc.SharedMemory("/" + name, posix_ipc.O_CREX, mode=mode, size=size)
    except posix_ipc.ExistentialError:
        raise SegmentError(f"shared memory {SHM / name} exists already") from None
    except OSError as e:
        raise SegmentError(f"can't create shared memory {SHM / name}: {e.strerror}") from None
    os.fchmod(shm.fd, mode)  # as asked, whatever the umask
    return Segment(name, shm.fd, size, writable=True)


def attach(name: str, *, writable: bool = False) -> Segment:
    """Map an existing shared-memory object. Raises NotRunning if there is none."""
    path = SHM / name
    try:
        fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise NotRunning(
            f"there is no shared memory {path}; is the ticker plant running (tickplant status)?"
        ) from None
    except OSError as e:
        raise SegmentError(f"can't open shared memory {path}: {e.strerror}") from None
    found = os.fstat(fd)
    if found.st_blocks == 0:  # not to be touched: its first page may be the one that there is no room for
        os.close(fd)
        raise NotRunning(
            f"shared memory {path} is just being made, or has no room yet; see: tickplant status"
        )
    return Segment(name, fd, found.st_size, writable)


def remove(name: str) -> None:
    """Remove the name; whoever has it mapped keeps what they have."""
    (SHM / name).unlink(missing_ok=True)


def names(prefix: str) -> list[str]:
    """Names of the shared-memory objects that begin with prefix."""
    return sorted(p.name for p in SHM.glob(prefix + "*"))


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
