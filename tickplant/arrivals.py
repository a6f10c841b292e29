"""What a publisher sends by itself: live rows and heartbeats, from a remote reader's socket to its tables.

Rows that follow on are taken natively, all that are there at once (_core/runs.h): they become one delivery
per table, however many messages and frames they came in. Whatever else comes is looked at frame by frame.
"""

import sys
from collections.abc import Mapping

import zmq

from tickplant import sockets, wire
from tickplant._core import runs
from tickplant.conflation import TableConflation
from tickplant.link import beat_of
from tickplant.sequencer import Item, TableSequence

DRAIN, DRAIN_BYTES = 256, 1 << 20
"""Messages at once, and their bytes, if every row is wanted."""
DRAIN_ALL = 100_000
"""Messages at once if the newest are wanted."""


class Arrivals:
    """Of one socket, for the tables of one subscription."""

    def __init__(
        self, sub: zmq.Socket[bytes], sequences: Mapping[int, TableSequence],
        conflations: Mapping[int, TableConflation], events: int, schema: int,
    ) -> None:  # fmt: skip
        """`events`: the number of table `event`, whose rows are told before others that came with them;
        `schema`: the fingerprint of the tables."""
        self.came = False
        """Had anything come when it was taken the last time?"""
        self.sequences, self.conflations = sequences, conflations
        self._schema = schema
        self._most = (DRAIN_ALL, sys.maxsize) if conflations else (DRAIN, DRAIN_BYTES)
        self._runs = [(s, s.run) for n, s in sorted(sequences.items(), key=lambda item: item[0] != events)]
        self._tap = runs.Tap([run for _, run in self._runs], sockets.library(), int(sub.underlying))

    def take(self) -> list[Item]:
        """Rows of what has come that follow on."""
        out: list[Item] = []
        self._tap.begin(*self._most)
        while True:
            for sequence, run in self._runs:
                run.aim(*sequence.following)
            message = self._tap.pour()
            for sequence, run in self._runs:
                if (taken := run.rows()) is not None:
                    out += sequence.on_rows(*taken, run.next)
            if message is None:
                self.came = self._tap.left < self._most[0]
                return out
            out += self._look_at(message)

    def _look_at(self, message: bytes) -> list[Item]:
        """Frames that do not just follow on; what follows one that is none is missed, and requested."""
        out: list[Item] = []
        for frame in wire.split(message):
            head = wire.header(frame)
            if head.kind == wire.HEARTBEAT:
                self._hear(frame)
            elif head.kind == wire.ROWS and head.table in self.sequences:
                sequence = self.sequences[head.table]
                if head.schema == sequence.table.fingerprint:
                    out += sequence.on_frame(frame, head)
            elif head.kind == wire.ROWS and head.table in self.conflations:
                conflation = self.conflations[head.table]
                if head.schema == conflation.table.fingerprint:
                    conflation.on_frame(frame, head)
        return out

    def _hear(self, frame: memoryview) -> None:
        """A heartbeat. That of a date with other tables says only that an earlier date is over."""
        if (said := beat_of(frame)) is None:
            return
        date, beat = said
        for number, sequence in self.sequences.items():
            sequence.on_heartbeat(date, beat.rows.get(number, 0) if beat.schema == self._schema else 0)
        for number, conflation in self.conflations.items():
            if beat.schema == self._schema:
                conflation.on_heartbeat(date, beat.rows.get(number, 0))

    def close(self) -> None:
        """Let go; before the socket is closed."""
        self._tap.close()
