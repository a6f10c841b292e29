"""Nasdaq TotalView-ITCH 5.0 to rows (itch.h holds the format, the algorithm and its pitfalls)."""

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

DTYPES: dict[str, np.dtype[np.void]]
"""Table name -> dtype of its rows, in the order in which `take` gives them: those of the default
configuration."""

MESSAGE_LENGTHS: dict[str, int]
"""Message type -> bytes of such a message, without the two of its length."""

def blocks_end(data: Buffer, start: int, count: int) -> int:
    """Where `count` messages with their lengths before them end that begin at `start`; -1 if `data` ends
    inside them, or one is empty (which in a BinaryFILE would end the session)."""

class ItchDecoder:
    """Decodes one day of one venue, piece by piece. Not for use by two threads at once.

    `midnight_ns`: the local midnight that the venue's times are counted from, ns UTC. `books`: keep the
    levels of each stock; without them there are no rows of quote, and all other rows are the same.
    Raises ValueError if that is not below 2^62, MemoryError.
    """

    def __init__(self, midnight_ns: int, *, books: bool = True) -> None: ...
    def decode(self, data: Buffer, ts_recv: int = 0, final: bool = False) -> int:
        """Decode the whole messages in `data`, bytes of a BinaryFILE that follow those used before;
        returns how many bytes were used. Less than one message (at most 65,536 bytes) is left over,
        to be given again in front of what follows.

        `ts_recv` (ns UTC) goes into the rows. `final` says that the file ends with `data`: then all
        of it is used, and a part of a message at its end becomes a row of table event.

        Runs without the GIL. Never raises because of what is in `data`; MemoryError (after which
        the decoder is of no more use), ValueError after `final`, RuntimeError while another thread
        is in here.
        """

    def seek(self, seq: int) -> None:
        """The next message is number `seq`: some before it are missing, or it is another session's."""

    def take(self) -> list[tuple[str, npt.NDArray[np.void]]]:
        """(table, rows) of all rows made since the last call, in the order to publish them in;
        tables without rows are left out. The arrays are writable and own their memory."""

    def counts(self) -> dict[str, int]:
        """Messages decoded so far, by type."""

    @property
    def malformed(self) -> int:
        """Messages of unknown type or wrong length; with `counts()` they add up to `messages`
        (while nothing is missing)."""

    @property
    def messages(self) -> int:
        """Messages seen so far; the last one's `venue_seq`."""

    @property
    def ts_event(self) -> int:
        """Time of the last message, ns UTC; midnight before the first."""

    @property
    def offset(self) -> int:
        """Bytes of the file used so far."""

    @property
    def damaged(self) -> bool:
        """The file ended inside a message, or went on after its end."""
