"""Each mapping that comes with tickplant: lines made by hand as its publisher documents them, and their rows."""

# ruff: noqa: E501  (lines of files are as long as they are)

import gzip
import zipfile

import numpy as np
import pytest

from tickplant.feed.formats import open_capture
from tickplant.schema import Flag

pytest.importorskip("pyarrow")
JAN = 1_735_689_600_000_000_000  # 2025-01-01T00:00:00Z
MINUTE = 60_000_000_000
NAN = float("nan")


def read(path, **options):
    capture, rows = open_capture(path, **options), {}
    for batch in capture:
        for table, made in batch:
            rows.setdefault(table, []).append(made)
    return capture, {t: np.concatenate(r) for t, r in rows.items()}


def of(tmp_path, name, text, **options):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(path.name.replace(".zip", ".csv"), data)
    else:
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    capture, rows = read(path, **options)
    assert (capture.malformed, capture.damaged) == (0, False), rows.get("event")
    return rows


def same(rows, columns, wanted):
    """Are these the rows? NaN is NaN."""
    got = [
        tuple(v.decode() if isinstance(v, bytes) else v for v in row)
        for row in rows[columns.split()].tolist()
    ]
    assert [tuple(map(plain, row)) for row in got] == [tuple(map(plain, row)) for row in wanted]


def plain(value):
    return "NaN" if value != value else value


def instruments(rows):
    return [f"{v.decode()}:{s.decode()}" for v, s in rows["instrument"][["venue", "symbol"]].tolist()]


TRADE = "ts_event trade_id price size side action"
HEADED = "id,price,qty,quote_qty,time,is_buyer_maker\n"


