"""The network between feeds and plant, and between plant and remote readers, as bad as networks are."""

import random
import shutil
from typing import Any

from faults.case import Case, Fault
from faults.proxy import Weather
from faults.site import Site

FEED_SIDE, READER_SIDE = ("ingress", "repair"), ("publish", "request")
BOTH = FEED_SIDE + READER_SIDE
REMOTE = ("remote-trade", "remote-quote")
BEYOND_HEARTBEATS_S = (7.0, 9.0)
"""Longer than a second until ZeroMQ asks, and five until it gives up (sockets.configure)."""


def _weather(
    site: Site, choice: random.Random, links: tuple[str, ...], weather: Weather, seconds: float
) -> bool:
    """One or all of these links are so for some time; it may outlast the fault."""
    for name in links if choice.random() < 0.5 else (choice.choice(links),):
        site.network.worsen(name, weather, seconds)
    site.pause(seconds * choice.uniform(0.5, 1.0))
    return True


def cut(*links: str) -> Fault:
    """Connections end, in good order or by a reset."""

    def fault(site: Site, choice: random.Random) -> bool:
        reset, everyone = choice.random() < 0.5, choice.random() < 0.5
        return site.network.cut(choice.choice(links), reset=reset, all_of_them=everyone) > 0

    return fault


def cut_in_a_message(*links: str) -> Fault:
    """Connections end with the first half of a message."""
    return lambda site, choice: site.network.halve(choice.choice(links)) > 0


def late(*links: str) -> Fault:
    """Everything takes tens to hundreds of milliseconds, not always the same."""

    def fault(site: Site, choice: random.Random) -> bool:
        delay = choice.choice((0.02, 0.1, 0.4))
        weather = Weather(delay_s=delay, jitter_s=delay * choice.random())
        return _weather(site, choice, links, weather, choice.uniform(1.0, 3.0))

    return fault


def held_up(*links: str) -> Fault:
    """Nothing moves, for less or for more time than ZeroMQ's heartbeats wait; then everything comes."""

    def fault(site: Site, choice: random.Random) -> bool:
        seconds = choice.uniform(*choice.choice(((0.5, 3.0), BEYOND_HEARTBEATS_S)))
        return _weather(site, choice, links, Weather(stopped=True), seconds)

    return fault


def swallowed(*links: str) -> Fault:
    """Bytes are taken and not delivered; connections of that time stay dead until an end gives them up."""

    def fault(site: Site, choice: random.Random) -> bool:
        seconds = choice.uniform(*choice.choice(((0.5, 3.0), BEYOND_HEARTBEATS_S)))
        return _weather(site, choice, links, Weather(hole=True), seconds)

    return fault


def unreachable(*links: str) -> Fault:
    """Connections are reset and new ones refused."""

    def fault(site: Site, choice: random.Random) -> bool:
        return _weather(site, choice, links, Weather(down=True), choice.uniform(0.2, 3.0))

    return fault


def lossy(*links: str) -> Fault:
    """Whole messages do not arrive, and nobody is told."""

    def fault(site: Site, choice: random.Random) -> bool:
        before = sum(site.network.links[name].dropped for name in links)
        drop = choice.choice((0.01, 0.2, 0.9, 1.0))
        _weather(site, choice, links, Weather(drop=drop), choice.uniform(0.5, 3.0))
        return sum(site.network.links[name].dropped for name in links) > before

    return fault


def slow(*links: str) -> Fault:
    """Fewer bytes a second go through than are sent."""

    def fault(site: Site, choice: random.Random) -> bool:
        weather = Weather(rate=choice.choice((30e3, 100e3, 400e3)))
        return _weather(site, choice, links, weather, choice.uniform(1.0, 8.0))

    return fault


def garbled(*links: str) -> Fault:
    """Bits are flipped that no checksum of the network noticed."""

    def fault(site: Site, choice: random.Random) -> bool:
        name = choice.choice(links)
        before = site.network.links[name].flipped
        site.network.flip(name, choice.choice((1, 1, 5, 20)))
        site.pause(choice.uniform(0.2, 1.0))
        return site.network.links[name].flipped > before

    return fault


def late_reader(site: Site, choice: random.Random) -> bool:
    """A reader that has nothing yet joins the stream in full flow."""
    name = choice.choice(REMOTE)
    process = site.processes[name]
    site.kill(name, choice.uniform(0.0, 0.5))
    assert process.running is not None
    process.running.wait()
    shutil.rmtree(site.folder / name, ignore_errors=True)  # it may not have begun
    return True


def _far_away(content: dict[str, Any], site: Site) -> None:
    """No feed is on the plant's host."""
    content["tickerplant"]["follow_outboxes"] = False


KINDS = (cut, cut_in_a_message, late, held_up, swallowed, unreachable, lossy, slow, garbled)

CASES = {
    "network-feed": Case([kind(*FEED_SIDE) for kind in KINDS], settings=_far_away),
    "network-reader": Case([*(kind(*READER_SIDE) for kind in KINDS), late_reader]),
}
