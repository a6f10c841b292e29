import tomllib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant.errors import SchemaError
from tickplant.feed import simulated
from tickplant.feed.simulated import BOOK, LEVELS, Simulation
from tickplant.feed.simulated_market import CORRECT, FLAVOURS, FLOOR_TICKS, HALT, QUOTE, TRADE
from tickplant.schema import Flag, Schema, declare

CONFIGURATION = Path(__file__).parents[1] / "conf" / "tickplant.toml"
START = 1_700_000_000_000_000_000
KINDS = ("equity", "crypto")


def configured():
    tables = tomllib.loads(CONFIGURATION.read_text())["tables"]
    return Schema(
        declare(name, number, table["columns"]) for number, (name, table) in enumerate(tables.items(), 1)
    )


SCHEMA = configured()


def simulation(kind="equity", *, seed=7, venue="XSIM", **options):
    options = {"schema": SCHEMA, "start_ns": START, "instruments": 20} | options
    return Simulation(venue, seed=seed, kind=kind, **options)


def eventful():
    """Venues where corrections and halts are as common as trades."""
    often = np.resize(np.array([QUOTE, TRADE, TRADE, CORRECT, QUOTE, TRADE, HALT], "u1"), 1 << 16)
    return patch.dict(simulated.FLAVOURS, {kind: replace(FLAVOURS[kind], kinds=often) for kind in KINDS})


def play(sim, sizes, step_ns=None):
    """Batches of these sizes, each `step_ns` after the other (None: at the venue's rate)."""
    return [sim.batch(n, None if step_ns is None else sim.now_ns + step_ns) for n in sizes]


def raw(batches):
    return [(name, rows.tobytes()) for batch in batches for name, rows in batch]


def rows_of(table, batches):
    found = [rows for batch in batches for name, rows in batch if name == table]
    return np.concatenate(found) if found else SCHEMA[table].empty(0)


def in_order(batches):
    """(table, row, number of its batch) of all rows, by venue_seq."""
    mixed = [
        (name, row, number) for number, batch in enumerate(batches) for name, rows in batch for row in rows
    ]
    return sorted(mixed, key=lambda item: item[1]["venue_seq"])


def check_market(sim, batches):
    """Walk through the rows as a consumer would, and insist on what the module promises."""
    definitions = {int(row["code"]): row for row in sim.definitions()}
    state, quotes, trades, corrected = {}, {}, {}, set()
    book = defaultdict(list)
    last_ts = START
    for seq, (table, row, number) in enumerate(in_order(batches), 1):
        code = int(row["instrument"])
        assert row["venue_seq"] == seq
        assert last_ts < row["ts_event"] <= row["ts_recv"]
        assert code in definitions
        last_ts = row["ts_event"]
        if table == "status":
            before = {b"open": None, b"halt": b"on", b"resume": b"halt"}[row["value"]]
            assert state.get(code) == before
            state[code] = b"halt" if row["value"] == b"halt" else b"on"
        elif table == "quote":
            assert code in state
            assert 0 < row["bid_price"] < row["ask_price"]
            quotes[code] = row
        elif table == "depth":
            book[code] = [] if row["action"] == b"R" else [*book[code], row]
            check_book(book[code], quotes[code])
        elif row["action"] == b"T":
            assert state[code] == b"on"
            assert row["trade_id"] == len(trades) + 1
            check_trade(row, quotes[code])
            trades[len(trades) + 1] = row, number
        else:
            check_correction(row, number, *trades[int(row["trade_id"])])
            assert row["trade_id"] not in corrected
            corrected.add(row["trade_id"])
    return state, trades, corrected


def check_trade(row, quote):
    bid, ask, price = quote["bid_price"], quote["ask_price"], row["price"]
    assert bid <= price <= ask
    hidden = bool(row["flags"] & Flag.HIDDEN)
    assert hidden == (bid < price < ask)
    if row["side"]:
        assert (row["side"] == b"B") == (price - bid > ask - price)
    else:
        assert price - bid == pytest.approx(ask - price)


def check_correction(row, number, trade, traded_in):
    assert row["action"] in (b"X", b"C")
    assert row["flags"] & Flag.CORRECTION
    assert traded_in < number
    for same in ("instrument", "price", "side", "condition"):
        assert row[same] == trade[same]
    assert (row["size"] == trade["size"]) == (row["action"] == b"X")


def check_book(levels, quote):
    if len(levels) < BOOK - 1:
        return
    bids, asks = levels[:LEVELS], levels[LEVELS:]
    for side, sign, best, size, found in (
        (b"B", -1, quote["bid_price"], quote["bid_size"], bids),
        (b"S", 1, quote["ask_price"], quote["ask_size"], asks),
    ):
        assert [row["level"] for row in found] == list(range(1, LEVELS + 1))
        assert {bytes(row["side"]) for row in found} == {side}
        assert (found[0]["price"], found[0]["size"]) == (best, size)
        assert (np.diff([row["price"] for row in found]) * sign > 0).all()
        assert all(row["price"] > 0 and row["size"] > 0 and row["orders"] > 0 for row in found)