@pytest.mark.parametrize(("name", "text", "who", "trades"), [
    # spot: no header, seven columns, milliseconds and then microseconds
    ("BTCUSDT-trades-2024-12-31.zip", "7,100.5,2,201,1735689600123,True,True\n8,100.6,1,1,1735689600124,False,True\n",
     "BINANCE:BTC-USDT", [(JAN + 123_000_000, 7, 100.5, 2, "S", "T"), (JAN + 124_000_000, 8, 100.6, 1, "B", "T")]),
    ("BTCUSDT-trades-2025-01-01.csv", "7,100.5,2,201,1735689600123456,False,True\n",
     "BINANCE:BTC-USDT", [(JAN + 123_456_000, 7, 100.5, 2, "B", "T")]),
    ("ETHBTC-trades-2025-01.zip", "7,0.05,2,201,1735689600123456,False,True\n",
     "BINANCE:ETH-BTC", [(JAN + 123_456_000, 7, 0.05, 2, "B", "T")]),
    # USD-M: six columns, with and without a header
    ("BTCUSDT-trades-2024-12-31.zip", HEADED + "7,100.5,2,201,1735689600123,true\n",
     "BINANCE-USDM:BTC-USDT-PERP", [(JAN + 123_000_000, 7, 100.5, 2, "S", "T")]),
    ("BTCUSDT_250328-trades-2024-12-31.zip", "7,100.5,2,201,1735689600123,true\n",
     "BINANCE-USDM:BTC-USDT-20250328", [(JAN + 123_000_000, 7, 100.5, 2, "S", "T")]),
    # COIN-M: sizes are contracts
    ("BTCUSD_PERP-trades-2024-12-31.zip", HEADED.replace("quote", "base") + "7,40000,10,0.00025,1735689600123,true\n",
     "BINANCE-COINM:BTC-USD-PERP", [(JAN + 123_000_000, 7, 40000, 10, "S", "T")]),
    # aggregate trades
    ("BTCUSDT-aggTrades-2017-06-30.csv", "26129,0.01633102,4.70443515,27781,27781,1498793709153,true,true\n",
     "BINANCE:BTC-USDT", [(1_498_793_709_153_000_000, 26129, 0.01633102, 4.70443515, "S", "T")]),
    ("BTCUSDT-aggTrades-2024-12-31.csv",
     "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
     "9,100.5,2,3,4,1735689600123,false\n",
     "BINANCE-USDM:BTC-USDT-PERP", [(JAN + 123_000_000, 9, 100.5, 2, "B", "T")]),
    ("BTCUSD_250328-aggTrades-2024-12-31.zip", "9,100.5,2,3,4,1735689600123,false\n",
     "BINANCE-COINM:BTC-USD-20250328", [(JAN + 123_000_000, 9, 100.5, 2, "B", "T")]),
    ("SOME_liquidity", "id,exchange,symbol,date,price,amount,sell\n43,qn,btcaud,1735689600123,847.16235,3,true\n",
     "qn:btcaud", [(JAN + 123_000_000, 0, 847.16235, 3, "S", "T")]),
    ("BTCUSDT2025-01-01.csv.gz",
     "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional,RPI\n"
     "1735689600.0974,BTCUSDT,Sell,0.001,78307.50,ZeroMinusTick,48a44029,7.83e+09,0.001,78.3,0\n",
     None, [(JAN + 97_400_000, 0, 78307.5, 0.001, "S", "T")]),
    ("BTCUSDT_2025-01-01.csv.gz", "id,timestamp,price,volume,side,rpi\n1,1735689600074,106453.8,0.003718,sell,0\n",
     None, [(JAN + 74_000_000, 1, 106453.8, 0.003718, "S", "T")]),
    ("BTC-USDT-SWAP-trades-2025-01-01.zip",
     "instrument_name,trade_id,side,price,size,created_time\nBTC-USDT-SWAP,15,buy,104503.0,30.14,1735689600008\n",
     "OKX:BTC-USDT-PERP", [(JAN + 8_000_000, 15, 104503.0, 30.14, "B", "T")]),
    ("BTC-USD-optionchain-trades-2025-01-01.csv",
     "instrument_name,trade_id,side,price,size,created_time,source\n"
     "BTC-USD-250926-60000-C,15,sell,0.05,1,1735689600008,0\n",
     "OKX:BTC-USD-20250926-60000-C", [(JAN + 8_000_000, 15, 0.05, 1, "S", "T")]),
    ("BTC-USDT-aggtrades-2025-01-01.csv", "trade_id,side,size,price,created_time\n15,buy,2,104503.0,1735689600008\n",
     "OKX:BTC-USDT", [(JAN + 8_000_000, 15, 104503.0, 2, "B", "T")]),
    ("IDDI-9+SC-BITMEX_PERP_BTC_USD+S-XBTUSD.csv.gz",
     "time_exchange;time_coinapi;guid;price;base_amount;taker_side\n"
     "2025-01-01T00:00:00.9320000;2025-01-01T00:00:05.3029459;5caec0c2;7017;2000;SELL\n",
     "BITMEX:BTC-USD-PERP", [(JAN + 932_000_000, 0, 7017, 2000, "S", "T")]),
    ("x.csv", "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
     "bitmex,XBTUSD,1735689600123456,1735689600200000,aaa,unknown,6425.5,12\n",
     "bitmex:XBTUSD", [(JAN + 123_456_000, 0, 6425.5, 12, "", "T")]),
])  # fmt: skip
def test_trades(tmp_path, name, text, who, trades):
    rows = of(tmp_path, name, text)
    assert set(rows) == {"instrument", "trade"}
    same(rows["trade"], TRADE, trades)
    if who:
        assert instruments(rows) == [who]


def test_a_definition_says_what_the_name_tells(tmp_path):
    rows = of(tmp_path, "BTCUSDT-trades-2025-01-01.csv", "7,100.5,2,201,1735689600123456,False,True\n")
    same(rows["instrument"], "kind base currency attributes", [("spot", "BTC", "USDT", "BTCUSDT")])


def test_a_name_that_nobody_can_read_stays_as_it_is(tmp_path):
    rows = of(tmp_path, "NONSENSE-trades-2025-01-01.csv", "7,100.5,2,201,1735689600123456,False,True\n")
    assert instruments(rows) == ["BINANCE:NONSENSE"]


