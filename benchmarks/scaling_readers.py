"""Many local readers of bench_scaling.py, each a process that follows a table and sleeps in between."""

import os
from multiprocessing.connection import Connection

from tickplant import connect
from tickplant.service import PARENT, die_with_parent


def crowd(connection: Connection, plant: str, readers: int) -> None:
    """Child: fork so many followers, which is cheaper than to start them; they end with it."""
    trades = connect(plant).table("trade")
    follower = trades.follow(len(trades))
    os.environ[PARENT] = str(os.getpid())
    for _ in range(readers):
        if os.fork() == 0:
            try:
                die_with_parent()
                while True:
                    follower.next(10.0)
            finally:
                os._exit(1)
    connection.send("asleep")
    connection.recv()