calls = {
    "kind": st.sampled_from(KINDS),
    "seed": st.integers(-(2**63), 2**63),
    "instruments": st.integers(1, 40),
    "sizes": st.lists(st.integers(1, 400), min_size=1, max_size=8),
}


@given(**calls, step_ns=st.none() | st.integers(400, 3_000_000_000))
@settings(max_examples=60, deadline=None)
def test_a_consumer_finds_every_promise_kept(kind, seed, instruments, sizes, step_ns):
    sim = simulation(kind, seed=seed, instruments=instruments)
    batches = play(sim, sizes, step_ns)
    check_market(sim, batches)
    assert [sum(len(rows) for _, rows in batch) for batch in batches] == sizes


@given(**calls)
@settings(max_examples=60, deadline=None)
def test_the_promises_hold_when_corrections_and_halts_are_common(kind, seed, instruments, sizes):
    with eventful():
        sim = simulation(kind, seed=seed, instruments=instruments)
    check_market(sim, play(sim, sizes, 1_000_000_000))


def test_instruments_are_halted_and_resumed_and_trades_are_corrected():
    with eventful():
        sim = simulation()
    batches = play(sim, [300] * 30, 1_000_000_000)
    state, trades, corrected = check_market(sim, batches)
    status, trade = rows_of("status", batches), rows_of("trade", batches)
    assert set(status["value"]) == {b"open", b"halt", b"resume"}
    assert set(trade["action"]) == {b"T", b"X", b"C"}
    assert set(state.values()) == {b"halt", b"on"}
    assert 0 < len(corrected) < len(trades)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_run_keeps_every_promise_and_has_some_of_everything(kind):
    sim = simulation(kind, instruments=200)
    batches = play(sim, [10_000] * 15)
    _, _, corrected = check_market(sim, batches)
    assert corrected
    halted = rows_of("status", batches)["value"] == b"halt"
    assert halted.any()
    sides = rows_of("trade", batches)["side"]
    assert set(sides) == {b"", b"B", b"S"}


@given(**calls)
@settings(max_examples=20, deadline=None)
def test_the_same_seed_and_calls_make_the_same_bytes(kind, seed, instruments, sizes):
    one, two = (simulation(kind, seed=seed, instruments=instruments) for _ in range(2))
    assert one.definitions().tobytes() == two.definitions().tobytes()
    assert raw(play(one, sizes)) == raw(play(two, sizes))


@pytest.mark.parametrize("kind", KINDS)
def test_other_seeds_and_other_venues_make_other_rows(kind):
    usual = raw(play(simulation(kind), [500]))
    assert usual != raw(play(simulation(kind, seed=8), [500]))
    assert usual != raw(play(simulation(kind, venue="YSIM"), [500]))


