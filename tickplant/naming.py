"""Numbers for instruments, from whoever writes the registry: the ticker plant that runs, else this process.

Numbers are given by one writer (registry.py). Who has instruments to define and is no feed asks the ticker
plant over its admin socket; when none runs it takes the ticker plant's lock and writes itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import zmq

from tickplant import identity, sockets, wire
from tickplant.clock import now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.day import identity_in
from tickplant.errors import NotRunning, SchemaError, TickplantError
from tickplant.instruments import Name
from tickplant.lock import Lock
from tickplant.registry import RegistryWriter

PATIENCE_MS = 60_000
AT_ONCE = 256
"""Names in one request: far below the longest message."""


class Naming:
    """`numbers` of names, new ones where they have none."""

    def __init__(self, config: Config, registry: RegistryWriter | None) -> None:
        self._config, self._registry = config, registry

    def numbers(self, names: Sequence[Name]) -> list[int]:
        """In the order of the names.

        Raises SchemaError if there would be too many, or a name can't be one; NotRunning if the ticker plant
        has gone meanwhile.
        """
        if self._registry:
            return self._registry.add(names, now_ns())
        found: list[int] = []
        for at in range(0, len(names), AT_ONCE):
            found += self._asked(names[at : at + AT_ONCE])
        return found

    def _asked(self, names: Sequence[Name]) -> list[int]:
        socket = sockets.context().socket(zmq.REQ)
        try:
            sockets.connect(socket, f"ipc://{self._config.plant.run_dir}/tickerplant.sock")
            socket.send(wire.pack("define", names=[list(name) for name in names]))
            if not socket.poll(PATIENCE_MS):
                raise NotRunning("the ticker plant does not answer; see: tickplant status")
            reply = wire.unpack(socket.recv())
        finally:
            socket.close()
        numbers = reply.get("numbers")
        if reply.get("op") != "defined" or not isinstance(numbers, list) or len(numbers) != len(names):
            raise SchemaError(f"the ticker plant gives no numbers: {reply.get('text')}")
        return [int(number) for number in numbers]


def runs(config: Config) -> bool:
    """Does a ticker plant of this configuration run?"""
    try:
        return Control.attach(config.plant.name).state() in ("running", "stalled")
    except TickplantError:
        return False


@contextmanager
def naming(config: Config) -> Iterator[Naming]:
    """Whoever gives numbers now. Raises AlreadyRunning if a ticker plant starts or ends just now."""
    if runs(config):
        yield Naming(config, None)
        return
    lock = Lock(config.plant.data_dir / "tickerplant.lock", "ticker plant")
    try:
        data_dir = config.plant.data_dir
        token = identity.own(data_dir, *identity_in(config.journal_dir))
        registry = RegistryWriter(config.registry_dir, config.plant.name, token)
        registry.open(config.tickerplant.instruments_max)
        yield Naming(config, registry)
    finally:
        lock.release()
