"""How a plant is, seen from outside: what each process says, what is wrong, and what to do about it."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tickplant.clock import SECOND_NS, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.errors import TickplantError

STALE_NS = 5 * SECOND_NS


def look(config: Config) -> dict[str, Any]:
    """Everything about a plant as plain data: `processes`, `trading_date`, `rows`, `problems`."""
    processes = {p.stem: _read(p) for p in sorted(config.status_dir.glob("*.json"))}
    try:
        state = Control.attach(config.plant.name).state()
    except TickplantError:
        state = "not running"
    plant = processes.get("tickerplant", {})
    expected = ["tickerplant", "publisher", "hdb", *(f"feed-{n}" for n in config.feeds)]
    problems = [] if state == "running" else [_plant_problem(config, state)]
    for name in expected:
        problems += _problems(name, processes.get(name))
    for name, feed in plant.get("feeds", {}).items():
        if feed["gaps"]:
            problems.append(f"feed {name} lost rows {feed['gaps']} times; see: tickplant tail event")
    return {
        "plant": config.plant.name,
        "state": state,
        "trading_date": plant.get("trading_date"),
        "rows": plant.get("rows", {}),
        "processes": processes,
        "proofs": proofs(config)[-5:],
        "problems": problems,
    }


def proofs(config: Config) -> list[dict[str, Any]]:
    """The stored proofs, in short, by date."""
    found = []
    for path in sorted((config.plant.data_dir / "proofs").glob("*.json")):
        proof = _read(path)
        found.append({"trading_date": proof.get("trading_date"), "complete": proof.get("complete")})
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _plant_problem(config: Config, state: str) -> str:
    start = f"tickplant --config {config.path} run tickerplant (or systemctl start tickplant.target)"
    if state == "stalled":
        return "the ticker plant has not turned for 2 s; see its log, or restart tickplant-tickerplant"
    return f"the ticker plant is {state}; start it: {start}"


def _problems(name: str, said: dict[str, Any] | None) -> list[str]:
    if not said:
        return [f"{name} has never said how it is; is it started?"]
    state = said.get("state")
    if state == "failed":
        return [f"{name} failed: {said.get('error')}"]
    if state in ("finished", "stopped"):
        return [] if state == "finished" else [f"{name} is stopped"]
    if not Path(f"/proc/{said.get('pid')}").exists():
        return [f"{name} (pid {said.get('pid')}) is gone; its supervisor should bring it back"]
    problems = []
    if now_ns() - int(said.get("written_ns", 0)) > STALE_NS:
        problems.append(f"{name} has said nothing for more than 5 s: it hangs")
    for key in ("waiting", "degraded"):
        if said.get(key):
            problems.append(f"{name}: {said[key]}")
    return problems


def show(seen: dict[str, Any], console: Console) -> None:
    """One screen for operators."""
    console.print(
        f"plant [bold]{seen['plant']}[/] {seen['state']}, trading date {seen['trading_date'] or '-'}"
    )
    table = Table("process", "state", "pid", "memory", "said")
    for name, said in seen["processes"].items():
        ago = (now_ns() - said.get("written_ns", 0)) / SECOND_NS
        memory = f"{said.get('memory_bytes', 0) / 1e6:,.0f} MB"
        table.add_row(name, str(said.get("state")), str(said.get("pid")), memory, f"{ago:.1f} s ago")
    console.print(table)
    rows = Table("table", "rows today")
    for name, count in seen["rows"].items():
        rows.add_row(name, f"{count:,}")
    console.print(rows)
    for proof in seen["proofs"]:
        verdict = "complete" if proof["complete"] else "[red]DIFFERS[/]"
        console.print(f"trading date {proof['trading_date']}: {verdict}")
    for problem in seen["problems"]:
        console.print(f"[red]![/] {escape(problem)}")
    if not seen["problems"]:
        console.print("[green]all is well[/]")