@pytest.mark.parametrize("kind", KINDS)
def test_prices_and_sizes_are_on_the_grid_and_print_as_short_decimals(kind):
    sim = simulation(kind, instruments=100)
    batches = play(sim, [20_000])
    definitions = sim.definitions()
    for table, columns in {
        "quote": {"bid_price": 0, "ask_price": 0, "bid_size": 1, "ask_size": 1},
        "trade": {"price": 0, "size": 1},
        "depth": {"price": 0, "size": 1},
    }.items():
        rows = rows_of(table, batches)
        if table == "depth":
            rows = rows[rows["action"] == b"A"]
        of = definitions[rows["instrument"] - 1]
        for column, is_size in columns.items():
            unit = of["lot_size" if is_size else "tick_size"]
            decimals = np.rint(-np.log10(unit)).clip(0).astype(int)
            values = rows[column]
            assert (values > 0).all()
            multiples = np.rint(values / unit)
            assert np.allclose(values, multiples * unit, rtol=1e-12, atol=0)
            assert all(float(f"{v:.{d}f}") == v for v, d in zip(values.tolist(), decimals, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_prices_walk_and_do_not_jump_from_quote_to_quote_or_batch_to_batch(kind):
    sim = simulation(kind)
    definitions = sim.definitions()
    quotes = rows_of("quote", play(sim, [100] * 200))
    for code in definitions["code"]:
        of = quotes[quotes["instrument"] == code]
        mid = (of["bid_price"] + of["ask_price"]) / 2 / definitions["tick_size"][code - 1]
        stride = 1 + mid[0] // 20_000
        moves = np.abs(np.diff(mid))
        assert moves.max() <= 4 * (stride + 1) + 1, "four strides, and half a tick on either side"
        assert len(set(of["bid_price"])) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_prices_at_the_floor_stay_above_zero_and_rise_again(kind):
    sim = simulation(kind)
    sim._walk[:] = FLOOR_TICKS
    batches = play(sim, [2_000] * 10)
    check_market(sim, batches)
    unit = sim.definitions()["tick_size"][rows_of("quote", batches)["instrument"] - 1]
    ticks = rows_of("quote", batches)["bid_price"] / unit
    assert ticks.min() >= FLOOR_TICKS - 5
    assert ticks.max() > FLOOR_TICKS + 5


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_the_configured_dtypes_and_are_counted(kind):
    sim = simulation(kind)
    batches = play(sim, [1_000, 50, 3_000])
    for batch in batches:
        for name, rows in batch:
            assert rows.dtype == SCHEMA[name].dtype
            assert len(rows)
            assert not rows["ts_plant"].any()
            assert not rows["feed"].any()
    names = {name for batch in batches for name, _ in batch}
    assert names == {"status", "quote", "trade"} | ({"depth"} if kind == "crypto" else set())
    assert sim.rows == {name: len(rows_of(name, batches)) for name in names}


@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
    instruments=st.integers(1, 500) | st.just(70_000),
)
@settings(max_examples=15, deadline=None)
def test_instruments_are_numbered_from_1_and_have_names_of_their_own(kind, seed, instruments):
    rows = simulation(kind, seed=seed, instruments=instruments).definitions()
    assert rows.dtype == SCHEMA["instrument"].dtype
    assert rows["code"].tolist() == rows["instrument"].tolist() == list(range(1, instruments + 1))
    assert len(set(rows["symbol"].tolist())) == instruments
    assert (rows["venue"] == b"XSIM").all()
    assert (rows["tick_size"] > 0).all()
    assert (rows["lot_size"] > 0).all()
    assert (rows["ts_event"] == START).all()


def test_definitions_are_the_callers_own():
    sim = simulation()
    sim.definitions()["code"] = 0
    assert sim.definitions()["code"].all()


def test_without_a_given_time_rows_come_at_the_rate_on_average():
    sim = simulation(rate=50_000.0)
    play(sim, [2_000] * 200)
    mean = 400_000 / ((sim.now_ns - START) / 1e9)
    assert mean == pytest.approx(50_000, rel=0.15)


def test_time_ends_where_the_caller_says_and_has_room_for_a_row_per_nanosecond():
    sim = simulation()
    rows = rows_of("status", [sim.batch(20, START + 20)])
    assert rows["ts_event"].tolist() == list(range(START + 1, START + 21))
    assert sim.now_ns == START + 20
    assert (rows["ts_recv"] == START + 20).all()


@pytest.mark.parametrize(("events", "step"), [(0, 1000), (-1, 1000), (10, 9), (10, 0), (10, -5)])
def test_a_batch_without_rows_or_without_time_for_them_is_refused_and_changes_nothing(events, step):
    sim = simulation()
    with pytest.raises(ValueError, match="no room"):
        sim.batch(events, START + step)
    assert raw(play(sim, [100])) == raw(play(simulation(), [100]))


@pytest.mark.parametrize("kind", KINDS)
def test_few_instruments_have_most_of_the_activity(kind):
    sim = simulation(kind, instruments=200)
    counts = np.bincount(rows_of("quote", play(sim, [50_000]))["instrument"])
    assert np.sort(counts)[-20:].sum() > 0.4 * counts.sum()
    assert (counts[1:] > 0).all()


def test_activity_comes_in_bursts():
    sim = simulation(instruments=200)
    play(sim, [1_000])
    ts = np.concatenate([rows["ts_event"] for _, rows in sim.batch(100_000)])
    per_10_ms = np.bincount((ts - ts.min()) // 10_000_000)
    assert per_10_ms.var() > 4 * per_10_ms.mean(), "a Poisson process has variance = mean"


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "bond"}, {"instruments": 0}, {"rate": 0.0}, {"venue": ""}, {"venue": "X" * 17}],
)
def test_what_makes_no_venue_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be one of|no venue"):
        simulation(**wrong)


def test_a_schema_without_the_tables_or_columns_is_refused():
    with pytest.raises(SchemaError, match="there is no table 'quote'"):
        simulation(schema=Schema(t for t in SCHEMA if t.name != "quote"))
    bare = declare("trade", SCHEMA["trade"].number, {"price": "f8", "size": "f8"})
    with pytest.raises(SchemaError, match=r"'action'.*in table trade"):
        simulation(schema=Schema(bare if t.name == "trade" else t for t in SCHEMA))


def test_an_equity_venue_needs_no_table_for_depth():
    schema = Schema(t for t in SCHEMA if t.name != "depth")
    assert raw(play(simulation(schema=schema), [500])) == raw(play(simulation(), [500]))
    with pytest.raises(SchemaError, match="depth"):
        simulation("crypto", schema=schema)
