"""Simulated venues: rows that behave like a market's, as many as wanted, and the same every time.

Nothing here reads a clock, a file or a socket: a `Simulation` is a function of its seed and of the
calls made to it (and of numpy's generators). What its consumers may rely on, and check:

- `venue_seq` counts all rows of the venue but definitions, from 1, without a hole. A batch groups
  its rows by table; their order in the market is that of `venue_seq`, and `ts_event` increases
  strictly with it. `ts_recv` is the end of the batch's interval, never before `ts_event`.
- An instrument is opened (table `status`), then quoted, then traded.
- bid < ask; prices are multiples of the instrument's `tick_size`, sizes of its `lot_size`, and both
  are the doubles nearest to their decimals, so that they print as short as they are.
- A trade is at the bid (side S), at the ask (side B) or between them (`Flag.HIDDEN`; side of the
  nearer, none at the midpoint) of its instrument's last quote. What is halted is quoted only.
- `trade_id` counts the trades (action T) from 1 without a hole. A row with action X or C has
  `Flag.CORRECTION`, and the `trade_id`, instrument and price of a trade of an earlier batch; C has
  the size as it should have been. No trade is corrected twice.
- A book in `depth` is a row R followed by its levels, best first: the bids, then the asks; level 1
  is the last quote.
"""

import math
import zlib
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tickplant.feed.capture import Batch
from tickplant.feed.simulated_market import (
    CONDITIONS,
    CORRECT,
    DEPTH,
    FLAVOURS,
    FLOOR_TICKS,
    HALT,
    LENGTHS,
    OPEN,
    QUOTE,
    REASONS,
    RESUME,
    SIDES,
    SPREADS,
    STATES,
    STEPS,
    TRADE,
    Array,
    Instruments,
    tables,
)
from tickplant.schema import Flag, Rows, Schema

LEVELS = 5
BOOK = 1 + 2 * LEVELS
"""Rows of one book: the reset and the levels of both sides."""

FIELDS = 12
"""16-bit random numbers drawn per point."""

BURST_CHANCE, BURST_PACE = 1 / 4000, 8.0
HEAT_PER_BURST, HEAT_POINTS = 0.1, 20_000
"""A burst makes further ones likelier, for a while; about half of them have that cause."""
CALM_GAP = 1.12
"""Gaps outside bursts, relative to the mean one (inside they are 1 / BURST_PACE of it)."""

HALT_NS = (500_000_000, 5_000_000_000)
"""Halts last this long: seconds and not minutes, so that a demo sees them end."""

CORRECTABLE = 256
"""Trades of a batch, the last ones, that may be corrected during the next batches."""


@dataclass
class _Points:
    """What happens until `now_ns`, in the order of the market. A point is one row, or one book.

    `kind`, `who` (instrument, from 0), `burst` (whether in one), `bits` (what chance decides,
    FIELDS per point), `first` (row of the batch at which it begins), `ts` (ns), `top` (its
    instrument's last quote: bid and ask in ticks, bid and ask size in units), and the trades that
    those of kind CORRECT are about.
    """

    kind: Array
    who: Array
    burst: Array
    bits: Array
    first: Array
    ts: Array
    now_ns: int
    top: Array
    corrected: Rows

    def only(self, at: Array) -> "_Points":
        """The points at these positions."""
        return replace(
            self,
            kind=self.kind[at],
            who=self.who[at],
            burst=self.burst[at],
            bits=self.bits.take(at, axis=1),
            first=self.first[at],
            ts=self.ts[at],
            top=self.top.take(at, axis=1),
        )


