"""The instruments of a venue: those that it lists, and those that its messages name before a list does.

    known        listed: its list, or a listing channel, says what it is
    unlisted     a message names it, and no list (yet): no list was recorded, it is newer than the list, or
                 its entry could not be read. It is defined from what its name says (`Venue.instrument`),
                 with Flag.PROVISIONAL, NaN for numbers that nobody told, and a row of event of kind unlisted

A name that can be read in no way, or in two, is not read at all: the instrument then goes by the venue's
own name. When the list comes, the instrument is defined again, under the same code. If its name is another
one then, it gets a code of its own (a name means one instrument for ever), and a row of event of kind
renamed says both names.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import msgspec

from tickplant.errors import SchemaError
from tickplant.feed.sink import Sink
from tickplant.feed.symbols import NAN, Instrument
from tickplant.schema import Flag

REFUSED = (msgspec.MsgspecError, SchemaError, ValueError, KeyError, IndexError, TypeError, OverflowError)
"""What a decoder may raise at a message that is not as the venue documents it."""
INSTRUMENTS_MAX = 65_536
"""Of one feed; as many as the plant takes of one (limits.feed_instruments)."""
NAMES = (
    "symbol",
    "instId",
    "instrument_name",
    "product_id",
    "product_code",
    "market",
    "wsname",
    "url_symbol",
    "name",
    "id",
)
"""Keys under which entries of lists have the instrument's name."""
NATIVE_MAX = 48

Entry = tuple[str, Instrument] | None
"""The venue's own name, and what it stands for; None: an entry that is to be passed over."""


class Directory:
    """Instruments of one venue, by its own names of them."""

    def __init__(
        self, sink: Sink, read: Callable[[str], Instrument], renamed: Callable[[str, int, int], None]
    ) -> None:
        """`read`: what a name says by its form, or ValueError.

        `renamed`: called with name, code and ts_recv of an instrument that has another code from now on.
        """
        self.sink, self.read, self.renamed = sink, read, renamed
        self.known: dict[str, Instrument] = {}
        self.unlisted: dict[str, Instrument] = {}
        """What messages named, and no list has."""
        self.unread: set[str] = set()
        """Names of entries that could not be read."""
        self.codes: dict[str, int] = {}
        self._owners: dict[str, str] = {}
        """By symbol: the instrument that has it."""

    def code(self, native: str, ts_recv: int) -> int:
        """The code of an instrument in rows, defined on first use. Raises ValueError for what is no name."""
        code = self.codes.get(native)
        return code if code is not None else self._first(native, ts_recv)

    def enlist(self, native: str, listed: Instrument, ts_recv: int) -> None:
        """A list says what an instrument is. It is defined again if that was not known, or is other now."""
        before = self.known.get(native)
        self.known[native] = listed
        self.unread.discard(native)
        if native in self.codes and (native in self.unlisted or repr(before) != repr(listed)):
            self._again(native, listed, ts_recv)

    def take(self, entries: Iterable[Any], read: Callable[[Any], Entry], ts_recv: int) -> None:
        """Know the instruments of a list, entry by entry.

        An entry that can't be read is an event about it; the others stand, before and behind it.
        """
        for entry in entries:
            try:
                made = read(entry)
                if made:
                    self.enlist(*made, ts_recv)
            except (*REFUSED, AttributeError) as e:  # or an entry is no object at all
                self._unreadable(entry, e, ts_recv)

    def settle(self, ts_recv: int) -> None:
        """Define again what was unlisted and has come into `known` meanwhile."""
        for native in [n for n in self.unlisted if n in self.known]:
            self._again(native, self.known[native], ts_recv)

    def _first(self, native: str, ts_recv: int) -> int:
        if len(self.codes) >= INSTRUMENTS_MAX:
            raise ValueError(f"{native!r} is one instrument too many")
        listed = self.known.get(native)
        if listed is not None:
            self.codes[native] = code = self._define(native, listed, ts_recv)
            return code
        if not native or len(native.encode()) > NATIVE_MAX or not native.isprintable() or " " in native:
            raise ValueError(f"{native[:60]!r} is no name of an instrument")
        said, why = self._read(native)
        code = self._define(native, said, ts_recv, int(Flag.PROVISIONAL))
        self.codes[native], self.unlisted[native] = code, said
        self.sink.event("unlisted", ts_recv, f"{native} is in no list: {why}", instrument=code,
                        flags=int(Flag.PROVISIONAL))  # fmt: skip
        return code

    def _read(self, native: str) -> tuple[Instrument, str]:
        """What a name says by itself, and how that was come by, in words."""
        try:
            said = self.read(native)
        except REFUSED as e:
            return Instrument("", "", "", multiplier=NAN, name=native), f"it goes by its own name; {e}"
        said = replace(said, tick_size=NAN, lot_size=NAN, multiplier=1.0 if said.kind == "spot" else NAN)
        return said, f"{said.symbol} is what its name says"

    def _define(self, native: str, instrument: Instrument, ts_recv: int, flags: int = 0) -> int:
        """Define it by its name; if another instrument has that one, by the venue's own."""
        owner = self._owners.get(instrument.symbol, native)
        if owner != native:
            instrument = replace(instrument, name=native)
        code = self.sink.define(instrument.symbol, 0, ts_recv, flags=flags, **instrument.definition(native))
        self._owners.setdefault(instrument.symbol, native)
        if owner != native:
            self.sink.event("ambiguous", ts_recv, f"{owner} has the name of {native}, which goes by its own",
                            instrument=code)  # fmt: skip
        return code

    def _again(self, native: str, listed: Instrument, ts_recv: int) -> None:
        old, was = self.codes[native], self.unlisted.pop(native, None)
        code = self.codes[native] = self._define(native, listed, ts_recv)
        if code != old:
            name = was.symbol if was else native
            self.sink.event("renamed", ts_recv, f"{native} is {listed.symbol}; it was called {name}",
                            instrument=old, first=old, last=code)  # fmt: skip
            self.renamed(native, code, ts_recv)

    def _unreadable(self, entry: Any, error: Exception, ts_recv: int) -> None:
        name = _named(entry)
        if name and name not in self.known:
            self.unread.add(name)
        self.sink.event(
            "unlisted", ts_recv, f"{name or 'an entry'} of the list can't be read: {_said(error)}"
        )


def _said(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _named(entry: Any) -> str:
    """The instrument's name in an entry, as far as that can be told."""
    try:
        plain = msgspec.to_builtins(msgspec.json.decode(entry) if isinstance(entry, msgspec.Raw) else entry)
    except (msgspec.MsgspecError, TypeError):
        return ""
    if isinstance(plain, str):
        return plain
    names = [plain.get(key) for key in NAMES] if isinstance(plain, dict) else plain
    return next((n for n in names if isinstance(n, str) and n), "") if isinstance(names, list) else ""
