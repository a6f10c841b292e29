"""What others said can't move the cursor, change colours or hide a line, wherever it is shown."""

import io
import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_architecture import MODULES, dotted

from tickplant import screen, terminal

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eACME\r\x7f"
CLEAN = "\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202eACME\\r\\x7f"


def test_characters_that_a_terminal_acts_on_are_shown_as_escapes():
    assert terminal.printable(EVIL) == CLEAN
    assert terminal.printable("a\nb") == "a\\nb"
    assert terminal.printable_lines(f"{EVIL}\nÄ 東京") == f"{CLEAN}\nÄ 東京"


@given(st.text())
def test_whatever_the_text_only_line_ends_are_left(text):
    assert all(c.isprintable() or c == "\n" for c in terminal.printable_lines(text))
    assert terminal.printable(text).isprintable()


def test_lines_for_people_are_clean_on_both_streams(capsys):
    terminal.echo(EVIL)
    terminal.echo(EVIL, err=True)
    assert capsys.readouterr() == (CLEAN + "\n", CLEAN + "\n")


def test_lines_for_programs_are_as_they_are_but_on_a_terminal(monkeypatch):
    for on_terminal, expected in ((False, EVIL), (True, CLEAN)):
        out = io.StringIO()
        out.isatty = lambda answer=on_terminal: answer
        monkeypatch.setattr(sys, "stdout", out)
        terminal.data(EVIL)
        assert out.getvalue() == expected + "\n"


def test_texts_and_tables_on_a_screen_are_clean():
    out = io.StringIO()
    console = screen.CleanConsole(file=out, width=200, force_terminal=False)
    console.print(EVIL, markup=False, soft_wrap=True)
    table = screen.table(EVIL, title=EVIL)
    table.add_row(EVIL)
    console.print(table)
    assert all(c.isprintable() or c == "\n" for c in out.getvalue())
    assert out.getvalue().count("\\x1b]0;owned\\x07") == 4


def test_log_lines_and_their_tracebacks_are_clean():
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "a venue said %s", (EVIL,), sys.exc_info())
    said = terminal.LogLines("%(message)s").format(record)
    assert said.startswith(f"a venue said {CLEAN}\nTraceback")
    assert said.endswith(f"ValueError: {CLEAN}")


@pytest.mark.parametrize("module", MODULES, ids=[dotted(m) for m in MODULES])
def test_no_module_goes_to_a_terminal_by_another_way(module):
    text = module.read_text()
    if module.name not in ("screen.py", "terminal.py"):
        assert "click.echo(" not in text
        assert not re.search(r"(?<!\w)Console\(", text)