class Simulation:
    """One venue and its instruments, whose codes are 1 to `instruments`.

    `kind` "equity": cents, round lots, halts. "crypto": ticks by price, fractional sizes, books in
    `depth`. Time begins at `start_ns`; `rate` is the mean number of rows per second of simulated
    time where the caller of `batch` does not set the pace. Venues of different name or seed are
    independent. `schema` must declare what `simulated_market.NEEDED` lists; else SchemaError.

    `rows` counts the rows made so far by table, `now_ns` is the end of the last batch.
    """

    def __init__(
        self,
        venue: str,
        *,
        seed: int,
        schema: Schema,
        start_ns: int,
        kind: Literal["equity", "crypto"] = "equity",
        instruments: int = 200,
        rate: float = 20_000.0,
    ) -> None:
        if kind not in FLAVOURS:
            raise ValueError(f"kind is {kind!r}; must be one of {', '.join(FLAVOURS)}")
        if instruments < 1 or not rate > 0 or not 1 <= len(venue.encode("ascii")) <= 16:
            raise ValueError(f"no venue {venue!r} with {instruments} instruments, {rate} rows/s")
        self.venue, self.rate, self.now_ns = venue, rate, start_ns
        self.rows: Counter[str] = Counter()
        self._flavour = FLAVOURS[kind]
        self._tables = tables(schema, self._flavour)
        self._rng = np.random.default_rng([seed & (1 << 64) - 1, zlib.crc32(venue.encode())])
        self._of = Instruments(self._flavour, instruments, self._rng)
        self._definitions = self._of.rows(self._tables["instrument"], venue, start_ns)
        self._walk = self._of.mid.copy()
        self._top = np.zeros((4, instruments), "i8")
        self._halt_until = np.zeros(instruments, "i8")
        self._seq = self._trade_id = self._opened = 0
        self._heat, self._burst_left, self._focus = 0.0, 0, 0
        self._none = self._tables["trade"].empty(0)
        self._past: deque[Rows] = deque(maxlen=16)

    def definitions(self) -> Rows:
        """The rows of table `instrument`, by code: to be published before the first batch."""
        return self._definitions.copy()

    def batch(self, events: int, now_ns: int | None = None) -> Batch:
        """The next `events` rows, spread over the time after the last batch up to `now_ns`.

        Without `now_ns` simulated time advances as `rate` has it, by chance more or less. Raises
        ValueError if the time since the last batch is not at least `events` nanoseconds.
        """
        if events < 1 or (now_ns is not None and now_ns - self.now_ns < events):
            raise ValueError(f"no room for {events} rows from {self.now_ns} to {now_ns} ns")
        points = self._draw(events, now_ns)
        self._trace(points)
        made: Batch = []
        for name, chosen, make in (
            ("status", points.kind >= HALT, self._status),
            ("quote", points.kind == QUOTE, self._quote),
            ("depth", points.kind == DEPTH, self._depth),
            ("trade", (points.kind == TRADE) | (points.kind == CORRECT), self._trade),
        ):
            at = chosen.nonzero()[0]
            if len(at):
                made.append((name, make(points.only(at))))
                self.rows[name] += len(made[-1][1])
        self.now_ns = points.now_ns
        self._seq += events
        return made

    # What happens, and to whom.

    def _draw(self, events: int, now_ns: int | None) -> _Points:
        """Points that make `events` rows, but for their quotes."""
        lead_kind, lead_who = self._lead(events)
        kind, first = self._lay_out(lead_kind, events)
        n = len(kind)
        raw = self._rng.integers(0, 1 << 64, FIELDS // 4 * n, dtype=np.uint64)
        bits = raw.astype("<u8", copy=False).view("<u2").reshape(FIELDS, n)
        wide = bits[0].astype("i8") << 16 | bits[1]
        who = self._of.busy[wide & (len(self._of.busy) - 1)]
        burst, focus = self._bursts(bits, who)
        if focus is not None:
            who = np.where(burst & (bits[2] & 1 == 1), focus, who)
        who[: len(lead_who)] = lead_who
        corrected = self._correct(kind, who)
        ts, now_ns = self._spread(burst, first, events, now_ns)
        return _Points(kind, who, burst, bits, first, ts, now_ns, self._top, corrected)

    def _lead(self, events: int) -> tuple[Array, Array]:
        """Kinds and instruments of what must come first: the opening, or halts that are over."""
        n = len(self._halt_until)
        if self._opened < 2 * n:
            at = np.arange(self._opened, min(2 * n, self._opened + events))
            self._opened += len(at)
            return np.where(at < n, OPEN, QUOTE).astype("u1"), at % n
        who = self._halt_until.nonzero()[0]
        if len(who):
            who = who[self._halt_until[who] <= self.now_ns][:events]
            self._halt_until[who] = 0
        return np.full(len(who), RESUME, "u1"), who

    def _lay_out(self, lead: Array, events: int) -> tuple[Array, Array]:
        """Kinds of points that make `events` rows, those of `lead` first, and their first rows."""
        drawn = self._rng.integers(0, 1 << 16, events, dtype=np.uint16)
        kind = self._flavour.kinds[drawn]
        kind[: len(lead)] = lead
        if not (kind == DEPTH).any():
            return kind, np.arange(events)
        width = np.where(kind == DEPTH, BOOK, 1)
        ends = np.cumsum(width)
        fit = int(np.searchsorted(ends, events, "right"))
        # A book that would overhang is not begun: single rows fill what room there is.
        rest = events - (int(ends[fit - 1]) if fit else 0)
        kind = kind[: fit + rest]
        kind[fit:][kind[fit:] == DEPTH] = QUOTE
        return kind, np.append(ends[:fit] - width[:fit], events - rest + np.arange(rest))

    def _bursts(self, bits: Array, who: Array) -> tuple[Array, Array | None]:
        """Which points are in a burst, and around which instrument each (None: there is none)."""
        n = len(who)
        chance = BURST_CHANCE * (1 + HEAT_PER_BURST * self._heat)
        begins = bits[3] < min(chance, 0.5) * (1 << 16)
        count = int(np.count_nonzero(begins))
        cooled = math.exp(-n / HEAT_POINTS)
        self._heat = self._heat * cooled + count * (1 - cooled) * HEAT_POINTS / n
        if not count and not self._burst_left:
            return begins, None
        at = np.arange(n)
        reach = np.where(begins, at + LENGTHS[bits[4] >> 4], self._burst_left)
        reach = np.maximum.accumulate(reach)
        cause = np.maximum.accumulate(np.where(begins, at, -1))
        focus = np.where(cause < 0, self._focus, who[cause]).astype(who.dtype)
        self._burst_left = max(int(reach[-1]) - n, 0)
        self._focus = int(focus[-1])
        return at < reach, focus

    def _spread(self, fast: Array, first: Array, events: int, now: int | None) -> tuple[Array, int]:
        """Times of points, `fast` if in a burst, and the end of the interval."""
        n = len(fast)
        gaps = self._rng.standard_exponential(n)
        gaps[fast] /= BURST_PACE
        passed = gaps.cumsum()
        if now is None:
            mean = CALM_GAP * float(passed[-1]) / n
            now = self.now_ns + events + int(mean * events / self.rate * 1e9)
        slack = now - self.now_ns - events
        share = np.minimum((passed * (slack / passed[-1])).astype("i8"), slack)
        # One nanosecond per row beside the share, so that no two rows have the same time.
        return share + first + (self.now_ns + 1), now

    def _correct(self, kind: Array, who: Array) -> Rows:
        """Choose the trades that points of kind CORRECT are about; returns them."""
        at = (kind == CORRECT).nonzero()[0]
        if not len(at):
            return self._none
        past = np.concatenate([self._none, *self._past])
        kind[at[len(past) :]] = QUOTE
        at = at[: len(past)]
        chosen = self._rng.permutation(len(past))[: len(at)]
        self._past.clear()
        self._past.append(np.delete(past, chosen))
        who[at] = past["instrument"][chosen] - 1
        return past[chosen]

    # What it does to quotes and trading.

    def _trace(self, points: _Points) -> None:
        """Walk each instrument through its points: who is halted when, and the quote at each."""
        order = points.who.argsort(kind="stable")
        who, kind, bits = points.who[order], points.kind[order], points.bits
        self._halt(kind, who, points.now_ns)
        n = len(who)
        at = np.arange(n)
        last = np.ones(n, "?")
        last[:-1] = who[1:] != who[:-1]
        start = np.zeros(n, "i8")
        start[1:] = at[1:] * last[:-1]
        start = np.maximum.accumulate(start)
        quoted = kind == QUOTE
        mood = points.burst[order] * np.uint16(256)
        move = bits[5].take(order)
        step = STEPS[mood | move >> 8] * self._of.stride[who] * quoted
        total = step.cumsum()
        walk = self._walk[who] + total - (total - step)[start]
        spread = SPREADS[mood | move & 255]
        top = np.empty((4, n), "i8")
        top[0] = FLOOR_TICKS + np.abs(walk - FLOOR_TICKS) - (spread >> 1)
        top[1] = top[0] + spread
        top[2:] = self._flavour.sizes[bits[6:8].take(order, axis=1) >> 4]
        source = np.maximum.accumulate(np.where(quoted, at, -1))
        top = np.where(source >= start, top.take(source, axis=1, mode="wrap"), self._top.take(who, axis=1))
        ends = last.nonzero()[0]
        self._walk[who[ends]] = walk[ends]
        self._top[:, who[ends]] = top.take(ends, axis=1)
        points.kind[order] = kind
        points.top = np.empty_like(top)
        points.top[:, order] = top

    def _halt(self, kind: Array, who: Array, now_ns: int) -> None:
        """Make quotes of trades in halted instruments; begin halts. Arrays are by instrument."""
        if self._halt_until.any():
            kind[(kind == TRADE) & (self._halt_until[who] > 0)] = QUOTE
        for at in (kind == HALT).nonzero()[0]:
            if self._halt_until[who[at]]:
                kind[at] = QUOTE
                continue
            self._halt_until[who[at]] = now_ns + int(self._rng.integers(*HALT_NS))
            rest = kind[at : np.searchsorted(who, who[at], "right")]
            rest[rest == TRADE] = QUOTE

    # Rows.

    def _begin(self, table: str, points: _Points) -> Rows:
        """A row per point, with all that tables have in common."""
        rows = self._tables[table].empty(len(points.kind))
        rows["ts_event"] = points.ts
        rows["ts_recv"] = points.now_ns
        rows["instrument"] = points.who
        rows["instrument"] += 1
        rows["venue_seq"] = points.first + (self._seq + 1)
        return rows

    def _status(self, points: _Points) -> Rows:
        rows = self._begin("status", points)
        rows["kind"], rows["value"] = b"trading", STATES[points.kind]
        rows["reason"] = np.where(points.kind == HALT, REASONS[points.bits[8] & 3], b"")
        rows["level_1"] = rows["level_2"] = rows["level_3"] = np.nan
        return rows

    def _quote(self, points: _Points) -> Rows:
        rows = self._begin("quote", points)
        # A quotient of integers below 2^53 is the double nearest to the decimal; a product is not.
        scale, size_scale = self._of.price_scale[points.who], self._of.size_scale[points.who]
        rows["bid_price"], rows["ask_price"] = points.top[:2] / scale
        rows["bid_size"], rows["ask_size"] = points.top[2:] / size_scale
        return rows

    def _depth(self, points: _Points) -> Rows:
        n, rng = len(points.kind), self._rng
        rows = np.repeat(self._begin("depth", points), BOOK).reshape(n, BOOK)
        rows["flags"] = Flag.SNAPSHOT
        for name in ("ts_event", "venue_seq"):
            rows[name] += np.arange(BOOK)
        rows["action"], rows["price"][:, 0] = b"A", np.nan
        rows["action"][:, 0] = b"R"
        away = np.cumsum(rng.integers(1, 4, (n, 2, LEVELS)), axis=2)
        away -= away[:, :, :1]
        away[:, 0] *= -1
        size = self._flavour.sizes[rng.integers(0, 4096, (n, 2, LEVELS))]
        size[:, :, 0] = points.top[2:].T
        price = points.top[:2].T[:, :, None] + away
        levels = rows[:, 1:].reshape(n, 2, LEVELS)
        levels["price"] = price / self._of.price_scale[points.who][:, None, None]
        levels["size"] = size / self._of.size_scale[points.who][:, None, None]
        levels["orders"] = 1 + rng.integers(0, 20, size.shape)
        levels["level"] = np.arange(1, LEVELS + 1)
        levels["side"] = np.array([[b"B"], [b"S"]])
        rows[:, 1:] = levels.reshape(n, BOOK - 1)
        return rows.ravel()

    def _trade(self, points: _Points) -> Rows:
        rows = self._begin("trade", points)
        (bid, ask), (where, much, how) = points.top[:2], points.bits[8:11]
        room = ask - bid - 1
        within = (where & 14 == 0) & (room > 0)
        price = np.where(where & 1, ask, bid)
        price = np.where(within, bid + 1 + (where >> 4) % np.maximum(room, 1), price)
        rows["side"] = SIDES[np.sign(2 * price - bid - ask)]
        rows["flags"] = within * np.uint16(Flag.HIDDEN)
        rows["price"] = price / self._of.price_scale[points.who]
        rows["size"] = self._flavour.sizes[much >> 4] / self._of.size_scale[points.who]
        rows["condition"] = CONDITIONS[how & 7]
        rows["action"] = b"T"
        amends = points.kind == CORRECT
        fresh = (~amends).nonzero()[0]
        if len(fresh) < len(rows):
            self._amend(rows, amends.nonzero()[0], points.corrected, how[amends] & 8 == 0)
        rows["trade_id"][fresh] = self._trade_id + 1 + np.arange(len(fresh))
        self._trade_id += len(fresh)
        self._past.append(rows[fresh[-CORRECTABLE:]])
        return rows

    def _amend(self, rows: Rows, at: Array, corrected: Rows, busts: Array) -> None:
        """Make rows `at` the busts, or else the corrections to one lot more, of earlier trades."""
        scale = self._of.size_scale[corrected["instrument"] - 1]
        for name in ("trade_id", "price", "side", "condition"):
            rows[name][at] = corrected[name]
        rows["flags"][at] = corrected["flags"] | Flag.CORRECTION
        rows["action"][at] = np.where(busts, b"X", b"C")
        units = np.rint(corrected["size"] * scale)
        rows["size"][at] = np.where(busts, units, units + self._flavour.lot) / scale
