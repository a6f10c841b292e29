"""What is in a capture: its decoder run alone, every message accounted for."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tickplant.feed.capture import Capture
from tickplant.feed.formats import open_capture
from tickplant.feed.source import bytes_read
from tickplant.progress import Progress
from tickplant.schema import Rows

EVENTS_MAX = 20


class Account:
    """Rows of one table so far: how many, their sums, their span."""

    def __init__(self) -> None:
        self.rows = 0
        self.first: int | None = None
        self.last: int | None = None
        self.size: float | None = None
        self.notional: float | None = None

    def add(self, rows: Rows) -> None:
        """Count rows in."""
        self.rows += len(rows)
        times = rows["ts_event"][rows["ts_event"] != 0]
        if len(times):
            low, high = int(times.min()), int(times.max())
            self.first = low if self.first is None else min(self.first, low)
            self.last = high if self.last is None else max(self.last, high)
        names = rows.dtype.names or ()
        if "size" in names:
            self.size = (self.size or 0.0) + float(np.nansum(rows["size"]))
            if "price" in names:
                total = float(np.nansum(rows["size"] * rows["price"]))
                self.notional = (self.notional or 0.0) + total

    def plain(self) -> dict[str, Any]:
        """As `decode` reports it."""
        return {
            "rows": self.rows,
            "size_sum": self.size,
            "notional_sum": self.notional,
            "first_ts_event": self.first,
            "last_ts_event": self.last,
        }


def decode(path: Path, **options: Any) -> dict[str, Any]:
    """Read a capture from start to end; counts, sums and what was wrong with it.

    Raises CaptureError if it is no capture that we read.
    """
    source = open_capture(path, **options)
    tables: dict[str, Account] = {}
    events: list[dict[str, Any]] = []
    kinds: Counter[str] = Counter()
    with Progress(f"decode {path.name}", path.stat().st_size) as progress:
        before = bytes_read()
        for batch in source:
            progress.reach(bytes_read() - before)
            for table, rows in batch:
                tables.setdefault(table, Account()).add(rows)
                if table == "event":
                    kinds.update(k.decode() for k in rows["kind"].tolist())
                    events += [_event(r, source) for r in rows[: max(0, EVENTS_MAX - len(events))]]
    return {
        "capture": str(path),
        "format": source.format,
        "total": source.total,
        "messages": dict(source.messages),
        "ignored": dict(source.ignored),
        "malformed": source.malformed,
        "damaged": source.damaged,
        "tables": {name: account.plain() for name, account in tables.items()},
        "event_kinds": dict(kinds),
        "events": events,
    }


def _event(row: np.void, source: Capture) -> dict[str, Any]:
    kind = row["kind"].decode()
    return {
        "kind": kind,
        "unit": source.EVENT_UNITS.get(kind, "number"),
        "first": int(row["first"]),
        "last": int(row["last"]),
        "text": row["text"].decode("utf-8", "replace"),
    }