BAR = "start ts_event interval_ns open high low close volume notional buy_volume trades revision final"
KLINE = "{},100,102.5,99,101,7.5,{},750.25,12,4,400,0\n"


@pytest.mark.parametrize(("name", "text", "who", "bar"), [
    ("BTCUSDT-1m-2024-12.zip", KLINE.format(1735689600000, 1735689659999), "BINANCE:BTC-USDT",
     (JAN, JAN + MINUTE, MINUTE, 100, 102.5, 99, 101, 7.5, 750.25, 4, 12, 0, 1)),
    ("BTCUSDT-1h-2025-01.zip", KLINE.format(1735689600000000, 1735693199999999), "BINANCE:BTC-USDT",
     (JAN, JAN + 60 * MINUTE, 60 * MINUTE, 100, 102.5, 99, 101, 7.5, 750.25, 4, 12, 0, 1)),
    ("BTCUSDT-1mo-2025-01.csv", KLINE.format(1735689600000000, 1738367999999999), "BINANCE:BTC-USDT",
     (JAN, JAN + 31 * 1440 * MINUTE, 31 * 1440 * MINUTE, 100, 102.5, 99, 101, 7.5, 750.25, 4, 12, 0, 1)),
    ("BTCUSDT-1m-2025-01-01.zip",
     "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,"
     "ignore\n" + KLINE.format(1735689600000, 1735689659999), "BINANCE-USDM:BTC-USDT-PERP",
     (JAN, JAN + MINUTE, MINUTE, 100, 102.5, 99, 101, 7.5, 750.25, 4, 12, 0, 1)),
    ("futures/um/BTCUSDT-1m-2020-01-01.zip", KLINE.format(1735689600000, 1735689659999), "BINANCE-USDM:BTC-USDT-PERP",
     (JAN, JAN + MINUTE, MINUTE, 100, 102.5, 99, 101, 7.5, 750.25, 4, 12, 0, 1)),
    ("BTCUSD_PERP-1m-2020-01-01.zip", KLINE.format(1735689600000, 1735689659999), "BINANCE-COINM:BTC-USD-PERP",
     (JAN, JAN + MINUTE, MINUTE, 100, 102.5, 99, 101, 7.5, NAN, 4, 12, 0, 1)),
    ("DAT_ASCII_EURUSD_M1_202501.csv", "20241231 190000;1.3066;1.3067;1.3065;1.30656;0\n", "histdata:EURUSD",
     (JAN, JAN + MINUTE, MINUTE, 1.3066, 1.3067, 1.3065, 1.30656, NAN, NAN, NAN, 0, 0, 1)),
    ("DAT_MT_EURUSD_M1_202501.csv", "2024.12.31,19:00,1.3066,1.3067,1.3065,1.30656,0\n", "histdata:EURUSD",
     (JAN, JAN + MINUTE, MINUTE, 1.3066, 1.3067, 1.3065, 1.30656, NAN, NAN, NAN, 0, 0, 1)),
    ("x.csv", "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
     "2025-01-01T00:00:00.000000000Z,33,2,11667,124.56,124.75,124.39,124.49,3499,NVDA\n", "XNAS:NVDA",
     (JAN, JAN + MINUTE, MINUTE, 124.56, 124.75, 124.39, 124.49, 3499, NAN, NAN, 0, 0, 1)),
    ("x.csv", "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume\n"
     "1735689600000000000,35,2,11667,124560000000,124750000000,124390000000,124490000000,3499\n", "XNAS:#11667",
     (JAN, JAN + 1440 * MINUTE, 1440 * MINUTE, 124.56, 124.75, 124.39, 124.49, 3499, NAN, NAN, 0, 0, 1)),
    ("BITSTAMP_SPOT_BTC_USD.csv",
     "time_period_start;time_period_end;time_open;time_close;price_open;price_high;price_low;price_close;"
     "volume_traded;trades_count\n2025-01-01T00:00:00.0000000Z;2025-01-01T00:05:00.0000000Z;"
     "2025-01-01T00:00:02.0810000Z;2025-01-01T00:04:59.6320000Z;131.45;131.54;131.4;131.5;12.5;9\n",
     "BITSTAMP:BTC-USD",
     (JAN, JAN + 5 * MINUTE, 5 * MINUTE, 131.45, 131.54, 131.4, 131.5, 12.5, NAN, NAN, 9, 0, 1)),
])  # fmt: skip
def test_bars(tmp_path, name, text, who, bar):
    rows = of(tmp_path, name, text)
    assert set(rows) == {"instrument", "bar"}
    same(rows["bar"], BAR, [bar])
    assert instruments(rows) == [who]


