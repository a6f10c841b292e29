"""DuckDB on a file: its appender, one transaction a message. Readers can't sleep until it."""

import contextlib
from collections.abc import Iterator, Sequence

import duckdb
import harness
import pandas as pd

from peers import ends

PROMISE = "a transaction a message"
MESSAGES = {1: 200, 100: 200}
TYPES = {"i": "BIGINT", "u": "UINTEGER", "f": "DOUBLE", "S": "BLOB"}


@contextlib.contextmanager
def serve(site: harness.Site) -> Iterator[str]:
    """The path of a database in the site's folder."""
    yield f"{site.folder}/duckdb"


class Source(ends.Source):
    """Appends data frames."""

    def __init__(self, address: str) -> None:
        super().__init__()
        columns = ", ".join(f"{c.name} {TYPES[c.type[0]]}" for c in ends.trade().columns)
        self._database = duckdb.connect(address)
        self._database.execute(f"CREATE TABLE trade ({columns})")

    def pour(self, made: Sequence[bytes]) -> None:
        for message in made:
            rows = ends.trade().rows(message)
            columns = {c.name: rows[c.name] for c in ends.trade().columns}
            self._database.append("trade", pd.DataFrame(columns))
