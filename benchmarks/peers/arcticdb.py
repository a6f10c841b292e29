"""ArcticDB on LMDB: one append, and so one version of the symbol, a message. Readers can't sleep until it."""

import contextlib
from collections.abc import Iterator, Sequence

import arcticdb
import harness
import pandas as pd

from peers import ends

PROMISE = "a version of the symbol a message"
SYMBOL = "trade"
MESSAGES = {1: 40, 100: 40}


@contextlib.contextmanager
def serve(site: harness.Site) -> Iterator[str]:
    """The URI of a store in the site's folder."""
    yield f"lmdb://{site.folder}/arcticdb"


class Source(ends.Source):
    """Appends data frames, their index ts_event."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._library = arcticdb.Arctic(address).get_library(SYMBOL, create_if_missing=True)

    def pour(self, made: Sequence[bytes]) -> None:
        for message in made:
            rows = ends.trade().rows(message)
            columns = {c.name: rows[c.name] for c in ends.trade().columns}
            columns |= {
                name: column.astype(str) for name, column in columns.items() if column.dtype.kind == "S"
            }
            index = pd.DatetimeIndex(columns.pop("ts_event"))
            self._library.append(SYMBOL, pd.DataFrame(columns, index), prune_previous_versions=True)
