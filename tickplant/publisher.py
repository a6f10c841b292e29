"""The publisher: the only process that talks to readers on the network, itself a reader of the journal.

It follows the journal and sends every frame as it stands there over PUB: those of one table that lie in one
read are one message, of `wire.LIVE_MAX` bytes at most (a longer frame is left to be fetched). Every
`heartbeat_ms` it says how many rows of every table it has sent, which shows a subscriber the tail it may have
missed, and how the ticker plant is (`requests.Beat`). What else it answers is told in answers.py. The plant
does not know how many readers there are, nor whether there is a publisher.

Which tables there are the journal of each date says, and the control block: a ticker plant that starts with
other tables makes the block anew, and the publisher goes over to it. Another plant of the same name ends the
publisher: with its next start it serves that one.
"""

import logging
from typing import Any

import zmq

from tickplant import identity, sockets, wire
from tickplant._core import framing, runs
from tickplant.answers import Answers
from tickplant.clock import MILLISECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.curve import Guard
from tickplant.errors import NotRunning, TickplantError
from tickplant.keys import READERS
from tickplant.replay import Dates, ReplayIndex
from tickplant.requests import Beat

log = logging.getLogger(__name__)

TURN_NS = 5 * MILLISECOND_NS
ASKED_TURN_NS, ASKING_NS = MILLISECOND_NS // 5, 50 * MILLISECOND_NS
"""The bell tells of rows, not of requests: for a while after one, others are looked for more often."""
TOPICS_PER_TURN = 2000
TOPIC_MAX = 1024
"""Bytes that a reader can send at once where it subscribes; enough for the handshake of CURVE."""


class Publisher:
    """`open`, then `turn` again and again, then `close`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = config.publisher
        self.frames_sent = self.frames_left = self.cuts = 0
        self._beat_ns = self._asked_ns = 0
        self._topics = {b"", wire.topic(0)}
        self._strange = 0

    def open(self) -> None:
        """Index what the newest journal has, take the endpoints. Raises NotRunning without a plant."""
        self.control = Control.wait(self.config.plant.name)
        self.identity = identity.known(self.config.plant.data_dir)
        self.dates = Dates(self.config, self.control)
        self.guard = Guard(self.config, READERS)
        self.pub = sockets.context().socket(zmq.XPUB)  # a PUB that tells what is subscribed to
        self.pub.setsockopt(zmq.SNDHWM, max(2, self.settings.queue_bytes_max // wire.LIVE_MAX))
        self.endpoint = self.guard.bind(self.pub, self.settings.publish, TOPIC_MAX, pings=False)
        self.answers = Answers(self.config, self.dates, self.identity, self.endpoint)
        self._look_at_tables()
        self.answers.open(self.guard)
        self.request_endpoint = self.answers.endpoint

    @property
    def day(self) -> ReplayIndex:
        """The index of the date that is sent."""
        return self.dates.day

    @property
    def trading_date(self) -> int:
        """The date that is sent."""
        return self.dates.trading_date

    def turn(self) -> bool:
        """One turn; True if there were rows to send."""
        position = self.day.reader.position or 0
        asked = monotonic_ns() - self._asked_ns < ASKING_NS
        self.control.bell.wait_above(self.control.written, position, ASKED_TURN_NS if asked else TURN_NS)
        chunk = self.dates.follow()
        if chunk:
            self._send(chunk)
        elif self.dates.over:
            self._beat()
            self.dates.go_on()
            self._look_at_tables()
        if self.answers.turn():
            self._asked_ns = monotonic_ns()
        if sockets.readable(self.pub):
            self._subscribed()
        at = monotonic_ns()
        if at - self._beat_ns >= self.settings.heartbeat_ms * MILLISECOND_NS:
            self._beat_ns = at
            self._look_at_plant()
            self._beat()
            self.guard.look()
        return bool(chunk)

    def _look_at_plant(self) -> None:
        """Go over to the tables that the ticker plant has now. Raises NotRunning if it is another plant."""
        if self.control.follow():
            log.info("the ticker plant has made its control block anew; going over to it")
            self._look_at_tables()
        now = identity.known(self.config.plant.data_dir)
        if now and now != self.identity:
            raise NotRunning(
                f"{self.config.plant.data_dir} holds another plant now: {now[:8]}, before it was "
                f"{self.identity[:8] or 'not known'}; start the publisher again to serve that one"
            )

    def _look_at_tables(self) -> None:
        """Take note of the tables of the date that is sent, and of those that the plant has now."""
        numbers = {t.number for tables in (self.day.schema, self.control.schema) for t in tables}
        self._topics |= {wire.topic(number) for number in numbers}
        self.answers.look_at_tables()

    def _send(self, chunk: bytes) -> None:
        """Send the rows of a read, by table."""
        messages, sent, left = runs.bundles(chunk, wire.LIVE_MAX)
        for message in messages:
            self.pub.send(message)
        self.frames_sent += sent
        self.frames_left += left

    def _beat(self) -> None:
        beat = Beat(
            rows=self.day.rows, schema=self.day.schema.fingerprint, identity=self.identity,
            plant=self.control.state(), moved_ms=self.control.idle_ns() // MILLISECOND_NS,
            beat_ms=self.settings.heartbeat_ms,
        )  # fmt: skip
        self.pub.send(
            framing.seal(beat.packed(), wire.HEARTBEAT, trading_date=self.trading_date, time_ns=now_ns())
        )

    def _subscribed(self) -> None:
        """Take note of what is subscribed to: libzmq keeps every topic, and refuses none."""
        for _ in range(TOPICS_PER_TURN):
            try:
                message = self.pub.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            said = message.bytes
            if said[1:] not in self._topics:
                size = len(said) - 1
                self._strange = max(0, self._strange + (size if said[:1] == b"\1" else -size))
                if self._strange > self.settings.topic_bytes_max:
                    self._cut(message)
                    return

    def _cut(self, message: zmq.Frame) -> None:
        """End all connections, and with them what they subscribed to: there is no way to end one."""
        who = sockets.key_name(message) or sockets.address(message)
        log.warning(
            "cutting all connections to %s: readers (the last: %s) subscribe to more than "
            "publisher.topic_bytes_max = %d bytes of topics that are none of the plant's",
            self.endpoint, who, self.settings.topic_bytes_max,
        )  # fmt: skip
        self.cuts += 1
        sockets.cut(self.pub, self.endpoint)
        while sockets.readable(self.pub):  # what was said over them, and that they have ended
            self.pub.recv(zmq.DONTWAIT)
        self._strange = 0

    def status(self) -> dict[str, Any]:
        """How the publisher is, for the status file."""
        written = int(self.control.written.load())
        position = self.day.reader.position or 0
        same = self.control.date.load() == self.trading_date
        return {
            "trading_date": self.trading_date,
            "publish": self.endpoint,
            "frames_sent": self.frames_sent,
            "frames_too_long": self.frames_left,
            "behind_bytes": written - position if same else None,
            "plant": self.control.state(),
            "plant_moved_ms": self.control.idle_ns() // MILLISECOND_NS,
            "cuts": self.cuts,
            **self.answers.status(),
        }

    def close(self) -> None:
        """Give the endpoints back."""
        try:
            self._beat()
        except (TickplantError, zmq.ZMQError) as e:
            log.warning("no last heartbeat: %s", e)
        self.pub.close(linger=500)
        self.answers.close()
        self.guard.close()
