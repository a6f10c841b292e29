"""One name per instrument."""

import hypothesis
import hypothesis.strategies as st
import pytest

from tickplant.feed.sink import shipped_schema
from tickplant.feed.symbols import Instrument, currency, spot

NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("instrument", "symbol"),
    [
        (spot("btc", "usd"), "BTC-USD"),
        (spot("XBT", "ZUSD"), "BTC-USD"),
        (Instrument("BTC", "USD", "perp"), "BTC-USD-PERP"),
        (Instrument("BTC", "USD", "future", "20240628"), "BTC-USD-20240628"),
        (Instrument("BTC", "USD", "option", "20240628", "60000", "C"), "BTC-USD-20240628-60000-C"),
    ],
)
def test_each_kind_has_its_form(instrument, symbol):
    assert instrument.symbol == symbol


@hypothesis.given(NAMES)
def test_a_usual_name_is_one_for_good(name):
    assert currency(currency(name)) == currency(name.lower()) == currency(name)


@hypothesis.given(NAMES, NAMES, st.sampled_from(["spot", "perp", "future", "option"]))
def test_different_instruments_have_different_names_that_fit_the_table(base, quote, kind):
    made = Instrument(base, quote, kind, "20240628", "60000", "P")
    parts = made.symbol.split("-")
    assert parts[:2] == [base, quote]
    assert len(parts) == {"spot": 2, "perp": 3, "future": 3, "option": 5}[kind]
    table = shipped_schema()["instrument"]
    widths = {c.name: c.size for c in table.columns}
    for column, value in made.definition(base + quote).items():
        assert not isinstance(value, str) or len(value) <= widths[column]
    assert len(made.symbol) <= widths["symbol"]
