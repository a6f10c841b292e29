"""The bytes of a file, inflated if it is gzip or zstd (told by content), and where it breaks off if it does.

gzip is RFC 1952 (members one after the other, zero padding at the end), zstd RFC 8878 (frames one after
the other, skippable ones among them).
"""

import io
import os
import zlib
from pathlib import Path
from typing import Any

import zstandard

from tickplant.errors import CaptureError

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
_PIECE = 1 << 17
_OUT_MAX = 1 << 20
"""Inflated at a time from gzip: what is packed very well must not fill the memory."""


class Inflated(io.RawIOBase):
    """A file as a stream of its plain bytes.

    Damage ends the stream early: what was sound is read, and `damage` says then what is wrong. Raises
    CaptureError if the file can't be opened or read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damage: str | None = None
        try:
            self._file = self.path.open("rb")
            start = self._file.read(4)
            self._file.seek(0)
        except OSError as e:
            raise CaptureError(f"can't read {path}: {e.strerror}") from None
        zstd = start == ZSTD or (start[1:] == _SKIPPABLE and start[0] >> 4 == 5)
        self.kind = "gzip" if start.startswith(GZIP) else "zstd" if zstd else ""
        self._stream: Any = None
        self._packed = b""
        self._plain = memoryview(b"")
        self._ended = False

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
        while not self._plain and not self._ended:
            self._plain = memoryview(self._next())
        count = min(len(room), len(self._plain))
        room[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _read(self) -> bytes:
        try:
            return self._file.read(_PIECE)
        except OSError as e:
            raise CaptureError(f"can't read {self.path}: {e.strerror}") from None

    def _next(self) -> bytes:
        """More plain bytes, perhaps none; sets `_ended` when there is no more."""
        packed = self._packed or self._read()
        self._packed = b""
        if not self.kind or not packed:
            self._ended = not packed
            if not packed and self._stream is not None:
                self.damage = f"the {self.kind} stream breaks off at byte {self._file.tell()} of the file"
            return packed
        try:
            return self._inflate(packed)
        except (zlib.error, zstandard.ZstdError) as e:
            self._ended = True
            self.damage = f"the {self.kind} stream is damaged near byte {self._file.tell()}: {e}"
            return b""

    def _inflate(self, packed: bytes) -> bytes:
        if self._stream is None:
            if self.kind == "gzip" and not packed.strip(b"\0"):  # padding after the last member
                return b""
            make: Any = zstandard.ZstdDecompressor().decompressobj
            self._stream = zlib.decompressobj(wbits=31) if self.kind == "gzip" else make()
        if self.kind == "gzip":
            plain: bytes = self._stream.decompress(packed, _OUT_MAX)
            self._packed = self._stream.unconsumed_tail
        else:
            plain = self._stream.decompress(packed)
        if self._stream.eof:
            self._packed = self._stream.unused_data
            self._stream = None
        return plain
