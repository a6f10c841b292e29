"""The commands that look: status, tail, decode, config; and eod, the one that tells the plant something."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import numpy as np
from rich.console import Console

from tickplant import config as configuration
from tickplant import local, screen, sessions, status
from tickplant.batch import Batch, Notice, Skipped
from tickplant.eod import end_of_day, open_date
from tickplant.feed.decode import decode as decode_capture
from tickplant.follower import Follower
from tickplant.instruments import Instruments
from tickplant.subscriber import POLICIES, Policy, Subscription, subscribe


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def status_command(context: click.Context, as_json: bool) -> None:
    """What runs, what flows, what is wrong and what to do. Exit status 1 if something is wrong."""
    seen = status.look(configuration.load(context.obj))
    if as_json:
        click.echo(json.dumps(seen))
    else:
        status.show(seen, Console())
    context.exit(1 if seen["problems"] else 0)


@click.command()
@click.argument("table")
@click.option("-s", "--symbol", metavar="VENUE:SYMBOL", help="Only this instrument.")
@click.option("-n", "--rows", type=click.IntRange(min=0), default=10, show_default=True,
              help="How many of the last rows.")  # fmt: skip
@click.option("--follow", "-f", is_flag=True, help="Go on with new rows.")
@click.option("--remote", metavar="ENDPOINT", help="From a publisher's request endpoint, not shared memory.")
@click.option("--policy", type=click.Choice(POLICIES), default="catch-up", show_default=True,
              help="With --remote: what to do when rows come faster than they are printed.")  # fmt: skip
@click.option("--keys", metavar="FILE", help="With --remote: this reader's NAME.key_secret.")
@click.option(
    "--server-key", metavar="KEY", help="With --remote: the plant's public key, if FILE has another."
)
@click.pass_obj
def tail(
    path: Path | None, table: str, symbol: str | None, rows: int, follow: bool, remote: str | None,
    policy: Policy, keys: str | None, server_key: str | None,
) -> None:  # fmt: skip
    """Print the last rows of TABLE.

    Beside them, on stderr: rows skipped, rows that a feed lost, and when the ticker plant is not running.
    """
    if remote:
        symbols, start = [symbol] if symbol else None, {table: -rows} if rows else None
        subscription = subscribe(
            remote, [table], symbols, start, policy=policy, keys=keys, server_key=server_key
        )
        _tail_remote(subscription, rows, follow)
        return
    plant = local.connect(configuration.load(path))
    seen = plant.table(table)
    there = len(seen)
    first = max(0, there - rows)
    if symbol:
        _print(seen.rows(symbol, last=rows), plant.instruments)
    else:
        _print(
            Batch.of(seen.packed(first, there - first), table, seen.trading_date, first), plant.instruments
        )
    if follow:
        _follow_local(plant, seen.follow(there), symbol)


def _follow_local(plant: local.Plant, batches: Follower, symbol: str | None) -> None:
    state = "running"
    while True:
        batch = batches.next(1.0)
        if batch is not None:
            wanted = batch.only(batch["instrument"] == plant.instruments.number(symbol)) if symbol else batch
            _print(wanted, plant.instruments)
        else:
            state = _say_state(state, plant.state, plant.idle)


def _tail_remote(subscription: Subscription, rows: int, follow: bool) -> None:
    printed, state = 0, "running"
    try:
        while follow or printed < rows:
            batch = subscription.next(1.0)
            if batch is not None:
                for notice in batch.notices:
                    click.echo(_told(notice, batch.table), err=True)
                if batch.passed_over:
                    click.echo(f"{batch.passed_over:,} rows of {batch.table} passed over", err=True)
                _print(batch, subscription.instruments)
                printed += len(batch)
            elif not follow:
                return
            else:
                state = _say_state(state, subscription.state, subscription.idle)
    finally:
        subscription.close()


def _say_state(before: str, state: str, idle: float | None) -> str:
    """Say once, when it changes, how the ticker plant is."""
    if state != before:
        ago = "" if idle is None or state == "running" else f"; its last turn was {idle:.1f} s ago"
        what = (
            "no heartbeat of the publisher; the ticker plant is"
            if state == "unknown"
            else "the ticker plant is"
        )
        click.echo(f"{what} {state}{ago}", err=True)
    return state


def _told(notice: Notice, table: str) -> str:
    if isinstance(notice, Skipped):
        rows = f"rows {notice.first_row:,} to {notice.last_row:,}"
        return f"skipped {rows} of {notice.table} on {notice.trading_date}"
    lost = f"rows {notice.first:,} to {notice.last:,} of its session {notice.session}"
    return f"feed {notice.feed} lost {lost} on {notice.trading_date}, some perhaps of {table}: {notice.text}"


def _print(rows: Batch, instruments: Instruments) -> None:
    names = rows.dtype.names or ()
    for i, row in enumerate(rows):
        number = int(rows.numbers[i]) if rows.numbers is not None else rows.first_row + i
        values = {"row": number, "instrument": instruments[int(row["instrument"])]}
        values |= {n: _text(n, row[n]) for n in names if n not in ("instrument", "ts_recv", "ts_plant")}
        click.echo("  ".join(f"{k}={v}" for k, v in values.items() if v != ""))


def _text(name: str, value: Any) -> str:
    if name == "ts_event":
        at = datetime.fromtimestamp(int(value) // 1_000_000_000, ZoneInfo("UTC"))
        return f"{at:%Y-%m-%dT%H:%M:%S}.{int(value) % 1_000_000_000:09d}Z"
    if isinstance(value, np.bytes_):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, np.floating):
        return repr(float(value))
    return str(value)


@click.command()
@click.argument("capture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--date", metavar="YYYY-MM-DD", help="Trading date of the capture, if its name does not tell.")
@click.option("--venue", help="Venue of its instruments.")
@click.option("--mapping", metavar="NAME|FILE", help="What the columns of a CSV or Parquet file mean.")
@click.option("--schema", type=click.Path(exists=True, dir_okay=False), help="Its venue's SBE schema (XML).")
@click.option("--protocol", metavar="NAME|FILE", help="What the packets of a capture mean.")
@click.option("--instruments", metavar="FILE", help="What numbers of instruments mean: id, symbol, decimals.")
@click.pass_context
def decode(
    context: click.Context, capture: Path, as_json: bool, date: str | None, venue: str | None,
    mapping: str | None, schema: str | None, protocol: str | None, instruments: str | None,
) -> None:  # fmt: skip
    """Decode CAPTURE and say what is in it; exit status 1 if any of it is damaged or malformed."""
    given = {"date": date, "venue": venue, "mapping": mapping, "schema": schema,
             "protocol": protocol, "instruments": instruments}  # fmt: skip
    options = {k: v for k, v in given.items() if v}
    found = decode_capture(capture, **options)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show_decoded(found)
    context.exit(1 if found["malformed"] or found["damaged"] else 0)


def _show_decoded(found: dict[str, Any]) -> None:
    console = Console()
    about = f"{found['capture']}: {found['format']}, {found['malformed']} malformed"
    console.print(about, markup=False, soft_wrap=True)
    for account in ("messages", "ignored"):
        if found[account]:
            counts = "  ".join(f"{k} {v:,}" for k, v in sorted(found[account].items()))
            console.print(f"{account}: {counts}", markup=False)
    numbers = ("rows", "sum of sizes", "notional")
    shown = screen.table("table", *numbers, "first and last event", right=numbers)
    for name, t in found["tables"].items():
        times = [_text("ts_event", t[k]) if t[k] else "" for k in ("first_ts_event", "last_ts_event")]
        sums = [f"{t[k]:,.2f}" if t[k] is not None else "" for k in ("size_sum", "notional_sum")]
        shown.add_row(name, f"{t['rows']:,}", *sums, "\n".join(times))
    console.print(shown)
    console.print()
    for event in found["events"]:
        said = f"{event['kind']}: bytes {event['first']:,} to {event['last']:,}: {event['text']}"
        console.print(said, markup=False, soft_wrap=True)


@click.command()
@click.option("--stop", is_flag=True, help="End the ticker plant too; its next start begins the next date.")
@click.option("--date", type=int, default=0, metavar="YYYYMMDD", help="This one, if it is still open.")
@click.option("--wait", is_flag=True, help="Wait for its proof; exit status 1 if it is not complete.")
@click.pass_context
def eod(context: click.Context, stop: bool, date: int, wait: bool) -> None:
    """End the trading date now: seal it and begin the next; the hdb then proves it.

    May be run again, or by several at once: a date that is ended already stays as it is.

    To change tables: edit the configuration, `tickplant eod --stop`, and when the date is proven (tickplant
    status) start everything again.
    """
    settings = configuration.load(context.obj)
    now, early = open_date(settings)
    if early and not stop and not date:
        date = max(
            (int(p.name) for p in settings.journal_dir.glob("[0-9]" * 8) if int(p.name) < now), default=0
        )
        ended = f"{date} is ended already" if date else "no date is to be ended"
        click.echo(f"{ended}; {now} is open, and is yet to come: to end that, tickplant eod --date {now}")
    else:
        reply = end_of_day(settings, stop=stop, date=date)
        date = reply["sealed"]
        then = "the ticker plant has stopped" if stop else f"the trading date is now {reply['trading_date']}"
        click.echo(f"sealed {date}; {then}")
    if wait and date:
        proof = _proof(settings, date)
        click.echo(f"{date}: {proof['summary']}")
        context.exit(0 if proof["complete"] else 1)


def _proof(settings: configuration.Config, date: int) -> dict[str, Any]:
    """The proof of a date, once there is one; says meanwhile what keeps it from being made."""
    said = None
    while True:
        for proof in status.proofs(settings):
            if proof["trading_date"] == date:
                return proof
        if (problem := status.history_problem(settings)) != said:
            said = problem
            click.echo(said or "the hdb goes on", err=True)
        time.sleep(0.1)


@click.group()
def config() -> None:
    """The configuration."""


@config.command("check")
@click.pass_obj
def config_check(path: Path | None) -> None:
    """Read the configuration as the plant does and say what it comes to."""
    settings = configuration.load(path)
    for feed in settings.feeds.values():
        sessions.sessions(feed.calendar, feed.hours)
    click.echo(f"{settings.path}: good; plant {settings.plant.name}, {len(settings.feeds)} feeds")
    for table in settings.schema:
        click.echo(f"  table {table.number:3} {table.name:12} {table.row_size:4} bytes a row")