QUOTE = "ts_event venue_seq bid_price bid_size ask_price ask_size"


@pytest.mark.parametrize(("name", "text", "who", "quotes"), [
    ("BTCUSDT-bookTicker-2024-01-01.zip",
     "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n"
     "9001,49999.9,1.5,50000.1,2.0,1735689600123,1735689600125\n", "BINANCE-USDM:BTC-USDT-PERP",
     [(JAN + 123_000_000, 9001, 49999.9, 1.5, 50000.1, 2)]),
    ("BTCUSD_PERP-bookTicker-2024-01-01.csv", "9001,49999.9,1.5,50000.1,2.0,1735689600123,1735689600125\n",
     "BINANCE-COINM:BTC-USD-PERP", [(JAN + 123_000_000, 9001, 49999.9, 1.5, 50000.1, 2)]),
    ("q.csv", "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
     "huobi,BTC-USD,1735689600123456,1735689600200000,86,6423,6422.9,112\n"
     "huobi,BTC-USD,1735689600123457,1735689600200000,,,6422.9,112\n", "huobi:BTC-USD",
     [(JAN + 123_456_000, 0, 6422.9, 112, 6423, 86), (JAN + 123_457_000, 0, 6422.9, 112, NAN, NAN)]),
    ("DAT_ASCII_EURUSD_T_202507.csv", "20250701 093000660,1.306600,1.306770,0\n", "histdata:EURUSD",
     [(JAN + (181 * 1440 + 14 * 60 + 30) * MINUTE + 660_000_000, 0, 1.3066, NAN, 1.30677, NAN)]),
    ("COINBASE_SPOT_ETH_USD.csv", "id_site_coinapi;time_exchange;time_coinapi;ask_px;ask_sx;bid_px;bid_sx\n"
     "ETH;2025-01-01T00:00:00.1234560;2025-01-01T00:00:00.2;101;2;100;1\n", "COINBASE:ETH-USD",
     [(JAN + 123_456_000, 0, 100, 1, 101, 2)]),
    ("x.csv", "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,"
     "sequence,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00\n"
     "1735689600000000009,1735689600000000007,1,2,7,A,B,0,100000000000,5,0,0,11,100000000000,9223372036854775807,5,0,1,0\n",
     "XNAS:#7", [(JAN + 7, 11, 100, 5, NAN, 0)]),
])  # fmt: skip
def test_quotes(tmp_path, name, text, who, quotes):
    rows = of(tmp_path, name, text)
    assert set(rows) == {"instrument", "quote"}
    same(rows["quote"], QUOTE, quotes)
    assert instruments(rows) == [who]


MBO = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,price,size,channel_id,order_id,flags,ts_in_delta,"
    "sequence"
)


