"""As whom a PostgreSQL server of the plant's own runs: never as root, which it refuses.

Root runs it in a user namespace, where root is an ordinary user. Where there are none, as in most
containers, it is `nobody`, who must be able to enter the folders on the way to what it needs.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tickplant.errors import HistoryError

_NAMESPACE = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


@dataclass(frozen=True)
class Identity:
    """As whom PostgreSQL runs: what comes before its command, and the user who owns its files."""

    prefix: tuple[str, ...]
    uid: int
    gid: int

    def give(self, folder: Path) -> None:
        """Make the folder this user's."""
        if folder.stat().st_uid != self.uid:
            os.chown(folder, self.uid, self.gid)

    def spawn(self, command: list[str], out: int | BinaryIO) -> subprocess.Popen[bytes]:
        """Run a command as this user, in a session of its own: Ctrl-C is not for it."""
        change = self.uid != os.geteuid()
        return subprocess.Popen(
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"},  # it is not the service
            start_new_session=True,
            user=self.uid if change else None,
            group=self.gid if change else None,
            extra_groups=[] if change else None,
        )


def identity(data_dir: Path) -> Identity:
    """Who runs the cluster: its owner; for root, root in a user namespace, else `nobody`.

    Raises HistoryError if the folder is another user's, or is root's where there are no namespaces.
    """
    me, owner = os.geteuid(), data_dir.stat()
    if owner.st_uid != me and me != 0:
        raise HistoryError(
            f"{data_dir} belongs to user {owner.st_uid} and this runs as {me}: run it as that user"
        )
    if owner.st_uid != 0:
        return Identity((), owner.st_uid, owner.st_gid)
    if works([*_NAMESPACE, "true"]):
        return Identity(tuple(_NAMESPACE), 0, owner.st_gid)
    if (data_dir / "PG_VERSION").exists():
        raise HistoryError(
            f"{data_dir} is root's, as whom PostgreSQL runs only in a user namespace, and this"
            f" machine allows none: `chown -R` it to an ordinary user"
        )
    nobody = pwd.getpwnam("nobody")
    return Identity((), nobody.pw_uid, nobody.pw_gid)


def closed_to(who: Identity, folder: Path) -> Path | None:
    """The first folder on the way to this one, or itself, that a user other than this can't enter."""
    if who.uid == os.geteuid():
        return None
    for step in (*reversed(folder.parents), folder):
        at = step.stat()
        if not at.st_mode & (0o100 if at.st_uid == who.uid else 0o001):
            return step
    return None


def works(command: list[str]) -> bool:
    """Whether a command is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
