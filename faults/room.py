"""A /dev/shm without room: filled up at a moment of the seed's choice, with a roll or a crash meanwhile.

The plant has a /dev/shm of its own (`own_shm`), in a mount namespace that its processes share with the bench.
"""

import contextlib
import ctypes
import json
import os
import random
from collections.abc import Iterator
from typing import Any

from faults.case import Case, Fault
from faults.roll import Request
from faults.site import Site
from tickplant import segment
from tickplant.errors import TickplantError

_SIZE = 1 << 29
_LEAVE_MAX = 1 << 21
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 1 << 18
_REMEDY = f"mount -o remount,size=SIZE {segment.SHM}"
_FILLER = segment.SHM / "filler"


@contextlib.contextmanager
def own_shm() -> Iterator[bool]:
    """Have a small /dev/shm of our own, shared by what is started meanwhile; False if we may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNS):
            yield False
            return
        try:
            libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            shm = str(segment.SHM).encode()
            yield libc.mount(b"tmpfs", shm, b"tmpfs", 0, f"size={_SIZE},mode=1777".encode()) == 0
        finally:
            libc.setns(before, _CLONE_NEWNS)
    finally:
        os.close(before)


def _is_own() -> bool:
    room = os.statvfs(segment.SHM)
    return room.f_blocks * room.f_frsize == _SIZE


def fill(fd: int, leave: int) -> None:
    """Give a file all memory of its file system but so many bytes."""
    room, at = os.fstatvfs(fd), os.fstat(fd).st_size
    part = left = room.f_bavail * room.f_frsize - leave
    while left >= room.f_frsize and part >= room.f_frsize:
        try:
            os.posix_fallocate(fd, at, min(part, left))
            at, left = at + min(part, left), left - min(part, left)
        except OSError:  # somebody has just taken some of it
            part //= 2


@contextlib.contextmanager
def _filled(leave: int) -> Iterator[None]:
    """Only so many bytes are left."""
    try:
        with _FILLER.open("wb") as file:
            fill(file.fileno(), leave)
        yield
    finally:
        _FILLER.unlink()


def _degraded(site: Site) -> str | None:
    """What the running ticker plant says that it lacks."""
    process = site.processes["tickerplant"].running
    try:
        said = json.loads((site.config.status_dir / "tickerplant.json").read_text())
    except (OSError, ValueError):
        return None
    degraded: str | None = said.get("degraded")
    return degraded if process and said["pid"] == process.pid else None


def _whole(site: Site) -> bool:
    process = site.processes["tickerplant"].running
    said: dict[str, Any] = json.loads((site.config.status_dir / "tickerplant.json").read_text())
    return bool(process and said["pid"] == process.pid and "rows" in said and not said["degraded"])


def no_room(meanwhile: str) -> Fault:
    """No room for a while; the journal goes on, and room brings back what was left behind."""

    def fault(site: Site, choice: random.Random) -> bool:
        if not _is_own():
            return False
        seconds = choice.uniform(0.0, 2.0)
        with _filled(choice.choice((0, choice.randrange(_LEAVE_MAX)))):
            if meanwhile == "roll":
                site.until(lambda: "behind the journal" in (_degraded(site) or ""), "a table to be behind")
                with Request(site) as request:
                    request.ask()
                    site.until(request.done, "the trading date to end without room")
            elif meanwhile == "kill":
                site.kill("tickerplant", 0.0)
            site.until(lambda: _REMEDY in (_degraded(site) or ""), "the status to tell of the lack of room")
            written = site.plant.control.written.load()
            site.pause(seconds)
            site.until(
                lambda: site.plant.control.written.load() != written, "rows to be journaled without room"
            )
        site.until(lambda: _whole(site), "the tables to have caught up")
        return True

    return fault


def _demand(content: dict[str, Any], site: Site) -> None:
    if not _is_own():
        raise TickplantError("to fill up /dev/shm needs a mount namespace: run it as root")


CASES = {
    "no-room": Case([no_room("")], settings=_demand),
    "no-room-at-roll": Case([no_room("roll")], mixed=False, settings=_demand),
    "no-room-at-start": Case([no_room("kill")], settings=_demand),
}
