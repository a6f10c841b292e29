"""The command that shows a book."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.live import Live
from rich.table import Table

from tickplant import config as configuration
from tickplant import local, screen, terminal
from tickplant.books import LiveBook

_LOOK_S = 0.25


@click.command()
@click.argument("instrument", metavar="VENUE:SYMBOL")
@click.option(
    "-n", "--levels", type=click.IntRange(min=1), default=10, show_default=True, help="Of each side."
)
@click.option("--once", is_flag=True, help="Show it once instead of going on.")
@click.option("--json", "as_json", is_flag=True, help="Once, as one JSON object.")
@click.pass_obj
def book(path: Path | None, instrument: str, levels: int, once: bool, as_json: bool) -> None:
    """Show the book of VENUE:SYMBOL as it is now, and as it changes."""
    shown = LiveBook(local.connect(configuration.load(path)), instrument)
    shown.refresh()
    if as_json:
        sides = {name: shown.levels(side, levels) for name, side in (("bids", "B"), ("asks", "S"))}
        said = {"instrument": instrument, "stale": shown.stale, "ts_event": shown.ts_event, **sides}
        terminal.echo(json.dumps(said))
        return
    console = screen.CleanConsole()
    if once:
        console.print(_screen(shown, levels))
        return
    with Live(_screen(shown, levels), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(_LOOK_S)
            if shown.refresh():
                live.update(_screen(shown, levels), refresh=True)


def _screen(book: LiveBook, levels: int) -> Table:
    at = datetime.fromtimestamp(book.ts_event / 1e9, UTC) if book.ts_event else None
    state = "stale: no book, or one that waits to be rebuilt" if book.stale else f"{at:%H:%M:%S.%f}"
    columns = ("orders", "size", "bid", "ask", "size", "orders")
    shown = screen.table(*columns, right=columns, title=f"{book.instrument}  {state}")
    bids, asks = book.levels("B", levels), book.levels("S", levels)
    for i in range(max(len(bids), len(asks))):
        bid, ask = (_cells(side[i]) if i < len(side) else ("", "", "") for side in (bids, asks))
        shown.add_row(bid[2], bid[1], f"[green]{bid[0]}[/]", f"[red]{ask[0]}[/]", ask[1], ask[2])
    return shown


def _cells(level: tuple[float, float, int]) -> tuple[str, str, str]:
    price, size, orders = level
    return repr(price), repr(size), str(orders or "")