@pytest.mark.parametrize("pretty", [False, True])
def test_databento_orders(tmp_path, pretty):
    lines = [("R", "N", "", 0, 0), ("A", "B", 5.51, 100, 817593), ("M", "B", 5.5, 50, 817593),
             ("T", "A", 5.5, 20, 0), ("F", "B", 5.5, 20, 817593), ("C", "B", 5.5, 30, 817593),
             ("N", "N", "", 0, 0)]  # fmt: skip
    text = MBO + (",symbol\n" if pretty else "\n")
    for i, (action, side, price, size, order) in enumerate(lines):
        at = f"2025-01-01T00:00:00.00000000{i + 1}Z" if pretty else str(JAN + i + 1)
        cost = (
            (f"{price:.9f}" if pretty else str(round(price * 1e9)))
            if price
            else ("" if pretty else str(2**63 - 1))
        )
        text += f"{at},{at},160,2,1108,{action},{side},{cost},{size},0,{order},130,165200,{i}"
        text += ",ARL\n" if pretty else "\n"
    rows = of(tmp_path, "mbo.csv", text)
    assert instruments(rows) == ["XNAS:ARL" if pretty else "XNAS:#1108"]
    same(rows["order"], "ts_event ts_recv venue_seq order_id ref_id price size side action", [
        (JAN + 1, JAN + 1, 0, 0, 0, NAN, 0, "", "R"),
        (JAN + 2, JAN + 2, 1, 817593, 0, 5.51, 100, "B", "A"),
        (JAN + 3, JAN + 3, 2, 817593, 817593, 5.5, 50, "B", "U"),
        (JAN + 5, JAN + 5, 4, 817593, 0, 5.5, 20, "B", "E"),
        (JAN + 6, JAN + 6, 5, 817593, 0, 5.5, 30, "B", "X"),
    ])  # fmt: skip
    same(rows["trade"], "ts_event venue_seq price size side action", [(JAN + 4, 3, 5.5, 20, "S", "T")])


def test_databento_trades_of_pandas_with_an_index(tmp_path):
    head = ",ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence"
    line = "0,2025-01-01T00:00:00.5Z,2025-01-01T00:00:00.4Z,0,45,15061,T,N,0,31.545000000,100,130,206966,6875"
    rows = of(tmp_path, "t.csv", f"{head},symbol\n{line},SPIB\n")
    same(rows["trade"], "ts_event ts_recv venue_seq price size side action",
         [(JAN + 400_000_000, JAN + 500_000_000, 6875, 31.545, 100, "", "T")])  # fmt: skip


def test_databento_books_of_ten_levels(tmp_path):
    levels = ",".join(
        ",".join(f"{side}_{what}_{i:02}" for what in ("px", "sz", "ct") for side in ("bid", "ask"))
        for i in range(10)
    )
    head = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence"

    def line(at, action, price, size, *best):
        rest = ",".join([*(str(v) for v in best), *[f"{2**63 - 1},{2**63 - 1},0,0,0,0"] * 9])
        return f"{at},{at},10,2,7,{action},B,0,{price},{size},0,0,{at - JAN},{rest}\n"

    five, six = 5_000_000_000, 6_000_000_000
    text = f"{head},{levels}\n" + line(JAN + 1, "A", five, 10, five, six, 10, 20, 1, 2)
    text += line(JAN + 2, "T", six, 5, five, six, 10, 15, 1, 2) + line(
        JAN + 3, "C", five, 10, five, six, 10, 15, 2, 2
    )
    rows = of(tmp_path, "mbp10.csv", text)
    same(rows["depth"], "ts_event venue_seq side price size orders level action flags", [
        (JAN + 1, 0, "", NAN, NAN, 0, 0, "R", Flag.SNAPSHOT),
        (JAN + 1, 0, "B", 5, 10, 1, 0, "A", Flag.SNAPSHOT),
        (JAN + 1, 0, "S", 6, 20, 2, 0, "A", Flag.SNAPSHOT),
        (JAN + 2, 0, "S", 6, 15, 2, 0, "C", 0),
        (JAN + 3, 0, "B", 5, 10, 2, 0, "C", 0),
    ])  # fmt: skip
    same(rows["quote"], "ts_event bid_price bid_size ask_price ask_size",
         [(JAN + 1, 5, 10, 6, 20), (JAN + 2, 5, 10, 6, 15)])  # fmt: skip
    same(rows["trade"], "ts_event price size side", [(JAN + 2, 6, 5, "B")])


STATUS = "ts_event kind value level_1 level_2 level_3"


def test_binance_depth_by_percentage_is_no_book(tmp_path):
    text = "timestamp,percentage,depth,notional\n2025-01-01 00:00:08,-5.00,10.5,1000\n2025-01-01 00:00:08,1,2,300\n"
    rows = of(tmp_path, "BTCUSDT-bookDepth-2025-01-01.zip", text)
    at = JAN + 8_000_000_000
    same(rows["status"], STATUS,
         [(at, "book_depth", "-5.00", -5, 10.5, 1000), (at, "book_depth", "1", 1, 2, 300)])  # fmt: skip
    assert instruments(rows) == ["BINANCE-USDM:BTC-USDT-PERP"]


