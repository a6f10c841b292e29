"""A test kit for feed handlers: give it a capture and what is known of it, and it checks all the rest.

    from tickplant.testing import check_capture

    def test_the_sample_day():
        check_capture("sample.jsonl.zst", messages={"trade": 304}, rows={"trade": 304}, gaps=0)

What is checked of every capture: that each row's instrument was defined before; that depth rows,
applied one after the other, make books whose top is what the quotes derived from them say; that a plant
into which it is published journals the very rows. The rest is what you expect of this one.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tickplant._core import framing
from tickplant.analytics.book import DepthBook
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Config, shipped
from tickplant.control import remove_all
from tickplant.errors import CaptureError
from tickplant.feed.capture import Batch
from tickplant.feed.formats import open_capture
from tickplant.feed.handler import Feed
from tickplant.journal import JournalReader
from tickplant.schema import Flag, Rows
from tickplant.tickerplant import TickerPlant

PATIENCE_S = 60
TURN_ROWS = 20_000
_PLANTS = ("ts_plant", "feed", "instrument")
"""Columns that the plant fills in."""


def check_capture(
    path: str | Path, *, messages: Mapping[str, int] | None = None, rows: Mapping[str, int] | None = None,
    sizes: Mapping[str, float] | None = None, total: int | None = None, malformed: int = 0, gaps: int = 0,
    plant: bool = True, **options: Any,
) -> list[Batch]:  # fmt: skip
    """Decode a capture and check it; its batches.

    `messages`: how many of a type; `rows`, `sizes`: how many of a table, and their sum of sizes;
    `total`: of all messages; `gaps`: rows of kind gap; `plant`: publish it, too; `options`: of the
    capture. Raises AssertionError with everything that is not so.
    """
    source = open_capture(Path(path), **options)
    batches = list(source)
    whole = _joined(batches)
    wrong: list[str] = []
    seen = source.messages + source.ignored
    for kind, count in (messages or {}).items():
        _same(wrong, f"messages {kind}", seen[kind], count)
    for table, count in (rows or {}).items():
        _same(wrong, f"rows of {table}", len(whole.get(table, ())), count)
    for table, size in (sizes or {}).items():
        found = float(np.nansum(whole[table]["size"])) if table in whole else 0.0
        if not np.isclose(found, size, rtol=1e-12):
            wrong.append(f"sum of sizes of {table} is {found!r}, not {size!r}")
    if total is not None:
        _same(wrong, "messages in all", source.total, total)
    _same(wrong, "malformed messages", source.malformed, malformed)
    events = whole.get("event")
    kinds = Counter(events["kind"].tolist() if events is not None else ())
    _same(wrong, "gaps", kinds[b"gap"], gaps)
    wrong += _undefined(batches)
    wrong += _books(whole)
    if plant:
        wrong += _round_trip(batches, whole)
    if wrong:
        raise AssertionError(f"{path}:\n  " + "\n  ".join(wrong))
    return batches


def _same(wrong: list[str], what: str, found: int, expected: int) -> None:
    if found != expected:
        wrong.append(f"{what}: {found:,}, not {expected:,}")


def _joined(batches: list[Batch]) -> dict[str, Rows]:
    parts: dict[str, list[Rows]] = {}
    for batch in batches:
        for table, rows in batch:
            parts.setdefault(table, []).append(rows)
    return {table: np.concatenate(rows) for table, rows in parts.items()}


def _undefined(batches: list[Batch]) -> Iterator[str]:
    """Rows about instruments that were not defined before."""
    known = {0}
    for batch in batches:
        for table, rows in batch:
            if table == "instrument":
                known.update(rows["code"].tolist())
            elif strange := set(rows["instrument"].tolist()) - known:
                yield f"rows of {table} about instruments {sorted(strange)[:5]}, which are not defined"
                return


def _books(whole: Mapping[str, Rows]) -> Iterator[str]:
    """Books whose top is not what was quoted from them."""
    depth, quotes = whole.get("depth"), whole.get("quote")
    if depth is None or quotes is None:
        return
    derived = quotes[quotes["flags"] & Flag.SYNTHETIC != 0]
    for instrument in np.unique(derived["instrument"]):
        book = DepthBook()
        book.apply(depth[depth["instrument"] == instrument])
        last = derived[derived["instrument"] == instrument][-1]
        for side, name in (("B", "bid"), ("S", "ask")):
            top = [level[:2] for level in book.levels(side, 1)] or [(np.nan, 0.0)]
            said = (float(last[f"{name}_price"]), float(last[f"{name}_size"]))
            if not np.array_equal(top[0], said, equal_nan=True):
                yield f"the book of instrument {instrument} has best {name} {top[0]}, quoted is {said}"


def _round_trip(batches: list[Batch], whole: Mapping[str, Rows]) -> Iterator[str]:
    """Tables whose rows a plant does not journal as they were decoded."""
    with throwaway() as config:
        plant = TickerPlant(config)
        plant.open()
        with closing(plant):
            publish(plant, Feed(config, "capture"), batches)
        journal = _journaled(plant)
    for table, rows in whole.items():
        kept = [c for c in rows.dtype.names or () if c not in _PLANTS]
        there = journal[table][journal[table]["feed"] == 1]
        if not _equal(there, rows, kept):
            yield f"{table}: {len(there):,} rows journaled, not the {len(rows):,} that were decoded"


def publish(plant: TickerPlant, feed: Feed, batches: list[Batch]) -> None:
    """Have the plant take all of it."""
    feed.open(0.0)
    waiting = 0
    try:
        for batch in batches:
            for table, rows in batch:
                feed.append(table, rows)
                waiting += len(rows)
            if waiting > TURN_ROWS:  # a turn without rows waits for some
                plant.turn()
                waiting = 0
        feed.flush()
        _settle(plant, feed)
    finally:
        feed.close(0.0)


def _equal(there: Rows, rows: Rows, columns: list[str]) -> bool:
    """Compared by bytes: NaN is NaN."""
    return len(there) == len(rows) and all(there[c].tobytes() == rows[c].tobytes() for c in columns)


def _settle(plant: TickerPlant, feed: Feed) -> None:
    if not feed.rows_published:
        return  # a feed without rows begins no session
    end = monotonic_ns() + PATIENCE_S * SECOND_NS
    while plant.day.intake.session(feed.number) != (feed.session, feed.rows_published):
        plant.turn()
        if monotonic_ns() > end:
            raise CaptureError(f"the plant did not take all rows of the capture in {PATIENCE_S} s")
    plant.commit()


def _journaled(plant: TickerPlant) -> dict[str, Rows]:
    reader = JournalReader(plant.day.journal.folder)
    parts: dict[str, list[bytes]] = {t.name: [] for t in plant.config.schema}
    for chunk in iter(reader.read, b""):
        for table in plant.config.schema:
            parts[table.name].append(framing.payloads(chunk, table.number))
    reader.close()
    return {t.name: t.rows(b"".join(parts[t.name])) for t in plant.config.schema}


@contextmanager
def throwaway() -> Iterator[Config]:
    """A configuration with the shipped tables, and nothing left of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tpk"))  # short: paths of sockets have 107 bytes
    content = msgspec.toml.decode(shipped().read_bytes())
    name = folder.name.lower().replace("-", "_")
    content["plant"] |= {"name": name, "data_dir": str(folder / "data"), "run_dir": str(folder / "run")}
    content["tickerplant"] |= {w: f"ipc://{folder}/run/{w}" for w in ("ingress", "repair")}
    content["publisher"] |= {w: f"ipc://{folder}/run/{w}" for w in ("publish", "request")}
    content["feeds"] = {"capture": {"id": 1, "handler": "capture"}}
    for each in (folder / "data", folder / "run"):
        each.mkdir()
    try:
        yield Config(content, folder / "tickplant.toml")
    finally:
        remove_all(name)
        shutil.rmtree(folder, ignore_errors=True)
