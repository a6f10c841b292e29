"""Asking a running ticker plant to end its trading date."""

from typing import Any

import zmq

from tickplant import sockets, wire
from tickplant.config import Config
from tickplant.control import Control
from tickplant.errors import NotRunning, TickplantError

PATIENCE_MS = 60_000


def end_of_day(config: Config, *, stop: bool = False) -> dict[str, Any]:
    """Have the date sealed and the next begun: `sealed` and `trading_date` say which.

    `stop`: the ticker plant ends instead; its next start begins the next date (0 in the answer).

    Raises NotRunning if the ticker plant does not answer, TickplantError if it refuses.
    """
    state = Control.attach(config.plant.name).state()
    if state in ("stopped", "dead"):
        raise NotRunning(f"the ticker plant is {state}; see: tickplant status")
    socket = sockets.context().socket(zmq.REQ)
    try:
        sockets.connect(socket, f"ipc://{config.plant.run_dir}/tickerplant.sock")
        socket.send(wire.pack("eod", stop=stop))
        if not socket.poll(PATIENCE_MS):
            raise NotRunning("the ticker plant does not answer; see: tickplant status")
        reply = wire.unpack(socket.recv())
    finally:
        socket.close()
    if reply.get("op") != "rolled":
        raise TickplantError(f"the ticker plant did not roll: {reply.get('text')}")
    return reply
