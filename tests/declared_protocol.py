"""A small protocol of no venue, and packets of it."""

import struct

from tickplant.feed.packets.protocol_files import parse

TEXT = b"""
what = "a small protocol"
venue = "XACM"
byte_order = "big"
timezone = "America/New_York"
currency = "USD"
symbol = ["symbol"]
id = "index"
order = "order_id"
decimals = { A = 1, B = 2 }

[packet]
fields = "size:u2 flag:u1 count:u1 unit:u1 seq:u4 sent:u8"
size = "size"
count = "count"
seq = "seq"
channel = ["unit"]
beat = { flag = [1] }
reset = { flag = [12] }
time = { ns = "sent" }

[message]
fields = "bytes:u2 type:c1"
size = "bytes"
size_adds = 2

[[time]]
s = "s"
ns = "s_ns"

[[time]]
ns = "day_ns"
since = "midnight"

[[time]]
ns = "ns"
since = "second"

[[messages]]
name = "Second"
type = "T"
fields = "second:u4"
reference = { s = "second" }

[[messages]]
name = "Index"
type = "I"
fields = "index:u4 symbol:c8 places:u1 lot:u4"
index = { id = "index", symbol = "symbol", decimals = "places" }
[[messages.rows]]
table = "instrument"
[messages.rows.columns]
lot_size = "lot"
kind = { value = "stock" }

[[messages]]
name = "Quote"
type = "Q"
fields = "s:u4 s_ns:u4 symbol:c6 x2 bid:i8 bid_size:u3 ask:i8 ask_size:u3"
[[messages.rows]]
table = "quote"
[messages.rows.columns]
bid_price = { field = "bid", divisor = 10000 }
bid_size = "bid_size"
ask_price = { field = "ask", divisor = 10000 }
ask_size = "ask_size"

[[messages]]
name = "Trade"
type = ["P", "p"]
fields = "ns:u4 index:u4 price:i8 qty:u4 side:c1 kind:c1"
[[messages.rows]]
table = "trade"
when = { kind = ["N", ""] }
[messages.rows.columns]
price = { field = "price", scaled = true, none = [-1] }
size = { field = "qty", divisor = 10 }
side = { field = "side", map = { 1 = "B", 2 = "S" } }
action = { value = "T" }
[[messages.rows]]
table = "trade"
when = { kind = ["X"] }
flags = ["CROSS", "HIDDEN"]
[messages.rows.columns]
price = { field = "price", scaled = true }
size = { field = "qty", divisor = 10 }
action = { value = "T" }

[[messages]]
name = "Add"
type = "A"
fields = "day_ns:u6 order_id:u8 side:c1 qty:u4 symbol:c8 price:i4 denominator:c1"
[[messages.rows]]
table = "order"
[messages.rows.columns]
order_id = "order_id"
price = { field = "price", decimals = "denominator" }
size = "qty"
side = "side"
action = { value = "A" }

[[messages]]
name = "Replace"
type = "U"
fields = "old_id:u8 order_id:u8 qty:u4"
replaces = "old_id"
[[messages.rows]]
table = "order"
[messages.rows.columns]
order_id = "order_id"
ref_id = "old_id"
size = "qty"
action = { value = "U" }

[[messages]]
name = "Execute"
type = "E"
fields = "order_id:u8 qty:u4 match:u8"
[[messages.rows]]
table = "order"
[messages.rows.columns]
order_id = "order_id"
ref_id = "match"
size = "qty"
action = { value = "E" }

[[messages]]
name = "Delete"
type = "D"
fields = "order_id:u8"
[[messages.rows]]
table = "order"
[messages.rows.columns]
order_id = "order_id"
action = { value = "D" }

[[messages]]
name = "Imbalance"
type = "B"
fields = "symbol:c8 paired:u4"
[[messages.rows]]
table = "imbalance"
[messages.rows.columns]
paired_size = "paired"

[[messages]]
name = "Imbalance"
type = "B"
fields = "symbol:c8 paired:u4 cross:c1"
[[messages.rows]]
table = "imbalance"
[messages.rows.columns]
paired_size = "paired"
cross_type = "cross"

[[messages]]
name = "Chatter"
type = "Z"
"""
PROTOCOL = parse(TEXT)
HEADER = struct.Struct(">HBBBIQ")
SENT = 1_700_000_000_000_000_000
SECOND = 1_700_000_000


def message(kind, layout="", *fields):
    body = struct.pack(">" + layout, *fields)
    return struct.pack(">Hc", len(body) + 1, kind.encode()) + body


def packet(seq, *messages, flag=11, unit=1, count=None, size=None, sent=SENT):
    body = b"".join(messages)
    count = len(messages) if count is None else count
    return HEADER.pack(HEADER.size + len(body) if size is None else size, flag, count, unit, seq, sent) + body


def beat(seq, unit=1):
    return packet(seq, flag=1, unit=unit)


def index(number, symbol, places=4, lot=100):
    return message("I", "I8sBI", number, symbol.ljust(8).encode(), places, lot)


def trade(number=7, price=123_400, qty=15, side="1", kind="N", ns=5, of="P"):
    return message(of, "IIqIcc", ns, number, price, qty, side.encode(), kind.encode())


def add(order, symbol="ABC", price=1234, denominator="B", side="B", qty=10, day_ns=0):
    head = day_ns.to_bytes(6, "big") + order.to_bytes(8, "big") + side.encode()
    body = head + struct.pack(">I8sic", qty, symbol.ljust(8).encode(), price, denominator.encode())
    return struct.pack(">Hc", len(body) + 1, b"A") + body


def quote(symbol="ABC", bid=10_000, bid_size=5, ask=10_100, ask_size=6, s=SECOND, ns=9):
    sizes = [v.to_bytes(3, "big") for v in (bid_size, ask_size)]
    body = struct.pack(">II6s2x", s, ns, symbol.ljust(6).encode()) + struct.pack(">q", bid) + sizes[0]
    body += struct.pack(">q", ask) + sizes[1]
    return struct.pack(">Hc", len(body) + 1, b"Q") + body
