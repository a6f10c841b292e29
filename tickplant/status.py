"""How a plant is, seen from outside: what each process says, what is wrong, and what to do about it."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.markup import escape

from tickplant import faults, roster, screen, segment, sessions
from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.errors import ConfigError, NotRunning, TickplantError

STALE_NS = 5 * SECOND_NS
_FOREIGN_SHOWN = 3
_STATUS_BYTES = 1 << 26
SILENT_S = 5
"""A feed that has been silent for so long is worth a line."""
UNREADABLE = "can't be looked at"
OPEN, CLOSED, STALE = "open", "closed", "stale"


def look(config: Config) -> dict[str, Any]:
    """All about a plant as plain data: `processes`, `trading_date`, `rows`, `markets`, `problems`."""
    processes = {p.stem: _read(p) for p in sorted(config.status_dir.glob("*.json"))}
    try:
        state = Control.attach(config.plant.name).state()
    except NotRunning:
        state = "not running"
    except TickplantError as e:  # what is there can't be read: it may run well
        state = f"{UNREADABLE}: {e}"
    plant = processes.get("tickerplant", {})
    expected = ["tickerplant", "publisher", "hdb", *(f"feed-{n}" for n in config.feeds)]
    problems = [] if state == "running" else [_plant_problem(config, state)]
    for name in expected:
        problems += _problems(name, processes.get(name))
        problems += _again(config, name, processes.get(name, {}))
    markets = {}
    for name in config.feeds:
        markets[name], problem = market(config, name, processes.get(f"feed-{name}", {}))
        problems += [problem] if problem else []
    problems += _foreign_problems(config.plant.name)
    problems += [_proof_problem(p) for p in proofs(config)[-5:] if not p["complete"]]
    for name, feed in _map(plant.get("feeds")).items():
        if _map(feed).get("gaps"):
            problems.append(f"feed {name} lost rows {feed['gaps']} times; see: tickplant tail event")
    return {
        "plant": config.plant.name,
        "state": state,
        "trading_date": plant.get("trading_date"),
        "rows": _map(plant.get("rows")),
        "processes": processes,
        "markets": markets,
        "proofs": proofs(config)[-5:],
        "removed_feeds": removed_feeds(config),
        "problems": problems,
    }


def market(config: Config, name: str, said: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """A venue's `state`, `trading_date`, `next_open_ns`, its feed's `silent_s`; the problem, if any.

    The state is open, closed, or stale: open, and the feed has published nothing for longer than it may.
    """
    feed, at_ns, at_monotonic_ns = config.feed(name), now_ns(), monotonic_ns()
    try:
        venue = sessions.sessions(feed.calendar, feed.hours)
        since, opens = venue.open_since(at_ns), venue.next_open(at_ns)
        seen: dict[str, Any] = {
            "state": CLOSED if since is None else OPEN,
            "trading_date": str(venue.trading_date(at_ns)),
            "next_open_ns": opens,
            "silent_s": None,
        }
    except ConfigError as e:
        return {"state": None}, f"feeds.{name}.calendar: {e}"
    last = said.get("last_row_monotonic_ns")
    if last is None or said.get("state") != "running":
        return seen, None
    silent_ns = at_monotonic_ns - int(last)
    seen["silent_s"] = round(silent_ns / SECOND_NS, 1)
    # What the venue did not say before it opened, or in its break, it could not say.
    due_ns = min(silent_ns, at_ns - since) if since is not None else 0
    if not feed.stale_after_s or due_ns <= feed.stale_after_s * SECOND_NS:
        return seen, None
    seen["state"] = STALE
    quiet = timedelta(seconds=silent_ns // SECOND_NS)
    return seen, (
        f"feed {name} has heard nothing of its market for {quiet}, and its venue is open ({feed.calendar}): "
        "see its log, and the venue's status"
    )


def proofs(config: Config) -> list[dict[str, Any]]:
    """The stored proofs, in short, by date."""
    found = []
    for path in sorted((config.plant.data_dir / "proofs").glob("[0-9]" * 8 + ".json")):
        proof = _read(path)
        wanted = ("trading_date", "complete", "declared_gaps", "missing", "refused", "summary")
        found.append({"trading_date": int(path.stem)} | {k: proof.get(k) for k in wanted if k in proof})
        found[-1].setdefault("complete", False)
        found[-1].setdefault("summary", "complete" if found[-1]["complete"] else "its proof can't be read")
    return found


def removed_feeds(config: Config) -> list[str]:
    """Feeds that were taken out of the configuration; their rows stay."""
    with contextlib.suppress(ConfigError):  # the ticker plant says it
        return sorted(set(roster.read(config.plant.data_dir).values()) - config.feeds.keys())
    return []


def history_problem(config: Config) -> str | None:
    """What keeps history from being written, and what to do; None if nothing does."""
    said = _read(config.status_dir / "hdb.json")
    return "; ".join(_problems("hdb", said)) or None


def _proof_problem(proof: dict[str, Any]) -> str:
    date = proof["trading_date"]
    lift = "lift what refuses the rows (psql: \\d), then " if proof.get("refused") else ""
    rebuild = f"rebuild it in PostgreSQL: tickplant hdb load --date {date}"
    return f"trading date {date}: {proof['summary']}; {lift}{rebuild}"


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(faults.contents(path, _STATUS_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _again(config: Config, name: str, said: dict[str, Any]) -> list[str]:
    """What has ended a process a moment ago, though it was started again."""
    why = None if said.get("state") == "failed" else faults.recent(config.status_dir, name)
    return [f"{name} failed a moment ago: {why}"] if why else []


def _map(said: Any) -> dict[str, Any]:
    """What should be a map, and comes from a file."""
    return said if isinstance(said, dict) else {}


def _foreign_problems(plant: str) -> list[str]:
    """What others have put where the plant's shared memory would be."""
    found = segment.foreign(plant)
    said = [
        f"{segment.described(path)}; the plant passes it by. Its owner or root removes it: rm -r '{path}'"
        for path in found[:_FOREIGN_SHOWN]
    ]
    if more := len(found) - len(said):
        said.append(f"there are {more:,} more of these: ls -la {segment.SHM}/tp.{plant}.*")
    return said


