"""The process's answer to libzmq's question whether a key may come in (ZAP, RFC 27).

libzmq asks at one place per process, for the sockets of all domains; each domain has one that knows. pyzmq's
authenticator does the protocol, in a thread of its own.
"""

from typing import Protocol

from zmq.auth.thread import ThreadAuthenticator

from tickplant import sockets
from tickplant.errors import AlreadyRunning


class Judge(Protocol):
    """Who knows the keys of a domain."""

    domain: str

    def admit(self, key: bytes) -> str:
        """The name of a public key (Z85); empty: it may not come in. Must not raise."""


class _Authenticator(ThreadAuthenticator):
    def __init__(self) -> None:
        super().__init__(sockets.context())
        self.judges: dict[str, Judge] = {}
        self._name = ""

    def callback(self, domain: str, key: bytes) -> bool:
        """pyzmq asks this first ..."""
        judge = self.judges.get(domain)
        self._name = judge.admit(key) if judge else ""
        return bool(self._name)

    def curve_user_id(self, client_public_key: bytes) -> str:
        """... and then this, about the same connection."""
        return self._name


_running: _Authenticator | None = None


def begin(judge: Judge) -> None:
    """Have a domain's keys judged. Raises AlreadyRunning if this process has such a domain already."""
    global _running
    if _running is None:
        _running = _Authenticator()
        _running.start()
    if judge.domain in _running.judges:
        raise AlreadyRunning(f"this process has sockets of domain {judge.domain!r} already; one plant each")
    _running.judges[judge.domain] = judge
    _running.configure_curve_callback(judge.domain, _running)


def end(judge: Judge) -> None:
    """Judge a domain no more: nobody else gets in there."""
    global _running
    if _running is None or _running.judges.get(judge.domain) is not judge:
        return
    del _running.judges[judge.domain]
    if not _running.judges:
        _running.stop()
        _running = None
