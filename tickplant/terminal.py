"""What goes to a terminal, or to a log that is read at one: lines of text.

Much of it was said by others: a venue, a peer, a file. Characters that a terminal acts on are shown as
escapes, here, for all commands.
"""

import logging
import sys


def echo(text: object = "", *, err: bool = False) -> None:
    """Print lines for people, on stdout or stderr."""
    print(printable_lines(str(text)), file=sys.stderr if err else sys.stdout, flush=True)


def data(line: str) -> None:
    """Print a line for programs: as it is, but on a terminal."""
    print(printable(line) if sys.stdout.isatty() else line, flush=True)


class LogLines(logging.Formatter):
    """Log lines, and tracebacks below them, without characters that a terminal acts on."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return printable_lines(super().format(record))


def printable_lines(text: str) -> str:
    """As `printable`, of each line of a text."""
    return text if text.isprintable() else "\n".join(printable(line) for line in text.split("\n"))


def printable(text: str) -> str:
    """The text with escapes (\\x1b, \\n, \\u202e) for characters that a terminal acts on or does not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
