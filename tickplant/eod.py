"""Asking a running ticker plant to end its trading date."""

from typing import Any

import zmq

from tickplant import sockets, wire
from tickplant.clock import as_int, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.dates import trading_dates
from tickplant.errors import NotRunning, TickplantError

PATIENCE_MS = 60_000


def open_date(config: Config) -> tuple[int, bool]:
    """The trading date that is open, and whether the calendar has it begin only later: it was rolled early.

    Raises NotRunning if there is no plant.
    """
    date = int(Control.attach(config.plant.name).date.load())
    return date, date > as_int(config.calendar.date_at(now_ns()))


def end_of_day(config: Config, *, stop: bool = False, date: int = 0) -> dict[str, Any]:
    """Have a date sealed and the next begun: `sealed` and `trading_date` say which.

    `date`: which (0: the one that is open now). If it has been ended meanwhile nothing changes, so of two
    that ask at once one ends it. `stop`: the ticker plant ends instead; its next start begins the next date
    (0 in the answer).

    Raises NotRunning if the ticker plant does not answer, TickplantError if it refuses.
    """
    control = Control.attach(config.plant.name)
    now = int(control.date.load())
    date = date or now
    if date < now and date not in trading_dates(config.plant.data_dir):
        raise TickplantError(
            f"{date} was never a trading date of plant {config.plant.name}; {now} is open, and is ended with:"
            f" tickplant eod --date {now}"
        )
    state = control.state()
    if state in ("stopped", "dead"):
        raise NotRunning(f"the ticker plant is {state}; see: tickplant status")
    socket = sockets.context().socket(zmq.REQ)
    try:
        sockets.connect(socket, f"ipc://{config.plant.run_dir}/tickerplant.sock")
        socket.send(wire.pack("eod", stop=stop, date=date))
        if not socket.poll(PATIENCE_MS):
            raise NotRunning("the ticker plant does not answer; see: tickplant status")
        reply = wire.unpack(socket.recv())
    finally:
        socket.close()
    if reply.get("op") != "rolled":
        raise TickplantError(f"the ticker plant did not roll: {reply.get('text')}")
    return reply
