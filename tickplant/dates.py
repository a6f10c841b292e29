"""Which trading dates a plant has had, and where the rows of one are when they are not where one looks."""

import os
from pathlib import Path


def trading_dates(data_dir: Path) -> list[int]:
    """The trading dates that have begun, of which there is a journal or, when that is gone, a proof.

    Raises OSError if the journals can't be listed from here.
    """
    names = {n for n in os.listdir(data_dir / "journal") if len(n) == 8 and n.isdigit()}
    names |= {p.stem for p in (data_dir / "proofs").glob("[0-9]" * 8 + ".json")}
    return sorted(int(n) for n in names)


def where_gone(plant: str, date: int, table: str = "") -> str:
    """What to tell who asks for a date whose journal has been deleted."""
    rows = f"of {table} " if table else ""
    return (
        f"the journal of trading date {date} is gone (tickerplant.keep_days); its rows {rows}are in "
        f"PostgreSQL: SELECT * FROM {plant}.{table or 'TABLE'} WHERE trading_date = "
        f"'{date // 10_000}-{date // 100 % 100:02}-{date % 100:02}'"
    )
