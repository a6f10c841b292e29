"""The root command. Commands are imported when they are called: a feed handler's process needs no PostgreSQL
driver and no screen, and starts the sooner."""

import importlib
import logging
import os
from pathlib import Path

import click

from tickplant import __version__, config, plugin, service, terminal

COMMANDS = {
    "demo": "run:demo",
    "init": "init:init",
    "up": "run:up",
    "run": "run:run",
    "status": "inspect:status_command",
    "tail": "tail:tail",
    "book": "books:book",
    "decode": "captures:decode",
    "mapping": "captures:mapping",
    "load": "load:load",
    "eod": "inspect:eod",
    "config": "inspect:config",
    "journal": "journals:journal",
    "hdb": "history:hdb",
    "keys": "keys:keys",
}
"""Name of each command: where it is, as module:function below `tickplant.cli`."""


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, in the order of a plant's life."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name."""
        if name not in COMMANDS:
            return None
        module, function = COMMANDS[name].split(":")
        command: click.Command = getattr(importlib.import_module(f"tickplant.cli.{module}"), function)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
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
    plugin.look_in(Path(path or os.environ.get(config.ENVIRONMENT) or config.SYSTEM_FILE).parent)
    handler = logging.StreamHandler()
    handler.setFormatter(terminal.LogLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
