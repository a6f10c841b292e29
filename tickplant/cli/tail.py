"""The command that shows the last rows of a table, and those that come."""

import shutil
import sys
from pathlib import Path

import click

from tickplant import config as configuration
from tickplant import local, terminal
from tickplant.batch import Batch
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.follower import Follower
from tickplant.instruments import Instruments
from tickplant.listing import Columns, Csv, JsonLines, Listing
from tickplant.subscriber import POLICIES, Policy, Subscription, subscribe

SAY_NS = 5 * SECOND_NS
"""How often rows that were passed over are told of."""
WIDE = 1_000
"""Characters of a line where there is no terminal."""


@click.command()
@click.argument("table")
@click.option("-s", "--symbol", metavar="VENUE:SYMBOL", help="Only this instrument.")
@click.option("-n", "--rows", type=click.IntRange(min=0), default=10, show_default=True,
              help="How many of the last rows.")  # fmt: skip
@click.option("--follow", "-f", is_flag=True, help="Go on with new rows.")
@click.option("--json", "form", flag_value="json", help="One JSON object a line, with all columns.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values, with all columns.")
@click.option("--remote", metavar="ENDPOINT", help="From a publisher's request endpoint, not shared memory.")
@click.option("--policy", type=click.Choice(POLICIES), default="catch-up", show_default=True,
              help="With --remote: what to do when rows come faster than they are printed.")  # fmt: skip
@click.option("--keys", metavar="FILE", help="With --remote: this reader's NAME.key_secret.")
@click.option(
    "--server-key", metavar="KEY", help="With --remote: the plant's public key, if FILE has another."
)
@click.pass_obj
def tail(
    path: Path | None, table: str, symbol: str | None, rows: int, follow: bool, form: str | None,
    remote: str | None, policy: Policy, keys: str | None, server_key: str | None,
) -> None:  # fmt: skip
    """Print the last rows of TABLE: as columns, as many as the terminal has room for.

    Beside them, on stderr: columns that did not fit, rows skipped, rows that a feed lost, and when the ticker
    plant is not running.
    """
    if remote:
        symbols, start = [symbol] if symbol else None, {table: -rows} if rows else None
        subscription = subscribe(
            remote, [table], symbols, start, policy=policy, keys=keys, server_key=server_key
        )
        _tail_remote(subscription, Printer(subscription.instruments, form), rows, follow)
        return
    plant = local.connect(configuration.load(path))
    printer = Printer(plant.instruments, form)
    seen = plant.table(table)
    there = len(seen)
    first = max(0, there - rows)
    if symbol:
        printer.print(seen.rows(symbol, last=rows))
    else:
        printer.print(Batch.of(seen.packed(first, there - first), table, seen.trading_date, first))
    if follow:
        _follow_local(plant, seen.follow(there), printer, symbol)


class Printer:
    """Prints batches in one form, and once which columns it leaves out."""

    def __init__(self, instruments: Instruments, form: str | None) -> None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
        made = {"json": JsonLines, "csv": Csv}.get(form or "")
        self.listing: Listing = made(instruments) if made else Columns(instruments, width)
        self._said: tuple[str, ...] = ()

    def print(self, batch: Batch) -> None:
        """Print these rows."""
        for line in self.listing.lines(batch):
            terminal.data(line)
        left_out = self.listing.left_out if isinstance(self.listing, Columns) else ()
        if left_out != self._said:
            self._said = left_out
            names = ", ".join(left_out)
            terminal.echo(f"no room for {names}: a wider terminal, --json or --csv shows them", err=True)


def _follow_local(plant: local.Plant, batches: Follower, printer: Printer, symbol: str | None) -> None:
    state = "running"
    while True:
        batch = batches.next(1.0)
        if batch is not None:
            wanted = batch.only(batch["instrument"] == plant.instruments.number(symbol)) if symbol else batch
            printer.print(wanted)
        else:
            state = _say_state(state, plant.state, plant.idle)


def _tail_remote(subscription: Subscription, printer: Printer, rows: int, follow: bool) -> None:
    printed, state, passed, said_ns = 0, "running", 0, 0
    try:
        while follow or printed < rows:
            batch = subscription.next(1.0)
            if batch is not None:
                for notice in batch.notices:
                    terminal.echo(str(notice), err=True)
                passed += batch.passed_over
                if passed and monotonic_ns() - said_ns >= SAY_NS:  # else it would be a line for each row
                    terminal.echo(f"{passed:,} rows of {batch.table} passed over", err=True)
                    passed, said_ns = 0, monotonic_ns()
                # More may have come since the last rows were counted.
                shown = batch if follow else batch[: rows - printed]
                printer.print(shown)
                printed += len(shown)
            elif not follow:
                return
            else:
                state = _say_state(state, subscription.state, subscription.idle)
    finally:
        subscription.close()


def _say_state(before: str, state: str, idle: float | None) -> str:
    """Say once, when it changes, how the ticker plant is."""
    if state != before:
        ago = "" if idle is None or state == "running" else f"; its last turn was {idle:.1f} s ago"
        what = (
            "no heartbeat of the publisher; the ticker plant is"
            if state == "unknown"
            else "the ticker plant is"
        )
        terminal.echo(f"{what} {state}{ago}", err=True)
    return state
