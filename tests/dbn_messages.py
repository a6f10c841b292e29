"""DBN files, written with Databento's own library."""

import databento_dbn as dbn
import zstandard

DAY_NS = 86_400_000_000_000
BEGIN = 20_000 * DAY_NS  # 2024-10-04
UNDEF_PRICE, UNDEF_TIME = dbn.UNDEF_PRICE, dbn.UNDEF_TIMESTAMP
ACTIONS = {a.value: a for a in dbn.Action.variants()}
SIDES = {s.value: s for s in dbn.Side.variants()}


class Interval:
    def __init__(self, start_date, end_date, symbol):
        self.start_date, self.end_date, self.symbol = start_date, end_date, symbol


class Mapping:
    def __init__(self, raw_symbol, intervals):
        self.raw_symbol, self.intervals = raw_symbol, [Interval(*i) for i in intervals]


def metadata(mappings=(), *, dataset="GLBX.MDP3", version=3, inverse=False):
    kinds = [dbn.SType.RAW_SYMBOL, dbn.SType.INSTRUMENT_ID]
    into, out = reversed(kinds) if inverse else kinds
    mapped = [Mapping(name, intervals) for name, intervals in mappings]
    return bytes(dbn.Metadata(dataset, BEGIN, into, out, None, mappings=mapped, version=version))


def mbo(action="A", side="B", price=1_500_000_000, size=3, *, number=7, order=11, at=0, flags=0, seq=1,
        publisher=1):  # fmt: skip
    return bytes(dbn.MBOMsg(publisher, number, BEGIN + at, order, price, size, ACTIONS[action], SIDES[side],
                            BEGIN + at + 5, flags, 0, 5, seq))  # fmt: skip


def trade(side="B", price=1_500_000_000, size=3, *, number=7, at=0, seq=1, publisher=1):
    return bytes(dbn.TradeMsg(publisher, number, BEGIN + at, price, size, ACTIONS["T"], SIDES[side], 0,
                              BEGIN + at + 5, 0, 5, seq))  # fmt: skip


def pair(bid=None, ask=None):
    bid, ask = bid or (UNDEF_PRICE, 0, 0), ask or (UNDEF_PRICE, 0, 0)
    return dbn.BidAskPair(bid[0], ask[0], bid[1], ask[1], bid[2], ask[2])


def mbp1(action="A", *, bid=None, ask=None, price=1_500_000_000, size=3, number=7, at=0, seq=1):
    return bytes(dbn.MBP1Msg(1, number, BEGIN + at, price, size, ACTIONS[action], SIDES["B"], 0,
                             BEGIN + at + 5, 0, 5, seq, pair(bid, ask)))  # fmt: skip


def mbp10(bids, asks, action="A", *, number=7, at=0, seq=1):
    pad = lambda levels: [*levels, *[None] * (10 - len(levels))]  # noqa: E731
    levels = [pair(b, a) for b, a in zip(pad(bids), pad(asks), strict=True)]
    return bytes(dbn.MBP10Msg(1, number, BEGIN + at, 1_500_000_000, 3, ACTIONS[action], SIDES["B"], 0,
                              BEGIN + at + 5, 0, 5, seq, levels))  # fmt: skip


def packed(data):
    return zstandard.ZstdCompressor().compress(data)
