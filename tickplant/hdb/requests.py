"""Asking the plant's hdb to rebuild a date, whether it runs now or only later.

    data_dir/hdb.requests/<yyyymmdd>.json      what is asked: {"at_ns": ...}; it stays until it is done
    data_dir/hdb.requests/<yyyymmdd>.failed    {"at_ns": ..., "error": ...}: why that request came to nothing

Files, because the one that asks may go away, and the hdb may be killed: a request that is there is done by
the next hdb. One that is done is known by the date's proof, which is newer than the request.
"""

import json
import os
from pathlib import Path

from tickplant.clock import now_ns
from tickplant.config import Config


def folder(config: Config) -> Path:
    """Where the requests lie."""
    return config.plant.data_dir / "hdb.requests"


def ask(config: Config, trading_date: int) -> int:
    """Have a date rebuilt; when it was asked, ns UTC, which tells this request from others."""
    at_ns, where = now_ns(), folder(config)
    where.mkdir(parents=True, exist_ok=True)
    (where / f"{trading_date}.failed").unlink(missing_ok=True)
    _put(where / f"{trading_date}.json", {"at_ns": at_ns})
    return at_ns


def wanted(config: Config) -> list[tuple[int, int]]:
    """(date, when it was asked) of what is asked for, in the order of the dates."""
    return [(date, _at_ns(path)) for date, path in _asked(config)]


def done(config: Config, trading_date: int, at_ns: int) -> None:
    """Take a request away, unless it was made again meanwhile."""
    path = folder(config) / f"{trading_date}.json"
    if _at_ns(path) <= at_ns:
        path.unlink(missing_ok=True)


def fail(config: Config, trading_date: int, at_ns: int, error: str) -> None:
    """Say why a request comes to nothing, and take it away."""
    _put(folder(config) / f"{trading_date}.failed", {"at_ns": at_ns, "error": error})
    done(config, trading_date, at_ns)


def is_waiting(config: Config, trading_date: int) -> bool:
    """Is there a request for this date that is not done?"""
    return (folder(config) / f"{trading_date}.json").exists()


def failure(config: Config, trading_date: int) -> str | None:
    """Why the last request for a date came to nothing, if it did."""
    try:
        said = json.loads((folder(config) / f"{trading_date}.failed").read_text())
        return str(said["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _asked(config: Config) -> list[tuple[int, Path]]:
    return sorted((int(p.stem), p) for p in folder(config).glob("[0-9]" * 8 + ".json"))


def _at_ns(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["at_ns"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _put(path: Path, said: dict[str, object]) -> None:
    draft = path.with_suffix(f".{os.getpid()}.draft")
    draft.write_text(json.dumps(said))
    draft.rename(path)
