"""Databento DBN: which instrument an instrument id means at a time, and its code.

Databento gives an id anew each UTC date; the metadata of a file says by date which symbol an id was
(docs.databento.com, "Symbology"). The instrument, and so the code, follows the symbol, not the id. An id
that nothing explains is the instrument "#<id>".
"""

from bisect import bisect_right
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant._core import dbn

EVER = (1 << 63) - 1
SYMBOL_MAX = 48
DAY_NS = 86_400_000_000_000
_EPOCH = date(1970, 1, 1).toordinal()

_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: multiples of it are spread evenly (as in dbn.h)."""

_VENUES = """
GLBX XNAS XBOS XPSX BATS BATY EDGA EDGX XNYS XCIS XASE XCHI XCIS XCIS MEMX EPRL FINN FINC FINY AMXO
XBOX XCBO EMLD EDGO GMNI XISX MCRY XMIO ARCO OPRA MPRL XNDQ XBXO C2OX XPHL BATO MXOP IEXG XCHI XCIS
IEXG EPRL ARCX XNYS XNYS XNAS XNAS XCHI XCIS IEXG EPRL XNAS XNYS FINN FINY FINC IFEU NDEX DBEQ EQUS
SPHR XCHI XCIS IEXG EPRL XNAS XNYS FINN FINY FINC BATS BATY EDGA EDGX XBOS XPSX MEMX XASE ARCX LTSE
XNAS FINN FINC XOFF XOFF XBOS XPSX XBOS XPSX EQUS XCIS XNYS EQUS EQUS EQUS EQUS IFUS XOFF IFLL XOFF
XEUR XEEE XOFF XOFF XCBF XOFF OCEA MXTO IEXO MAIN XASE XBOS XCIS TXSE 24EQ EPRL XISX EDGA EDGX LTSE
XCHI XNYS ARCX XNAS MEMX IEXG XPSX BATY BATS FINN FINY FINC XADF CTA UTP MSCI FTSE INAV MSTAR CCCY
CGI CDEF XTKS XTKT XOSE MAIN MSCI FTSE INAV MSTAR CCCY CGI CDEF
"""
VENUES = _VENUES.split()
"""Databento's venue of each publisher id, from 1."""


def usable(symbol: str) -> bool:
    """Whether a symbol is one, and table instrument has room for it."""
    return 0 < len(symbol.encode("utf-8", "replace")) <= SYMBOL_MAX and "\0" not in symbol


