"""What others do on the plant's own host: names taken in /dev/shm, files removed, descriptors withheld."""

import contextlib
import os
import random
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from faults.case import Case
from faults.roll import Request
from faults.site import Site
from tickplant import segment
from tickplant.clock import date_after
from tickplant.eod import end_of_day
from tickplant.errors import TickplantError
from tickplant.status import look
from tickplant.table import segment_name

_DATES_TAKEN = 2
"""Dates to come whose tables' names are taken."""
STARVED = ("tickerplant", "publisher")


def names_taken(site: Site, choice: random.Random) -> bool:
    """Foreign things have the plant's names in /dev/shm while it starts again and its date ends."""
    with _taken(site, choice) as paths:
        if choice.random() < 0.5:
            site.kill("tickerplant", 0.0)
        site.until(lambda: _reported(site, paths), "status to tell of what is in the way")
        for _ in range(choice.randint(1, _DATES_TAKEN)):
            with Request(site) as request:
                request.ask()
                site.until(request.done, "the trading date to end beside foreign names")
            site.pause(choice.uniform(0.1, 0.5))
        site.kill(choice.choice(("tickerplant", "publisher")), 0.0)
        written = site.plant.control.written.load()
        site.until(lambda: site.plant.control.written.load() != written, "rows to flow beside foreign names")
    return True


@contextlib.contextmanager
def _taken(site: Site, choice: random.Random) -> Iterator[list[Path]]:
    """FIFOs, folders, links and a file of nobody's, under the names that the plant will need."""
    date, target = site.plant.trading_date, site.folder / "linked"
    target.write_text("not to be written\n")
    wanted = [f"tp.{site.name}.lock", f"tp.{site.name}.\N{SUPERSCRIPT TWO}2.trade"]
    for _ in range(_DATES_TAKEN):
        date = date_after(date)
        wanted += [segment_name(site.name, date, table.name) for table in site.config.schema]
    paths = []
    for name in wanted:
        with contextlib.suppress(FileExistsError):
            _put(segment.SHM / name, target, choice)
            paths.append(segment.SHM / name)
    try:
        yield paths
    finally:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if target.read_text() != "not to be written\n":
        raise TickplantError("the plant has written through a link of somebody else's")


def _put(path: Path, target: Path, choice: random.Random) -> None:
    kind = choice.randrange(4 if os.geteuid() == 0 else 3)
    if path.name.endswith(".lock") or kind == 0:
        path.symlink_to(target)
    elif kind == 1:
        os.mkfifo(path, 0o666)
    elif kind == 2:
        path.mkdir()
        (path / "inside").touch()
    else:
        path.touch(exist_ok=False)
        os.chown(path, 65534, 65534)


def _reported(site: Site, paths: list[Path]) -> bool:
    """Does `tickplant status` name one of them, and how many more there are?"""
    said = " ".join(look(site.config)["problems"])
    return any(f"{path} is not this plant's" in said for path in paths)


def run_dir_emptied(site: Site, choice: random.Random) -> bool:
    """Somebody empties run_dir; status and eod work again, and the date ends."""
    run_dir = site.config.plant.run_dir
    for path in run_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)  # something may just be made in it again
        else:
            path.unlink(missing_ok=True)
    for name in ("tickerplant", "publisher", "feed-one", "feed-two"):
        site.until(lambda n=name: site.publishes(n), f"the status of {name} to be back")  # type: ignore[misc]
    sock = run_dir / "tickerplant.sock"
    site.until(sock.exists, "the socket of operators to be back")
    site.until(lambda: not look(site.config)["problems"], "status to be content")
    date = site.plant.trading_date
    end_of_day(site.config, date=date)
    if site.plant.trading_date != date_after(date):
        raise TickplantError(f"eod ended {date}, and {site.plant.trading_date} is open")
    return True


def without_descriptors(site: Site, choice: random.Random) -> bool:
    """A process may open no file more for some seconds."""
    name = choice.choice(STARVED)
    site.until(lambda: site.publishes(name), f"the {name} to run")
    process = site.processes[name].running
    assert process is not None
    held = {int(n) for n in os.listdir(f"/proc/{process.pid}/fd")}
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    lowest = next(n for n in range(len(held) + 1) if n not in held)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        site.pause(choice.uniform(0.5, 4.0))
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    if site.processes[name].running is not process:
        raise TickplantError(f"the {name} ended for want of descriptors")
    return True


CASES = {
    "foreign-names": Case([names_taken]),
    "emptied-run-dir": Case([run_dir_emptied]),
    "no-descriptors": Case([without_descriptors]),
}
