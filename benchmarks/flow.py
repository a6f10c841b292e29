"""Rows that flow through a plant while somebody reads them: a sender, and readers near and far."""

import contextlib
from multiprocessing.connection import Connection

import harness
import zmq

from tickplant import config, connect, subscribe
from tickplant.clock import monotonic_ns


def send(connection: Connection, path: str, bare: str = "") -> None:
    """Child: on (messages, rows each) make frames; on a word ("plant" or "bare") send them, and tell when
    that began. `bare`: where a PUB of its own is bound."""
    settings = config.load(path)
    frames = harness.Frames(settings.schema)
    harness.introduce(settings, frames)
    targets = {"plant": harness.publisher(settings.tickerplant.ingress)}
    if bare:
        targets["bare"] = pub = zmq.Context.instance().socket(zmq.PUB)
        pub.setsockopt(zmq.SNDHWM, 0)
        pub.bind(bare)
    connection.send("ready")
    while True:
        made = frames.trades(*connection.recv())
        connection.send("made")
        while (target := connection.recv()) != "enough":
            connection.send(monotonic_ns())
            post = targets[target].send
            for frame in made:
                post(frame)


def read_local(connection: Connection, plant: str) -> None:
    """Child: on a number sleep, read, and sleep again until there are so many rows more; tell when."""
    trades = connect(plant).table("trade")
    connection.send("ready")
    while True:
        have = len(trades)
        upto = have + connection.recv()
        connection.send("reading")
        while have < upto:
            there = trades.wait(have)
            trades["price"][have:there].sum()
            have = there
        connection.send(monotonic_ns())


def read_remote(connection: Connection, endpoint: str) -> None:
    """Child: on a number subscribe, and read until there were so many rows; tell when."""
    while True:
        left = connection.recv()
        with contextlib.closing(subscribe(endpoint, ["trade"], from_row=None)) as subscription:
            connection.send("reading")
            while left > 0:
                batch = subscription.next(1.0)
                if batch is not None:
                    batch["price"].sum()
                    left -= len(batch)
        connection.send(monotonic_ns())


def read_bare(connection: Connection, endpoint: str) -> None:
    """Child: on a number receive so many messages from a bound PUB; tell when the last was there."""
    while True:
        left = connection.recv()
        with zmq.Context.instance().socket(zmq.SUB) as sub:
            sub.setsockopt(zmq.RCVHWM, 0)
            sub.setsockopt(zmq.SUBSCRIBE, b"")
            sub.connect(endpoint)
            connection.send("reading")
            for _ in range(left):
                sub.recv()
            connection.send(monotonic_ns())
