"""Whose objects of shared memory a process believes.

Any user of a host can make files in /dev/shm, of any name. So an object of a plant is one that its user made:
the owner of its status file, of its `run_dir`, of its `data_dir`, as the configuration names them; without a
configuration this process's own user, or root. The ticker plant itself believes its own objects only.
"""

import contextlib
import grp
import os
import pwd
from pathlib import Path

_anchors: dict[str, tuple[Path, ...]] = {}
_settled: dict[str, int] = {}


def anchor(plant: str, *paths: Path) -> None:
    """Believe who owns these paths, the first that is there first; they need not be there yet."""
    _anchors[plant] = paths
    _settled.pop(plant, None)


def candidates(plant: str) -> list[int]:
    """User ids that a plant's objects may be of, the likeliest first."""
    found = []
    for path in _anchors.get(plant, ()):
        with contextlib.suppress(OSError):
            found.append(path.lstat().st_uid)
    return list(dict.fromkeys([*found, os.geteuid(), 0]))


def settle(plant: str, uid: int | None) -> None:
    """This is whose the plant is, from here on: of one user are all of its objects. None: not known yet."""
    if uid is None:
        _settled.pop(plant, None)
    else:
        _settled[plant] = uid


def of(plant: str) -> list[int]:
    """User ids whose objects of a plant this process reads."""
    return [_settled[plant]] if plant in _settled else candidates(plant)


def name(uid: int) -> str:
    """The name of a user, or its number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group(gid: int) -> str:
    """The name of a group, or its number where there is none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
