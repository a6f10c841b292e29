"""The root command and the commands that run things."""

import logging
import signal
from pathlib import Path
from typing import Any

import click

from tickplant import __version__, config, service
from tickplant.cli import inspect, journals
from tickplant.demo.run import demo as run_demo
from tickplant.feed.handlers import prepare
from tickplant.hdb.loader import Loader
from tickplant.publisher import Publisher
from tickplant.supervisor import Supervisor
from tickplant.tickerplant import TickerPlant

ROLES: dict[str, Any] = {"tickerplant": TickerPlant, "publisher": Publisher, "hdb": Loader}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "-c", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help=f"Configuration; else ${config.ENVIRONMENT}, else {config.SYSTEM_FILE}.")  # fmt: skip
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context, path: Path | None, verbose: bool) -> None:
    """tickplant: every tick journaled, in shared memory and in PostgreSQL, and proven to be.

    Shell completion: eval "$(_TICKPLANT_COMPLETE=bash_source tickplant)" (or zsh_source, fish_source).
    """
    service.die_with_parent()
    context.obj = path
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )


@cli.command()
@click.argument("captures", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seconds", type=click.FloatRange(min=0.5), help="How long simulated venues run [8].")
@click.option("--json", "as_json", is_flag=True, help="No screen; the last line is one JSON object.")
@click.pass_context
def demo(context: click.Context, captures: tuple[Path, ...], seconds: float | None, as_json: bool) -> None:
    """Run a throw-away plant, show what flows, roll the day and prove it.

    Without CAPTURES two simulated venues publish; with them, those market-data files do. Exit status 0 only
    if the day is complete everywhere.
    """
    context.exit(run_demo(captures, seconds, as_json))


@cli.command()
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


@cli.group()
def run() -> None:
    """Run one process of the plant in the foreground (what the systemd units do)."""


def _role(name: str) -> None:
    @run.command(name, help=ROLES[name].__doc__.split(";")[0])
    @click.pass_obj
    def command(path: Path | None) -> None:
        settings = config.load(path)
        service.run(ROLES[name](settings), name, settings.status_dir)


for _name in ROLES:
    _role(_name)


@run.command("feed")
@click.argument("name")
@click.pass_obj
def run_feed(path: Path | None, name: str) -> None:
    """Run the feed handler NAME of the configuration."""
    settings = config.load(path)
    feed, handler = prepare(settings, name)
    pulse = service.Pulse(
        f"feed-{name}", settings.status_dir, lambda: {"rows_published": feed.rows_published}
    )
    service.stop_signals(feed.stopping.set)
    with feed:
        feed.beat = pulse.beat
        service.notify("READY=1")
        handler()
        feed.beat = lambda: None
        service.notify("STOPPING=1")
        pulse.write("draining")
        feed.drained(30.0)
    pulse.write("finished")


inspect.register(cli)
journals.register(cli)