class Symbols:
    """Codes of instruments, by publisher, id and time."""

    def __init__(self, venue: str, one_venue: bool, define: Callable[[str, str, int], int]) -> None:
        """`venue`: of publishers that are not known, or of all if `one_venue`.

        `define(venue, symbol, at_ns)` gives an instrument its code, the same each time.
        """
        self._venue, self._one_venue, self._define = venue, one_venue, define
        self._spans: dict[int, tuple[list[int], list[int], list[str]]] = {}
        self._fixed: set[int] = set()
        self._forget()

    def _forget(self) -> None:
        self._current: dict[int, tuple[int, int, int]] = {}
        self._remember()

    def add(self, instrument_id: int, start_ns: int, end_ns: int, symbol: str) -> None:
        """From `start_ns` to before `end_ns` the id means this symbol; what begins last holds."""
        starts, ends, symbols = self._spans.setdefault(instrument_id, ([], [], []))
        place = bisect_right(starts, start_ns)
        starts.insert(place, start_ns)
        ends.insert(place, end_ns)
        symbols.insert(place, symbol)
        self._forget()

    def learn(self, instrument_id: int, at_ns: int, symbol: str) -> None:
        """A definition says so; it holds from then on where the metadata says nothing of the id."""
        if instrument_id in self._fixed:
            return
        starts, _, symbols = self._spans.get(instrument_id, ([], [], []))
        if not symbols or symbols[bisect_right(starts, at_ns) - 1] != symbol:
            self.add(instrument_id, at_ns if symbols else 0, EVER, symbol)

    def metadata(self, mappings: dict[str, list[dict[str, Any]]], inverse: bool) -> None:
        """Take the mappings of a file's metadata; `inverse` if they go from ids to symbols."""
        for name, intervals in mappings.items():
            for interval in intervals:
                number, symbol = (name, interval["symbol"]) if inverse else (interval["symbol"], name)
                if number.isdecimal() and usable(symbol):
                    bounds = (interval["start_date"], interval["end_date"])
                    start, end = ((day.toordinal() - _EPOCH) * DAY_NS for day in bounds)
                    self.add(int(number), start, end, symbol)
                    self._fixed.add(int(number))

    def venue(self, publisher: int) -> str:
        """The venue of a publisher."""
        known = not self._one_venue and 1 <= publisher <= len(VENUES)
        return VENUES[publisher - 1] if known else self._venue

    def codes(self, records: npt.NDArray[np.uint8], at_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """The code of each record's instrument at its time; `records` are their bytes, one a row."""
        first, last = int(at_ns.min()), int(at_ns.max())
        out = np.zeros(len(records), np.uint32)
        missing: Any = slice(None)
        if self._from <= first and last < self._to:
            if not dbn.find(records, self._keys, self._codes, self._bits, out):
                return out
            missing = np.flatnonzero(out == 0)
        head = np.ascontiguousarray(records[missing, :8]).view([("", "<u2"), ("p", "<u2"), ("n", "<u4")])
        keys = head["p"].reshape(-1).astype(np.uint64) << np.uint64(32) | head["n"].reshape(-1)
        out[missing] = self._resolved(keys, at_ns[missing], first)
        return out

    def _resolved(
        self, keys: npt.NDArray[np.uint64], at_ns: npt.NDArray[np.int64], first: int
    ) -> npt.NDArray[np.uint32]:
        """Each instrument by itself; what holds at its last time is remembered."""
        out = np.empty(len(keys), np.uint32)
        self._current = {k: c for k, c in self._current.items() if c[1] > first}
        order = np.argsort(keys, kind="stable")
        ends = np.append(np.nonzero(np.diff(keys[order]))[0] + 1, len(order))
        begin = 0
        for end in ends.tolist():
            own = order[begin:end]
            begin = end
            key, times = int(keys[own[0]]), at_ns[own]
            starts = self._spans.get(key & 0xFFFFFFFF, ([], [], []))[0]
            if len(starts) < 2:
                spans = np.where(times >= starts[0], 0, -1) if starts else np.full(len(own), -1)
            else:
                spans = np.searchsorted(np.array(starts, np.int64), times, "right") - 1
            if spans[0] == spans[-1] and (spans == spans[0]).all():
                out[own] = self._coded(key, int(spans[0]), times)
                continue
            for span in np.unique(spans).tolist():
                within = spans == span
                out[own[within]] = self._coded(key, span, times[within])
        self._remember()
        return out

    def _coded(self, key: int, span: int, times: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Codes of one instrument id in one span, some times perhaps after its end."""
        starts, ends, symbols = self._spans.get(key & 0xFFFFFFFF, ([], [], []))
        venue = self.venue(key >> 32)
        after = starts[span + 1] if span + 1 < len(starts) else EVER
        end = min(ends[span], after) if span >= 0 else -EVER
        out = np.zeros(len(times), np.uint32)
        inside = times < end
        if inside.any():
            code = self._define(venue, symbols[span], int(times[inside][0]))
            out[inside] = code
            self._current[key] = (starts[span], end, code)
        if not inside.all():
            code = self._define(venue, f"#{key & 0xFFFFFFFF}", int(times[~inside][0]))
            out[~inside] = code
            self._current[key] = (max(end, -EVER), after, code)
        return out

    def _remember(self) -> None:
        """Make the table in which codes are looked up."""
        self._bits = max(4, (8 * len(self._current)).bit_length())
        self._keys = np.zeros(1 << self._bits, np.uint64)
        self._codes = np.zeros(1 << self._bits, np.uint32)
        for key, (_, _, code) in self._current.items():
            slot = (key * _GOLDEN & (1 << 64) - 1) >> 64 - self._bits
            while self._codes[slot]:
                slot = (slot + 1) % len(self._codes)
            self._keys[slot], self._codes[slot] = key, code
        # In here it holds for all of them; before and after, each is looked at again.
        self._from = max((f for f, _, _ in self._current.values()), default=0)
        self._to = min((t for _, t, _ in self._current.values()), default=0)