def test_tardis_derivative_ticker(tmp_path):
    text = (
        "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,"
        "open_interest,last_price,index_price,mark_price\n"
        "bitmex,XBTUSD,1735689600000001,1735689600000009,1735689600000000,0.0001,0.0002,34653.5,9500.5,9500,9500.25\n"
        "bitmex,XBTUSD,1735689600000002,1735689600000009,,,,,,,9501\n"
    )
    same(of(tmp_path, "d.csv", text)["status"], STATUS, [
        (JAN + 1000, "funding", "", 9500.25, 9500, 0.0001),
        (JAN + 1000, "interest", "", 34653.5, 9500.5, 0.0002),
        (JAN + 2000, "funding", "", 9501, NAN, NAN),
    ])  # fmt: skip


def test_tardis_liquidations_are_told_by_their_name_and_are_no_trades(tmp_path):
    text = (
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        "binance-futures,BTCUSDT,1735689600000001,1735689600000009,,sell,9500.5,2\n"
    )
    rows = of(tmp_path, "binance-futures_liquidations_2025-01-01_PERPETUALS.csv.gz", text)
    assert set(rows) == {"instrument", "status"}
    same(rows["status"], STATUS, [(JAN + 1000, "liquidation", "sell", 9500.5, 2, NAN)])


def test_tardis_options_chain(tmp_path):
    text = (
        "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,last_price,bid_price,"
        "bid_amount,bid_iv,ask_price,ask_amount,ask_iv,mark_price,mark_iv,underlying_index,underlying_price,delta,"
        "gamma,vega,theta,rho\n"
        "deribit,BTC-9JUN20-9875-P,1735689600000001,1735689600000009,put,9875,1735689600000000,0.1,0.0295,0.0205,10,"
        "50.1,0.0235,10.5,60.2,0.02198,56.1,BTC-9JUN20,9740.1,-0.62,0.0009,2.2,-40.1,-0.11\n"
    )
    rows = of(tmp_path, "o.csv", text)
    same(rows["quote"], QUOTE, [(JAN + 1000, 0, 0.0205, 10, 0.0235, 10.5)])
    same(rows["status"], STATUS, [
        (JAN + 1000, "option", "put", 0.02198, 9740.1, 0.1),
        (JAN + 1000, "volatility", "", 56.1, 50.1, 60.2),
        (JAN + 1000, "greeks", "", -0.62, 0.0009, 2.2),
        (JAN + 1000, "greeks_more", "", -40.1, -0.11, NAN),
    ])  # fmt: skip


def test_tardis_books_of_25_levels(tmp_path):
    names = ",".join(f"asks[{i}].price,asks[{i}].amount,bids[{i}].price,bids[{i}].amount" for i in range(25))
    levels = ",".join(f"{101 + i},1,{100 - i},2" for i in range(24)) + ",,,,"
    text = f"exchange,symbol,timestamp,local_timestamp,{names}\n"
    text += f"deribit,BTC-PERPETUAL,1735689600000001,1735689600000009,{levels}\n"
    rows = of(tmp_path, "b.csv", text)
    assert b"".join(rows["depth"]["action"].tolist()) == b"R" + b"A" * 48
    assert rows["depth"]["price"][1:25].tolist() == [100.0 - i for i in range(24)]
    same(rows["quote"], QUOTE, [(JAN + 1000, 0, 100, 2, 101, 1)])


def test_every_mapping_says_where_its_layout_is_documented():
    from tickplant.feed.files.mapping import presets

    older = {"binance-depth", "binance-quotes", "binance-trades", "dukascopy-ticks", "truefx-ticks"}
    for name, mapping in presets().items():
        assert mapping.documented or name in older or name.startswith(("lobster", "twse", "tardis")), name
