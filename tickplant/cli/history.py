"""The commands about the historical database: init, verify, load."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tickplant import config, screen, terminal
from tickplant.config import Config
from tickplant.hdb.loader import connect, lock
from tickplant.hdb.proof import Verdict, verify
from tickplant.hdb.rebuild import rebuild_and_prove
from tickplant.hdb.store import History
from tickplant.registry import RegistryReader


@click.group()
def hdb() -> None:
    """The historical database in PostgreSQL."""


@contextmanager
def _history(settings: Config) -> Iterator[History]:
    """The plant's history, while it is needed."""
    history, server = connect(settings)
    try:
        yield history
    finally:
        history.close()
        if server:
            server.stop()


@hdb.command("init")
@click.pass_obj
def hdb_init(path: Path | None) -> None:
    """Make the tables and views; may be run again and again."""
    settings = config.load(path)
    with _history(settings) as history:
        history.init()
        terminal.echo(f"the tables of {settings.plant.name} are there")


@hdb.command("verify")
@click.argument("date", type=int, metavar="YYYYMMDD")
@click.pass_context
def hdb_verify(context: click.Context, date: int) -> None:
    """Prove a trading date again; exit status 1 if it is not complete.

    A date whose journal has been deleted is compared with what was proven when it was there.
    """
    settings = config.load(context.obj)
    with _history(settings) as history:
        verdict = verify(settings, history, RegistryReader(settings.registry_dir), date)
    _say(context, verdict)


@hdb.command("load")
@click.option("--date", type=int, metavar="YYYYMMDD", required=True, help="The trading date.")
@click.pass_context
def hdb_load(context: click.Context, date: int) -> None:
    """Rebuild a sealed trading date in PostgreSQL from its journal, and prove it.

    Whatever is there of the date is replaced, at once: its readers see it as it was, or as it is then. The
    plant's hdb must not be running; the journal keeps the rows meanwhile. Exit status 1 if the date is not
    complete then.
    """
    settings = config.load(context.obj)
    held = lock(settings)
    try:
        with _history(settings) as history, screen.CleanConsole(stderr=True).status("") as shown:
            history.init()
            for step in rebuild_and_prove(settings, history, date):
                if isinstance(step, Verdict):
                    verdict = step
                else:
                    shown.update(step)
    finally:
        held.release()
    _say(context, verdict)


def _say(context: click.Context, verdict: Verdict) -> None:
    terminal.echo(f"{verdict.trading_date}: {verdict.summary()}")
    context.exit(0 if verdict.complete else 1)
