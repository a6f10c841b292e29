"""Readers that stand still, ask without end, join and leave, or say what may not be said; and readers that
are away while dates go by."""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import zmq

from faults.case import Case
from faults.growth import DESCRIPTORS, held
from faults.processes import READERS
from faults.site import PATIENCE_S, Site
from faults.source import TABLES
from fuzz.said import said
from tickplant import sockets, subscribe
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Publisher
from tickplant.eod import end_of_day
from tickplant.errors import TickplantError
from tickplant.link import Link
from tickplant.requests import TO_PUBLISHER, TO_READER, About, Describe, Refused, Replay, Replayed

QUEUE_BYTES = 1 << 22
SLACK_BYTES = 1 << 24
"""What a process may grow by otherwise: indexes, buffers that libc keeps."""
FULL_RATE = 60_000.0
STILL_S = 60.0
ANSWER_NS = 2 * SECOND_NS
FLOOD = 20_000
EQUAL, JOINED = 300, 40
"""Equal requests, and readers that join one after the other."""
FORGED = 5_000
TOPIC_COST = 50
"""Bytes of memory for each byte of a topic (conf/tickplant.toml)."""
REQUEST_BYTES_MAX = 1 << 16
"""A longer request cuts the connection."""


def _settings(content: dict[str, Any], site: Site) -> None:
    content["publisher"]["queue_bytes_max"] = QUEUE_BYTES


def _full_rate(content: dict[str, Any], site: Site) -> None:
    _settings(content, site)
    for feed in content["feeds"].values():
        feed["options"]["rate"] = FULL_RATE / len(content["feeds"])


def _kept(content: dict[str, Any], site: Site) -> None:
    content["tickerplant"]["keep_days"] = 3650  # the check reads the journal of every date


def _private_bytes(site: Site, name: str) -> int:
    """Memory of a process that is not shared with others."""
    process = site.processes[name].running
    assert process is not None
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """What the plant's processes have grown by since it began."""

    NAMES = ("tickerplant", "publisher")

    def __init__(self, site: Site) -> None:
        self.site = site
        self.before = {name: _private_bytes(site, name) for name in self.NAMES}
        self.most = dict.fromkeys(self.NAMES, 0)
        self.pids = {name: self._pid(name) for name in self.NAMES}

    def __str__(self) -> str:
        return ", ".join(f"{name} {grown / (1 << 20):.1f} MiB" for name, grown in self.most.items())

    def _pid(self, name: str) -> int:
        process = self.site.processes[name].running
        return process.pid if process else 0

    def check(self, allowed: int) -> None:
        """Raises TickplantError if one grew by more, or is another process than before."""
        self.most = {n: max(self.most[n], _private_bytes(self.site, n) - b) for n, b in self.before.items()}
        for name in self.NAMES:
            if self._pid(name) != self.pids[name]:
                raise TickplantError(f"the {name} ended")
            if self.most[name] > allowed:
                raise TickplantError(f"the {name} grew by {self.most[name]:,} bytes, more than {allowed:,}")


def stood_still(site: Site, choice: random.Random) -> bool:
    """Both remote readers stop for a minute, and then go on."""
    stopped = [site.processes[name].running for name in READERS if name.startswith("remote")]
    site.pause(2.0)  # the first rows have made buffers that stay
    watch, began = Watch(site), site.plant.control.written.load()
    for process in stopped:
        if process:
            process.send_signal(signal.SIGSTOP)
    try:
        end = monotonic_ns() + int(STILL_S * SECOND_NS)
        while monotonic_ns() < end:
            site.pause(0.5)
            watch.check(len(stopped) * QUEUE_BYTES + SLACK_BYTES)
    finally:
        for process in stopped:
            if process:
                process.send_signal(signal.SIGCONT)
    written = site.plant.control.written.load() - began
    site.figures.append(
        f"for {STILL_S:g} s nothing read {written:,} bytes of journal; memory of their own grew by: {watch}"
    )
    if written < len(stopped) * QUEUE_BYTES + SLACK_BYTES:
        raise TickplantError(f"only {written:,} bytes were written meanwhile: too few to tell")
    return all(stopped)


def asked_without_end(site: Site, choice: random.Random) -> bool:
    """A peer asks for rows and takes no answer, another subscribes to all that it can think of."""
    publisher = site.config.publisher
    watch = Watch(site)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    greedy, topics = context.socket(zmq.DEALER), context.socket(zmq.SUB)
    greedy.setsockopt(zmq.SNDHWM, 0)
    topics.setsockopt(zmq.SNDHWM, 0)
    greedy.setsockopt(zmq.RCVHWM, 1)
    try:
        sockets.connect(greedy, publisher.request)
        sockets.connect(topics, publisher.publish)
        date = site.plant.trading_date
        question = Replay(date=date, table=3, row=0, bytes=1 << 22).packed()
        for n in range(FLOOD):
            greedy.send(question if n % 10 else bytes(choice.randrange(1 << 14)))
            topics.setsockopt(zmq.SUBSCRIBE, choice.randbytes(choice.randrange(5, 60)))
        link = Link(publisher.request, None, None, QUEUE_BYTES)
        try:
            for _ in range(5):
                began = monotonic_ns()
                link.ask(Describe(), About)
                if monotonic_ns() - began > ANSWER_NS:
                    raise TickplantError("the publisher took more than two seconds to answer another reader")
                site.pause(0.2)
        finally:
            link.close()
        watch.check(_bounds(publisher) + SLACK_BYTES)
        site.figures.append(f"after {FLOOD:,} questions and topics, memory of their own grew by: {watch}")
    finally:
        context.destroy(linger=0)
    return True


