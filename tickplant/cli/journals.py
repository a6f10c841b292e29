"""The commands about journals: ls, verify, dump, repair."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tickplant import config, repair, terminal, wire
from tickplant._core import framing
from tickplant.cli.dates import TRADING_DATE
from tickplant.errors import JournalError, NotRunning
from tickplant.journal import JournalReader, durable_position, segments


@click.group()
def journal() -> None:
    """The journals: list, verify, dump, repair."""


@contextmanager
def _permitted() -> Iterator[None]:
    """Turns what the system refuses into an error that says where, and as whom to try."""
    try:
        yield
    except OSError as e:
        raise _refused(e.filename, e.strerror) from None


def _refused(where: object, why: str | None) -> JournalError:
    return JournalError(f"{where}: {why}; run this as the plant's user, or as a member of its group")


def _folders(path: Path | None, which: str | None) -> list[Path]:
    with _permitted():
        found = _there(path, which)
    for folder in found:
        if not os.access(folder, os.R_OK | os.X_OK):
            raise _refused(folder, "Permission denied")
    return found


def _there(path: Path | None, which: str | None) -> list[Path]:
    if which and Path(which).is_dir():
        return [Path(which)]
    root = config.load(path).journal_dir
    if which and not Path(which).name.isdigit():
        which = str(TRADING_DATE.convert(which, None, None))
    found = [root / which] if which else sorted(root.glob("[0-9]" * 8))
    if not found:
        raise NotRunning(f"there is no journal in {root} yet; the ticker plant begins one: tickplant up")
    if not found[0].is_dir():
        raise NotRunning(f"there is no journal {which} in {root}; see: tickplant journal ls")
    return found


@journal.command("ls")
@click.pass_obj
def journal_ls(path: Path | None) -> None:
    """The journals there are."""
    for folder in _folders(path, None):
        files = segments(folder)
        size = sum(f.stat().st_size for f in files)
        durable = durable_position(folder)
        terminal.echo(f"{folder.name}  {len(files):3} segments  {size:>16,} bytes  {durable:>16,} durable")


@journal.command("verify")
@click.argument("which", metavar="DATE|FOLDER", required=False)
@click.pass_context
def journal_verify(context: click.Context, which: str | None) -> None:
    """Read a journal (or all) from start to end and check every frame; exit status 1 if one is wrong."""
    bad = False
    for folder in _folders(context.obj, which):
        with _permitted():
            report = repair.verify(folder)
        terminal.echo(f"{folder}: {report.text()}")
        bad = bad or not report.sound
    context.exit(1 if bad else 0)


@journal.command("dump")
@click.argument("which", metavar="DATE|FOLDER")
@click.option("--from", "first", default=0, help="Position to begin at: that of a frame.")
@click.option("-n", "--frames", default=0, help="How many frames at most.")
@click.pass_obj
def journal_dump(path: Path | None, which: str, first: int, frames: int) -> None:
    """Print the headers of the frames of a journal, a line each."""
    folder = _folders(path, which)[0]
    reader = JournalReader(folder, first or None, None)
    with _permitted():
        _dump(reader, frames)


def _dump(reader: JournalReader, frames: int) -> None:
    """Print the headers of so many frames, or of all."""
    shown = 0
    while chunk := reader.read():
        start = (reader.position or 0) - len(chunk)
        for offset, *_ in framing.index(chunk).tolist():
            h = wire.header(chunk, offset)
            terminal.echo(
                f"{start + offset:>12} {wire.KINDS.get(h.kind, h.kind):9} table={h.table} row={h.row} "
                f"count={h.count} feed={h.feed} session={h.session} seq={h.seq} time_ns={h.time_ns} "
                f"size={h.size} crc={h.crc:08x}"
            )
            shown += 1
            if shown == frames:
                return


@journal.command("repair")
@click.argument("which", metavar="DATE|FOLDER")
@click.option("--accept-loss", is_flag=True, help="Do it; without this, say what would be lost.")
@click.pass_obj
def journal_repair(path: Path | None, which: str, accept_loss: bool) -> None:
    """Cut damaged bytes out of a journal, keeping the old files aside. The plant must not be running."""
    folder = _folders(path, which)[0]
    with _permitted():
        terminal.echo(repair.repair(folder, accept_loss))
