"""The commands about captures: what is in one, and a first draft of a mapping for a file of columns."""

import json
from pathlib import Path
from typing import Any

import click

from tickplant import screen, terminal
from tickplant.feed.decode import decode as decode_capture
from tickplant.feed.files.draft import draft
from tickplant.feed.files.mapping import presets
from tickplant.listing import day_text, time_text

WIDE = 120
"""Characters of a terminal on which times have room beside the sums."""


@click.command()
@click.argument("capture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--date", metavar="YYYY-MM-DD", help="Trading date of the capture, if its name does not tell.")
@click.option("--venue", help="Venue of its instruments.")
@click.option("--mapping", metavar="NAME|FILE", help="What the columns of a CSV or Parquet file mean.")
@click.option("--schema", type=click.Path(exists=True, dir_okay=False), help="Its venue's SBE schema (XML).")
@click.option("--protocol", metavar="NAME|FILE", help="What the packets of a capture mean.")
@click.option("--instruments", metavar="FILE", help="What numbers of instruments mean: id, symbol, decimals.")
@click.pass_context
def decode(
    context: click.Context, capture: Path, as_json: bool, date: str | None, venue: str | None,
    mapping: str | None, schema: str | None, protocol: str | None, instruments: str | None,
) -> None:  # fmt: skip
    """Decode CAPTURE and say what is in it; exit status 1 if any of it is damaged or malformed."""
    given = {"date": date, "venue": venue, "mapping": mapping, "schema": schema,
             "protocol": protocol, "instruments": instruments}  # fmt: skip
    options = {k: v for k, v in given.items() if v}
    found = decode_capture(capture, **options)
    if as_json:
        terminal.echo(json.dumps(found))
    else:
        _show(found, screen.CleanConsole())
    context.exit(1 if found["malformed"] or found["damaged"] else 0)


def _show(found: dict[str, Any], console: screen.CleanConsole) -> None:
    about = f"{found['capture']}: {found['format']}, {found['malformed']} malformed"
    console.print(about, markup=False, soft_wrap=True)
    for account in ("messages", "ignored"):
        if found[account]:
            counts = "  ".join(f"{terminal.printable(k)} {v:,}" for k, v in sorted(found[account].items()))
            console.print(f"{account}: {counts}", markup=False)
    _show_tables(found["tables"], console)
    console.print()
    for event in found["events"]:
        console.print(terminal.printable(_said(event)), markup=False, soft_wrap=True)


def _show_tables(tables: dict[str, dict[str, Any]], console: screen.CleanConsole) -> None:
    """Rows, sums and times of each table; times in a table of their own where the terminal is narrow."""
    numbers, times = ("rows", "sum of sizes", "notional"), ("first event", "last event")
    sums, spans = {}, {}
    for name, t in tables.items():
        floats = [f"{t[k]:,.2f}" if t[k] is not None else "" for k in ("size_sum", "notional_sum")]
        sums[name] = [f"{t['rows']:,}", *floats]
        spans[name] = [
            f"{day_text(t[k])}T{time_text(t[k])}Z" if t[k] else ""
            for k in ("first_ts_event", "last_ts_event")
        ]
    if console.width >= WIDE:
        shown = screen.table("table", *numbers, *times, right=numbers)
        for name in tables:
            shown.add_row(name, *sums[name], *spans[name])
        console.print(shown)
        return
    for columns, cells in ((numbers, sums), (times, spans)):
        if columns is times:
            console.print()
        shown = screen.table("table", *columns, right=numbers)
        for name, values in cells.items():
            if any(values):
                shown.add_row(name, *values)
        console.print(shown)


def _said(event: dict[str, Any]) -> str:
    """An event in one line: kind, which bytes, lines, orders or numbers it is about, and the text."""
    first, last, unit = event["first"], event["last"], event["unit"]
    if not (first or last):
        return f"{event['kind']}: {event['text']}"
    where = f"{unit} {first:,}" if first == last else f"{unit}s {first:,} to {last:,}"
    return f"{event['kind']}: {where}: {event['text']}"


@click.group()
def mapping() -> None:
    """What the columns of CSV and Parquet files mean."""


@mapping.command("new")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def mapping_new(file: Path) -> None:
    """Print a first draft of a mapping for FILE: to be edited, and used with `decode --mapping`."""
    terminal.echo(draft(file).rstrip("\n"))


@mapping.command("ls")
def mapping_ls() -> None:
    """The mappings that come with tickplant: what they read, and where its layout is documented."""
    for name, known in presets().items():
        terminal.echo(f"{name:28} {known.what}" + (f"; {known.documented}" if known.documented else ""))
