"""Targets: what a feed and its plant say to one another, and an operator to the plant.

bin/fuzz --seconds 3600 to-plant to-feed operator
"""

import atexit
import contextlib
import threading
from contextlib import ExitStack, closing
from functools import cache
from types import SimpleNamespace
from typing import Any

from fuzz.said import said
from fuzz.target import Target, joined, pieces

ROWS = 20


def targets() -> dict[str, Target]:
    """By name."""
    return {
        "to-plant": Target(to_plant, lambda: _corpus("FROM_FEED")),
        "to-feed": Target(to_feed, lambda: _corpus("FROM_PLANT")),
        "operator": Target(operator, lambda: _corpus("FROM_OPERATOR")),
    }


def _corpus(language: str) -> list[bytes]:
    """One of each kind, and all of them."""
    from tickplant import dialogue

    kinds = [bytes([n]) + bytes(40) for n in range(len(getattr(dialogue, language).kinds))]
    return [*(joined([k]) for k in kinds), joined(kinds), joined([bytes([254]) + b"\x81\xa2op\xa3eod"])]


@cache
def _held() -> ExitStack:
    held = ExitStack()
    atexit.register(held.close)
    return held


@cache
def _plant() -> Any:
    """A ticker plant that has a feed's first rows."""
    from tickplant.testing import throwaway
    from tickplant.tickerplant import TickerPlant

    config = _held().enter_context(throwaway())
    plant = TickerPlant(config)
    plant.open()
    _held().enter_context(closing(plant))
    return plant


def _whose(config: Any, identity: str) -> dict[str, list[Any]]:
    """What a message of this plant's feed says of itself."""
    name, feed = next(iter(config.feeds.items()))
    return {
        "feed": [name] * 9 + ["x"], "number": [feed.id] * 9 + [7], "plant": [config.plant.name] * 9 + [""],
        "identity": [identity, identity, "", "x"], "seq": [0, 1, 20, 1 << 50], "session": [0, 1, 5, 1 << 62],
        "more": [True, False], "knows": [True, False], "reason": ["", "because"],
    }  # fmt: skip


def to_plant(data: bytes) -> None:
    """A plant takes each message of a feed's, or refuses it as a message; it does not fail."""
    from tickplant._core import framing
    from tickplant.clock import now_ns
    from tickplant.dialogue import FROM_FEED, route
    from tickplant.errors import FrameError

    plant = _plant()
    config, ingress = plant.config, plant.ingress
    to = route(config.plant.name, next(iter(config.feeds)))
    for piece in pieces(data):
        usual = _whose(config, plant.identity.token) | {"crc": [framing.crc32c(piece), 0]}
        message = said(FROM_FEED, piece, usual)
        with contextlib.suppress(FrameError):
            ingress._hear([to, message] if len(piece) % 2 else [to, message, piece], now_ns(), plant.commit)
        plant.commit()


@cache
def _feed() -> tuple[Any, Any]:
    """What answers a plant, about an outbox with some rows, and a sender as it sees one."""
    from tickplant._core import framing
    from tickplant.feed.outbox import Outbox
    from tickplant.feed.repair import Repair
    from tickplant.wire import ROWS as KIND

    config = _plant().config
    name, feed = next(iter(config.feeds.items()))
    folder = config.plant.data_dir / "fuzzed"
    outbox = Outbox(folder, name, 1 << 20, 1 << 20, feed.id, config.plant.name)
    outbox.open()
    _held().enter_context(closing(outbox))
    session, table = outbox.begin(), config.schema["trade"]
    for seq in range(ROWS):
        outbox.append(
            framing.seal(
                table.empty(1).view("u1"), KIND, table=table.number, feed=feed.id, session=session, seq=seq,
                feed_row=seq, count=1, schema=table.fingerprint, prev_crc=outbox.last_crc,
            ),
            (session, seq),
            1,
        )  # fmt: skip
    repair = Repair(config, name, None, outbox)
    _held().enter_context(closing(repair))
    return repair, SimpleNamespace(session=SimpleNamespace(number=session, seq=ROWS), seq=ROWS, failed=None)


def to_feed(data: bytes) -> None:
    """A feed takes each message of its plant's, or refuses it as a message; it does not fail."""
    from tickplant.dialogue import FROM_PLANT
    from tickplant.errors import FrameError

    repair, sender = _feed()
    for piece in pieces(data):
        sender.followed, sender.muted, sender.failed = False, False, None
        usual = _whose(_plant().config, _plant().identity.token)
        usual["session"] = [0, 1, sender.session.number, sender.session.number, 1 << 62]
        message = said(FROM_PLANT, piece, usual)
        with contextlib.suppress(FrameError):
            repair._answer([message], sender, threading.Condition())


def operator(data: bytes) -> None:
    """Each request of an operator's is answered by a sound message."""
    from tickplant import wire
    from tickplant.dialogue import FROM_OPERATOR
    from tickplant.errors import FrameError

    plant = _plant()
    today = plant.day.trading_date
    for piece in pieces(data):
        usual = {"date": [20_000_101, today + 1, 99_991_231], "stop": [False], "names": [[("X", "A")], []]}
        request = said(FROM_OPERATOR, piece, usual)
        with contextlib.suppress(FrameError):
            if getattr(FROM_OPERATOR.read(request), "stop", False):
                continue  # it would end this process
        answer = wire.unpack(plant._serve(request))
        if answer["op"] not in ("error", "defined", "rolled"):
            raise AssertionError(f"answered {answer}")
