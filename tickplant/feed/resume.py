"""How far a feed has published a capture, so that its next start goes on there: each row once.

Rows of a capture are numbered as they are decoded, which gives the same rows each time. Beside the outbox is

    capture     msgpack: `capture` (what the file is: see `identity`), `session`, in which rows of it were
                published last, `before`, how many of them earlier sessions had published, `first`, with how
                many rows of the feed's own that session began (instruments defined anew), `earlier`, what was
                published of other captures: [identity, rows], the latest last

It is written before the rows that it speaks of. How many rows the session has published the outbox says:
frames are there before they are sent. So the two together tell which row is next, however the feed ended.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import msgpack

from tickplant.errors import CaptureError, JournalError
from tickplant.feed.outbox import Place

_PIECE = 1 << 20
_EARLIER_MAX = 1000
_EMPTY: dict[str, Any] = {"capture": {}, "session": 0, "before": 0, "first": 0, "earlier": []}


class Published:
    """What a feed has published of captures."""

    def __init__(self, folder: Path, end: Place) -> None:
        """`folder`: of the outbox; `end`: the place behind its last row as this process found it."""
        self._path, self._end = folder / "capture", end
        try:
            self._note = {**_EMPTY, **msgpack.unpackb(self._path.read_bytes())}
        except OSError:
            self._note = dict(_EMPTY)
        except (ValueError, TypeError, msgpack.UnpackException):
            self._note = {**_EMPTY, "damaged": True}
        self.anew = ""
        """Why a capture of which rows were published is published from its beginning; empty: it is not."""

    def rows(self, capture: dict[str, Any]) -> int:
        """How many rows of this capture are published, from its first one on without a hole."""
        note = self._note
        if note.get("damaged"):
            self.anew = f"{self._path} can't be read"
            return 0
        if same(note["capture"], capture):
            done = self._done()
            if done is None:
                self.anew = "something else was published through this outbox since"
            return done or 0
        found = [rows for known, rows in note["earlier"] if same(known, capture)]
        if not found and note["capture"].get("path") == capture["path"]:
            self.anew = _difference(note["capture"], capture)
        return found[-1] if found else 0

    def _done(self) -> int | None:
        """How many rows of the noted capture are published; None if that can't be told."""
        note, (session, seq) = self._note, self._end
        if session > note["session"]:
            return None
        if session < note["session"]:
            return int(note["before"])
        return int(note["before"]) + max(0, seq - int(note["first"]))

    def begin(self, capture: dict[str, Any], session: int, before: int, first: int) -> None:
        """Rows of this capture are about to be published in a session, behind `first` rows of the feed's own.

        Raises JournalError if that can't be noted.
        """
        note = self._note
        earlier = [[known, rows] for known, rows in note["earlier"] if not same(known, capture)]
        if note["capture"] and not same(note["capture"], capture) and (done := self._done()) is not None:
            earlier.append([note["capture"], done])
        self._note = {
            "capture": capture, "session": session, "before": before, "first": first,
            "earlier": earlier[-_EARLIER_MAX:],
        }  # fmt: skip
        self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        try:
            draft.write_bytes(msgpack.packb(self._note))
            os.replace(draft, self._path)
        except OSError as e:
            raise JournalError(
                f"can't write {self._path}: {e.strerror}; free space or mend the disk"
            ) from None


def identity(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What a capture is: its bytes, by size and a hash of its beginning and end, and how it is read.

    Raises CaptureError if it can't be read.
    """
    try:
        size = path.stat().st_size
        return {
            "path": str(path.absolute()), "size": size, "hash": _hash(path, size),
            "options": repr(sorted(options.items())),
        }  # fmt: skip
    except OSError as e:
        raise CaptureError(f"can't read {path}: {e.strerror}") from None


def same(known: dict[str, Any], capture: dict[str, Any]) -> bool:
    """Is a capture the one that is known, perhaps with more at its end by now?"""
    if not known or known["options"] != capture["options"] or known["size"] > capture["size"]:
        return False
    if known["size"] == capture["size"]:
        return bool(known["hash"] == capture["hash"])
    try:
        return bool(known["hash"] == _hash(Path(capture["path"]), known["size"]))
    except OSError:
        return False


def _hash(path: Path, size: int) -> str:
    """Of the beginning and the end of the first `size` bytes."""
    made = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        made.update(file.read(min(size, _PIECE)))
        file.seek(max(0, size - _PIECE))
        made.update(file.read(min(size, _PIECE)))
    return made.hexdigest()


def _difference(known: dict[str, Any], capture: dict[str, Any]) -> str:
    if known["options"] != capture["options"]:
        return f"its options were {known['options']}"
    return f"its {capture['size']:,} bytes are others than the {known['size']:,} before"
