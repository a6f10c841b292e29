"""The command that loads captures of past days."""

from pathlib import Path

import click

from tickplant import backfill, config, screen, terminal
from tickplant.cli.dates import TRADING_DATE
from tickplant.cli.history import loaded
from tickplant.clock import as_date
from tickplant.config import Config
from tickplant.errors import ConfigError


@click.command()
@click.argument(
    "captures", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--feed", help="Feed of the configuration whose number the rows bear.")
@click.option("--date", type=TRADING_DATE, help="Date of a capture whose file and name do not tell.")
@click.option("--replace", is_flag=True, help="Also in place of dates that were live.")
@click.option("--venue", help="Venue of the instruments.")
@click.option("--mapping", metavar="NAME|FILE", help="What the columns of a CSV or Parquet file mean.")
@click.option("--schema", type=click.Path(exists=True, dir_okay=False), help="Its venue's SBE schema (XML).")
@click.option("--protocol", metavar="NAME|FILE", help="What the packets of a capture mean.")
@click.option("--instruments", metavar="FILE", help="What numbers of instruments mean: id, symbol, decimals.")
@click.pass_context
def load(
    context: click.Context, captures: tuple[Path, ...], feed: str | None, date: int | None, replace: bool,
    venue: str | None, mapping: str | None, schema: str | None, protocol: str | None, instruments: str | None,
) -> None:  # fmt: skip
    """Load captures of past days into their own trading dates: journal, PostgreSQL, proof.

    Each row goes into the trading date of its time, beside a plant that runs or without one. Loading a
    capture again replaces what it had brought, at once. Exit status 1 if a date is not complete then, or a
    capture is damaged or has malformed messages.
    """
    settings = config.load(context.obj)
    given = {"venue": venue, "mapping": mapping, "schema": schema, "protocol": protocol,
             "instruments": instruments, "date": as_date(date) if date else None}  # fmt: skip
    options = {name: value for name, value in given.items() if value}
    with screen.CleanConsole(stderr=True).status("") as shown:
        done = backfill.load(
            settings, _feed(settings, feed), captures, replace=replace, show=shown.update, **options
        )
    good = not done.damaged and not done.malformed
    for path in done.damaged:
        terminal.echo(f"{path} is damaged: what is before the damage is loaded", err=True)
    if done.malformed:
        terminal.echo(f"{done.malformed:,} malformed messages; see: tickplant decode", err=True)
    for day, rows in done.rows.items():
        terminal.echo(f"{day}: {', '.join(f'{name} {count:,}' for name, count in rows.items())} journaled")
    for day in done.rows:
        proof = loaded(settings, day)
        terminal.echo(f"{day}: {proof['summary']}")
        good = good and proof["complete"]
    context.exit(0 if good else 1)


def _feed(settings: Config, name: str | None) -> str:
    """The feed, as given or the only one."""
    if name is not None:
        return name
    if len(settings.feeds) != 1:
        there = ", ".join(settings.feeds) or "none yet, add one: [feeds.history] id = 9"
        raise ConfigError(f"say with --feed whose number the rows bear; feeds of {settings.path}: {there}")
    return next(iter(settings.feeds))
