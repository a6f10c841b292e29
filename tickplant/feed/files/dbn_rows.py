"""Databento DBN: records to rows, whole columns at a time. What goes where stands in `dbn`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant._core import dbn
from tickplant.feed.files.books import Books, layout
from tickplant.feed.files.dbn_records import UNDEF_PRICE, UNDEF_SIZE, Records
from tickplant.feed.files.scaled import unscaled
from tickplant.feed.sink import shipped_schema
from tickplant.schema import Flag, Rows

PRICE_SCALE = 1_000_000_000
LEVELS = 10
SNAPSHOT, MAYBE_BAD_BOOK = 32, 4
"""Of Databento's flags, those that are told on."""

SECOND_NS = 1_000_000_000
INTERVALS = {17: 0, 32: SECOND_NS, 33: 60 * SECOND_NS, 34: 3600 * SECOND_NS, 35: 86_400 * SECOND_NS}
INTERVALS[36] = INTERVALS[35]
SAMPLED = {192, 193, 195, 196}
"""Types that are a state every so often, not a change."""

STATISTICS = {
    1: b"open", 2: b"ind_open", 3: b"settlement", 4: b"session_low", 5: b"session_high",
    6: b"cleared_vol", 7: b"lowest_offer", 8: b"highest_bid", 9: b"open_int", 10: b"fixing",
    11: b"close", 12: b"net_change", 13: b"vwap", 14: b"volatility", 15: b"delta", 16: b"uncrossing",
    17: b"upper_limit", 18: b"lower_limit", 19: b"block_volume", 20: b"ind_close", 21: b"mwcb_1",
    22: b"mwcb_2", 23: b"mwcb_3", 24: b"collar_ref", 25: b"collar_upper", 26: b"collar_lower",
    10001: b"venue_volume", 10002: b"venue_price",
}  # fmt: skip
STATES = {
    0: b"none", 1: b"pre_open", 2: b"pre_cross", 3: b"quoting", 4: b"cross", 5: b"rotation",
    6: b"new_price", 7: b"trading", 8: b"halt", 9: b"pause", 10: b"suspend", 11: b"pre_close",
    12: b"close", 13: b"post_close", 14: b"ssr_change", 15: b"unavailable",
}  # fmt: skip


def _lookup(pairs: dict[int, int], kind: Any) -> npt.NDArray[Any]:
    table = np.zeros(256, kind)
    for at, value in pairs.items():
        table[at] = value
    return table


_SIDE = _lookup({ord("A"): ord("S"), ord("B"): ord("B")}, np.uint8)
_FLAGS = _lookup({f: int(Flag.SNAPSHOT) if f & SNAPSHOT else 0 for f in range(256)}, np.uint16)

Values = npt.NDArray[np.void]
Codes = npt.NDArray[np.uint32]
Made = list[tuple[str, Rows]]


def chosen(values: Values, which: npt.NDArray[np.bool_]) -> Values:
    """The records for which it is true."""
    # As numbers: numpy copies structs one by one.
    word = "<u8" if values.dtype.itemsize % 8 == 0 else "<u4"
    words = np.ascontiguousarray(values).view(word).reshape(len(values), -1)
    return words.take(np.flatnonzero(which), axis=0).view(values.dtype).reshape(-1)


def letters(values: Values, field: str) -> npt.NDArray[np.uint8]:
    """A column of single characters, as numbers."""
    return values[field].view(np.uint8)


def times(values: Values, field: str) -> npt.NDArray[np.int64]:
    """A column of times; 0 where they are undefined (all ones)."""
    out = values[field].astype(np.int64)
    if out.min(initial=0) < 0:
        out[out < 0] = 0
    return out


