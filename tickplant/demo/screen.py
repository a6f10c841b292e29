"""What the demo shows: the plant while it runs, and the verdict."""

import json
from collections import defaultdict
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tickplant import local
from tickplant._core import framing
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Config
from tickplant.errors import TickplantError
from tickplant.journal import JournalReader
from tickplant.screen import table

BUSIEST = 8
EVENTS_MAX = 4
WIDE = 1000
PLACES = ("published", "journaled", "shared_memory", "postgres")


class Screen:
    """The picture of a running plant."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._plant: local.Plant | None = None
        self._rows: dict[str, int] = {}
        self._rates: dict[str, float] = {}
        self._at_ns = monotonic_ns()
        self._seen_quotes = 0
        self._busy: dict[int, int] = defaultdict(int)

    def draw(self) -> Group:
        """The picture now."""
        try:
            self._plant = self._plant or local.connect(self.config)
            rows = {t.name: len(self._plant.table(t.name)) for t in self._plant.schema}
        except TickplantError:
            return Group(Text("the plant is starting"))
        self._measure(rows)
        return Group(self._flow(rows), "", self._quotes(), "", Text(self._vitals()))

    def _measure(self, rows: dict[str, int]) -> None:
        at = monotonic_ns()
        passed = (at - self._at_ns) / SECOND_NS
        if passed >= 0.5:
            self._rates = {t: (n - self._rows.get(t, 0)) / passed for t, n in rows.items()}
            self._rows, self._at_ns = rows, at

    def _flow(self, rows: dict[str, int]) -> Table:
        numbers = ("rows/s", "rows")
        flow = table("table", *numbers, right=numbers, title=f"plant {self.config.plant.name}")
        for name, count in rows.items():
            if count:
                flow.add_row(name, f"{self._rates.get(name, 0):,.0f}", f"{count:,}")
        return flow

    def _quotes(self) -> Table:
        assert self._plant is not None
        numbers = ("bid", "ask", "bid size", "ask size")
        shown = table("instrument", *numbers, right=numbers, title="busiest instruments")
        if "quote" not in self._plant.schema:
            return shown
        quotes = self._plant.table("quote")
        codes = quotes["instrument"][self._seen_quotes :]
        self._seen_quotes += len(codes)
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            self._busy[int(code)] += int(count)
        latest, names = self._plant.latest("quote"), self._plant.instruments
        for code in sorted(self._busy, key=lambda c: -self._busy[c])[:BUSIEST]:
            row = latest[names[code]]
            sizes = (row["bid_size"], row["ask_size"])
            prices = (f"{float(row[c]):.10g}" for c in ("bid_price", "ask_price"))
            shown.add_row(names[code], *prices, *(f"{float(s):,.6g}" for s in sizes))
        return shown

    def _vitals(self) -> str:
        said = {p.stem: _read(p) for p in self.config.status_dir.glob("*.json")}
        late = said.get("reader-local", {}).get("latency_us", {})
        memory = sum(s.get("memory_bytes", 0) for s in said.values()) / 1e6
        behind = said.get("hdb", {}).get("behind_bytes") or 0
        return (
            f"feed to local reader p50 {late.get('p50') or '-'} us, p99 {late.get('p99') or '-'} us; "
            f"memory of {len(said)} processes {memory:,.0f} MB; PostgreSQL {behind / 1e6:,.1f} MB behind"
        )


def _read(path: Any) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def result(
    date: int, proof: dict[str, Any], remote: dict[str, Any], near: dict[str, Any], seconds: float,
    tables: list[str],
) -> dict[str, Any]:  # fmt: skip
    """The verdict as plain data: the proof, and what the two readers saw."""
    shown: dict[str, Any] = {}
    complete = proof["complete"]
    for name in tables:
        records = [r for r in proof["records"] if r["table"] == name]
        counts = {p: _total(records, p) for p in PLACES}
        sums = {_total(records, p + "_checksum", 1 << 64) for p in PLACES} - {None}
        expected = f"{next(iter(sums)):016x}" if len(sums) == 1 else None
        readers = [(s.get("rows", {}).get(name), s.get("sums", {}).get(name)) for s in (remote, near)]
        good = name not in proof["out_of_order"] and all(r["complete"] for r in records)
        good = good and all(r == (counts["journaled"], expected) for r in readers)
        complete = complete and good
        shown[name] = {**counts, "remote": readers[0][0], "local": readers[1][0], "checksum": expected,
                       "checksum_ok": good}  # fmt: skip
    return {
        "trading_date": date,
        "complete": complete,
        "seconds": round(seconds, 2),
        "tables": shown,
        "latency_us": near.get("latency_us", {"p50": None, "p99": None}),
    }


def _total(records: list[dict[str, Any]], key: str, modulus: int | None = None) -> int | None:
    values = [r[key] for r in records]
    if any(v is None for v in values):
        return None
    total = sum(values)
    return int(total % modulus if modulus else total)


def events(config: Config, date: int) -> list[str]:
    """What the date's event rows say, from its journal: the first few of each kind, and how many more."""
    table = config.schema["event"]
    reader = JournalReader(config.journal_dir / str(date), None, 0)
    found: list[str] = []
    seen: dict[str, int] = defaultdict(int)
    while chunk := reader.read():
        for row in table.rows(framing.payloads(chunk, table.number)):
            kind, text = (row[n].decode("utf-8", "replace") for n in ("kind", "text"))
            seen[kind] += 1
            if kind != "session" and seen[kind] <= EVENTS_MAX:
                found.append(f"event {kind} [{int(row['first']):,}, {int(row['last']):,}]: {text}")
    reader.close()
    more = {k: n - EVENTS_MAX for k, n in seen.items() if k != "session"}
    return found + [f"event {k}: {n:,} more" for k, n in more.items() if n > 0]


