"""What can be tried of a configuration without starting anything: addresses, folders, handlers, the DSN.

Nothing is made, bound for longer than a moment, or connected to. Each finding is one line: key, value, what
is wrong, what to do.
"""

import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tickplant import faults, hugepages, owners, roster, segment, sessions, sockets
from tickplant.config import Config
from tickplant.errors import ConfigError, HistoryError, TickplantError
from tickplant.feed import handlers
from tickplant.feed.binding import bound
from tickplant.keys import FEEDS, Keys

_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^/:@\s]+):(\d{1,5})")
_SOCKET_PATH_MAX = 107


def findings(config: Config) -> list[str]:
    """What would keep a plant of this configuration from running here, as this user."""
    found = [*_endpoints(config), *_folders(config), *_memory(), *_security(config), *_history(config)]
    found += _numbers(config)
    for name, feed in config.feeds.items():
        found += _tried(partial(sessions.sessions, feed.calendar, feed.hours), f"feeds.{name}.calendar: ")
        found += _tried(partial(handlers.check, config, name), f"feeds.{name}: ")
    return found


def hints() -> list[str]:
    """What would make a plant faster on this host; it runs without."""
    shm = segment.SHM
    if not hugepages.size() or hugepages.mode(shm) != hugepages.NEVER:
        return []
    if hugepages.denied():
        setting = hugepages.SYSTEM / "shmem_enabled"
        return [f"this kernel denies huge pages to {shm}; for faster large tables: echo never > {setting}"]
    return [
        f"{shm} is mounted without huge pages; for faster large tables: mount -o remount,huge=advise {shm}, "
        f"and in /etc/fstab: tmpfs {shm} tmpfs rw,nosuid,nodev,huge=advise 0 0"
    ]


def _tried(attempt: Callable[[], object], prefix: str) -> list[str]:
    try:
        attempt()
    except Exception as e:  # a handler of one's own may raise anything as it is imported
        said = str(e) if isinstance(e, TickplantError) else str(faults.fault(e))
        return [said if said.startswith(prefix.rstrip(": ")) else prefix + said]
    return []


def _named_endpoints(config: Config) -> dict[str, str]:
    plant, publisher = config.tickerplant, config.publisher
    return {
        "tickerplant.ingress": plant.ingress, "tickerplant.repair": plant.repair,
        "publisher.publish": publisher.publish, "publisher.request": publisher.request,
    }  # fmt: skip


def _endpoints(config: Config) -> Iterator[str]:
    """Of each address: its form, whether this host has it, who may come in, and that it is there once."""
    seen: dict[str, str] = {}
    for key, endpoint in _named_endpoints(config).items():
        if endpoint.startswith("ipc://"):
            yield from _socket_path(key, endpoint)
            place = endpoint
        elif match := _TCP.fullmatch(endpoint):
            yield from _address(config, key, endpoint, match[1].strip("[]"), int(match[2]))
            place = f"port {match[2]}"
        else:
            yield f"{key} {endpoint!r} is no endpoint; write tcp://HOST:PORT or ipc:///PATH"
            continue
        if place in seen:
            yield f"{key} and {seen[place]} both have {place}; give each its own"
        seen.setdefault(place, key)


def _socket_path(key: str, endpoint: str) -> Iterator[str]:
    path = Path(endpoint[6:])
    if not path.is_absolute():
        yield f"{key} {endpoint!r} has a path that is not absolute; write ipc:///PATH"
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        yield f"{key}: the socket path {path} is longer than {_SOCKET_PATH_MAX} bytes; choose a shorter one"
    if os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
        yield f"{key}: {path} is in the way: it is not a socket"


def _address(config: Config, key: str, endpoint: str, host: str, port: int) -> Iterator[str]:
    if not 1 <= port <= 65535:
        yield f"{key} {endpoint!r} has port {port}; must be from 1 to 65535"
        return
    try:
        sockets.check_exposure(endpoint, config.security.allow_plaintext or config.security.curve)
    except ConfigError as e:
        yield f"{key}: {e}"
    if host == "*":
        return
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.bind(address)
    except OSError as e:
        yield f"{key} {endpoint!r}: this host can't listen at {host} ({e.strerror or e}); see: ip address"


def _folders(config: Config) -> Iterator[str]:
    """data_dir and run_dir: that they can be made or written, by this user, and not by everybody."""
    for key, path in (("plant.data_dir", config.plant.data_dir), ("plant.run_dir", config.plant.run_dir)):
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not there.is_dir():
            yield f"{key} {path}: {there} is not a folder"
            continue
        if not os.access(there, os.W_OK | os.X_OK):
            user = owners.name(os.geteuid())
            yield (
                f"{key} {path}: {user} can't write to {there}; check it as the plant's user, or: "
                f"install -d -o {user} -m 0750 {path}"
            )
        mode = there.stat().st_mode
        if mode & stat.S_IWOTH:
            yield (
                f"{key} {path}: any user can write to {there}; choose a folder of the plant's user alone: "
                f"install -d -m 0750 {path}"
                if there == path or not mode & stat.S_ISVTX
                else f"{key} {path} is yet to be made, and any user can do so in {there}: "
                f"mkdir -m 0750 {path}"
            )


def _numbers(config: Config) -> Iterator[str]:
    """That no feed has the number, the name or the outbox that another had."""
    numbers = {name: feed.id for name, feed in config.feeds.items()}
    try:
        yield from roster.conflicts(roster.read(config.plant.data_dir), numbers)
    except ConfigError as e:
        yield str(e)
    for name, number in numbers.items():
        outbox = config.outbox_dir(name)
        if outbox.is_dir():
            yield from _tried(partial(bound, outbox, name, number, config.plant.name), f"feeds.{name}.id: ")


def _memory() -> Iterator[str]:
    """/dev/shm: that it is there, and that nobody can remove the files of others."""
    shm = segment.SHM
    if not shm.is_dir():
        yield f"{shm} is not there: mount -t tmpfs -o mode=1777 tmpfs {shm}"
    elif (mode := shm.stat().st_mode) & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield f"any user can remove the files of others in {shm}: chmod 1777 {shm}"


def _security(config: Config) -> list[str]:
    if not config.security.curve:
        return []
    keys = Keys(config.keys_dir)
    return _tried(partial(keys.server, FEEDS), "security.curve: ")


def _history(config: Config) -> Iterator[str]:
    if not config.hdb.dsn:
        return
    from tickplant.hdb.connection import parse  # PostgreSQL's driver, for those who have one

    try:
        parse(config.hdb.dsn)
    except (ConfigError, HistoryError) as e:
        yield f"hdb.dsn: {e}"