def prices(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Fixed-point prices, NaN where undefined."""
    return unscaled(values, PRICE_SCALE, UNDEF_PRICE)


def sizes(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sizes, NaN where undefined."""
    out = values.astype(np.float64)
    if len(out) and out.max() == UNDEF_SIZE:
        out[out == UNDEF_SIZE] = np.nan
    return out


def index_times(values: Values) -> npt.NDArray[np.int64]:
    """The time by which records are ordered and symbols resolved: ts_recv where there is one."""
    event = times(values, "ts_event")
    if "ts_recv" not in (values.dtype.names or ()):
        return event
    received = times(values, "ts_recv")
    return np.where(received == 0, event, received)


def _begun(table: str, values: Values, codes: Codes) -> Rows:
    """Rows of a table with their key columns."""
    rows = np.empty(len(values), shipped_schema()[table].dtype)
    names = values.dtype.names or ()
    rows["ts_event"] = times(values, "ts_event")
    rows["ts_recv"] = times(values, "ts_recv") if "ts_recv" in names else 0
    rows["ts_plant"] = 0
    rows["instrument"] = codes
    rows["feed"] = 0
    rows["flags"] = _FLAGS[values["flags"]] if "flags" in names else 0
    if "venue_seq" in (rows.dtype.names or ()):
        rows["venue_seq"] = values["sequence"] if "sequence" in names else 0
    return rows


def trades(values: Values, codes: Codes) -> Rows:
    """Rows of table trade; the side is the aggressor's."""
    rows = _begun("trade", values, codes)
    rows["trade_id"] = 0
    rows["price"] = prices(values["price"])
    rows["size"] = sizes(values["size"])
    rows["side"] = _SIDE[letters(values, "side")].view("S1")
    rows["action"] = b"T"
    rows["condition"] = b""
    return rows


def quotes(values: Values, codes: Codes) -> Rows:
    """Rows of table quote, from the best level of each record."""
    rows = _begun("quote", values, codes)
    for side in ("bid", "ask"):
        rows[f"{side}_price"] = prices(values[f"{side}_px_00"])
        rows[f"{side}_size"] = sizes(values[f"{side}_sz_00"])
    return rows


def books(values: Values) -> Books:
    """The ten levels of mbp-10 records."""
    made = np.empty(len(values), layout(LEVELS))
    for side, name in enumerate(("bid", "ask")):
        for level in range(LEVELS):
            made["price"][:, side, level] = prices(values[f"{name}_px_{level:02}"])
            made["size"][:, side, level] = sizes(values[f"{name}_sz_{level:02}"])
            made["orders"][:, side, level] = values[f"{name}_ct_{level:02}"]
    return made


def native(records: Records, codes: Codes) -> Made:
    """Records of market by order, and of trades alone: nearly all there is, so all of it in C."""
    by_order, count = records.name == "mbo", len(records.values)
    order = np.empty(count * dbn.ORDER_SIZE if by_order else 0, np.uint8)
    trade = np.empty(count * dbn.TRADE_SIZE, np.uint8)
    n_orders, n_trades = dbn.rows(np.ascontiguousarray(records.bytes), codes, by_order, order, trade)
    made = (("order", order, n_orders * dbn.ORDER_SIZE), ("trade", trade, n_trades * dbn.TRADE_SIZE))
    return [(table, rows[:size].view(shipped_schema()[table].dtype)) for table, rows, size in made if size]


def top(records: Records, codes: Codes) -> Made:
    """Records with the best bid and offer: quotes, and trades."""
    made: Made = [("quote", quotes(records.values, codes))]
    if records.rtype in SAMPLED:
        made[0][1]["flags"] |= np.uint16(Flag.SNAPSHOT)
        zero = made[0][1]["ts_event"] == 0  # there was no trade yet
        made[0][1]["ts_event"][zero] = made[0][1]["ts_recv"][zero]
    else:
        made += only_trades(records, codes)
    return made


def lacking(records: Records) -> npt.NDArray[np.bool_]:
    """Which records are a trade or a bar without a value that it needs."""
    values, names = records.values, records.values.dtype.names or ()
    if "open" in names:
        bad = np.zeros(len(values), np.bool_)
        for name in ("open", "high", "low", "close"):
            bad |= values[name] == UNDEF_PRICE
        return bad
    if not {"action", "price", "size"} <= {*names}:
        return np.zeros(len(values), np.bool_)
    undefined = (values["price"] == UNDEF_PRICE) | (values["size"] == UNDEF_SIZE)
    undefined |= times(values, "ts_event") == 0
    found: npt.NDArray[np.bool_] = undefined & (letters(values, "action") == ord("T"))
    return found


def only_trades(records: Records, codes: Codes) -> Made:
    """The trades among records, whatever else these say."""
    trade = letters(records.values, "action") == ord("T")
    if trade.all():
        return [("trade", trades(records.values, codes))]
    return [("trade", trades(chosen(records.values, trade), codes[trade]))] if trade.any() else []


def bars(records: Records, codes: Codes) -> Made:
    """OHLCV records."""
    rows, values = _begun("bar", records.values, codes), records.values
    rows["start"], rows["interval_ns"] = rows["ts_event"], INTERVALS[records.rtype]
    rows["ts_event"] += rows["interval_ns"]
    for name in ("open", "high", "low", "close"):
        rows[name] = prices(values[name])
    rows["volume"] = values["volume"]
    for name in ("notional", "buy_volume", "sell_volume"):
        rows[name] = np.nan
    rows["trades"] = rows["revision"] = 0
    rows["final"] = 1
    return [("bar", rows)]


def imbalances(records: Records, codes: Codes) -> Made:
    """Auction imbalances."""
    rows, values = _begun("imbalance", records.values, codes), records.values
    rows["reference_price"] = prices(values["ref_price"])
    rows["near_price"] = prices(values["cont_book_clr_price"])
    rows["far_price"] = prices(values["auct_interest_clr_price"])
    rows["paired_size"] = sizes(values["paired_qty"])
    rows["imbalance_size"] = sizes(values["total_imbalance_qty"])
    rows["side"] = _SIDE[letters(values, "side")].view("S1")
    rows["cross_type"] = values["auction_type"]
    rows["variation"] = values["significant_imbalance"]
    return [("imbalance", rows)]


def _named(values: npt.NDArray[Any], names: dict[int, bytes], other: str) -> npt.NDArray[np.bytes_]:
    different, where = np.unique(values, return_inverse=True)
    texts = [names.get(v) or (other % v).encode() for v in different.tolist()]
    return np.array(texts, "S12")[where]


def statistics(records: Records, codes: Codes) -> Made:
    """Statistics of a venue, each a row of table status."""
    rows, values = _begun("status", records.values, codes), records.values
    rows["kind"] = _named(values["stat_type"], STATISTICS, "stat_%d")
    rows["value"] = _named(values["update_action"], {1: b"new", 2: b"delete"}, "action_%d")
    rows["reason"] = _named(values["stat_flags"], {}, "%d")
    quantity = values["quantity"].astype(np.float64)
    quantity[values["quantity"] == np.iinfo(values["quantity"].dtype).max] = np.nan
    price = prices(values["price"])
    rows["level_1"] = np.where(np.isnan(price), quantity, price)
    rows["level_2"] = quantity
    reference = times(values, "ts_ref")
    rows["level_3"] = np.where(reference == 0, np.nan, reference / np.float64(SECOND_NS))
    return [("status", rows)]


def states(records: Records, codes: Codes) -> Made:
    """Trading status of instruments."""
    rows, values = _begun("status", records.values, codes), records.values
    rows["kind"] = b"trading"
    rows["value"] = _named(values["action"], STATES, "state_%d")
    rows["reason"] = _named(values["reason"], {0: b""}, "%d")
    event = values["trading_event"] != 0
    if event.any():
        texts = np.char.mod("%d", values["trading_event"][event]).astype(bytes)
        rows["reason"][event] = np.char.add(np.char.add(rows["reason"][event], b"/"), texts)
    for level, field in enumerate(("is_trading", "is_quoting", "is_short_sell_restricted"), 1):
        said = values[field]
        rows[f"level_{level}"] = np.select([said == b"Y", said == b"N"], [1.0, 0.0], np.nan)
    return [("status", rows)]


ROWS: dict[str, Callable[[Records, Codes], Made]] = {
    "mbo": native, "trades": native, "imbalance": imbalances, "statistics": statistics,
    "status": states,
    **dict.fromkeys(("mbp-1", "tbbo", "bbo-1s", "bbo-1m", "cmbp-1", "tcbbo", "cbbo-1s", "cbbo-1m"), top),
    **dict.fromkeys(("ohlcv", "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "ohlcv-eod"), bars),
}  # fmt: skip
"""By type of record: what makes its rows. Those that need more than the record itself are in `dbn`."""
