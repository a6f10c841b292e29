"""Targets: what readers and publisher say to one another.

bin/fuzz --seconds 3600 requests answers      # about 10^7 requests in an hour on two cores
"""

import atexit
import contextlib
from contextlib import ExitStack, closing
from functools import cache
from typing import Any

from fuzz.said import said
from fuzz.target import Target, joined, pieces

ROWS = 3_000


def targets() -> dict[str, Target]:
    """By name."""
    return {"requests": Target(requests, requests_corpus), "answers": Target(answers, answers_corpus)}


@cache
def _publisher() -> Any:
    """What answers requests, about a plant with some rows on two dates."""
    import numpy as np

    from tickplant import identity
    from tickplant.answers import Answers
    from tickplant.clock import date_after
    from tickplant.feed.handler import Feed
    from tickplant.replay import Dates
    from tickplant.testing import publish, throwaway
    from tickplant.tickerplant import TickerPlant

    held = ExitStack()
    atexit.register(held.close)
    config = held.enter_context(throwaway())
    plant = TickerPlant(config)
    plant.open()
    held.enter_context(closing(plant))
    schema = config.schema
    names, trades = schema["instrument"].empty(5), schema["trade"].empty(ROWS)
    names["code"] = names["instrument"] = np.arange(1, 6)
    names["venue"], names["symbol"] = b"XFUZ", [b"S%d" % n for n in range(5)]
    trades["instrument"] = np.arange(ROWS) % 5 + 1
    publish(plant, Feed(config, "capture"), [[("instrument", names), ("trade", trades)]])
    plant.roll(date_after(plant.day.trading_date))
    publish(plant, Feed(config, "capture"), [[("trade", trades[:100])]])
    dates = Dates(config, plant.control)
    while dates.over:
        dates.go_on()
        while dates.follow():
            pass
    answers = Answers(config, dates, identity.known(config.plant.data_dir), "ipc:///nowhere")
    held.callback(dates.close)
    return answers


@cache
def _usual() -> dict[str, list[Any]]:
    """By field of a request what means something to that plant."""
    answers = _publisher()
    dates = [answers.dates.trading_date, answers.dates.after(0)]
    tables = [*answers._latest_tables, answers.config.schema["trade"].number, 0, 255]
    rows = [0, 1, 99, 100, ROWS - 1, ROWS, 1 << 62]
    return {
        "date": [*dates, *dates, 0, 20_000_101], "table": tables, "row": rows, "from": [0, 1, 3, 5, 6, 4096],
        "bytes": [0, 1, 4096, 1 << 20, 1 << 62], "check": [True, False],
    }  # fmt: skip


def requests(data: bytes) -> None:
    """Each request of an input is answered by a sound message, and fails only for what it says."""
    from tickplant.requests import TO_PUBLISHER, TO_READER, Newest, Refused, Replayed

    answers = _publisher()
    for piece in pieces(data):
        request = said(TO_PUBLISHER, piece, _usual())
        parts = [request] if len(piece) % 17 else [request, piece]
        before = answers.failed
        head, *rest = answers.reply(parts)
        if answers.failed != before:
            raise AssertionError(f"a request failed: {request!r}: {bytes(head)!r}")
        message = TO_READER.read(head)
        if isinstance(message, Replayed | Newest) != bool(rest) or (isinstance(message, Refused) and rest):
            raise AssertionError(f"{message} with {len(rest)} more parts")
        if sum(len(part) for part in rest) > answers.settings.reply_bytes_max:
            raise AssertionError("an answer that is longer than may be")


def requests_corpus() -> list[bytes]:
    """One of each kind, and several."""
    from tickplant.requests import TO_PUBLISHER

    kinds = [bytes([n]) + bytes(24) for n in range(len(TO_PUBLISHER.kinds))]
    return [*(joined([k]) for k in kinds), joined(kinds), joined([bytes([254]) + b"\x81\xa2op\xa8describe"])]


def answers(data: bytes) -> None:
    """What a publisher may say is read as it is declared, or refused."""
    from tickplant.errors import FrameError, SchemaError
    from tickplant.requests import TO_READER, About, beat
    from tickplant.schema import Schema

    for piece in pieces(data):
        message = said(TO_READER, piece)
        with contextlib.suppress(FrameError, SchemaError):
            read = TO_READER.read(message)
            if isinstance(read, About):
                Schema.read(read.schema)
        with contextlib.suppress(FrameError):
            beat(message[:-4])
        with contextlib.suppress(SchemaError):
            Schema.read(
                [{"name": piece[:3].decode("latin1"), "number": len(piece), "columns": [[piece, "i8"]]}]
            )


def answers_corpus() -> list[bytes]:
    """Answers that are sound, as they travel."""
    from tickplant.requests import About, Beat, Names, Refused
    from tickplant.schema import Schema, declare

    schema = Schema([declare("trade", 1, {"price": "f8"})])
    about = About(
        name="tp", identity="0" * 32, trading_date=20260105, rows={1: 5}, publish="tcp://*:1", date=20260105,
        schema=schema.describe(), fingerprint=schema.fingerprint, latest=[1],
    )  # fmt: skip
    sound = [about, Names(identity="", first=1, names=[("XFUZ", "A")]), Refused(text="no", gone=True)]
    whole = [bytes([254]) + message.packed()[:-4] for message in sound]
    beats = bytes([254]) + Beat(rows={1: 5}, schema=7, identity="0" * 32).packed()
    return [
        *(joined([w]) for w in whole),
        joined([beats]),
        joined([bytes([n]) + bytes(30) for n in range(5)]),
    ]
