"""The end of the trading date in the middle of traffic, and processes that are killed while it ends."""

import random
from types import TracebackType
from typing import Any, Self

import zmq

from faults.case import Case, Fault
from faults.failpoint import ROLL
from faults.processes import FEEDS, READERS
from faults.site import Site
from tickplant import sockets, wire
from tickplant.clock import MILLISECOND_NS, monotonic_ns

_PATIENCE_S = 10.0
_PROCESSES = ("tickerplant", "publisher", "hdb", *FEEDS, *READERS)


class Request:
    """One request to end the trading date, whose answer is heard or not."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.answered = False
        self._before = site.plant.trading_date
        self._socket: zmq.Socket[bytes] = sockets.context().socket(zmq.REQ)
        self._asked = False

    def __enter__(self) -> Self:
        sockets.connect(self._socket, f"ipc://{self.site.config.plant.run_dir}/tickerplant.sock")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self._socket.close(linger=0)

    def ask(self) -> None:
        """Ask once; it is answered by a ticker plant that is up."""
        if not self._asked:
            self._asked = True
            self._socket.send(wire.pack("eod", stop=False))

    def done(self) -> bool:
        """Has the date ended? Whoever was asked may have died with the answer."""
        if self._asked and not self.answered and self._socket.poll(0):
            self._socket.recv()
            self.answered = True
        return self.answered or self.site.plant.trading_date > self._before


def rolled(site: Site, choice: random.Random) -> bool:
    """The date ends while rows flow."""
    with Request(site) as request:
        request.ask()
        site.until(request.done, "the trading date to end")
    return True


def killed_at_a_roll(role: str) -> Fault:
    """kill -9 of a process at a labelled step of the roll, which begins as soon as it is up."""

    def fault(site: Site, choice: random.Random) -> bool:
        point, (first, last) = choice.choice(sorted(ROLL[role].items()))
        hit = choice.randint(first, last)
        with Request(site) as request:
            return site.kill_at(role, point, hit, _PATIENCE_S, provoke=request.ask)

    return fault


def killed_meanwhile(*names: str) -> Fault:
    """kill -9 of one of these processes some moments after the roll was asked for."""

    def fault(site: Site, choice: random.Random) -> bool:
        name, down_s = choice.choice(names), choice.uniform(0.0, 0.5)
        at = monotonic_ns() + choice.randint(0, 60) * MILLISECOND_NS
        with Request(site) as request:
            request.ask()
            site.until(lambda: monotonic_ns() >= at, "the moment to kill")
            site.kill(name, down_s)
            site.until(request.done if name != "tickerplant" else _always, "the trading date to end")
        return True

    return fault


def _always() -> Any:
    return True


CASES = {
    "roll": Case([rolled]),
    "kill-at-roll-tickerplant": Case([killed_at_a_roll("tickerplant")]),
    "kill-at-roll-hdb": Case([killed_at_a_roll("hdb")]),
    "kill-during-roll": Case([killed_meanwhile(*_PROCESSES)]),
}
