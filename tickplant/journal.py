"""Journals: files of frames that only grow, and are the truth of everything else.

A journal is a folder. Its segments are files named by the position of their first byte, in 20 digits,
`.tpj`; positions count the bytes of all segments, so one number is a place in a journal. A segment is
frames end to end (_core/frame.h), the first of kind `segment`: msgpack that says whose journal this is and
how its rows are declared. Each frame's prev_crc is the crc of the frame before it, over segment borders and
leaving out the segment frames themselves.

    durable     a file of 12 bytes: u64 position up to which all is on disk, u32 crc32c of the 8 bytes.
                Written after each fdatasync, itself unsynced: it can lag, never lead.

Reading ends at the last whole frame. What follows it is judged on recovery:

    - at or after the durable position: a torn tail, such as a crash leaves. It is put aside (`*.torn`),
      cut off, reported, and writing goes on. It may begin in any segment: several can be unsynced when the
      power fails, and the disk writes them back in whatever order it likes.
    - before it: bytes that were promised are wrong. JournalDamaged; nothing is touched before someone
      runs `tickplant journal repair`.

Never mapped (a full disk would be SIGBUS), never synced twice after a failed sync (the kernel forgets
which pages were lost), never deleted before its rows are proven elsewhere.
"""

import errno
import os
import struct
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack

from tickplant import wire
from tickplant._core import framing
from tickplant.errors import JournalDamaged, JournalError

SUFFIX = ".tpj"
FORMAT = 1
CHUNK = 1 << 22
_DURABLE = struct.Struct("<QI")
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
Frames = bytes | memoryview
Recovered = Iterator[tuple[int, Frames]]


def segments(folder: Path) -> list[Path]:
    """The segment files of a journal, in order."""
    return sorted(p for p in folder.glob("*" + SUFFIX) if p.stem.isdigit() and len(p.stem) == 20)


def begins(path: Path) -> int:
    """The position of a segment's first byte."""
    return int(path.stem)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def durable_position(folder: Path) -> int:
    """The position up to which the journal was certainly on disk; 0 if that is not known."""
    try:
        data = (folder / "durable").read_bytes()
        position, crc = _DURABLE.unpack(data)
    except (OSError, struct.error):
        return 0
    return int(position) if framing.crc32c(data[:8]) == crc else 0


class JournalReader:
    """Reads whole, verified frames from a position on; follows a journal that is being written."""

    _fd = -1

    def __init__(self, folder: Path, position: int | None = None, last_crc: int | None = None) -> None:
        """`position`: where to begin (None: the first byte there is); `last_crc`: the crc of the
        frame before, if known, so that the chain is checked from the first frame on."""
        self.folder = folder
        self.position = position
        self.last_crc = last_crc
        self._begins = 0

    def read(self, bound: int | None = None, chunk: int = CHUNK) -> bytes:
        """As `view`, as bytes of their own."""
        return bytes(self.view(bound, chunk))

    def view(self, bound: int | None = None, chunk: int = CHUNK) -> Frames:
        """The next whole frames, of about `chunk` bytes, up to position `bound`; empty at the end.

        Raises JournalDamaged at bytes that are not a frame or break the chain.
        """
        while True:
            if (self._fd < 0 and not self._open()) or self.position == bound:
                return b""
            assert self.position is not None
            wanted = chunk if bound is None else min(chunk, bound - self.position)
            data = os.pread(self._fd, wanted, self.position - self._begins) if wanted > 0 else b""
            frames = self._whole(data, bound)
            if frames or len(data) or not self._next():
                return frames

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close  # a reader that nobody has any more holds no file, however it was left

    def _open(self) -> bool:
        files = segments(self.folder)
        if self.position is None:
            if not files:
                return False
            self.position = begins(files[0])
        for path in reversed(files):
            if begins(path) <= self.position:
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._begins = begins(path)
                return True
        if files:
            raise JournalError(
                f"journal {self.folder} has nothing at position {self.position:,}: "
                f"it begins at {begins(files[0]):,}"
            )
        return False

    def _next(self) -> bool:
        """At the end of a segment: go on with the one that begins here, if there is one."""
        if self.position == self._begins:
            return False
        path = self.folder / f"{self.position:020d}{SUFFIX}"
        if not path.exists():
            return False
        self.close()
        return self._open()

    def _whole(self, data: bytes, bound: int | None) -> Frames:
        if not data:
            return b""
        assert self.position is not None
        if self.last_crc is None and len(data) >= wire.HEADER_SIZE:
            self.last_crc = wire.header(data).prev_crc
        length, _, crc, why = framing.scan(data, self.last_crc or 0)
        if length == 0 and why == 1 and len(data) >= wire.HEADER_SIZE:
            # A frame longer than the chunk: read all of it, if it is there.
            size = wire.HEADER_SIZE + wire.header(data).size
            if size > wire.MESSAGE_MAX + wire.HEADER_SIZE:
                why = 2
            elif bound is None or self.position + size <= bound:
                more = os.pread(self._fd, size, self.position - self._begins)
                if len(more) == size and len(data) < size:
                    return self._whole(more, bound)
        if length == 0 and why > 1:
            raise JournalDamaged(
                f"journal segment {self.folder / f'{self._begins:020d}{SUFFIX}'} is damaged at byte "
                f"{self.position - self._begins:,} ({framing.CHECKS[why]}); run: "
                f"tickplant journal verify {self.folder}"
            )
        self.position += length
        self.last_crc = crc if length else self.last_crc
        return memoryview(data)[:length] if length < len(data) else data


