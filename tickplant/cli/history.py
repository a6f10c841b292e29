"""The commands about the historical database: init, verify."""

from pathlib import Path

import click

from tickplant import config
from tickplant.hdb.loader import connect
from tickplant.hdb.proof import prove
from tickplant.registry import RegistryReader


@click.group()
def hdb() -> None:
    """The historical database in PostgreSQL."""


@hdb.command("init")
@click.pass_obj
def hdb_init(path: Path | None) -> None:
    """Make the tables and views; may be run again and again."""
    settings = config.load(path)
    history, server = connect(settings)
    try:
        history.init()
        click.echo(f"the tables of {settings.plant.name} are there")
    finally:
        history.close()
        if server:
            server.stop()


@hdb.command("verify")
@click.argument("date", type=int, metavar="YYYYMMDD")
@click.pass_context
def hdb_verify(context: click.Context, date: int) -> None:
    """Prove a sealed trading date again; exit status 1 if it is not complete."""
    settings = config.load(context.obj)
    history, server = connect(settings)
    try:
        verdict = prove(settings, history, RegistryReader(settings.registry_dir), date)
        click.echo(f"{date}: {verdict.summary()}")
    finally:
        history.close()
        if server:
            server.stop()
    context.exit(0 if verdict.complete else 1)
