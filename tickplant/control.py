"""The control block: the words of shared memory by which a plant's processes find each other's place.

`tp.<plant>.ctl`, mapped read-only by readers. Header as in `segment.describe` (the description holds
the schema), and the words, each on a line of its own:

    128  bell       u32 that readers sleep on (_core/futex.h)
    256  date       trading date, yyyymmdd
    384  heartbeat  monotonic ns of the ticker plant's last turn
    512  written    bytes of the date's journal that are written
    640  durable    bytes of it that are on disk
    768  pid        of the ticker plant; 0 after a clean stop

`tp.<plant>.ntf` holds the sleepers flag, the one word that readers may write.
"""

import time
from pathlib import Path

from tickplant import segment
from tickplant._core import core
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.errors import NotRunning, SegmentError
from tickplant.schema import Schema

MAGIC = b"tpCNTRL1"
BELL, DATE, HEARTBEAT, WRITTEN, DURABLE, PID = 128, 256, 384, 512, 640, 768
STALE_NS = 2 * SECOND_NS
"""A ticker plant that has not turned for so long is stalled or dead."""


class Control:
    """The words of one plant, for its ticker plant (`create`) or for anyone (`attach`)."""

    def __init__(self, plant: str, block: segment.Segment, flag: segment.Segment, own: bool) -> None:
        self.plant = plant
        self._block = block

        def word(offset: int) -> core.Word:
            return core.Word(block.map, offset, own)

        self.date, self.heartbeat, self.pid = word(DATE), word(HEARTBEAT), word(PID)
        self.written, self.durable = word(WRITTEN), word(DURABLE)
        self.bell = core.Bell(word(BELL), core.Word(flag.map, 0, True))
        block.close()
        flag.close()

    @classmethod
    def create(cls, plant: str, schema: Schema) -> "Control":
        """Take over the plant's block if it is sound and of this schema, else make it anew."""
        about = {"plant": plant, "schema": schema.describe()}
        try:
            block = segment.attach(_block(plant), writable=True)
            flag = segment.attach(_flag(plant), writable=True)
            if segment.description(block, MAGIC) != about:
                raise SegmentError("another schema")
        except (NotRunning, SegmentError):
            segment.remove(_block(plant))
            segment.remove(_flag(plant))
            flag = segment.create(_flag(plant), 4096, 0o660)
            flag.allocate(0, 4096)
            block = segment.create(_block(plant), segment.HEADER_SIZE)
            block.allocate(0, segment.HEADER_SIZE)
            segment.describe(block, MAGIC, about)
        return cls(plant, block, flag, own=True)

    @classmethod
    def attach(cls, plant: str) -> "Control":
        """Raises NotRunning if no ticker plant has made the block."""
        block = segment.attach(_block(plant))
        segment.description(block, MAGIC)
        return cls(plant, block, segment.attach(_flag(plant), writable=True), own=False)

    @classmethod
    def wait(cls, plant: str, patience_s: float = 30.0) -> "Control":
        """Attach, once there is an open trading date. Raises NotRunning if there is none in time."""
        end = monotonic_ns() + int(patience_s * SECOND_NS)
        while True:
            try:
                control = cls.attach(plant)
                if control.date.load():
                    return control
            except NotRunning:
                pass
            if monotonic_ns() > end:
                raise NotRunning(f"no ticker plant of {plant} has begun a trading date; start it first")
            time.sleep(0.02)

    @property
    def schema(self) -> Schema:
        """The schema of the plant."""
        return Schema.read(segment.description(self._block, MAGIC)["schema"])

    def state(self) -> str:
        """`running`, `stalled` (alive, but no turn for 2 s), `dead` (its process is gone) or `stopped`."""
        pid = self.pid.load()
        if pid == 0:
            return "stopped"
        if not Path(f"/proc/{pid}").exists():
            return "dead"
        stale = monotonic_ns() - self.heartbeat.load() > STALE_NS
        return "stalled" if stale else "running"


def _block(plant: str) -> str:
    return f"tp.{plant}.ctl"


def _flag(plant: str) -> str:
    return f"tp.{plant}.ntf"


def remove_all(plant: str) -> list[str]:
    """Remove every shared-memory object of a plant that does not run; their names."""
    gone = segment.names(f"tp.{plant}.")
    for name in gone:
        segment.remove(name)
    return gone
