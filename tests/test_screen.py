"""Tables for people: no wider than what they hold, and nothing of it lost in a narrow terminal."""

import io

from rich.console import Console

from tickplant import screen


def drawn(table, width):
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def rows_of_two():
    table = screen.table("name", "rows", right=("rows",), title="a day")
    table.add_row("trade", "12,345")
    table.add_row("quote", "7")
    return table


def test_a_table_is_as_wide_as_its_cells_with_numbers_to_the_right():
    assert drawn(rows_of_two(), 80) == [
        "a day", "name     rows", "─────────────", "trade  12,345", "quote       7"
    ]  # fmt: skip


def test_what_does_not_fit_is_folded_and_nothing_is_cut_off():
    lines = drawn(rows_of_two(), 9)
    assert all(len(line) <= 9 for line in lines)
    assert sorted("".join(lines[1:]).replace("─", "").replace(" ", "")) == sorted("namerowstrade12,345quote7")
