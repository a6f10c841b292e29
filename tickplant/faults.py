"""What has ended a process, in one line with the place; and whether it is the same again and again.

    run_dir/status/<name>.faults    JSON: the last REPEATED faults, oldest first: {at_ns, kind, place, text}

It outlives the process and the next one's status, which begins anew.
"""

import errno
import json
import os
import stat
import traceback
from pathlib import Path
from typing import Any

from tickplant import owners
from tickplant.clock import SECOND_NS, now_ns
from tickplant.errors import Fault, SystemRefused, TickplantError

REPEATED = 5
WITHIN_NS = 60 * SECOND_NS
"""The same fault so often in so long is not mended by starting again."""
SUFFIX = ".faults"
_BYTES_MAX = 1 << 16
_TEXT_MAX = 2000
_PACKAGE = Path(__file__).parent


def place(error: BaseException) -> str:
    """Where an exception was raised, as file:line: in tickplant if any of the calls is there."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).is_relative_to(_PACKAGE)]
    if not frames:
        return "an unknown place"
    last = (ours or frames)[-1]
    path = Path(last.filename)
    shown = path.relative_to(_PACKAGE.parent) if path.is_relative_to(_PACKAGE) else path
    return f"{shown}:{last.lineno}"


def fault(error: Exception) -> TickplantError:
    """The error itself, if it was raised on purpose; else what it comes to in one line."""
    if isinstance(error, TickplantError):
        return error
    made: TickplantError
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: " if error.filename else ""
        made = SystemRefused(f"{what}{error.strerror} (at {place(error)}){_remedy(error)}")
    else:
        said = " ".join(str(error).split())
        made = Fault(f"{type(error).__name__}{': ' if said else ''}{said} (at {place(error)})")
    made.__cause__ = error
    return made


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        user = owners.name(os.geteuid())
        return f"; this process runs as {user}: run it as the owner of that, or: chown -R {user} FOLDER"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "; give it more file descriptors (LimitNOFILE= of its unit, or ulimit -n)"
    return "; free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""


def note(folder: Path, name: str, error: Exception) -> str:
    """Keep what ends a process; the text for its status, which says so if it is the same again and again."""
    text = str(fault(error))[:_TEXT_MAX]
    one = {"at_ns": now_ns(), "kind": type(error).__name__, "place": place(error), "text": text}
    kept = [*read(folder, name), one][-REPEATED:]
    draft = folder / f"{name}.faults-draft"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(kept))
        draft.rename(folder / (name + SUFFIX))
    except OSError:
        pass  # the log has it, and the status, as far as they can be written
    return text + again(name, kept)


def again(name: str, kept: list[dict[str, Any]]) -> str:
    """What to add where the last faults are one and the same; empty if they are not."""
    same = {(k["kind"], k["place"]) for k in kept}
    if len(kept) < REPEATED or len(same) > 1 or kept[-1]["at_ns"] - kept[0]["at_ns"] > WITHIN_NS:
        return ""
    unit = f"tickplant-{name.replace('feed-', 'feed@', 1) if name.startswith('feed-') else name}"
    return (
        f"; the same fault {REPEATED} times in a minute: to start again does not mend it. Mend what it says, "
        f"or keep it down meanwhile: systemctl stop {unit}; all of it: journalctl -u {unit}"
    )


def recent(folder: Path, name: str) -> str | None:
    """What has ended a process within the last minute, for people; None if nothing has."""
    kept = read(folder, name)
    if not kept or not 0 <= now_ns() - kept[-1]["at_ns"] <= WITHIN_NS:
        return None
    return str(kept[-1]["text"]) + again(name, kept)


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """The faults that are kept of a process; none that can't be read."""
    try:
        kept = json.loads(contents(folder / (name + SUFFIX), _BYTES_MAX))
        return [{"at_ns": int(k["at_ns"]), **{n: str(k[n]) for n in ("kind", "place", "text")}} for k in kept]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def contents(path: Path, most: int) -> bytes:
    """A plain file of at most so many bytes, whatever has its name now. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise OSError(f"{path} is not a plain file of at most {most} bytes")
        return os.read(fd, most)
    finally:
        os.close(fd)
