"""Targets: the decoders of venues over WebSocket. An input is frames, one a line; a line that begins with
GET, a URL and a space is the answer to a request."""

import importlib
from functools import cache, partial
from typing import Any

from fuzz.target import Target
from tickplant.feed.venues import venues

TEST_OF = {"binance-usdm": "binance", "binance-coinm": "binance", "kraken-v2": "kraken"}
MESSAGES_OF = {"kraken-v2": "V2"}
CONNECTIONS = {"bybit": "bybit.linear.0"}


def targets() -> dict[str, Target]:
    """One for each venue that comes with tickplant."""
    return {f"venue-{name}": Target(partial(run, name), partial(corpus, name)) for name in venues()}


def run(name: str, data: bytes) -> None:
    """Hear all frames of an input; the rows must be sound and each frame accounted for."""
    from venue_frames import Heard, assert_sound

    heard = Heard(venues()[name](), CONNECTIONS.get(name, "ws"))
    for line in data.split(b"\n"):
        if line.startswith(b"GET "):
            _, url, answer = (line + b"  ").split(b" ", 2)
            heard.answer(url.decode("utf-8", "replace"), answer[:-2])
        else:
            heard(line)
    assert_sound(heard)


@cache
def _module(name: str) -> Any:
    return importlib.import_module(f"test_venue_{TEST_OF.get(name, name).replace('-', '_')}")


def corpus(name: str) -> list[bytes]:
    """Each message of the venue's tests behind what makes it understood, and all of them."""
    from venue_frames import dumped

    tests = _module(name)
    frames = [m.encode() if isinstance(m, str) else dumped(m)
              for m in getattr(tests, MESSAGES_OF.get(name, "ALL"))]  # fmt: skip
    frames = [f for f in frames if b"\n" not in f]
    before = _answers(tests) + [
        dumped(m) for m in (getattr(tests, "SNAPSHOT", None),) if isinstance(m, dict | list)
    ]
    whole = [*before, *frames]
    return [b"\n".join(whole), *(b"\n".join([*before, f]) for f in frames), *before]


def _answers(tests: Any) -> list[bytes]:
    """Answers to requests as lines, those that the tests name."""
    from venue_frames import dumped

    pairs = [("URL", "LIST"), ("WHERE", "SNAPSHOT"), ("URL", "PAIRS")]
    return [
        f"GET {getattr(tests, where)} ".encode() + dumped(getattr(tests, what))
        for where, what in pairs
        if isinstance(getattr(tests, where, None), str) and hasattr(tests, what)
    ]
