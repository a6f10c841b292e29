"""The commands that look: status, tail, decode, config; and eod, the one that tells the plant something."""

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tickplant import config as configuration
from tickplant import screen, sessions, status
from tickplant.eod import end_of_day, open_date
from tickplant.feed.decode import decode as decode_capture
from tickplant.listing import day_text, time_text


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
        ends = (t["first_ts_event"], t["last_ts_event"])
        times = [f"{day_text(at)}T{time_text(at)}Z" if at else "" for at in ends]
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
