"""The CURVE keys of a plant: a folder of pairs, and who is accepted.

    keys/                     mode 0700
        server.key            the plant's public key
        server.key_secret     its pair, mode 0600
        feeds/NAME.key        accepted as feed NAME
        readers/NAME.key      accepted as reader NAME
        .../NAME.key_secret   that one's pair and the plant's public key: the file to copy to its machine
        .../NAME.revoked      a public key that was accepted once

The files are ZeroMQ certificates (keys in Z85). To accept a key is to have its public file; nothing else is
consulted. A name is a feed's or a reader's, never both.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zmq

from tickplant.errors import ConfigError

FEEDS, READERS = "feeds", "readers"
DOMAINS = (FEEDS, READERS)
SERVER = "server"

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}"
_LINE = re.compile(r'^\s*(public|secret|server)-key\s*=\s*"([^"\s]{40})"\s*$', re.MULTILINE)


class ServerKeys(NamedTuple):
    """What a socket that binds needs."""

    secret: bytes
    domain: str


class ClientKeys(NamedTuple):
    """What a socket that connects needs: its pair, and the public key of the plant."""

    public: bytes
    secret: bytes
    server: bytes


class Entry(NamedTuple):
    """A key of the folder, as it is listed."""

    name: str
    domain: str
    public: str
    revoked: bool
    secret_here: bool


Signature = frozenset[tuple[str, int, int, int]]


class Keys:
    """The folder of a plant's keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._accepted: dict[str, tuple[Signature, dict[bytes, str]]] = {}

    def new(self, name: str, domain: str) -> Path:
        """Make a pair for a feed or a reader, and the plant's own if there is none; the secret file.

        Raises ConfigError if the name can't be had or the folder not written.
        """
        if not re.fullmatch(_NAME, name) or name == SERVER:
            raise ConfigError(f"key name {name!r} must match {_NAME} and not be {SERVER!r}")
        for other in DOMAINS:
            if (path := self.folder / other / f"{name}.key").exists():
                raise ConfigError(
                    f"there is a key {name!r} already: {path}; to replace it: tickplant keys revoke {name}"
                )
        try:
            if not (self.folder / f"{SERVER}.key").exists():
                self._make(self.folder, SERVER, None)
            return self._make(self.folder / domain, name, self.server_public())
        except OSError as e:
            raise self._trouble(e) from None

    def revoke(self, name: str) -> None:
        """Accept a key no longer. Raises ConfigError if there is none of this name."""
        for domain in DOMAINS if re.fullmatch(_NAME, name) else ():
            path = self.folder / domain / f"{name}.key"
            try:
                if path.exists():
                    path.replace(path.with_name(f"{name}.revoked"))
                    path.with_name(f"{name}.key_secret").unlink(missing_ok=True)
                    return
            except OSError as e:
                raise self._trouble(e) from None
        known = ", ".join(e.name for e in self.entries() if not e.revoked and e.domain != SERVER) or "none"
        raise ConfigError(f"{self.folder}: there is no key {name!r}; there are: {known}")

    def entries(self) -> list[Entry]:
        """Every key, the plant's own first. Raises ConfigError if the folder can't be read."""
        found = []
        places = [(self.folder, SERVER), *((self.folder / d, d) for d in DOMAINS)]
        try:
            for folder, domain in places:
                for path in sorted([*folder.glob("*.key"), *folder.glob("*.revoked")]):
                    name, revoked = path.name.rpartition(".")[0], path.suffix == ".revoked"
                    if revoked and path.with_name(f"{name}.key").exists():
                        continue  # the name has a new key
                    secret = path.with_name(f"{name}.key_secret").exists()
                    found.append(Entry(name, domain, read(path)["public"], revoked, secret))
        except OSError as e:
            raise self._trouble(e) from None
        return found

    def accepted(self, domain: str) -> dict[bytes, str]:
        """Names by public key (Z85) of who is accepted now; read again when the folder has changed.

        A file that is no key is nobody's. Raises OSError if the folder can't be read.
        """
        folder = self.folder / domain
        signature = frozenset(_files(folder))
        known = self._accepted.get(domain)
        if known is None or known[0] != signature:
            names = {}
            for file, *_ in signature:
                try:
                    names[read(folder / file)["public"].encode()] = file.removesuffix(".key")
                except (ConfigError, FileNotFoundError):
                    continue
            known = self._accepted[domain] = (signature, names)
        return known[1]

    def server(self, domain: str) -> ServerKeys:
        """The plant's own key, for sockets of a domain. Raises ConfigError if there is none."""
        try:
            return ServerKeys(read(self.folder / f"{SERVER}.key_secret")["secret"].encode(), domain)
        except FileNotFoundError:
            raise ConfigError(
                f"there are no keys in {self.folder}; make some: tickplant keys new NAME [--feed|--client]"
            ) from None
        except (OSError, KeyError) as e:
            raise self._trouble(e) from None

    def server_public(self) -> str | None:
        """The plant's public key, if the folder has it. Raises OSError or ConfigError if it is damaged."""
        path = self.folder / f"{SERVER}.key"
        return read(path)["public"] if path.exists() else None

    def client(self, name: str, domain: str, server_key: str = "") -> ClientKeys:
        """The keys by which a feed or a reader connects. Raises ConfigError if they are not here."""
        path = self.folder / domain / f"{name}.key_secret"
        kind = "feed" if domain == FEEDS else "client"
        try:
            return client(path, server_key or self.server_public())
        except FileNotFoundError:
            raise ConfigError(
                f"there is no key {path}; make one where the plant is, `tickplant keys new {name} --{kind}`, "
                "and copy it here"
            ) from None
        except OSError as e:
            raise self._trouble(e) from None

    def _make(self, folder: Path, name: str, server: str | None) -> Path:
        public, secret = (k.decode() for k in zmq.curve_keypair())
        for made in (self.folder, folder):
            if not made.exists():
                made.mkdir(mode=0o700, parents=True)
                _hand_over(made, made.parent)
            made.chmod(0o700)
        lines = [f'    public-key = "{public}"', f'    secret-key = "{secret}"']
        metadata = ["metadata", f"    name = {name}"]
        if server:
            metadata.append(f'    server-key = "{server}"')
        path = folder / f"{name}.key_secret"
        _write(path, [*metadata, "curve", *lines])
        # The public one last: from here on the pair is accepted.
        _write(folder / f"{name}.key", [*metadata[:2], "curve", lines[0]])
        return path

    def _trouble(self, error: Exception) -> ConfigError:
        said = error.strerror if isinstance(error, OSError) else "it is not a key"
        where = getattr(error, "filename", None) or self.folder
        return ConfigError(f"{where}: {said}; the keys have to belong to the user that runs the plant")


