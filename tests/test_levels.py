"""Books of levels against an oracle; lists of levels out of JSON text against the standard parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import levels as oracle
from tickplant._core.changes import ASK, BID, Changes
from tickplant._core.levels import DTYPES, LevelRows, Levels
from tickplant.feed.sink import shipped_schema

SNAPSHOT, SYNTHETIC = 1, 64
LEVEL = st.tuples(
    st.sampled_from([0, 1]),
    st.integers(-3, 40).map(lambda n: n / 8),
    st.sampled_from([0.0, 0.0, 1.0, 2.5, 1e9]),
    st.integers(0, 2),
)
STEP = st.one_of(
    st.tuples(st.just("change"), st.lists(LEVEL, max_size=30)),
    st.tuples(st.just("load"), st.lists(LEVEL, max_size=60)),
    st.tuples(st.just("reset"), st.just([])),
)


def changes(levels):
    made = Changes()
    for half, price, size, orders in levels:
        made.add(half, price, size, orders)
    return made


def one_level(price, size):
    """A book with one bid."""
    book = Levels(LevelRows(), 1)
    made = Changes()
    made.add(BID, price, size)
    book.change(made, 0, 0)
    return book


def rows(out):
    """Rows of depth and quote as the oracle writes them."""
    taken = dict(out.take())
    depth = [
        (
            oracle.none(r["price"]),
            r["size"],
            r["orders"],
            r["level"],
            r["side"].decode(),
            r["action"].decode(),
        )
        for r in taken.get("depth", ())
    ]
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    quotes = [tuple(oracle.none(float(r[n])) for n in names) for r in taken.get("quote", ())]
    return depth, quotes


@given(steps=st.lists(STEP, max_size=12), most=st.sampled_from([0, 1, 2, 5]))
def test_rows_and_book_are_those_of_the_oracle_and_rows_alone_rebuild_the_book(steps, most):
    out, told = LevelRows(), oracle.Book(most)
    book = Levels(out, 7, most)
    for what, levels in steps:
        if what == "reset":
            book.reset(1, 2)
            told.reset()
            told.quote()
        else:
            getattr(book, what)(changes(levels), 1, 2, 3)
            getattr(told, what)(levels)
        for half in (BID, ASK):
            want = [(p, *told.halves[half][p]) for p in told.sorted(half)]
            assert book.top(half, 1000) == want
            assert book.count(half) == len(want)
        bid, ask = book.top(BID, 1), book.top(ASK, 1)
        assert book.crossed == bool(bid and ask and bid[0][0] >= ask[0][0])
    depth, quotes = rows(out)
    assert depth == told.depth
    assert quotes == told.quotes
    assert oracle.rebuilt(depth) == told.halves


def test_rows_have_the_shape_of_the_shipped_tables():
    assert {name: shipped_schema()[name].dtype for name in ("depth", "quote")} == DTYPES


def test_rows_carry_what_the_message_has():
    out = LevelRows()
    book = Levels(out, 7)
    book.load(changes([(BID, 1.0, 2.0, 0)]), 11, 12, 13, SNAPSHOT)
    for table, taken in out.take():
        for row in taken:
            assert [row[n] for n in ("ts_event", "ts_recv", "instrument", "venue_seq")] == [11, 12, 7, 13]
            assert row["flags"] == SNAPSHOT | (SYNTHETIC if table == "quote" else 0)
    assert out.take() == []


@given(st.lists(st.sampled_from(['"', "\\", "a", "\n", "é", ",", "}", "x" * 7]), max_size=12).map("".join))
def test_a_text_beside_the_numbers_ends_where_it_ends(text):
    """Quotes and backslashes at any place of the eight bytes that are looked at together."""
    level = {"p": 1, "t": text, "q": "2", text + "k": text}
    raw = json.dumps([level, level], ensure_ascii=False).encode()
    made = Changes().objects(raw, ASK, b"p", b"q")
    assert len(made) == 2
    for cut in range(len(raw)):
        with pytest.raises(ValueError, match="."):
            Changes().objects(raw[:cut], ASK, b"p", b"q")


@given(st.integers(-(2**51) + 1, 2**51 - 1), st.integers(0, 22))
def test_a_number_is_written_with_the_decimals_it_came_with(digits, decimals):
    sign = b"-" if digits < 0 else b""
    text = sign + _text(abs(digits), decimals)
    assert one_level(text, "1").texts(BID, 1) == [(text, b"1")]


@given(
    whole=st.integers(0, 10**15 - 1),
    decimals=st.integers(0, 15),
    size=st.integers(1, 10**15 - 1),
)
def test_texts_of_fifteen_digits_print_back_as_they_were_written(whole, decimals, size):
    price_text, size_text = (_text(n, decimals) for n in (whole, size))
    book = one_level(price_text, size_text)
    assert book.texts(BID, 10) == [(price_text, size_text)]
    assert book.digits(BID, 10) == b"%d%d" % (whole, size)
    assert book.digits(ASK, 10) == b""


def _text(n, decimals):
    text = str(n).rjust(decimals + 1, "0")
    return (f"{text[:-decimals]}.{text[-decimals:]}" if decimals else text).encode()


def test_digits_are_refused_where_a_float64_may_not_keep_them():
    assert one_level("1", "2251799813685248.0").digits(BID, 1) is None
    assert one_level("1e5", "1").digits(BID, 1) is None
    assert one_level("0." + "0" * 30 + "1", "1").digits(BID, 1) is None
    assert one_level("1", "2251799.813685247").digits(BID, 1) == b"12251799813685247"


def test_the_longest_texts_stay_within_bounds():
    ((longest, _),) = one_level("1" + "0" * 120 + "." + "0" * 250, "1").texts(BID, 1)
    assert longest == b"1" + b"0" * 120 + b"." + b"0" * 250 or float(longest) == 1e120
    ((zero, _),) = one_level("0." + "0" * 390, "1").texts(BID, 1)
    assert zero == b"0." + b"0" * 254


@pytest.mark.parametrize(("price", "size"), [
    ("1", "-1"), ("x", "1"), ("1", ""), ("1", " 1"), (float("nan"), 1.0), (1.0, float("inf")), ("1e999", "1"),
])  # fmt: skip
def test_a_level_that_can_not_be_is_refused(price, size):
    made = Changes()
    with pytest.raises((ValueError, OverflowError)):
        made.add(BID, price, size)
    assert len(made) == 0


def test_a_copy_is_its_own():
    made = changes([(BID, 1.0, 2.0, 3)])
    copy = made.copy()
    made.clear()
    assert (len(made), len(copy)) == (0, 1)


# ---- out of JSON text ----

NUMBER = st.one_of(
    st.integers(0, 10**17).map(str),
    st.decimals(0, 10**9, allow_nan=False, places=8).map(str),
    st.floats(0, 1e300).map(repr),
    st.sampled_from(["0", "-0", "1E5", "1e-3", "0.10", "12e+2"]),
)
PIECE = st.one_of(NUMBER, NUMBER.map(lambda n: f'"{n}"'))
SPACE = st.sampled_from(["", " ", "\n", "\t \r"])
OTHER = st.sampled_from(['"a"', "null", "true", "-7", '"\\""', '"\\\\"', '"é\\u0041,]"', '""'])


@st.composite
def array_text(draw):
    """JSON of [[price, size, ...], ...]."""
    made = []
    for _ in range(draw(st.integers(0, 4))):
        parts = [draw(PIECE), draw(PIECE), *draw(st.lists(OTHER, max_size=2))]
        made.append(draw(SPACE) + "[" + ",".join(draw(SPACE) + p + draw(SPACE) for p in parts) + "]")
    return draw(SPACE) + "[" + ",".join(made) + draw(SPACE) + "]" + draw(SPACE)


@st.composite
def object_text(draw):
    """JSON of [{"price": ..., "size": ...}, ...], keys in any order, others among them."""
    made = []
    for _ in range(draw(st.integers(0, 4))):
        parts = [f'"price":{draw(PIECE)}', f'"size" : {draw(PIECE)}']
        parts += [f'"{k}":{draw(OTHER)}' for k in draw(st.lists(st.sampled_from(["x", "pric", "\\u0070"])))]
        made.append("{" + ",".join(draw(SPACE) + p for p in draw(st.permutations(parts))) + "}")
    return draw(SPACE) + "[" + ",".join(made) + "]"


def read(text, how):
    """The levels that are in it, in their order; ValueError or OverflowError if it is refused."""
    made = Changes()
    if how == "arrays":
        made.arrays(text, ASK)
    else:
        made.objects(text, ASK, b"price", b"size")
    return sorted(_levels(made))


def _levels(made):
    book = Levels(LevelRows(), 1)
    book.load(made, 0, 0)
    return [(p, s) for p, s, _ in book.top(ASK, 10_000)]


def expected(text, how):
    """The same from the standard library's parser; None if it can't be."""
    try:
        levels = json.loads(text)
        pairs = [(e[0], e[1]) if how == "arrays" else (e["price"], e["size"]) for e in levels]
        if not all(isinstance(v, str | int | float) and not isinstance(v, bool) for p in pairs for v in p):
            return None
        kept = {}
        for price, size in ((float(p), float(s)) for p, s in pairs):
            kept[price] = max(size, kept.get(price, 0.0))
        return sorted((p, s) for p, s in kept.items() if s)
    except (ValueError, KeyError, IndexError, TypeError):
        return None


@pytest.mark.parametrize("how", ["arrays", "objects"])
@given(data=st.data())
def test_lists_of_levels_are_read_as_the_standard_parser_reads_them(how, data):
    text = data.draw(array_text() if how == "arrays" else object_text())
    assert read(text.encode(), how) == expected(text, how)


@pytest.mark.parametrize("how", ["arrays", "objects"])
@given(data=st.data())
def test_a_damaged_list_is_refused_or_read_as_the_standard_parser_reads_it(how, data):
    text = data.draw(array_text() if how == "arrays" else object_text()).encode()
    at, byte = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 255))
    damaged = text[:at] + bytes([byte]) + text[at + 1 :]
    try:
        got = read(damaged, how)
    except (ValueError, OverflowError):
        return
    want = expected(damaged, how)
    assert want is None or got == want


@pytest.mark.parametrize("text", [
    b'[["1.5","2.25"],[3, 4.0, "x"]]', b'[{"price":"1.5","size":2},{"x":null,"size":3,"price":"4"}]', b"[]",
])  # fmt: skip
@pytest.mark.parametrize("how", ["arrays", "objects"])
def test_truncated_anywhere_or_any_byte_replaced_it_is_refused_or_right(text, how):
    whole = expected(text, how)
    assert whole is None or read(text, how) == whole
    for size in range(len(text)):
        with pytest.raises(ValueError, match="a number|not a list|a text without|a level"):
            read(text[:size], how)
        for byte in range(256):
            damaged = text[:size] + bytes([byte]) + text[size + 1 :]
            try:
                got = read(damaged, how)
            except (ValueError, OverflowError):
                continue
            want = expected(damaged, how)
            assert want is None or got == want, damaged


@pytest.mark.parametrize("text", [
    b'[["1","2",[3]]]', b'[["1","2",{"a":1}]]', b'[[["1"],"2"]]', b"[[1,2]] x", b"[] 1", b'[["1"]]', b"[[]]",
    b'[["1" "2"]]', b"{}", b"", b"[[1,2],]", b"[[1,-2]]", b"[[1,1e999]]", b'["1","2"]', b'[[1,"2]]',
    b'[[1,2,"\\"]]', b"[[1,2,",
])  # fmt: skip
def test_what_is_no_list_of_levels_is_refused(text):
    with pytest.raises((ValueError, OverflowError)):
        Changes().arrays(text, BID)


def test_places_of_price_size_and_orders_are_told():
    made = Changes().arrays(b'[["x","1","5","9",3]]', BID, 1, 3, 4)
    book = Levels(LevelRows(), 1)
    book.load(made, 0, 0)
    assert book.top(BID, 9) == [(1.0, 9.0, 3)]


TEXT = st.decimals(0, 10**9, places=8, allow_nan=False).map(str)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=5)


def listed(made):
    """What a book has of them: (price, size) of its halves, best first."""
    book = Levels(LevelRows(), 1)
    book.load(made, 1, 1)
    return [[(p, s) for p, s, _ in book.top(half, 100)] for half in (BID, ASK)]


@given(PAIRS, PAIRS)
def test_both_halves_are_read_in_one_call_and_nothing_is_left_of_what_was_there(bids, asks):
    raw = [json.dumps(half).encode() for half in (bids, asks)]
    once = Changes().arrays(b'[["1","1"]]', BID).halves(*raw)
    assert len(once) == len(bids) + len(asks)
    assert listed(once) == listed(Changes().arrays(raw[0], BID).arrays(raw[1], ASK))


@given(st.lists(st.tuples(st.sampled_from(["bid", "offer"]), TEXT, TEXT), max_size=6), st.integers(0, 2))
def test_levels_that_tell_their_half_are_those_of_the_halves(levels, at):
    keys = ["side", "p", "q", "time"]
    keys = keys[at:] + keys[:at]
    objects = [{k: {"side": side, "p": p, "q": q, "time": "t"}[k] for k in keys} for side, p, q in levels]
    made = Changes().sided(json.dumps(objects).encode(), b"side", b"bid", b"offer", b"p", b"q")
    apart = [json.dumps([x[1:] for x in levels if x[0] == name]).encode() for name in ("bid", "offer")]
    assert listed(made) == listed(Changes().halves(*apart))


@pytest.mark.parametrize(
    "level", ['{"p":"1","q":"2"}', '{"side":"ask","p":"1","q":"2"}', '{"side":1,"p":"1"}']
)
def test_a_level_that_does_not_tell_its_half_is_refused(level):
    with pytest.raises(ValueError, match="side"):
        Changes().sided(f"[{level}]".encode(), b"side", b"bid", b"offer", b"p", b"q")


@given(PAIRS, PAIRS, st.sampled_from([0, 1, 3, 100]))
def test_levels_alternate_between_bids_and_offers_as_they_were_written(bids, asks, most):
    book = Levels(LevelRows(), 1)
    book.load(Changes().halves(*(json.dumps(half).encode() for half in (bids, asks))), 1, 1)
    halves, text = [book.texts(half, most) for half in (BID, ASK)], []
    for i in range(most):
        for half, sign in zip(halves, (b"", b"-"), strict=True):
            text += [half[i][0], sign + half[i][1]] if i < len(half) else []
    assert book.alternating(most, ord("-")) == b":".join(text)
    assert book.alternating(most) == b":".join(t.removeprefix(b"-") for t in text)


def test_long_books_of_long_numbers_alternate_whole():
    long = [[f"1{'0' * 200}{n:03}.{'0' * 90}", "0.5"] for n in range(40)]
    book = Levels(LevelRows(), 1)
    book.load(Changes().halves(json.dumps(long).encode(), b"[]"), 1, 1)
    whole = b":".join(b":".join(level) for level in book.texts(BID, 40))
    assert book.alternating(40) == whole
    assert len(whole) > 290 * book.count(BID)
