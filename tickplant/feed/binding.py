"""Whose an outbox is: the feed's name and number, and the plant that its rows are for.

    outbox/NAME/bound    {"feed": ..., "number": ..., "plant": ..., "identity": ...}; replaced whole

The identity is empty until the feed has met its plant. Each segment repeats the first three, so that an
outbox whose file is gone is still not taken for another feed's.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tickplant import wire
from tickplant.errors import ConfigError, FrameError
from tickplant.identity import Identity
from tickplant.journal import segments

NAME = "bound"
_SEGMENT_FRAME_MAX = 1 << 12


@dataclass(frozen=True)
class Binding:
    """What an outbox is bound to; number 0: not known."""

    feed: str
    number: int
    plant: str
    identity: str = ""

    @property
    def of(self) -> Identity:
        """The plant that the rows are for."""
        return Identity(self.plant, self.identity)

    def write(self, folder: Path) -> None:
        """Have it on disk. Raises OSError."""
        draft = folder / f"{NAME}.draft"
        with draft.open("w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / NAME)

    def met(self, token: str) -> "Binding":
        """The same, once the plant's token is known."""
        return replace(self, identity=token)


def read(folder: Path) -> Binding | None:
    """What an outbox is bound to; None if it does not say."""
    try:
        said = json.loads((folder / NAME).read_text())
        return Binding(str(said["feed"]), int(said["number"]), str(said["plant"]), str(said["identity"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _repeated(folder)


def _repeated(folder: Path) -> Binding | None:
    for path in segments(folder):
        try:
            with path.open("rb") as file:
                about = wire.small_map(wire.payload(file.read(_SEGMENT_FRAME_MAX)))
            return Binding(str(about["feed"]), int(about["number"]), str(about["plant"]))
        except (OSError, FrameError, KeyError, TypeError, ValueError):
            continue
    return None


def bound(folder: Path, feed: str, number: int, plant: str) -> Binding:
    """What an outbox is bound to, now or already.

    Raises ConfigError if it belongs to another feed, another number or another plant.
    """
    wanted, found = Binding(feed, number, plant), read(folder)
    if found is None:
        return wanted
    if found.feed != feed or (number and found.number not in (0, number)):
        raise ConfigError(
            f"{folder} is the outbox of feed {found.feed} with number {found.number}, not of feed {feed} "
            f"with number {number}: set feeds.{found.feed}.id = {found.number}; a new feed takes a name "
            "and a number that no other has had"
        )
    if plant and found.plant not in ("", plant):
        raise ConfigError(
            f"{folder} is the outbox of a feed of plant {found.plant!r}, not of {plant!r}: set "
            "plant.data_dir to a folder of its own, or move the outbox away: "
            f"mv {folder} {folder}.{found.plant}"
        )
    return replace(found, number=number or found.number, plant=plant or found.plant)
