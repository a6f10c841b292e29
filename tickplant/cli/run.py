"""The commands that run things: demo, up, run."""

import importlib
import signal
from pathlib import Path

import click

from tickplant import config, service
from tickplant.supervisor import Supervisor

ROLES = {
    "tickerplant": ("tickplant.tickerplant:TickerPlant", "The ticker plant: the one writer."),
    "publisher": ("tickplant.publisher:Publisher", "The publisher: serves readers on other hosts."),
    "hdb": ("tickplant.hdb.loader:Loader", "The hdb: loads PostgreSQL and proves each day."),
}


@click.command()
@click.argument("captures", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seconds", type=click.FloatRange(min=0.5), help="How long simulated venues run [8].")
@click.option("--json", "as_json", is_flag=True, help="No screen; the last line is one JSON object.")
@click.option("--date", default="", metavar="YYYY-MM-DD", help="Date of captures whose names do not tell.")
@click.pass_context
def demo(
    context: click.Context, captures: tuple[Path, ...], seconds: float | None, as_json: bool, date: str
) -> None:
    """Run a throw-away plant, show what flows, roll the day and prove it.

    Without CAPTURES two simulated venues publish; with them, those market-data files do. Exit status 0 only
    if the day is complete everywhere.
    """
    from tickplant.demo.run import demo as run_demo

    context.exit(run_demo(captures, seconds, as_json, date))


@click.command()
@click.pass_obj
def up(path: Path | None) -> None:
    """Run the whole plant of the configuration in the foreground; restart what dies."""
    settings = config.load(path)
    supervisor = Supervisor(settings, settings.path)
    supervisor.add_plant()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    service.stop_signals(stop)
    try:
        while not stopped:
            supervisor.turn()
            signal.sigtimedwait([], 0.05)
    finally:
        supervisor.stop()


@click.group()
def run() -> None:
    """Run one process of the plant in the foreground (what the systemd units do)."""
    service.allow_descriptors()


def _role(name: str) -> None:
    where, about = ROLES[name]

    @run.command(name, help=about)
    @click.pass_obj
    def command(path: Path | None) -> None:
        settings = config.load(path)
        module, made = where.split(":")
        role = getattr(importlib.import_module(module), made)
        service.run(role(settings), name, settings.status_dir)


for _name in ROLES:
    _role(_name)


@run.command("feed")
@click.argument("name")
@click.pass_obj
def run_feed(path: Path | None, name: str) -> None:
    """Run the feed handler NAME of the configuration."""
    from tickplant.feed.handlers import run_feed as run_handler

    settings = config.load(path)
    run_handler(settings, name)
