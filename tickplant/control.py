"""The control block: the words of shared memory by which a plant's processes find each other's place.

`tp.<plant>.ctl`, mapped read-only by readers. Header as in `segment.describe` (the description holds
the schema and where the plant's data are), and the words, each on a line of its own:

    128  bell       u32 that readers sleep on (_core/futex.h)
    256  date       trading date, yyyymmdd
    384  heartbeat  monotonic ns of the ticker plant's last turn
    512  written    bytes of the date's journal that are written
    640  durable    bytes of it that are on disk
    768  pid        of the ticker plant; 0 after a clean stop
    896  previous   the trading date before the open one; 0 if this ticker plant opened no other
    960  synced     u32 that those sleep on who wait for what is durable: readers of rows need not wake for it

Readers write nothing: what they may write they may also cut short, and the writer would end with SIGBUS.
A ticker plant that starts with other tables makes the block anew: `Control.follow` goes over to it.
"""

import os
import time
from pathlib import Path

from tickplant import owners, segment
from tickplant._core.memory import Bell, Word
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns, ticks_to_monotonic
from tickplant.errors import NotRunning, SegmentError
from tickplant.schema import Schema

MAGIC = b"tpCNTRL1"
BELL, DATE, HEARTBEAT, WRITTEN, DURABLE, PID, PREVIOUS, SYNCED = 128, 256, 384, 512, 640, 768, 896, 960
STALE_NS = 2 * SECOND_NS
"""A ticker plant that has not turned for so long is stalled or dead."""
_TICK_NS = 20 * MILLISECOND_NS
"""The kernel tells no better when a process has started."""


class Control:
    """The words of one plant, for its ticker plant (`create`) or for anyone (`attach`)."""

    def __init__(self, plant: str, block: segment.Segment, own: bool) -> None:
        self.plant = plant
        self._block = block  # open: by its file it is told whether it has a name still

        def word(offset: int) -> Word:
            return Word(block.map, offset, own)

        self.date, self.heartbeat, self.pid = word(DATE), word(HEARTBEAT), word(PID)
        self.written, self.durable, self.previous = word(WRITTEN), word(DURABLE), word(PREVIOUS)
        self.bell, self.synced = Bell(word(BELL)), Bell(word(SYNCED))

    @classmethod
    def create(cls, plant: str, schema: Schema, data_dir: Path) -> "Control":
        """Take over the plant's block if it is sound and of this schema, else make it anew."""
        about = {"plant": plant, "schema": schema.describe(), "data_dir": str(data_dir.absolute())}
        about["latest"] = [t.name for t in schema if t.latest]
        try:
            block = segment.attach(_block(plant), writable=True)
            if segment.description(block, MAGIC) != about:
                raise SegmentError("another schema")
        except (NotRunning, SegmentError):
            segment.remove(_block(plant))
            size = segment.header_size(about)
            block = segment.create(_block(plant), size)
            block.allocate(0, size)
            segment.describe(block, MAGIC, about, size)
        return cls(plant, block, own=True)

    @classmethod
    def attach(cls, plant: str) -> "Control":
        """Raises NotRunning if no ticker plant has made the block, of a user whose plant this may be."""
        owners.settle(plant, None)
        owners.settle(plant, segment.owner(_block(plant)))
        block = segment.attach(_block(plant))
        segment.description(block, MAGIC)
        return cls(plant, block, own=False)

    @property
    def replaced(self) -> bool:
        """Has the block lost its name: made anew by a ticker plant with other tables, or removed?"""
        return os.fstat(self._block.fd).st_nlink == 0

    def follow(self) -> bool:
        """Go over to the block that has taken this one's place, once a trading date is open there; whether
        that was so. The words are others then."""
        if not self.replaced:
            return False
        try:
            newer = Control.attach(self.plant)
        except (NotRunning, SegmentError):  # just being made
            return False
        if not newer.date.load():
            return False
        self.__dict__.update(newer.__dict__)
        return True

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
                raise NotRunning(
                    f"no ticker plant of {plant} has begun a trading date; is it running (tickplant status)?"
                )
            time.sleep(0.02)

    @property
    def schema(self) -> Schema:
        """The schema of the plant."""
        return Schema.read(segment.description(self._block, MAGIC)["schema"])

    @property
    def latest(self) -> list[str]:
        """The tables with latest values."""
        return list(segment.description(self._block, MAGIC).get("latest", ()))

    @property
    def data_dir(self) -> Path:
        """Where the plant's journals are; whether they can be read from here is another matter."""
        return Path(segment.description(self._block, MAGIC).get("data_dir", ""))

    def announce(self, trading_date: int) -> None:
        """This date is open from now on."""
        if (before := self.date.load()) != trading_date:
            self.previous.store(before)
        self.date.store(trading_date)

    def own(self, pid: int) -> None:
        """This process is the ticker plant, and turns."""
        self.heartbeat.store(monotonic_ns())
        self.pid.store(pid)

    def idle_ns(self) -> int:
        """How long ago the ticker plant turned."""
        return max(0, monotonic_ns() - int(self.heartbeat.load()))

    def state(self) -> str:
        """`running`, `stalled` (alive, but no turn for 2 s), `dead` (its process is gone) or `stopped`."""
        pid = self.pid.load()
        if pid == 0:
            return "stopped"
        started = _started_ns(pid)
        # A process that began after the last turn is another one that was given the same number.
        if started is None or started > self.heartbeat.load() + _TICK_NS:
            return "dead"
        return "stalled" if self.idle_ns() > STALE_NS else "running"


def _started_ns(pid: int) -> int | None:
    """When a process started, on the monotonic clock; None if there is none, or only what is left of one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else ticks_to_monotonic(int(fields[19]))


def _block(plant: str) -> str:
    return f"tp.{plant}.ctl"


def remove_all(plant: str) -> list[str]:
    """Remove every shared-memory object of a plant that does not run; their names."""
    gone = segment.names(f"tp.{plant}.")
    for name in gone:
        segment.remove(name)
    return gone
