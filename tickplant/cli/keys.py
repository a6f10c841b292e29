"""The commands about keys: new, list, revoke."""

from pathlib import Path

import click

from tickplant import config, terminal
from tickplant.keys import DOMAINS, FEEDS, READERS, SERVER, Keys

KINDS = {SERVER: "server", FEEDS: "feed", READERS: "client"}


@click.group()
def keys() -> None:
    """The keys of feeds and clients that connect over TCP: make, list, revoke."""


@keys.command("new")
@click.argument("name")
@click.option("--feed", "domain", flag_value=FEEDS, help="For the feed NAME of the configuration.")
@click.option("--client", "domain", flag_value=READERS, help="For a reader. [default]")
@click.pass_obj
def keys_new(path: Path | None, name: str, domain: str | None) -> None:
    """Make a key and accept it from now on; say what to copy to the other machine, and where to."""
    settings = config.load(path)
    if domain == FEEDS:
        settings.feed(name)
    folder = Keys(settings.keys_dir)
    made = folder.new(name, domain or READERS)
    terminal.echo(f"{made} is accepted from now on")
    if domain == FEEDS:
        terminal.echo(f"on this machine: nothing to do; `tickplant run feed {name}` finds it")
        terminal.echo(f"on another one:  copy the file to {FEEDS}/{made.name} in its keys_dir (mode 0600)")
    else:
        terminal.echo("copy the file to the reader's machine (mode 0600) and give it there:")
        terminal.echo(f'  tickplant.subscribe("tcp://...", [...], keys="{made.name}")')
        terminal.echo(f"  tickplant tail TABLE --remote tcp://... --keys {made.name}")
    terminal.echo("and delete it here once it is there: the plant needs only the public one")
    if not settings.security.curve:
        terminal.echo("the plant asks for keys only with security.curve = true", err=True)


@keys.command("list")
@click.pass_obj
def keys_list(path: Path | None) -> None:
    """The keys there are, the plant's own public key first."""
    for entry in Keys(config.load(path).keys_dir).entries():
        state = "revoked" if entry.revoked else "own" if entry.domain not in DOMAINS else "accepted"
        secret = "  (secret here)" if entry.secret_here else ""
        terminal.echo(f"{KINDS[entry.domain]:6}  {state:8}  {entry.public}  {entry.name}{secret}")


@keys.command("revoke")
@click.argument("name")
@click.pass_obj
def keys_revoke(path: Path | None, name: str) -> None:
    """Accept a key no longer. A plant that runs cuts its connections within a second or two."""
    Keys(config.load(path).keys_dir).revoke(name)
    terminal.echo(f"{name} is not accepted any more")
