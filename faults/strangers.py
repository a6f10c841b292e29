"""Who is not of this plant and speaks to it: a feed of another plant, and peers that forge messages."""

import json
import random
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import zmq

from faults.case import Case
from faults.check import journaled
from faults.feeds import elsewhere, rival
from faults.readers import Watch
from faults.site import Site
from fuzz.said import said
from tickplant import sockets
from tickplant.dialogue import FROM_FEED, FROM_OPERATOR, EndOfDay
from tickplant.errors import FrameError, TickplantError
from tickplant.feed.binding import Binding
from tickplant.identity import known

STAGING = "staging"
FORGED = 3_000
_GROWN_MAX = 32 << 20
_EVERY = 100
"""Forged messages at once: what is sent to the plant waits in its queue meanwhile."""


def staging_feed(site: Site, choice: random.Random) -> bool:
    """A feed of another plant has this one's endpoints: nothing of it is taken, and both sides say why."""
    feed, same_name = choice.choice(("one", "two")), choice.random() < 0.5
    path, outbox = elsewhere(site, feed, site.rate)
    shutil.rmtree(outbox, ignore_errors=True)  # an earlier stranger may have been of a third plant
    content: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    plant, number = site.name if same_name else STAGING, site.config.feed(feed).id
    content["plant"]["name"] = plant
    path.write_bytes(msgspec.toml.encode(content))
    outbox.mkdir(parents=True, exist_ok=True)
    Binding(feed, number, plant, f"{choice.getrandbits(128):032x}").write(outbox)
    site.until(lambda: site.publishes(f"feed-{feed}"), f"feed {feed} to run")
    own, refused = site.processes[f"feed-{feed}"].running, _refused(site)
    stranger = rival(site, path, feed)
    try:
        status = Path(content["plant"]["run_dir"]) / "status" / f"feed-{feed}.json"
        site.until(lambda: _waits(stranger, status), "a feed of another plant to be refused by name")
        site.until(lambda: _refused(site) not in (refused, 0), "the plant to count what it refused")
        written = site.counts(feed).runs
        site.pause(choice.uniform(0.5, 1.5))
    finally:
        stranger.kill()
        stranger.wait()
    if site.processes[f"feed-{feed}"].running is not own or site.counts(feed).runs != written:
        raise TickplantError(f"feed {feed} was started again because of a stranger")
    if _refused(site) == 0:
        raise TickplantError("the plant does not count what it refused of a stranger")
    if not site.strangers:
        site.witness.append(partial(_told, site))
    site.strangers += 1
    return True


def _told(site: Site) -> list[str]:
    """The plant has told of strangers in table `event`: the first, second, fourth, ... of them."""
    for date in site.dates():
        events = journaled(site.config.journal_dir / str(date), site.config.schema["event"])
        if (events["kind"] == b"refused").any():
            return []
    return [f"{site.strangers} feeds of another plant, and no event tells of one"]


def _waits(stranger: "subprocess.Popen[bytes]", status: Path) -> bool:
    """Does the feed's status say that its rows wait, and why? Raises TickplantError if it ended instead."""
    if stranger.poll() is not None:
        raise TickplantError(f"a feed of another plant ended with status {stranger.returncode}")
    return bool(_said(status).get("waiting"))


def _refused(site: Site) -> int:
    """Messages that the running ticker plant has refused."""
    return int(_said(site.config.status_dir / "tickerplant.json").get("refused_messages", 0))


def _said(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def forged(site: Site, choice: random.Random) -> bool:
    """Control messages that are nearly right, to the sockets of feeds and of operators, beside the load."""
    site.until(lambda: site.publishes("tickerplant"), "the ticker plant to run")
    watch, token = Watch(site), known(site.config.plant.data_dir)
    whose: dict[str, list[Any]] = {"plant": [site.name, STAGING], "identity": [token, ""]}
    whose |= {"feed": ["one", "two"], "number": [1, 2]}
    repair, ingress = sockets.context().socket(zmq.DEALER), sockets.context().socket(zmq.XPUB)
    admin = sockets.context().socket(zmq.DEALER)
    try:
        repair.setsockopt(zmq.IDENTITY, f"forged-{choice.getrandbits(64)}".encode())
        sockets.connect(repair, site.config.tickerplant.repair)
        sockets.connect(ingress, site.config.tickerplant.ingress)
        sockets.connect(admin, f"ipc://{site.config.plant.run_dir}/tickerplant.sock")
        asked = 0
        for n in range(FORGED):
            message = said(FROM_FEED, choice.randbytes(60), whose)
            repair.send_multipart([message] * choice.choice((1, 1, 1, 2, 3)))
            ingress.send(message, zmq.DONTWAIT)
            asked += _ask(admin, said(FROM_OPERATOR, choice.randbytes(40)))
            if n % _EVERY == _EVERY - 1:
                asked = _answered(site, admin, asked)
        watch.check(_GROWN_MAX)
    finally:
        for socket in (repair, ingress, admin):
            socket.close(linger=0)
    return True


def _ask(admin: "zmq.Socket[bytes]", message: bytes) -> int:
    """Send an operator's message, unless it is a right one: that would end the date, as it should."""
    try:
        if isinstance(FROM_OPERATOR.read(message), EndOfDay):
            return 0
    except FrameError:
        pass
    admin.send_multipart([b"", message])
    return 1


def _answered(site: Site, admin: "zmq.Socket[bytes]", asked: int) -> int:
    """Each has its answer; what is left to be answered then: none."""
    for _ in range(asked):
        site.until(lambda: admin.poll(0), "an answer of the ticker plant to a forged message")
        admin.recv_multipart()
    return 0


CASES = {
    "stranger-feed": Case([staging_feed]),
    "forged-control-messages": Case([forged]),
}
