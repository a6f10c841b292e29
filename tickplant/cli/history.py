"""The commands about the historical database: init, verify, load, psql, dsn."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tickplant import config, screen, terminal
from tickplant.cli.dates import TRADING_DATE
from tickplant.config import Config
from tickplant.errors import AlreadyRunning, HistoryError
from tickplant.hdb import reach, requests
from tickplant.hdb.loader import connect, lock
from tickplant.hdb.proof import Verdict, verifying
from tickplant.hdb.rebuild import rebuild_and_prove
from tickplant.hdb.store import History
from tickplant.registry import RegistryReader

WAIT_S = 0.1


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
@click.argument("date", type=TRADING_DATE)
@click.pass_context
def hdb_verify(context: click.Context, date: int) -> None:
    """Prove a trading date again; exit status 1 if it is not complete.

    A date whose journal has been deleted is compared with what was proven when it was there.
    """
    settings = config.load(context.obj)
    with _history(settings) as history, screen.CleanConsole(stderr=True).status("") as shown:
        steps = verifying(settings, history, RegistryReader(settings.registry_dir), date)
        verdict = _shown(steps, shown.update)
    _say(context, verdict)


@hdb.command("load")
@click.option("--date", type=TRADING_DATE, required=True, help="The trading date.")
@click.pass_context
def hdb_load(context: click.Context, date: int) -> None:
    """Rebuild a sealed trading date in PostgreSQL from its journal, and prove it.

    Whatever is there of the date is replaced, at once: its readers see it as it was, or as it is then. The
    plant's hdb does it if it runs, and loads the open date on afterwards. Exit status 1 if the date is not
    complete then.
    """
    _say(context, loaded(config.load(context.obj), date))


def loaded(settings: Config, date: int) -> dict[str, Any]:
    """Have a date rebuilt, by the hdb that runs or here; what the proof says of it, in short."""
    at_ns = requests.ask(settings, date)
    with screen.CleanConsole(stderr=True).status("") as shown:
        while requests.is_waiting(settings, date):
            try:
                held = lock(settings)
            except AlreadyRunning:
                shown.update(_doing(settings))
                time.sleep(WAIT_S)
                continue
            try:
                verdict = _rebuilt(settings, date, at_ns, shown.update)
            finally:
                held.release()
            return _plain(verdict)
    if error := requests.failure(settings, date):
        raise HistoryError(error)
    proof = json.loads((settings.plant.data_dir / "proofs" / f"{date}.json").read_text())
    return {name: proof[name] for name in ("trading_date", "complete", "summary")}


def _rebuilt(settings: Config, date: int, at_ns: int, show: Callable[[str], None]) -> Verdict:
    """Rebuild a date in this process, which is the one that loads. The request is done, or given up."""
    try:
        with _history(settings) as history:
            history.init()
            verdict = _shown(rebuild_and_prove(settings, history, date), show)
    finally:
        requests.done(settings, date, at_ns)
    return verdict


def _doing(settings: Config) -> str:
    """What the running hdb says that it is at."""
    try:
        said = json.loads((settings.status_dir / "hdb.json").read_text())
    except (OSError, ValueError):
        return "the plant's hdb is asked"
    return str(said.get("waiting") or said.get("doing") or "the plant's hdb is asked")


def _shown(steps: Iterator[str | Verdict], show: Callable[[str], None]) -> Verdict:
    """Go through steps, and show them; the verdict, which is the last."""
    for step in steps:
        if isinstance(step, Verdict):
            return step
        show(step)
    raise AssertionError("steps without a verdict")


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "trading_date": verdict.trading_date,
        "complete": verdict.complete,
        "summary": verdict.summary(),
    }


def _say(context: click.Context, verdict: Verdict | dict[str, Any]) -> None:
    said = _plain(verdict) if isinstance(verdict, Verdict) else verdict
    terminal.echo(f"{said['trading_date']}: {said['summary']}")
    context.exit(0 if said["complete"] else 1)


@hdb.command("dsn")
@click.option("--read-only", is_flag=True, help="Of the role that may only read.")
@click.option("--about", is_flag=True, help="Say on stderr what server it is, and how much it may take.")
@click.pass_obj
def hdb_dsn(path: Path | None, read_only: bool, about: bool) -> None:
    """Print how programs connect to the history: a DSN of libpq (psycopg, psql, pandas with SQLAlchemy, ...).

    A server of the plant's own runs while its hdb runs.
    """
    settings = config.load(path)
    terminal.data(reach.dsn(settings, read_only=read_only))
    if about:
        terminal.echo(reach.about(settings), err=True)


@hdb.command("psql", context_settings={"ignore_unknown_options": True})
@click.option("--read-only", is_flag=True, help="As the role that may only read.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def hdb_psql(path: Path | None, read_only: bool, arguments: tuple[str, ...]) -> None:
    """Start psql in the plant's history; what follows goes to psql, such as -c 'SELECT ...'.

    Tables and views are found without the schema's name.
    """
    settings = config.load(path)
    program = reach.psql(settings)
    dsn = reach.dsn(settings, read_only=read_only)
    options = f"{os.environ.get('PGOPTIONS', '')} -c search_path={reach.path(settings)}"
    os.execve(program, ["psql", "-d", dsn, *arguments], {**os.environ, "PGOPTIONS": options.strip()})
