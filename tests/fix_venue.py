"""What tests of venues share: rows in plain Python, hostile messages, and what must hold whatever came in."""

import json
import math

from hypothesis import strategies as st

from tests.oracle import levels as oracle
from tickplant._core.levels import ASK, BID

ODD = [
    "",
    "0",
    "-1",
    "1e999",
    "NaN",
    "1" * 60,
    "é\0",
    2**63,
    -(2**63),
    2**70,
    -1,
    0,
    1e300,
    -0.5,
    [],
    {},
    True,
]
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
JSON = st.recursive(
    SCALAR | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def rows(venue):
    """{table: [row as a dict without empty columns]} of all since the last time."""
    out = {}
    for table, taken in venue.take():
        for row in taken:
            plain = {n: row[n].item() for n in taken.dtype.names}
            plain = {n: v.decode() if isinstance(v, bytes) else v for n, v in plain.items()}
            kept = {n: v for n, v in plain.items() if v not in (0, "") and not _nan(v)}
            out.setdefault(table, []).append(kept)
    return out


def _nan(value):
    return isinstance(value, float) and math.isnan(value)


def total(venue):
    account = venue.account
    return account.messages.total() + account.ignored.total() + account.malformed


def feed(venue, *messages, conn="ws", at=1_700_000_000_000_000_000):
    """Have it hear messages (objects, or text), a microsecond apart; its rows."""
    for i, message in enumerate(messages):
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        venue.receive(conn, text if isinstance(text, bytes) else text.encode(), at + 1000 * i)
    return rows(venue)


def bids_asks(venue, native, most=10):
    """((price, size), ...) of both halves, best first."""
    levels = venue.books[native].levels
    return tuple([(p, s) for p, s, _ in levels.top(half, most)] for half in (BID, ASK))


def events(got):
    return [e["kind"] for e in got.get("event", ())]


def _paths(value, at=()):
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _paths(each, (*at, key))


@st.composite
def hostile(draw, messages):
    """Messages, one of them damaged: a byte, a piece, a value, a key; or any JSON instead; or twice."""
    texts = [m if isinstance(m, str) else json.dumps(m) for m in messages]
    at = draw(st.integers(0, len(texts) - 1))
    how = draw(st.sampled_from(["byte", "cut", "value", "value", "value", "gone", "any", "twice", "missing"]))
    text = texts[at].encode()
    place = draw(st.integers(0, len(text) - 1))
    if how == "byte":
        text = text[:place] + bytes([draw(st.integers(0, 255))]) + text[place + 1 :]
    elif how == "cut":
        text = text[:place] + text[place + draw(st.integers(1, 30)) :]
    elif how == "any":
        text = json.dumps(draw(JSON)).encode()
    elif how in ("value", "gone"):
        whole = [json.loads(text)]
        path = draw(st.sampled_from(list(_paths(whole))[1:]))
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        if how == "value":
            inner[path[-1]] = draw(JSON)
        else:
            del inner[path[-1]]
        text = json.dumps(whole[0] if whole else None).encode()
    out = [t.encode() for t in texts]
    out[at : at + 1] = [text, text] if how == "twice" else [] if how == "missing" else [text]
    return out


def survives(venue, messages, conn="ws"):
    """It hears them all: each is accounted for, no row is wrong, and rows of depth alone give its books."""
    depth = {}
    check(venue.take(), depth)
    for i, message in enumerate(messages):
        before = total(venue)
        venue.receive(conn, message, 1_700_000_000_000_000_000 + i)
        assert total(venue) == before + 1
        check(venue.take(), depth)
    for book in venue.books.values():
        halves = oracle.rebuilt(depth.get(book.code, []))
        for half in (BID, ASK):
            assert {p: (s, o) for p, s, o in book.levels.top(half, 10**6)} == halves[half]


def check(batch, depth):
    """No row is wrong; rows of depth are collected by instrument."""
    for table, taken in batch:
        for row in taken:
            plain = {n: row[n].item() for n in taken.dtype.names}
            assert plain["ts_recv"] > 0
            if table in ("trade", "depth", "quote", "order"):
                assert plain["instrument"] > 0
            if table == "trade":
                assert math.isfinite(plain["price"])
                assert plain["size"] >= 0
                assert math.isfinite(plain["size"])
                assert plain["side"] in (b"B", b"S", b"")
                assert plain["action"] == b"T"
            elif table == "quote":
                for side in ("bid", "ask"):
                    assert plain[f"{side}_size"] >= 0
                    assert not math.isinf(plain[f"{side}_price"])
            elif table == "depth":
                values = (oracle.none(plain["price"]), plain["size"], plain["orders"], plain["level"])
                letters = (plain["side"].decode(), plain["action"].decode())
                depth.setdefault(plain["instrument"], []).append(values + letters)
