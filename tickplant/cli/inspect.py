"""The commands that look: status, config; and eod, the one that tells the plant something."""

import json
import time
from typing import Any

import click

from tickplant import config as configuration
from tickplant import screen, status, terminal
from tickplant.cli.dates import TRADING_DATE
from tickplant.eod import end_of_day, open_date
from tickplant.errors import ConfigError


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def status_command(context: click.Context, as_json: bool) -> None:
    """What runs, what flows, what is wrong and what to do. Exit status 1 if something is wrong."""
    seen = status.look(configuration.load(context.obj))
    if as_json:
        terminal.echo(json.dumps(seen))
    else:
        status.show(seen, screen.CleanConsole())
    context.exit(1 if seen["problems"] else 0)


@click.command()
@click.option("--stop", is_flag=True, help="End the ticker plant too; its next start begins the next date.")
@click.option("--date", type=TRADING_DATE, default=None, help="This one, if it is still open.")
@click.option("--wait", is_flag=True, help="Wait for its proof; exit status 1 if it is not complete.")
@click.pass_context
def eod(context: click.Context, stop: bool, date: int | None, wait: bool) -> None:
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
        terminal.echo(f"{ended}; {now} is open, and is yet to come: to end that, tickplant eod --date {now}")
    else:
        reply = end_of_day(settings, stop=stop, date=date or 0)
        ended = "is ended already" if date and date < now else "sealed"
        date = int(reply["sealed"])
        then = "the ticker plant has stopped" if stop else f"the trading date is now {reply['trading_date']}"
        terminal.echo(f"sealed {date}; {then}" if ended == "sealed" else f"{date} {ended}; {now} is open")
    if wait and date:
        proof = _proof(settings, date)
        terminal.echo(f"{date}: {proof['summary']}")
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
            terminal.echo(said or "the hdb goes on", err=True)
        time.sleep(0.1)


@click.group()
def config() -> None:
    """The configuration."""


@config.command("check")
@click.pass_context
def config_check(context: click.Context) -> None:
    """Read the configuration as the plant does, and try what can be tried without starting it.

    Addresses, folders, /dev/shm, handlers and their options, calendars, keys, PostgreSQL's DSN: with the
    rights of the user who runs it, so run it as the plant's. Exit status 78 if something is wrong.
    """
    from tickplant import preflight  # handlers, and what they import

    settings = configuration.load(context.obj)
    found = preflight.findings(settings)
    for line in found:
        terminal.echo(f"! {line}", err=True)
    if found:
        terminal.echo(f"{settings.path}: {len(found)} to be mended", err=True)
        context.exit(ConfigError.exit_code)
    terminal.echo(f"{settings.path}: good; plant {settings.plant.name}, {len(settings.feeds)} feeds")
    for table in settings.schema:
        terminal.echo(f"  table {table.number:3} {table.name:12} {table.row_size:4} bytes a row")
    for hint in preflight.hints():
        terminal.echo(f"hint: {hint}", err=True)