def _plant_problem(config: Config, state: str) -> str:
    if state.startswith(UNREADABLE):
        return f"the ticker plant {state}; run this as the plant's user, or join its group"
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
    if not 0 <= _age_ns(said) <= STALE_NS:  # before the boot: of another process that had this pid
        problems.append(f"{name} has said nothing for more than 5 s: it hangs")
    for key in ("waiting", "degraded"):
        if said.get(key):
            problems.append(f"{name}: {said[key]}{_since(said)}")
    return problems + [f"{name}: {each}" for each in said.get("problems") or ()]


def _age_ns(said: dict[str, Any]) -> int:
    """How long ago a process has said this, whatever has been done to the clock meanwhile."""
    return monotonic_ns() - int(said.get("written_monotonic_ns", 0))


def _since(said: dict[str, Any]) -> str:
    """For how long a process has been waiting, if it says so."""
    since = said.get("waiting_since_ns")
    if not since:
        return ""
    behind = said.get("behind_bytes")
    more = f", {behind:,} bytes behind" if behind else ""
    return f" (for {timedelta(seconds=(now_ns() - since) // SECOND_NS)}{more}; the journal keeps the rows)"


def _market(seen: dict[str, Any]) -> str:
    """What people want to know of a venue: nothing while it is open and its feed has not long been silent."""
    if seen["state"] == CLOSED:
        opens = datetime.fromtimestamp(seen["next_open_ns"] // SECOND_NS, UTC)
        return f"closed until {opens:%Y-%m-%d %H:%M}Z"
    silent_s = seen.get("silent_s") or 0
    return f"{seen['state']}, silent for {silent_s:,.0f} s" if seen["state"] and silent_s >= SILENT_S else ""


def _flow(said: dict[str, Any]) -> str:
    """How much a process handles: rows a second where it counts rows, else frames or bytes."""
    per_s = said.get("per_s", {})
    if not per_s or said.get("state") != "running":
        return ""
    if "loaded_bytes" in per_s:
        return f"{per_s['loaded_bytes'] / 1e6:,.1f} MB/s"
    if "frames_sent" in per_s:
        return f"{per_s['frames_sent']:,.0f} frames/s"
    return f"{sum(per_s.values()):,.0f} rows/s"


def _behind(said: dict[str, Any]) -> str:
    """How far a reader of the journal is behind what is written; empty for what reads none."""
    behind = said.get("behind_bytes")
    return "" if behind is None else "none" if not behind else f"{behind / 1e6:,.3f} MB"


def show(seen: dict[str, Any], console: screen.CleanConsole) -> None:
    """One screen for operators."""
    console.print(
        f"plant [bold]{seen['plant']}[/] {seen['state']}, trading date {seen['trading_date'] or '-'}"
    )
    numbers = ("flow", "behind", "memory", "pid")
    processes = screen.table("process", "state", *numbers, right=numbers)
    for name, said in seen["processes"].items():
        memory = f"{said.get('memory_bytes', 0) / 1e6:,.0f} MB"
        pid = str(said.get("pid"))
        processes.add_row(name, str(said.get("state")), _flow(said), _behind(said), memory, pid)
    console.print(processes)
    rows = screen.table("table", "rows today", "rows/s", right=("rows today", "rows/s"))
    per_s = seen["processes"].get("tickerplant", {}).get("per_s", {})
    for name, count in seen["rows"].items():
        rows.add_row(name, f"{count:,}", f"{per_s.get(name, 0):,.0f}")
    console.print(rows)
    console.print()
    for name, market in seen["markets"].items():
        if about := _market(market):
            console.print(f"feed {name}: {about}")
    for proof in seen["proofs"]:
        style = "none" if proof["complete"] else "red"
        said = f"trading date {proof['trading_date']}: [{style}]{escape(proof['summary'])}[/]"
        console.print(said, soft_wrap=True)
    if removed := seen["removed_feeds"]:
        console.print(
            f"not configured any more, their rows stay: {escape(', '.join(removed))}", soft_wrap=True
        )
    if doing := seen["processes"].get("hdb", {}).get("doing"):
        console.print(f"hdb: {escape(doing)}")
    for problem in seen["problems"]:
        console.print(f"[red]![/] {escape(problem)}", soft_wrap=True)  # with commands to copy
    if not seen["problems"]:
        console.print("[green]all is well[/]")
