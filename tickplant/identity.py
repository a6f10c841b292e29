"""Which plant it is: its name, and a token that it makes once and keeps in `data_dir/identity`.

Two plants may have the same name (a copy of one configuration on another host, or one that was made anew);
the token tells them apart. Whoever talks to a plant says whose it is, as far as it knows: a feed that has
never met its plant knows the name alone, learns the token at the first contact, and keeps it with its
outbox.

    identity    32 hex digits. Replaced whole; each journal repeats it, so that it can be found again.
"""

import os
import re
import uuid
from pathlib import Path
from typing import NamedTuple

from tickplant.errors import ConfigError

_TOKEN = re.compile(r"[0-9a-z]{6,64}")
_SHOWN = 8


class Identity(NamedTuple):
    """A plant's name and token; the token is empty where it is not known."""

    plant: str
    token: str = ""

    def differs(self, other: "Identity") -> bool:
        """Are these certainly two plants? Where one token is not known the names decide."""
        return self.plant != other.plant or bool(self.token and other.token and self.token != other.token)

    def __str__(self) -> str:
        return f"plant {self.plant!r} ({self.token[:_SHOWN] or 'not yet met'})"


def known(data_dir: Path) -> str:
    """The token of the plant whose data are in this folder; empty if there is none, or it can't be read."""
    try:
        token = (data_dir / "identity").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return token if _TOKEN.fullmatch(token) else ""


def own(data_dir: Path, repeated: str, data: bool) -> str:
    """The plant's own token; made at its first start.

    `repeated`: what its journals repeat, which mends a file that is gone or damaged. `data`: does the plant
    have data already? Raises ConfigError if it has, and nobody knows its token any more.
    """
    if token := known(data_dir):
        return token
    path = data_dir / "identity"
    if data and not repeated:
        raise ConfigError(
            f"{path} is missing or holds no identity, and {data_dir} has data of a plant: put the file back "
            f"from a copy, or, if there is none, write a new one: uuidgen | tr -d - > {path}"
        )
    token = repeated or uuid.uuid4().hex
    _write(path, token)
    return token


def _write(path: Path, token: str) -> None:
    """Replace the file whole: a crash leaves the one before, or this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name("identity.draft")
    with draft.open("w") as file:
        file.write(token)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
