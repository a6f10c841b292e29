"""The bytes of a capture's file, whatever it is packed with: plain, gzip (RFC 1952) or zstd (RFC
8878)."""

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from tickplant.errors import CaptureError

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
ZSTD_STEP = 1024
"""Bytes given to zstd at a time: a block of 4 bytes can stand for 128 KiB, and what comes out is in
memory."""
ZSTD_WINDOW = 1 << 27
PIECE = 1 << 17
_READ = [0]


def bytes_read() -> int:
    """Bytes of files that this process has read here so far, as they lie on the disk: to show progress."""
    return _READ[0]


def count_read(size: int) -> None:
    """So much more of a file was read."""
    _READ[0] += size


def is_zstd(start: bytes) -> bool:
    """Does a file that begins so have frames of zstd, perhaps a skippable one first?"""
    skippable = len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] >> 4 == 5
    return start.startswith(ZSTD_MAGIC) or skippable


class Source:
    """The uncompressed bytes of a file, in pieces; iteration ends at the first damage or error.

    A piece has at most `piece` bytes (of a zstd file: 32 MiB more, however hostile it is).
    """

    def __init__(self, file: BinaryIO, piece: int) -> None:
        self._file = file
        self._piece = piece
        self._read = 0
        self.damage = ""
        """What was wrong with the file, when iteration has ended; empty: nothing."""
        self.error = ""
        """Why the system could not read it; empty: it could."""

    def __iter__(self) -> Iterator[bytes]:
        data = self.read()
        while len(data) < len(ZSTD_MAGIC) and (more := self.read()):
            data += more
        if data.startswith(GZIP_MAGIC):
            yield from self._inflate(data)
            return
        if is_zstd(data):
            yield from self._unpack(data)
            return
        while data:
            yield data
            data = self.read()

    def read(self) -> bytes:
        """The next piece of the file as it is; empty at its end, or with `error` set."""
        try:
            data = self._file.read(self._piece)
        except OSError as e:
            self.error = e.strerror or str(e)
            return b""
        self._read += len(data)
        count_read(len(data))
        return data

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        """Gzip members (RFC 1952), one after the other, and zeros that fill up the last block."""
        stream = zlib.decompressobj(wbits=31)
        while True:
            data = data or self.read()
            before = stream.copy()
            try:
                out = stream.decompress(data, self._piece)
            except zlib.error:
                yield from self._up_to_damage(before, data)
                return
            if out:
                yield out
            elif not data:
                self.damage = f"the gzip stream breaks off at byte {self._read} of the file"
                return
            data = stream.unconsumed_tail
            if stream.eof:
                data = stream.unused_data.lstrip(b"\0")
                while not data and (more := self.read()):
                    data = more.lstrip(b"\0")
                if not data:
                    return
                stream = zlib.decompressobj(wbits=31)

    def _up_to_damage(self, stream: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
        """What `data` inflates to before the byte with which `stream` fails.

        zlib keeps back what it made of the input it fails in, so it is given byte by byte.
        """
        good = bytearray()
        for i in range(len(data)):
            try:
                good += stream.decompress(data[i : i + 1])
            except zlib.error as e:
                reason = str(e).partition(": ")[2] or str(e)
                self.damage = f"gzip: {reason} at byte {self._read - len(data) + i} of the file"
                break
            if len(good) >= self._piece:
                yield bytes(good)
                good.clear()
        yield bytes(good)

    def _unpack(self, data: bytes) -> Iterator[bytes]:
        """Zstandard frames (RFC 8878), one after the other."""
        stream = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
        out: list[bytes] = []
        ready, whole = 0, False
        while True:
            for at in range(0, len(data), ZSTD_STEP):
                step = data[at : at + ZSTD_STEP]
                while step:
                    try:
                        out.append(stream.decompress(step))
                    except zstandard.ZstdError as e:
                        self.damage = f"zstd: {e} at or before byte {self._read} of the file"
                        yield b"".join(out)
                        return
                    ready += len(out[-1])
                    step = stream.unused_data
                    if stream.eof:
                        stream = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
                        whole = not step
                    else:
                        step, whole = b"", False
                if ready >= self._piece:
                    yield b"".join(out)
                    out, ready = [], 0
            if not (data := self.read()):
                break
        yield b"".join(out)
        if not whole:
            self.damage = f"the zstd stream breaks off at byte {self._read} of the file"


class Inflated(io.RawIOBase):
    """A file as a stream of its uncompressed bytes.

    Damage ends the stream early: what was sound is read, and `damage` says then what is wrong. Raises
    CaptureError if the file can't be opened or read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as e:
            raise CaptureError(f"can't read {path}: {e.strerror}") from None
        self._source = Source(self._file, PIECE)
        self._pieces = iter(self._source)
        self._piece = memoryview(b"")

    @property
    def damage(self) -> str:
        """What is wrong with the file, as far as it has been read; empty: nothing."""
        return self._source.damage

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something at hand; 0 at the end."""
        room = memoryview(buffer).cast("B")
        while not self._piece:
            piece = next(self._pieces, None)
            if self._source.error:
                raise CaptureError(f"can't read {self.path}: {self._source.error}")
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        count = min(len(room), len(self._piece))
        room[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


def exactly(file: Inflated, size: int) -> bytes:
    """So many bytes of a file, fewer at its end."""
    parts, left = [], size
    while left and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