def read(path: Path) -> dict[str, str]:
    """The keys of a file: public, and where it has them secret and server.

    Raises OSError if it can't be read, ConfigError if it is no key.
    """
    found = {kind: key for kind, key in _LINE.findall(path.read_text("utf-8", "replace"))}
    if "public" not in found:
        raise ConfigError(f"{path} is not a key; make one: tickplant keys new NAME")
    return found


def client(path: Path, server_key: str | None = None) -> ClientKeys:
    """The keys of a secret file; the plant's public key too, unless given.

    Raises OSError if it can't be read, ConfigError if it is not a secret file or the plant's key is missing.
    """
    found = read(path)
    server = server_key or found.get("server")
    if "secret" not in found:
        raise ConfigError(f"{path} has no secret key; give the file NAME.key_secret")
    if not server:
        raise ConfigError(f"{path} does not tell the plant's public key; give it as server_key")
    return ClientKeys(found["public"].encode(), found["secret"].encode(), server.encode())


def _files(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".key"):
                    with contextlib.suppress(FileNotFoundError):  # it went as we looked
                        at = entry.stat()
                        yield entry.name, at.st_ino, at.st_mtime_ns, at.st_size
    except FileNotFoundError:
        return


def _write(path: Path, lines: list[str]) -> None:
    """A file for its owner only, there at once or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join([*lines, ""]))
        file.flush()
        os.fsync(file.fileno())
    _hand_over(draft, path.parent)
    draft.rename(path)


def _hand_over(path: Path, like: Path) -> None:
    """What root makes is the plant's, who owns the folder above."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
