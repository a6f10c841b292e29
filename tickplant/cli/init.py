"""The command that begins a plant."""

from pathlib import Path

import click

from tickplant import starter, terminal


@click.command()
@click.argument(
    "folder", metavar="[DIR]", default="tickplant", type=click.Path(file_okay=False, path_type=Path)
)
def init(folder: Path) -> None:
    """Write a first configuration into DIR [./tickplant]: a plant with a simulated venue."""
    path = starter.write(folder)
    terminal.echo(f"{path} is written. Run it, and in another terminal look at it:")
    terminal.echo(f"  export TICKPLANT_CONFIG={path}")
    for command in ("up", "status", "tail trade --follow", "hdb psql"):
        terminal.echo(f"  tickplant {command}")
