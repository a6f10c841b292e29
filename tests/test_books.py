"""Books made from rows: they are the books that the feeds' own decoders had."""

import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

from tests import itch_messages as itch
from tests.fix_plant import until
from tickplant._core.changes import ASK, BID, Changes
from tickplant._core.itch import ItchDecoder
from tickplant._core.levels import LevelRows, Levels
from tickplant.analytics.book import DepthBook, OrderBook
from tickplant.books import LiveBook
from tickplant.cli.main import cli
from tickplant.local import connect
from tickplant.schema import Flag


def changed(rng, n):
    changes = Changes()
    for _ in range(n):
        half = rng.randrange(2)
        price = 100 + rng.randrange(20) * (1 if half == ASK else -1)
        changes.add(half, float(price), float(rng.randrange(4)))
    return changes


def same(book, levels):
    return all(book.levels(side, 99) == levels.top(half, 99) for side, half in (("B", BID), ("S", ASK)))


@pytest.mark.parametrize("seed", range(5))
def test_a_book_made_from_depth_rows_is_the_venues(seed):
    rng, out = random.Random(seed), LevelRows()
    levels, book = Levels(out, 1), DepthBook()
    assert book.stale
    levels.load(changed(rng, 20), 1, 1)
    for n in range(60):
        match rng.randrange(12):
            case 0:
                levels.load(changed(rng, 20), n, n, 0, Flag.SNAPSHOT)
                stale = False
            case 1:
                levels.reset(n, n, 0, Flag.STALE)
                stale = True
            case _:
                levels.change(changed(rng, rng.randint(1, 9)), n, n)
                stale = None
        for table, rows in out.take():
            if table == "depth":
                book.apply(rows)
        assert stale is None or book.stale == stale
        assert same(book, levels)


def orderly(rng, count):
    """A day of one stock, in which every message is about an order that rests."""
    resting, made, ref = {}, [itch.directory()], 0
    for _ in range(count):
        known = rng.choice(list(resting)) if resting else 0
        match rng.randrange(7) if known else 0:
            case 0 | 1 | 2:
                ref += 1
                resting[ref] = rng.randint(1, 500)
                side = rng.choice([b"B", b"S"])
                price = 100_0000 + rng.randint(1, 30) * (-100 if side == b"B" else 100)
                made.append(itch.add(ref, side, resting[ref], price))
            case 3 | 4 as kind:
                shares = rng.randint(1, resting[known])
                resting[known] -= shares
                made.append(itch.executed(known, shares, ref) if kind == 3 else itch.cancel(known, shares))
            case 5:
                del resting[known]
                made.append(itch.delete(known))
            case 6:
                ref += 1
                del resting[known]
                resting[ref] = rng.randint(1, 500)
                made.append(itch.replace(known, ref, resting[ref], 100_0000 + rng.randint(-30, 30) * 100))
        resting = {r: shares for r, shares in resting.items() if shares}
    return itch.file(made)


@pytest.mark.parametrize("seed", range(5))
def test_the_top_of_a_book_made_from_orders_is_what_the_decoder_quoted(seed):
    decoder = ItchDecoder(0)
    decoder.decode(orderly(random.Random(seed), 600), final=True)
    taken = dict(decoder.take())
    orders, quotes = taken["order"], taken["quote"]
    book, upto = OrderBook(), 0
    for quote in quotes:
        after = int(np.searchsorted(orders["venue_seq"], quote["venue_seq"], "right"))
        book.apply(orders[upto:after])
        upto = after
        for side, name in (("B", "bid"), ("S", "ask")):
            top = [level[:2] for level in book.levels(side, 1)]
            said = (float(quote[f"{name}_price"]), float(quote[f"{name}_size"]))
            assert top == ([said] if said[1] else [])
    assert len(quotes) > 20


@pytest.fixture
def published(site, plant):
    """A plant into which the rows of a book come as the test says."""
    feed, out, rng = site.feed(plant.config), LevelRows(), random.Random(7)
    code = feed.instrument("XTST", "BTC-USD")
    other = feed.instrument("XTST", "ETH-USD")
    levels, beside = Levels(out, code), Levels(out, other)

    def publish(*, load=False):
        for each in (levels, beside):
            (each.load if load else each.change)(changed(rng, 30 if load else 5), 7, 7)
        for table, rows in out.take():
            feed.append(table, rows)
        until(lambda: plant.day.intake.session(1) == (feed.session, feed._sender.seq), turning=plant.turn)
        plant.commit()

    return publish, levels


def test_a_live_book_is_up_to_date_whenever_it_is_asked(plant, published):
    publish, levels = published
    publish(load=True)
    book = LiveBook(connect(plant.config), "XTST:BTC-USD")
    assert book.stale
    for n in range(40):
        assert book.refresh()
        assert not book.stale
        assert same(book, levels)
        publish(load=n % 13 == 12)
    late = LiveBook(connect(plant.config), "XTST:BTC-USD")
    assert late.refresh()
    assert same(late, levels)
    assert not late.refresh()


def test_a_book_whose_beginning_lies_far_back_is_found(plant, published):
    publish, levels = published
    publish(load=True)
    for _ in range(400):
        publish()
    book = LiveBook(connect(plant.config), "XTST:BTC-USD")
    book.refresh()
    assert same(book, levels)


def test_the_command_shows_it(plant, published):
    publish, levels = published
    publish(load=True)
    run = CliRunner().invoke(
        cli, ["--config", str(plant.config.path), "book", "XTST:BTC-USD", "--json", "-n", "3"]
    )
    said = json.loads(run.stdout)
    assert said["bids"] == [list(level) for level in levels.top(BID, 3)]
    assert said["asks"] == [list(level) for level in levels.top(ASK, 3)]
    screen = CliRunner().invoke(cli, ["--config", str(plant.config.path), "book", "XTST:BTC-USD", "--once"])
    assert repr(levels.top(BID, 1)[0][0]) in screen.stdout
    assert "stale" not in screen.stdout


def test_an_instrument_that_is_none_is_refused(plant):
    run = CliRunner().invoke(cli, ["--config", str(plant.config.path), "book", "XTST:NONE"])
    assert "XTST:NONE" in str(run.exception)
