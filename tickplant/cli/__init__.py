"""The command line: parse, call one function, say what came of it. No logic lives here.

Exit status: 0 done; 1 not so (a proof that differs, a damaged capture or journal); 2 wrong use of a command;
65 not a capture; 69 what is needed does not run, or runs already; 70 a defect of tickplant's, with its
place; 74 disk or memory trouble; 78 configuration; 130 Ctrl-C. systemd starts a process again after all of
these but 65 and 78.
"""

import logging
import sys

import click

from tickplant import faults, terminal
from tickplant.cli.main import cli
from tickplant.errors import Fault, TickplantError

__all__ = ["main"]

log = logging.getLogger(__name__)


def main() -> None:
    """The entry point: every expected error is one line with cause and remedy."""
    try:
        sys.exit(cli(prog_name="tickplant", standalone_mode=False))
    except TickplantError as e:
        terminal.echo(f"tickplant: {e}", err=True)
        sys.exit(e.exit_code)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as e:
        log.debug("what ended it", exc_info=e)
        found = faults.fault(e)
        defect = "; this is a defect: report it with what `tickplant -v ...` says"
        terminal.echo(f"tickplant: {found}{defect if isinstance(found, Fault) else ''}", err=True)
        sys.exit(found.exit_code)
