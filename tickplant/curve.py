"""Who may come in over TCP: the keys of one domain, and the sockets that they open.

The ticker plant's sockets are of domain "feeds", the publisher's of domain "readers"; a key is of one of
them. The name of the key becomes the User-Id of the connection, and libzmq puts it on every message that
comes over it. A revoked key gets in no more from the moment its file is gone; if it had got in, the
connections of its domain are all cut within a second: those that may come back do so at once and fetch
what they missed, as after any other interruption.
"""

import logging

import zmq

from tickplant import sockets
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Config
from tickplant.errors import ConfigError
from tickplant.keys import FEEDS, ClientKeys, Keys, ServerKeys

log = logging.getLogger(__name__)

LOOK_NS = SECOND_NS
REFUSED_MAX = 1000


class Guard:
    """Binds the sockets of a domain as the configuration says, and keeps watch over its keys."""

    def __init__(self, config: Config, domain: str) -> None:
        """Raises ConfigError if CURVE is wanted and can't be had, AlreadyRunning for a second of a domain."""
        self.domain, self.keys = domain, Keys(config.keys_dir)
        self.plaintext = config.security.allow_plaintext
        self.server: ServerKeys | None = None
        self._admitted: set[bytes] = set()
        self._refused: set[bytes] = set()
        self._bound: list[tuple[zmq.Socket[bytes], str]] = []
        self._files: list[tuple[zmq.Socket[bytes], str]] = []
        self._look_ns = 0
        if config.security.curve:
            if not zmq.has("curve"):
                raise ConfigError(
                    "security.curve is true, but this libzmq has no CURVE; install pyzmq's wheel"
                )
            self.server = self.keys.server(domain)
            # Imported here: without CURVE no process pays for asyncio.
            from tickplant import zap

            zap.begin(self)

    def bind(
        self, socket: zmq.Socket[bytes], endpoint: str, message_max: int = sockets.MESSAGE_MAX,
        pings: bool = True,
    ) -> str:  # fmt: skip
        """Bind; the endpoint really bound. Raises ConfigError, as sockets.bind does."""
        bound = sockets.bind(
            socket, endpoint, plaintext=self.plaintext, keys=self.server, message_max=message_max, pings=pings
        )
        if self.server and sockets.is_tcp(bound):
            self._bound.append((socket, bound))
        elif bound.startswith("ipc://"):
            self._files.append((socket, bound))
        return bound

    def admit(self, key: bytes) -> str:
        """The name of an accepted key; empty for any other. Called by another thread, at every handshake."""
        try:
            name = self.keys.accepted(self.domain).get(key)
        except OSError as e:
            log.error("can't read the keys of the %s, so nobody gets in: %s", self.domain, e)
            return ""
        if name is None:
            if key not in self._refused:  # it comes again and again: said once
                if len(self._refused) >= REFUSED_MAX:
                    self._refused.clear()
                self._refused.add(key)
                log.warning("refused who came to the %s: key %s is not accepted", self.domain, key.decode())
            return ""
        self._refused.discard(key)
        self._admitted.add(key)
        return name

    def look(self) -> None:
        """Cut the connections if a key that got in is not accepted any more; looks once a second at most.

        Sockets whose files were removed are made again. Raises ConfigError if an endpoint can't be bound.
        """
        at = monotonic_ns()
        if at < self._look_ns:
            return
        self._look_ns = at + LOOK_NS
        for socket, endpoint in self._files:
            sockets.restore(socket, endpoint)
        if not self._bound:
            return
        try:
            gone = self._admitted.difference(self.keys.accepted(self.domain))
        except OSError as e:
            log.error("can't read the keys of the %s: %s", self.domain, e)
            return
        if gone:
            log.warning("a key was revoked: cutting all connections of the %s", self.domain)
            self._admitted -= gone
            for socket, endpoint in self._bound:
                sockets.cut(socket, endpoint)

    def close(self) -> None:
        """Keep watch no more. Close the sockets first."""
        self._bound.clear()
        self._files.clear()
        if self.server:
            from tickplant import zap

            zap.end(self)


def feed_keys(config: Config, name: str) -> ClientKeys | None:
    """The keys by which a feed connects; None if it needs none. Raises ConfigError if they are not here."""
    endpoints = (config.tickerplant.ingress, config.tickerplant.repair)
    if not config.security.curve or not any(sockets.is_tcp(e) for e in endpoints):
        return None
    return Keys(config.keys_dir).client(name, FEEDS, config.security.server_key)
