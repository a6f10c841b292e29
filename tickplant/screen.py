"""Tables for people at a terminal, 80 columns wide as most are; all texts in them are clean (terminal.py)."""

from collections.abc import Container
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tickplant.terminal import printable, printable_lines


class CleanConsole(Console):
    """A console that prints no character of a text for the terminal to act on."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As Console.print; texts are cleaned, and tables of `table` are clean."""
        super().print(*(printable_lines(o) if isinstance(o, str) else o for o in objects), **options)


class _Clean(Table):
    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(printable_lines(c) if isinstance(c, str) else c for c in cells), **options)


def table(*columns: str, right: Container[str] = (), title: str | None = None) -> Table:
    """A table with these columns, of which those in `right` are numbers, and no lines but one below the head.

    A cell that does not fit is folded, none is cut off.
    """
    made = _Clean(title=title and printable(title), title_justify="left", box=box.SIMPLE, show_edge=False,
                  pad_edge=False, padding=(0, 1, 0, 0))  # fmt: skip
    for name in columns:
        made.add_column(printable(name), overflow="fold", justify="right" if name in right else "left")
    return made