class JournalWriter:
    """Appends frames; the only one who does, which the caller sees to."""

    def __init__(self, folder: Path, about: dict[str, Any], segment_bytes: int) -> None:
        """`about`: what the segment frames say beside format and position (msgpack-able)."""
        self.folder, self.about, self.segment_bytes = folder, about, segment_bytes
        self.position = self.last_crc = self.durable = self._begins = 0
        self.torn: str | None = None
        self._failed: str | None = None
        self._fd = self._note = -1
        """Of the segment that is written to, and of the file `durable`: open, so that nobody who takes all
        descriptors ends the writer."""
        self._unsynced: dict[int, int] = {}
        """Descriptors of the segments that have to be synced, by begin; the last is the one written to."""
        self._unlinked = False
        self._lock, self._syncing = threading.Lock(), threading.Lock()

    def recover(self, position: int | None = None, last_crc: int | None = None) -> Recovered:
        """Read what is there, as (position, whole frames), then be ready to append after it.

        Exhaust it before the first append. A torn tail is copied aside and cut off; `torn` tells. Raises
        JournalDamaged on any other damage. What is before `position`, durable, is not read.
        """
        try:
            yield from self._recover(position, last_crc)
        except OSError as e:
            raise self._fail("can't be recovered", e) from None
        self.sync()

    def _recover(self, position: int | None, last_crc: int | None) -> Recovered:
        self._make_folder()
        self._forget_cached()
        reader = JournalReader(self.folder, position, last_crc)
        damage: JournalDamaged | None = None
        try:
            while chunk := reader.view():
                yield (reader.position or 0) - len(chunk), chunk
        except JournalDamaged as e:
            damage = e
        finally:
            reader.close()
        self.position = reader.position or 0
        self.last_crc = reader.last_crc or 0
        self.durable = durable_position(self.folder)
        self._take_over(self._cut(segments(self.folder), damage))

    def _make_folder(self) -> None:
        """Have the folder, also after a power cut: its name is on disk only once its parent is synced."""
        missing = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        for made in missing or [self.folder]:  # there, but perhaps of a writer who died before this
            _sync_folder(made.parent)

    def _forget_cached(self) -> None:
        """See what is on disk: after a failed sync the kernel holds pages for clean that never got there,
        and to sync what they show would succeed. Pages not yet written back stay."""
        durable = durable_position(self.folder)
        for path in segments(self.folder):
            start = max(0, durable - begins(path)) // CHUNK * CHUNK  # parts of pages are never dropped
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), start, 0, os.POSIX_FADV_DONTNEED)

    def _cut(self, files: list[Path], damage: JournalDamaged | None) -> list[Path]:
        """Cut off what follows the last whole frame; the segments that are left."""
        if self.position < self.durable:
            raise damage or self._short(files)
        kept = [p for p in files if begins(p) <= self.position]
        if later := files[len(kept) :]:
            # Gone for certain before the cut: what is appended then will bear the same positions.
            for path in later:
                path.rename(path.with_suffix(".0.torn"))
            _sync_folder(self.folder)
            self.torn = f"{len(later)} segments after a torn tail at {self.position:,}, kept as *.0.torn"
        if kept and self.position < begins(kept[-1]) + kept[-1].stat().st_size:
            self._set_aside(kept[-1], self.position - begins(kept[-1]))
        if kept and kept[-1].stat().st_size == 0:
            kept.pop().unlink()  # a segment whose first frame never got there
        return kept

    def _take_over(self, files: list[Path]) -> None:
        # The writer before may have died with more than the last segment not yet synced.
        for path, after in pairwise(files):
            if begins(after) > self.durable:
                self._unsynced[begins(path)] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if files:
            self._begins = begins(files[-1])
            self._fd = os.open(files[-1], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._unsynced[self._begins] = self._fd

    def _short(self, files: list[Path]) -> JournalDamaged:
        first = self.folder / f"{0:020d}{SUFFIX}"
        path = max((p for p in files if begins(p) <= self.position), default=first)
        return JournalDamaged(
            f"journal segment {path} is whole only up to byte {self.position - begins(path):,}, "
            f"position {self.position:,} of {self.durable:,} that were durable; run: "
            f"tickplant journal verify {self.folder}"
        )

    def _set_aside(self, path: Path, keep: int) -> None:
        aside = path.with_suffix(f".{keep}.torn")
        with path.open("rb+") as file, aside.open("wb") as copy:
            file.seek(keep)
            tail = file.read()
            copy.write(tail)
            copy.flush()
            os.fsync(copy.fileno())
            _sync_folder(self.folder)
            file.truncate(keep)
            os.fsync(file.fileno())
        cut = f"{len(tail):,} bytes of a torn tail cut from {path} at {keep:,}, kept as {aside}"
        self.torn = f"{cut}; {self.torn}" if self.torn else cut

    def append(self, frames: bytes | memoryview, last_crc: int) -> int:
        """Write chained frames, whose last has crc `last_crc`; returns the position after them.

        Raises JournalError if the disk refuses; what was written of them is a torn tail then, and
        nothing more is written by this writer.
        """
        self._refuse_if_failed()
        used = self.position - self._begins
        if self._fd < 0 or (used + len(frames) > self.segment_bytes and used > wire.HEADER_SIZE + 65_536):
            self._start_segment()
        self._write(frames)
        self.last_crc = last_crc
        return self.position

    def append_frame(self, kind: int, payload: bytes, **fields: Any) -> int:
        """Write one frame made here; returns the position after it.

        Raises JournalError also for a payload that no reader would take.
        """
        if len(payload) > wire.MESSAGE_MAX:
            raise JournalError(
                f"a {wire.KINDS[kind]} frame of {len(payload):,} bytes is too long for the journal "
                f"in {self.folder}; at most {wire.MESSAGE_MAX:,}"
            )
        frame = framing.seal(payload, kind, prev_crc=self.last_crc, **fields)
        return self.append(frame, wire.crc(frame))

    def _start_segment(self) -> None:
        path = self.folder / f"{self.position:020d}{SUFFIX}"
        try:
            self._open_segment(path)
        except OSError as e:
            if e.errno in _NO_DESCRIPTORS and self._fd >= 0:
                return  # the segment that is there grows until there are some
            raise self._fail(f"can't create journal segment {path.name}", e) from None
        self._unlinked = False
        about = msgpack.packb({"format": FORMAT, "position": self.position, **self.about})
        self._write(framing.seal(about, wire.SEGMENT, prev_crc=self.last_crc))

    def _open_segment(self, path: Path) -> None:
        """Begin to write to a new file. Without descriptors nothing has changed when this raises."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(path, flags, 0o640)
            with self._lock:
                self._fd, self._begins = fd, self.position
                self._unsynced[self._begins] = fd
            os.fsync(folder)
        finally:
            os.close(folder)

    def _write(self, data: bytes | memoryview) -> None:
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError as e:
            raise self._fail("can't write", e) from None
        self.position += len(data)

    def sync(self) -> int:
        """fdatasync; returns the position that is durable now. May run in another thread.

        Raises JournalError if the disk fails; it is not tried again, the process must end.
        """
        with self._syncing:  # files are closed here: never while another thread syncs them
            return self._sync()

    def _sync(self) -> int:
        with self._lock:
            self._refuse_if_failed()
            files, position = list(self._unsynced.items()), self.position
        try:
            for _, fd in files:
                os.fdatasync(fd)
            for begin, fd in files[:-1]:
                with self._lock:
                    del self._unsynced[begin]
                os.close(fd)
            if position > self.durable:
                self._mark_durable(position)
                self.durable = position
        except OSError as e:
            raise self._fail("can't be synced", e) from None
        return position

    def _mark_durable(self, position: int) -> None:
        packed = struct.pack("<Q", position)
        if self._note < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            self._note = os.open(self.folder / "durable", flags, 0o640)
        os.pwrite(self._note, packed + struct.pack("<I", framing.crc32c(packed)), 0)

    def trim(self, below: int) -> int:
        """Delete the segments that end at or before a position, but never the last; how many."""
        gone = 0
        try:
            for path, after in pairwise(segments(self.folder)):
                if begins(after) > below:
                    break
                if self._unlinked:  # one after the other on disk too: never a hole in what is left
                    _sync_folder(self.folder)
                path.unlink()
                self._unlinked = True
                gone += 1
                with self._syncing, self._lock:  # open, a deleted segment would still take up the disk
                    if (fd := self._unsynced.pop(begins(path), -1)) >= 0:
                        os.close(fd)
        except OSError as e:
            if e.errno not in _NO_DESCRIPTORS:  # else the next time
                raise self._fail("can't be trimmed", e) from None
        return gone

    def close(self) -> None:
        """Sync and close. After a failure: close, and leave it to recovery what is whole."""
        with self._syncing:
            if self._fd >= 0:
                if self._failed is None:
                    self._sync()
                os.close(self._fd)
                self._fd = -1
                self._unsynced.clear()
            if self._note >= 0:
                os.close(self._note)
                self._note = -1

    def _refuse_if_failed(self) -> None:
        if self._failed is not None:
            raise JournalError(self._failed)

    def _fail(self, what: str, error: OSError) -> JournalError:
        """Note why nothing more is written; the error to raise."""
        self._failed = (
            f"the journal in {self.folder} {what}: {error.strerror}; "
            "free space or mend the disk, then start again: recovery is automatic"
        )
        return JournalError(self._failed)
