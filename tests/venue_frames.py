"""Frames for venues' decoders: heard one by one, bent at random, and what must hold of any rows."""

import copy
import json
import math

import hypothesis.strategies as st
import numpy as np

from tickplant._core.changes import ASK, BID

START = 1_700_000_000_000_000_000
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**25), 10**25), st.floats(allow_nan=False),
        st.text(max_size=8),
    st.sampled_from(["", "0", "-1", "1e999", "nan", "inf", "0.0000", "9" * 30, -1, 0, 2**63, "\x00", [],
        {}, [[]], [{}]]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner,
        max_size=4), max_leaves=12
)  # fmt: skip


def dumped(message):
    """As venues write it: without spaces."""
    return json.dumps(message, separators=(",", ":")).encode()


class Heard:
    """A venue's decoder that hears messages, a millisecond apart."""

    def __init__(self, venue, conn="ws"):
        self.venue, self.conn, self.count, self._taken = venue, conn, 0, {}

    def __call__(self, *messages, conn=None):
        for message in messages:
            self.count += 1
            data = message if isinstance(message, bytes) else dumped(message)
            self.venue.receive(conn or self.conn, data, START + self.count * 1_000_000)
        return self

    def answer(self, url, message):
        data = message if isinstance(message, bytes) else dumped(message)
        self.count += 1
        self.venue.respond(url, data, START + self.count * 1_000_000)
        return self

    def rows(self):
        """All rows so far, by table."""
        for table, rows in self.venue.take():
            self._taken.setdefault(table, []).append(rows)
        return {table: np.concatenate(parts) for table, parts in self._taken.items()}

    def table(self, name, *columns):
        """Columns of a table's rows, text as str."""
        rows = self.rows().get(name, [])
        return [tuple(_plain(row[c]) for c in columns) for row in rows]

    def events(self):
        """Events but those that say that no list was heard."""
        return [e for e in self.table("event", "kind", "first", "last") if e[0] != "unlisted"]

    def symbols(self):
        return {code: symbol for code, symbol in self.table("instrument", "code", "symbol")}

    def book(self, native):
        """Bids and offers, (price, size), best first."""
        levels = self.venue.books[native].levels
        return [[(p, s) for p, s, _ in levels.top(half, 100_000)] for half in (BID, ASK)]


def rows(venue):
    """{table: [row as a dict without empty columns]} of all since the last time.

    But for the events that say that no list was heard.
    """
    out = {}
    for table, taken in venue.take():
        for row in taken:
            plain = {n: _plain(row[n]) for n in taken.dtype.names}
            if plain.get("kind") == "unlisted":
                continue
            out.setdefault(table, []).append({n: v for n, v in plain.items() if not _empty(v)})
    return out


def feed(venue, *messages, conn="ws", at=START):
    """Have it hear messages (objects, text, or bytes), a microsecond apart; its rows."""
    for i, message in enumerate(messages):
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        venue.receive(conn, text if isinstance(text, bytes) else text.encode(), at + 1000 * i)
    return rows(venue)


def bids_asks(venue, native, most=10):
    """((price, size), ...) of both halves, best first."""
    levels = venue.books[native].levels
    return tuple([(p, s) for p, s, _ in levels.top(half, most)] for half in (BID, ASK))


def events(got):
    """The kinds of the events among rows."""
    return [e["kind"] for e in got.get("event", ())]


def _plain(value):
    plain = value.item()
    return plain.decode() if isinstance(plain, bytes) else plain


def _empty(value):
    return value in (0, "") or (isinstance(value, float) and math.isnan(value))


def close(a, b):
    """The same, NaN being NaN."""
    return all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


@st.composite
def bent(draw, messages):
    """One of these messages with one thing in it changed, added or left out; as bytes."""
    whole = copy.deepcopy(draw(st.sampled_from(messages)))
    at, path = whole, []
    while isinstance(at, dict | list) and at and (not path or draw(st.integers(0, 4))):
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        path.append((at, key))
        at = at[key]
    if path:
        holder, key = path[-1]
        match draw(st.sampled_from(["replace", "replace", "delete", "double", "none"])):
            case "replace":
                holder[key] = draw(SCALARS | JSON)
            case "delete":
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
    data = dumped(whole)
    if draw(st.integers(0, 5)) == 0:
        cut = draw(st.integers(0, len(data)))
        data = data[:cut] + draw(st.binary(max_size=3)) + data[cut + draw(st.integers(0, 3)) :]
    return data


@st.composite
def one_bent(draw, messages):
    """All of these messages (objects, or text) in their order, one of them bent, left out or there twice."""
    frames = [m.encode() if isinstance(m, str) else dumped(m) for m in messages]
    at = draw(st.integers(0, len(frames) - 1))
    frames[at : at + 1] = draw(
        st.sampled_from([[], [frames[at]] * 2])
        | bent([json.loads(frames[at])]).map(lambda f: [f])
        | JSON.map(lambda j: [dumped(j)])
    )
    return frames


def noise(messages):
    """Frames of any kind: bent ones, sound ones, any JSON, any bytes."""
    sound = st.sampled_from(messages).map(lambda m: dumped(m))
    return st.lists(
        st.one_of(bent(messages), bent(messages), sound, JSON.map(lambda j: dumped(j)),
            st.binary(max_size=20)),
        max_size=12,
    )  # fmt: skip


def assert_sound(heard):
    """What holds of any rows: all are accounted for, and none has what can't be."""
    account = heard.venue.account
    assert account.messages.total() + account.ignored.total() + account.malformed == heard.count
    rows = heard.rows()
    codes = set(rows["instrument"]["code"].tolist()) if "instrument" in rows else set()
    for table, of in rows.items():
        assert (of["ts_recv"] > START).all()
        assert set(of["instrument"].tolist()) <= codes | ({0} if table in ("event", "status") else set())
    events = rows["event"]["kind"].tolist() if "event" in rows else []
    assert events.count(b"malformed") == account.malformed
    if "trade" in rows:
        trades = rows["trade"]
        assert np.isfinite(trades["price"]).all()
        assert (trades["size"] >= 0).all()
        assert set(trades["side"].tolist()) <= {b"B", b"S", b""}
        assert set(trades["action"].tolist()) == {b"T"}
    if "quote" in rows:
        quotes = rows["quote"]
        for side in ("bid", "ask"):
            assert (np.isfinite(quotes[f"{side}_price"]) == (quotes[f"{side}_size"] > 0)).all()
    assert_depth_is_the_books(heard, rows)


def assert_depth_is_the_books(heard, rows):
    """The rows of table depth, applied in order, give the books that the decoder has."""
    made = {}
    for row in rows.get("depth", ()):
        book, key = made.setdefault(int(row["instrument"]), {}), (row["side"], float(row["price"]))
        if row["action"] == b"R":
            book.clear()
        elif row["action"] == b"D":
            del book[key]
        else:
            assert (key in book) == (row["action"] == b"C")
            book[key] = (float(row["size"]), int(row["orders"]))
    for book in heard.venue.books.values():
        tops = ((side, book.levels.top(half, 10**6)) for half, side in ((BID, b"B"), (ASK, b"S")))
        have = {(side, p): (s, orders) for side, top in tops for p, s, orders in top}
        assert made.get(book.code, {}) == have
        assert book.live or not have
