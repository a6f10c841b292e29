"""Plants over TCP with CURVE: keys for two feeds and a reader, and sockets that connect with any key."""

import contextlib
import threading
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from tests.fix_plant import RawFeed, Site, free_port
from tickplant import sockets
from tickplant.config import Config
from tickplant.keys import FEEDS, READERS, ClientKeys, Keys

REFUSALS = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)


def curved(site: Site, **changes: dict[str, Any]) -> Config:
    """A configuration with CURVE, all endpoints TCP, and keys of feeds one and two and reader desk."""
    ports = [f"tcp://127.0.0.1:{free_port()}" for _ in range(4)]
    changes = {"security": {}, "tickerplant": {}, "publisher": {}} | changes
    changes["security"] = {"curve": True} | changes["security"]
    changes["tickerplant"] = {"ingress": ports[0], "repair": ports[1]} | changes["tickerplant"]
    changes["publisher"] = {"publish": ports[2], "request": ports[3]} | changes["publisher"]
    cfg = site.configured(**changes)
    keys = Keys(cfg.keys_dir)
    for name, domain in (("one", FEEDS), ("two", FEEDS), ("desk", READERS)):
        keys.new(name, domain)
    return cfg


def fresh_keys(cfg: Config) -> ClientKeys:
    """A pair that nobody has heard of, for the right plant."""
    return ClientKeys(*zmq.curve_keypair(), (Keys(cfg.keys_dir).server_public() or "").encode())


class Stranger:
    """A socket that connects in its own way, and hears what becomes of that."""

    def __init__(
        self, endpoint: str, keys: ClientKeys | None, kind: int = zmq.PUB, identity: str = ""
    ) -> None:
        self.socket = sockets.context().socket(kind)
        if identity:
            self.socket.setsockopt(zmq.IDENTITY, identity.encode())
        if kind == zmq.SUB:
            self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._monitor = self.socket.get_monitor_socket(REFUSALS | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.heard: list[int] = []
        sockets.connect(self.socket, endpoint, keys)

    def listen(self) -> list[int]:
        """What has happened to its connections so far."""
        while self._monitor.poll(0):
            self.heard.append(recv_monitor_message(self._monitor)["event"])
        return self.heard

    @property
    def refused(self) -> int:
        """How often it was turned away."""
        return sum(bool(e & REFUSALS) for e in self.listen())

    @property
    def admitted(self) -> bool:
        """Has it ever come in?"""
        return zmq.EVENT_HANDSHAKE_SUCCEEDED in self.listen()

    def close(self) -> None:
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=0)


@contextlib.contextmanager
def turned(*roles: Any):
    """Have roles turned by threads, until the end of the block."""
    stop, errors = threading.Event(), []

    def turn(role: Any) -> None:
        try:
            while not stop.is_set():
                role.turn()
        except Exception as e:
            errors.append(e)
            raise

    threads = [threading.Thread(target=turn, args=(r,)) for r in roles]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def goes_on(raw: RawFeed) -> None:
    """Rows of a good feed are taken all the while, live and by repair."""
    raw.send(raw.trades(3))
    raw.settle()
    raw.trades(2)  # this one is not sent, and so has to be fetched
    raw.send(raw.trades(1))
    raw.settle()