def joined_and_left(site: Site, choice: random.Random) -> bool:
    """Readers join one after the other, read some rows and leave; others ask for the same again and again."""
    endpoint, date = site.config.publisher.request, site.plant.trading_date
    before = _descriptors(site)
    link = Link(endpoint, None, None, QUEUE_BYTES)
    try:
        table = site.config.schema["trade"].number
        for n in range(EQUAL):
            link.ask(Replay(date=date, table=table, row=0, bytes=1 << 16, check=bool(n % 2)), Replayed)
            site.turn()
        for _ in range(JOINED):
            row = choice.choice([0, -1, -1000])
            with subscribe(endpoint, choice.choice(TABLES), from_row=row, trading_date=date) as reader:
                reader.next(0.2)
            site.turn()
    finally:
        link.close()
    more = _descriptors(site) - before
    site.figures.append(
        f"after {EQUAL} equal requests and {JOINED} readers the publisher had {more:+d} files"
    )
    if more > DESCRIPTORS:
        raise TickplantError(f"the publisher has {more} descriptors more than before {EQUAL} equal requests")
    return True


def _descriptors(site: Site) -> int:
    process = site.processes["publisher"].running
    return held(process.pid).descriptors if process else 0


def forged(site: Site, choice: random.Random) -> bool:
    """Requests that are nearly right, by thousands: each is answered, and the publisher does not end."""
    watch = Watch(site)
    dealer = sockets.context().socket(zmq.DEALER)
    try:
        sockets.connect(dealer, site.config.publisher.request)
        usual = {"date": [site.plant.trading_date], "table": [1, 2, 3, 4, 5], "from": [0, 1, 300_000]}
        for n in range(FORGED):
            request = said(TO_PUBLISHER, choice.randbytes(40), usual)
            dealer.send(request[:4000])
            if not dealer.poll(int(PATIENCE_S * 1000)):
                raise TickplantError(f"request number {n} was not answered: {request!r}")
            message = TO_READER.read(dealer.recv_multipart()[0])
            if isinstance(message, Refused) and "failed to answer" in message.text:
                raise TickplantError(f"request {request!r}: {message.text}")
            if n % 100 == 0:
                site.turn()
    finally:
        dealer.close(linger=0)
    watch.check(_bounds(site.config.publisher) + SLACK_BYTES)
    return True


def _bounds(publisher: Publisher) -> int:
    """What the settings let two peers have of the publisher:

    Answers not taken, questions and topics, live rows.
    """
    answers = publisher.answers_max * publisher.reply_bytes_max
    questions = publisher.requests_max * REQUEST_BYTES_MAX
    return answers + questions + TOPIC_COST * publisher.topic_bytes_max + publisher.queue_bytes_max


def away_over_dates(site: Site, choice: random.Random) -> bool:
    """A reader is killed, and comes back when two dates are over, proven and dropped from shared memory."""
    name = choice.choice(READERS)
    process = site.processes[name]
    site.kill(name, 3600.0)
    site.until(lambda: process.running is None, f"{name} to be gone")
    begun = []
    for _ in range(2):
        begun.append(site.plant.trading_date)
        end_of_day(site.config)
        site.pause(choice.uniform(0.2, 1.0))
    proofs = site.config.plant.data_dir / "proofs"
    for date in begun:
        site.until((proofs / f"{date}.json").exists, f"the proof of {date}")
        gone = Path(f"/dev/shm/tp.{site.name}.{date}.trade")
        if json.loads((proofs / f"{date}.json").read_text())["complete"]:
            site.until(lambda path=gone: not path.exists(), f"the tables of {date} to be dropped")  # type: ignore[misc]
    process.start_at_ns = 1
    site.until(lambda: process.running, f"{name} to be back")
    return True


CASES = {
    "stopped-remote-readers": Case([stood_still], mixed=False, settings=_full_rate),
    "joining-readers": Case([joined_and_left], mixed=False),
    "forged-requests": Case([forged], mixed=False),
    "greedy-readers": Case([asked_without_end], mixed=False, settings=_settings),
    "readers-away-over-dates": Case([away_over_dates], mixed=False, settings=_kept),
}
