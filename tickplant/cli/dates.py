"""Trading dates on the command line: written 20261201 or 2026-12-01, and nothing else."""

import re
from typing import Any

import click

from tickplant.clock import as_date


class TradingDate(click.ParamType[int]):
    """A date, as the number yyyymmdd."""

    name = "date"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """As help shows it."""
        return "YYYYMMDD"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        """The number of a date; a wrong use of the command otherwise."""
        text = str(value)
        if re.fullmatch(r"\d{8}|\d{4}-\d{2}-\d{2}", text, re.ASCII):
            number = int(text.replace("-", ""))
            try:
                as_date(number)
            except ValueError:
                self.fail(f"there is no date {text}; write one as 20261201 or 2026-12-01", param, context)
            return number
        self.fail(f"{text!r} is not a date; write it as 20261201 or 2026-12-01", param, context)


TRADING_DATE = TradingDate()
