"""Tables for people at a terminal, 80 columns wide as most are."""

from collections.abc import Container

from rich import box
from rich.table import Table


def table(*columns: str, right: Container[str] = (), title: str | None = None) -> Table:
    """A table with these columns, of which those in `right` are numbers, and no lines but one below the head.

    A cell that does not fit is folded, none is cut off.
    """
    made = Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False, pad_edge=False,
                 padding=(0, 1, 0, 0))  # fmt: skip
    for name in columns:
        made.add_column(name, overflow="fold", justify="right" if name in right else "left")
    return made


def printable(text: str) -> str:
    """The text with escapes (\\x1b, \\n, \\u202e) for characters that a terminal acts on or does not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
