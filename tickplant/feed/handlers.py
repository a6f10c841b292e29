"""The handlers that a configuration can name, and how one is run.

A handler is a function `handler(feed, **options)` that publishes through `feed` until it has nothing more
or `feed.stopping` is set. `handler = "package.module:function"` names one of your own (`plugin`).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
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
    handler, options = check(config, name), config.feed(name).options
    feed = Feed(config, name)
    return feed, lambda: handler(feed, **options)


def check(config: Config, name: str) -> Handler:
    """The handler of a feed, which takes the options that are configured. Raises ConfigError otherwise."""
    settings = config.feed(name)
    plugin.look_in(config.path.parent)
    handler = resolve(settings.handler)
    taken = inspect.signature(handler)
    try:
        taken.bind(None, **settings.options)
    except TypeError as e:
        known = ", ".join(n for n, p in list(taken.parameters.items())[1:] if p.kind is not p.VAR_KEYWORD)
        raise ConfigError(f"feeds.{name}.options: {e}; {settings.handler} has: {known or 'none'}") from None
    _check_options(name, settings.options, _hints(handler))
    kind = venues().get(settings.handler)
    channels = settings.options.get("channels", ())
    if kind and (unknown := set(channels) - {c.name for c in kind.CHANNELS}):
        has = ", ".join(c.name for c in kind.CHANNELS)
        raise ConfigError(f"feeds.{name}.options.channels has {', '.join(sorted(unknown))}; it can be: {has}")
    return handler


def _hints(handler: Handler) -> dict[str, Any]:
    try:
        return get_type_hints(handler)
    except (NameError, TypeError, AttributeError):  # what one's own handler says of its types can't be read
        return {}


def _check_options(name: str, options: dict[str, Any], hints: dict[str, Any]) -> None:
    for key, value in options.items():
        if hints.get(key) in (int, float, str, bool, Sequence[str], Mapping[str, str]):
            try:
                msgspec.convert(value, hints[key])
            except msgspec.ValidationError as e:
                raise ConfigError(f"feeds.{name}.options.{key}: {e}") from None


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
