"""Databento DBN, versions 1 to 3: files of recorded market data of many venues, plain or zstd.

The format is Databento's (docs.databento.com, "Databento Binary Encoding"). Metadata are read by
Databento's library, records as columns (`dbn_records`); ids become instruments by date (`dbn_symbols`).
What table each schema's records go to; prices are fixed-point integers of 1e-9, undefined ones NaN:

    mbo              A order A, C order X (of `size`: what is left is not told), M order U with ref_id
                     the same order, F order E of the resting order, R order R: the book is cleared;
                     T trade; N says nothing and is ignored
    trades           trade
    mbp-1 cmbp-1     quote as it is after the record; T: trade
    tbbo tcbbo       quote as it was before the trade; trade
    bbo-1s bbo-1m    quote, SNAPSHOT; ts_recv is the end of the interval, and ts_event too where there
    cbbo-1s -1m      was no trade to take it from
    mbp-10           depth, see `books`; quote when the best level changed; T: trade
    ohlcv-*          bar; start is its beginning, ts_event its end
    statistics       status; kind is the statistic, value new or delete, reason its flags, level_1 the
                     price or else the quantity, level_2 the quantity, level_3 the time it is of (s UTC)
    status           status of kind trading; value is the action, reason Databento's number of it (with
                     /n for a trading event), levels 1 to 3 whether there is trading, quoting, a short
                     sale restriction (1 or 0, NaN: not told)
    imbalance        imbalance; near is the clearing price of book and auction orders, far of auction
                     orders only
    definition       instrument; attributes are class, expiry and strike, and D of a deletion
    error            event session
    symbol mapping   is for resolving symbols; system messages are ignored

trade.side is the aggressor's, as the venue says. Flags: SNAPSHOT is SNAPSHOT. MAYBE_BAD_BOOK (the
channel lost packets that can't be had again) is an event `gap` with the first and last sequence number
so marked in a batch. Databento's order ids are unsigned; those above 2^63 are negative here.
A trade with an undefined price, size or time, and a bar without its four prices, is malformed; an order may
have no price (to trade at any). BAD_TS_RECV, TOB, MBP and LAST are dropped. The venue of an instrument is
that of the record's publisher.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.errors import CaptureError
from tickplant.feed.capture import Batch, Capture, Head
from tickplant.feed.files import dbn_rows
from tickplant.feed.files.books import LastBooks
from tickplant.feed.files.dbn_records import Records, Refused, library, split
from tickplant.feed.files.dbn_rows import Codes, Values
from tickplant.feed.files.dbn_symbols import EVER, Symbols, usable
from tickplant.feed.sink import Sink
from tickplant.feed.source import Inflated, exactly
from tickplant.schema import Rows

KINDS = {
    b"B": "bond", b"C": "option", b"F": "future", b"I": "index", b"K": "stock", b"M": "spread",
    b"P": "option", b"S": "spread", b"T": "spread", b"X": "spot", b"Y": "spot",
}  # fmt: skip
UNDEF_INT = (1 << 31) - 1
METADATA_MAX = 1 << 28
ACTIONS = {"mbo", "trades", "mbp-1", "mbp-10", "tbbo", "cmbp-1", "tcbbo"}


class Dbn(Capture):
    """A file of Databento DBN.

    `venue` names the venue of all instruments, by default that of each record's publisher. The file is
    read in pieces of `chunk_bytes`, one batch each. Raises CaptureError if the file can't be read, is
    of a later version, or ends within its metadata.
    """

    format = "dbn"
    EVENT_UNITS = MappingProxyType({"malformed": "byte", "truncated": "byte", "damaged": "byte"})

    @staticmethod
    def sniff(head: Head) -> bool:
        """DBN and a version number."""
        return head.plain[:3] == b"DBN" and len(head.plain) >= 8 and 1 <= head.plain[3] <= 3

    def __init__(self, path: str | os.PathLike[str], *, venue: str = "", chunk_bytes: int = 1 << 20) -> None:
        super().__init__()
        self.path = os.fspath(path)
        self.chunk_bytes = max(1, chunk_bytes)
        with Inflated(self.path) as file:
            self._start = self._metadata(file)
        dataset = self.metadata.dataset
        self._decoder = DbnDecoder(self.version, venue or dataset.partition(".")[0], bool(venue))
        inverse = str(self.metadata.stype_out) == "raw_symbol"
        self._decoder.symbols.metadata(self.metadata.mappings, inverse)
        self.messages, self.ignored = self._decoder.messages, self._decoder.ignored

    def _metadata(self, file: Inflated) -> int:
        """Read the metadata; the bytes they take."""
        head = exactly(file, 8)
        size = int.from_bytes(head[4:8], "little")
        if not self.sniff(Head(file.path, head, head)) or size > METADATA_MAX:
            raise CaptureError(f"{self.path} is no file of Databento DBN, version 1 to 3")
        self.version = head[3]
        try:
            self.metadata: Any = library().Metadata.decode(head + exactly(file, size))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # what the library raises is not declared; its panics are no Exception
            raise CaptureError(f"the metadata of {self.path} can't be read: {e}") from None
        return 8 + size

    def __iter__(self) -> Iterator[Batch]:
        """Batches of rows in the order to publish them in. Raises CaptureError if reading fails."""
        with Inflated(self.path) as file:
            exactly(file, self._start)
            rest, at = b"", self._start
            while piece := exactly(file, self.chunk_bytes):
                data = rest + piece
                batch, used, wrong = self._decoder.decode(memoryview(data), at)
                rest, at = data[used:], at + used
                self.malformed = self._decoder.malformed
                if batch:
                    yield batch
                if wrong:
                    yield self._damaged("damaged", at, at + len(rest), wrong)
                    return
            if file.damage:
                yield self._damaged("damaged", at, at + len(rest), file.damage)
            elif rest:
                yield self._damaged("truncated", at, at + len(rest), "the file ends within a record")

    def _damaged(self, kind: str, first: int, last: int, text: str) -> Batch:
        self.damaged = True
        sink = Sink("")
        sink.event(kind, self._decoder.last_ns, text, first=first, last=last)
        return sink.take()


class DbnDecoder:
    """Records to rows. Pure: what it knows of time is in the records."""

    def __init__(self, version: int, venue: str, one_venue: bool) -> None:
        """As `Symbols`: `venue` of publishers that are not known, or of all if `one_venue`."""
        self.version = version
        self.messages: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.malformed = 0
        self.last_ns = 0
        """The time of the last record so far."""
        self.symbols = Symbols(venue, one_venue, self._code)
        self._sink = Sink(venue)
        self._codes: dict[tuple[str, str], int] = {}
        self._books = LastBooks()

    def decode(self, data: memoryview, at: int = 0) -> tuple[Batch, int, str | None]:
        """The rows of all whole records in `data`, which is at byte `at` of the stream; the bytes they took.

        Then what is wrong if the next record can't be one: the rest of the stream can't be read.
        """
        groups, used, wrong = split(data, self.version, at)
        made: dict[str, list[Rows]] = {}
        for group in sorted(groups, key=_naming_first):
            if isinstance(group, Refused):
                self._refuse(group)
                continue
            for table, rows in self._made(self._sound(group)):
                made.setdefault(table, []).append(rows)
        said = self._sink.take()
        batch = [(t, r) for t, r in said if t == "instrument"]
        batch += [(t, _merged(parts)) for t, parts in made.items()]
        return batch + [(t, r) for t, r in said if t != "instrument"], used, wrong

    def _sound(self, records: Records) -> Records:
        """The records without those that lack what their rows need; these are told of."""
        bad = dbn_rows.lacking(records)
        if not bad.any():
            return records
        what = "trade" if records.name in ACTIONS else "bar"
        why = f"a {what} without a price, a size or a time, in a record of type {records.name}"
        self._refuse(Refused(why, records.at[bad], records.bytes.shape[1]))
        good = ~bad
        return replace(records, values=records.values[good], bytes=records.bytes[good], at=records.at[good])

    def _made(self, records: Records) -> dbn_rows.Made:
        """The rows of records of one type; counts them."""
        if not len(records.values):
            return []
        values, times = records.values, dbn_rows.index_times(records.values)
        self.last_ns = max(self.last_ns, int(times[-1]))
        self._count(records)
        if records.name == "definition":
            self._define(values, times.tolist())
        elif records.name == "mapping":
            self._map(values)
        elif records.name == "error":
            for text, at_ns in zip(values["err"].tolist(), times.tolist(), strict=True):
                self._sink.event("session", at_ns, text.decode("ascii", "replace"), ts_event=at_ns)
        elif records.name != "system":
            codes = self.symbols.codes(records.bytes, times)
            self._doubt(values, codes)
            if records.name == "mbp-10":
                return self._depth(records, codes)
            return dbn_rows.ROWS[records.name](records, codes)
        return []

    def _count(self, records: Records) -> None:
        name, count = records.name, len(records.values)
        if name not in ACTIONS:
            (self.ignored if name == "system" else self.messages)[name] += count
            return
        counts = np.bincount(dbn_rows.letters(records.values, "action"), minlength=256)
        for action in np.nonzero(counts)[0].tolist():
            known = name != "mbo" or chr(action) in "ACMTFR"
            (self.messages if known else self.ignored)[f"{name} {chr(action)}"] += int(counts[action])

    def _depth(self, records: Records, codes: Codes) -> dbn_rows.Made:
        quotes = dbn_rows.quotes(records.values, codes)
        cleared = dbn_rows.letters(records.values, "action") == ord("R")
        depth, moved = self._books.changes(dbn_rows.books(records.values), quotes, cleared)
        return [("depth", depth), ("quote", quotes[moved]), *dbn_rows.only_trades(records, codes)]

    def _doubt(self, values: Values, codes: Codes) -> None:
        """Tell of records whose book may be bad, one event for each instrument."""
        if "flags" not in (values.dtype.names or ()):
            return
        bad = np.nonzero(values["flags"] & dbn_rows.MAYBE_BAD_BOOK)[0]
        for code in np.unique(codes[bad]).tolist() if len(bad) else []:
            own = values[bad[codes[bad] == code]]
            numbers = own["sequence"] if "sequence" in (own.dtype.names or ()) else np.zeros(1, np.int64)
            first, last = int(numbers.min()), int(numbers.max())
            at_ns = int(dbn_rows.index_times(own)[0])
            text = f"the channel lost packets for good: the book may be bad in {len(own)} records"
            self._sink.event("gap", at_ns, text, first=first, last=last, instrument=code, ts_event=at_ns)

    def _refuse(self, group: Refused) -> None:
        self.malformed += len(group.at)
        for at in group.at.tolist():
            self._sink.event("malformed", self.last_ns, group.why, first=at, last=at + group.size)

    def _code(self, venue: str, symbol: str, at_ns: int) -> int:
        """The code of an instrument, defined when it is first met."""
        return self._codes.get((venue, symbol)) or self._add(venue, symbol, at_ns, at_ns, {})

    def _add(self, venue: str, symbol: str, at_ns: int, recv_ns: int, more: dict[str, Any]) -> int:
        code = self._codes.setdefault((venue, symbol), len(self._codes) + 1)
        self._sink.add("instrument", at_ns, recv_ns, instrument=code, code=code, venue=venue, symbol=symbol,
                       **more)  # fmt: skip
        return code

    def _define(self, values: Values, times: list[int]) -> None:
        definitions = instruments(values)
        ids, publishers = values["instrument_id"].tolist(), values["publisher_id"].tolist()
        events = dbn_rows.times(values, "ts_event").tolist()
        whole = zip(ids, publishers, events, times, definitions, strict=True)
        for number, publisher, event_ns, at_ns, (symbol, more) in whole:
            name = symbol if usable(symbol) else f"#{number}"
            self.symbols.learn(number, at_ns, name)
            self._add(self.symbols.venue(publisher), name, event_ns, at_ns, more)

    def _map(self, values: Values) -> None:
        fields = ("instrument_id", "start_ts", "end_ts", "stype_out_symbol", "stype_in_symbol")
        for number, start, end, out, into in zip(*(values[f].tolist() for f in fields), strict=True):
            symbol = (into if out.isdigit() else out).decode("utf-8", "replace")
            if usable(symbol):
                self.symbols.add(number, 0 if start > EVER else start, min(end, EVER), symbol)


def _naming_first(group: Records | Refused) -> int:
    """What says how instruments are called comes before what calls them so."""
    names = ("mapping", "definition")
    return names.index(group.name) if isinstance(group, Records) and group.name in names else len(names)


def _merged(parts: list[Rows]) -> Rows:
    """Rows of one table from records of several types, in the order of their times."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate(parts)
    return rows[np.argsort(np.maximum(rows["ts_recv"], rows["ts_event"]), kind="stable")]