def _proof(verdict: dict[str, Any], *, checksums: bool, counts: bool) -> Table:
    """`checksums`: shown, not only compared; without `counts` = stands for as many as were published."""
    places = {
        "published": "published", "journaled": "journaled", "shared_memory": "memory", "remote": "remote",
        "local": "local", "postgres": "postgres",
    }  # fmt: skip
    shown = table("table", *places.values(), *(["checksum"] if checksums else []), "", right=places.values(),
                  title=f"proof of trading date {verdict['trading_date']}")  # fmt: skip
    for name, t in verdict["tables"].items():
        there = ["-" if t[p] is None else f"{t[p]:,}" for p in places]
        if not counts:
            there[1:] = ["=" if n == there[0] else n for n in there[1:]]
        sums = [t["checksum"] or "differs"] if checksums else []
        shown.add_row(name, *there, *sums, "ok" if t["checksum_ok"] else "[red]DIFFERS[/]")
    return shown


def _fitting(verdict: dict[str, Any], console: Console) -> Table:
    """The proof with as much of it as there is room for."""
    for checksums, counts in ((True, True), (False, True)):
        shown = _proof(verdict, checksums=checksums, counts=counts)
        if console.measure(shown, options=console.options.update(width=WIDE)).maximum <= console.width:
            return shown
    return _proof(verdict, checksums=False, counts=False)


def show(verdict: dict[str, Any], happened: list[str], console: Console) -> None:
    """The verdict for people."""
    console.print(_fitting(verdict, console))
    console.print()
    for event in happened:
        console.print(event, markup=False, soft_wrap=True)
    late = verdict["latency_us"]
    p50, p99 = late["p50"] or "-", late["p99"] or "-"  # rows of a recording are of another day
    console.print(f"feed to local reader: p50 {p50} us, p99 {p99} us; {verdict['seconds']} s in all")
    console.print(
        "[bold green]complete[/]" if verdict["complete"] else "[bold red]NOT complete: see above[/]"
    )
