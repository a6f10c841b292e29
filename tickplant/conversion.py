"""Rows of a table as it was declared before: taken by the names of its columns.

A feed that runs on while the tables are changed publishes by its session's old declaration. The plant
knows each declaration that it ever had (its journals and proofs say them), and makes of such a frame one of
the table as it is now: columns that came later are zero, or NaN; those that are gone are left out. A frame of
a table that is gone, or with a value that does not fit any more, is kept whole besides:
`data_dir/aside/TABLE-FINGERPRINT` is a journal of such frames. A declaration that the plant never had is not
touched: its feed keeps the rows.
"""

import contextlib
import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tickplant import wire
from tickplant._core import framing, rowsums
from tickplant.day import Day, declared
from tickplant.errors import SchemaError, TickplantError
from tickplant.instruments import full_name, named
from tickplant.journal import JournalWriter
from tickplant.schema import Rows, Schema, Table

_SEGMENT_BYTES = 1 << 26
_UNDEFINED = 0xFFFFFFFF

Values = npt.NDArray[np.generic]


class Conversion:
    """For the feeds of one plant."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self._former: dict[tuple[int, int], Table] | None = None
        self._aside: dict[tuple[int, int], JournalWriter] = {}

    def former(self, head: wire.Header) -> Table | None:
        """The table, as declared once, that a frame is of; None if this plant never declared it so."""
        if self._former is None:
            schemas = self._schemas()
            self._former = {(t.number, t.fingerprint): t for schema in schemas for t in schema}
        found = self._former.get((head.table, head.schema))
        return found if found and head.count * found.row_size == head.size else None

    def _schemas(self) -> Iterator[Schema]:
        config = self.day.config
        for folder in config.journal_dir.glob("[0-9]" * 8):
            with contextlib.suppress(TickplantError, OSError):
                yield declared(folder)
        for proof in (config.plant.data_dir / "proofs").glob("[0-9]" * 8 + ".json"):
            with contextlib.suppress(TickplantError, OSError, ValueError, KeyError, TypeError):
                yield Schema.read(json.loads(proof.read_text())["schema"])

    def converted(self, head: wire.Header, frame: bytes, old: Table) -> bytes | None:
        """The frame as one of the table as it is now; None if there is no such table any more."""
        if old.name not in self.day.schema:
            self._keep_aside(head, frame, old)
            return None
        new = self.day.schema[old.name]
        before = old.rows(memoryview(frame)[wire.HEADER_SIZE : wire.HEADER_SIZE + head.size])
        rows, whole = by_names(before, old, new)
        if not whole:
            self._keep_aside(head, frame, old)
        _, total = self.day.intake.counters(head.feed).get(new.number, (0, 0))
        total += self._sum(head.feed, rows, new)
        made: bytes = framing.seal(
            rows.view("u1"), wire.ROWS, table=new.number, feed=head.feed, session=head.session, seq=head.seq,
            feed_row=head.feed_row, feed_sum=total % (1 << 64), time_ns=head.time_ns, count=head.count,
            schema=new.fingerprint,
        )  # fmt: skip
        return made

    def _sum(self, feed: int, rows: Rows, table: Table) -> int:
        """What the rows add to the feed's claim, by the names that its codes mean."""
        rows = rows.copy()
        names = self.day.registry.instruments.hashes
        if table.name == self.day.definitions.name:
            names = np.zeros(len(rows) + 1, np.uint64)
            for at, (venue, symbol) in enumerate(rows[["venue", "symbol"]].tolist(), 1):
                with contextlib.suppress(SchemaError):
                    names[at] = rowsums.name_hash(full_name(*named(venue, symbol)).encode())
            rows["instrument"] = np.arange(1, len(rows) + 1)
        else:
            codes, where = np.unique(rows["instrument"], return_inverse=True)
            means = [self.day.intake.code(feed, code) for code in codes.tolist()]
            rows["instrument"] = np.array([0 if m == _UNDEFINED else m for m in means], "u4")[where]
        return int(rowsums.row_sum(rows.view("u1"), table.row_size, names))

    def _keep_aside(self, head: wire.Header, frame: bytes, old: Table) -> None:
        """Have a frame on disk as it came."""
        key = old.number, old.fingerprint
        writer = self._aside.get(key)
        if writer is None:
            folder = self.day.config.plant.data_dir / "aside" / f"{old.name}-{old.fingerprint:08x}"
            about = {"what": "aside", "plant": self.day.config.plant.name, "schema": Schema([old]).describe()}
            writer = self._aside[key] = JournalWriter(folder, about, _SEGMENT_BYTES)
            for _ in writer.recover():
                pass
        writer.append_frame(
            wire.ROWS, frame[wire.HEADER_SIZE :], table=head.table, feed=head.feed, session=head.session,
            seq=head.seq, feed_row=head.feed_row, feed_sum=head.feed_sum, time_ns=head.time_ns,
            count=head.count, schema=head.schema,
        )  # fmt: skip
        writer.sync()

    def close(self) -> None:
        """Give the files back."""
        for writer in self._aside.values():
            writer.close()
        self._aside.clear()


def by_names(rows: Rows, old: Table, new: Table) -> tuple[Rows, bool]:
    """The rows with the columns of `new`, and whether every value of a column that stays is as it was."""
    made, whole = new.empty(len(rows)), True
    there = {c.name for c in old.columns}
    for column in new.columns:
        if column.name in there:
            made[column.name], same = _values(rows[column.name], made.dtype[column.name])
            whole &= same
        elif column.type[0] == "f":
            made[column.name] = np.nan
    return made, whole


def _values(values: Values, to: np.dtype[np.generic]) -> tuple[Values, bool]:
    """Values of another type; what does not fit is zero (NaN of a float), and then it is not whole."""
    if values.dtype == to:
        return values, True
    if "S" in (values.dtype.kind, to.kind) and values.dtype.kind != to.kind:
        return _between_text(values, to)
    with np.errstate(all="ignore"):
        made = values.astype(to)
        if to.kind == "f" and values.dtype.kind == "f":
            return made, bool((np.isinf(made) == np.isinf(values)).all())
        back = made.astype(values.dtype)
    same = back == values
    if to.kind in "iu":
        made = np.where(same, made, np.zeros(1, to))
    return made, bool(same.all())


def _between_text(values: Values, to: np.dtype[np.generic]) -> tuple[Values, bool]:
    made = np.zeros(len(values), to)
    whole = True
    for at, value in enumerate(values.tolist()):
        try:
            text = value if isinstance(value, bytes) else str(value).encode()
            fits = to.kind != "S" or len(text) <= to.itemsize
            if fits:
                made[at] = text if to.kind == "S" else float(text) if to.kind == "f" else int(text)
        except (ValueError, OverflowError):
            fits = False
        if not fits and to.kind == "f":
            made[at] = np.nan
        whole &= fits
    return made, whole