def instruments(values: Values) -> list[tuple[str, dict[str, Any]]]:
    """Symbol and further columns of table instrument of each definition."""
    tick = dbn_rows.prices(values["min_price_increment"])
    unit = dbn_rows.prices(values["unit_of_measure_qty"])
    strike = dbn_rows.prices(values["strike_price"])
    factor = np.where(_defined(values["contract_multiplier"]), values["contract_multiplier"], unit)
    lots = [values[f] for f in ("min_lot_size_round_lot", "min_lot_size")]
    lot = np.select([_defined(v) for v in lots], lots, np.nan)
    made = []
    for i, row in enumerate(values):
        kind = row["instrument_class"]
        deleted = "D" if row["security_update_action"] == b"D" else ""
        about = [
            kind.decode("ascii", "replace"),
            _expiry(int(row["expiration"])),
            _number(strike[i]),
            deleted,
        ]
        made.append((row["raw_symbol"].decode("utf-8", "replace"), {
            "kind": KINDS.get(kind, ""), "currency": row["currency"], "tick_size": float(tick[i]),
            "lot_size": float(lot[i]), "multiplier": float(factor[i]),
            "attributes": " ".join(filter(None, about)).encode()[:32],
        }))  # fmt: skip
    return made


def _defined(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether counts are given; a venue without one sends all ones, or nonsense below zero."""
    given: npt.NDArray[np.bool_] = (values > 0) & (values != UNDEF_INT)
    return given


def _expiry(at_ns: int) -> str:
    if not 0 < at_ns < EVER:
        return ""
    at = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    return f"{at:%Y-%m-%d}" if not (at.hour or at.minute) else f"{at:%Y-%m-%dT%H:%MZ}"


def _number(value: np.float64) -> str:
    return "" if np.isnan(value) else f"{value:.12g}"
