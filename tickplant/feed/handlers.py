"""The handlers that a configuration can name, and how one is run.

A handler is a function `handler(feed, **options)` that publishes through `feed` until it has nothing more
or `feed.stopping` is set. `handler = "package.module:function"` names one of your own (`plugin`).
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tickplant import plugin, service
from tickplant.clock import SECOND_NS, now_ns
from tickplant.config import Config
from tickplant.errors import ConfigError
from tickplant.feed.handler import Feed
from tickplant.feed.packets.mold_live import moldudp64
from tickplant.feed.playback import play
from tickplant.feed.simulated import Simulation
from tickplant.feed.venue import Venue
from tickplant.feed.venues import venues

Handler = Callable[..., None]

SIMULATED_TURN_S = 0.01
DRAIN_S = 30.0
"""How long a finished feed waits for the plant to take the rest; what is left stays in the outbox."""


def simulated(
    feed: Feed, *, venue: str = "XSIM", kind: str = "equity", seed: int = 1, instruments: int = 200,
    rate: float = 20_000.0, seconds: float | None = None,
) -> None:  # fmt: skip
    """A simulated venue at `rate` rows/s of real time, for `seconds` or for ever."""
    begin = now_ns()
    simulation = Simulation(
        venue, seed=seed, schema=feed.config.schema, start_ns=begin, kind=kind,  # type: ignore[arg-type]
        instruments=instruments, rate=rate,
    )  # fmt: skip
    feed.append("instrument", simulation.definitions())
    made = 0
    while not feed.wait(SIMULATED_TURN_S):
        now = now_ns()
        passed_s = (now - begin) / SECOND_NS
        if seconds is not None and passed_s >= seconds:
            return
        events = int(passed_s * rate) - made
        if events > 0:
            made += events
            for table, rows in simulation.batch(events, max(now, simulation.now_ns + events)):
                rows["ts_recv"] = np.maximum(now_ns(), rows["ts_event"])
                feed.append(table, rows)


def capture(feed: Feed, *, path: str, pace: float = 0.0, again: bool = False, **options: Any) -> None:
    """Publish a capture: flat out (pace 0), as recorded (1), or so many times faster.

    What was published of it already is not, unless `again`.
    """
    play(feed, Path(path), pace=pace, again=again, **options)


HANDLERS: dict[str, Handler] = {
    "simulated": simulated, "itch50": capture, "capture": capture, "moldudp64": moldudp64,
}  # fmt: skip
"""Beside these, each of `feed.venues` is one."""


def resolve(name: str) -> Handler:
    """The handler of this name. Raises ConfigError if there is none."""
    if name in HANDLERS:
        return HANDLERS[name]
    if ":" not in name and (kind := venues().get(name)):
        return _live(kind)
    try:
        found = plugin.load(name, "feed handler")
    except ConfigError as e:
        known = ", ".join([*HANDLERS, *venues()])
        raise ConfigError(f"{e}; built in are {known}") from None
    if isinstance(found, type) and issubclass(found, Venue):
        return _live(found)
    if not callable(found):
        raise ConfigError(f"feed handler {name!r} is not a function")
    handler: Handler = found
    return handler


def _live(kind: type[Venue]) -> Handler:
    from tickplant.feed.live import handler  # HTTP and WebSocket, for who is to run a venue

    return handler(kind)


def prepare(config: Config, name: str) -> tuple[Feed, Callable[[], None]]:
    """The feed of this name, and what runs its handler. Raises ConfigError for options it lacks."""
    settings = config.feed(name)
    plugin.look_in(config.path.parent)
    handler = resolve(settings.handler)
    feed = Feed(config, name)
    try:
        inspect.signature(handler).bind(feed, **settings.options)
    except TypeError as e:
        raise ConfigError(f"feeds.{name}.options: {e}") from None
    return feed, lambda: handler(feed, **settings.options)


def run_feed(config: Config, name: str) -> None:
    """Run a feed handler as a process of its own, until it is done or told to stop."""
    feed, handler = prepare(config, name)
    pulse = service.Pulse(f"feed-{name}", config.status_dir, feed.status)
    service.stop_event(feed.stopping)
    with service.ending(pulse), feed:
        feed.beat = pulse.beat
        service.notify("READY=1")
        handler()
        service.notify("STOPPING=1")
        pulse.write("draining")
        feed.drained(DRAIN_S)
    pulse.write("finished")
