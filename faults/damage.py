"""An outbox with damage: a bit that flips while the feed and its plant are both away."""

import random
from functools import partial
from pathlib import Path

from faults.case import Case
from faults.check import journaled
from faults.site import Damaged, Site
from faults.source import TABLES, calls
from tickplant import wire
from tickplant._core import framing
from tickplant.errors import TickplantError
from tickplant.journal import begins, segments


def bit_flipped(site: Site, choice: random.Random) -> bool:
    """Plant and feed are killed, a bit of a frame that the plant can't have is flipped, and both are back."""
    feed = choice.choice(("one", "two"))
    folder, process = site.config.outbox_dir(feed), site.processes[f"feed-{feed}"]
    site.kill("tickerplant", 3600.0)
    site.until(lambda: site.processes["tickerplant"].running is None, "the ticker plant to be gone")
    begun = _end(folder)
    site.until(lambda: _end(folder) > begun + (1 << 16), f"feed {feed} to publish into its outbox")
    site.kill(process.name, 3600.0)
    site.until(lambda: process.running is None, f"feed {feed} to be gone")
    damaged = _flip(site, feed, begun, choice)
    process.start_at_ns = site.processes["tickerplant"].start_at_ns = 1
    site.until(lambda: process.running and site.processes["tickerplant"].running, "both to be back")
    if not site.damaged:
        site.witness.append(partial(_exactly, site))
    site.damaged.append(damaged)
    return True


def _end(folder: Path) -> int:
    """How far an outbox has been written."""
    last = segments(folder)[-1:]
    return begins(last[0]) + last[0].stat().st_size if last else 0


def _flip(site: Site, feed: str, begun: int, choice: random.Random) -> Damaged:
    """Flip a bit of a frame of rows from this position on. Of its rows the bench knows which they are."""
    made = calls(site.folder / f"{feed}.counts")
    numbers = [site.config.schema[name].number for name in TABLES]
    found: list[tuple[Path, int, int, wire.Header]] = []
    for path in segments(site.config.outbox_dir(feed)):
        data = path.read_bytes()
        for offset, length, kind, *_ in framing.index(data).tolist():
            head = wire.header(data, offset)
            known = made[made[:, 0] == head.session]
            upto = int((known[:, 1] + known[:, 5]).max()) if len(known) else 0
            if (
                kind == wire.ROWS
                and begins(path) + offset >= begun
                and head.table in numbers
                and head.seq + head.count <= upto
            ):
                found.append((path, offset, length, head))
    if not found:
        raise TickplantError(f"no frame of feed {feed} behind byte {begun:,} of its outbox")
    path, offset, length, head = choice.choice((found[-1], choice.choice(found)))
    at, bit = offset + choice.randrange(length), 1 << choice.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))
    return site.config.feed(feed).id, head.session, head.seq, head.seq + head.count - 1


def _exactly(site: Site) -> list[str]:
    """What is declared as lost is each damaged frame, and nothing else."""
    gaps: list[Damaged] = []
    for date in site.dates():
        events = journaled(site.config.journal_dir / str(date), site.config.schema["event"])
        mine = events[(events["kind"] == b"gap") & (events["feed"] == 0)]
        gaps += [tuple(row) for row in mine[["about", "session", "first", "last"]].tolist()]
    if sorted(gaps) == sorted(site.damaged):
        return []
    return [f"declared gaps {sorted(gaps)}, and damaged frames {sorted(site.damaged)}"]


CASES = {"damaged-outbox": Case([bit_flipped])}
