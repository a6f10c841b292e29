"""docs/FEEDS.md, "Addresses and limits": the addresses are those that the venues connect to."""

import re
from pathlib import Path

import pytest

from tickplant.feed.symbols import spot
from tickplant.feed.venues import venues

PAGE = (Path(__file__).parents[1] / "docs" / "FEEDS.md").read_text()
SECTION = PAGE.partition("## Addresses and limits")[2].partition("\n## ")[0]
LINES = [row.split("|") for row in SECTION.splitlines() if row.startswith("| `")]
ROWS = {row[1].strip(" `"): row[2:] for row in LINES}
NATIVES = {"bybit": ["spot/BTCUSDT", "linear/BTCUSDT", "inverse/BTCUSD"]}


def test_the_table_has_every_venue():
    assert ROWS.keys() == venues().keys()


@pytest.mark.parametrize("name", sorted(venues()))
def test_the_table_has_what_is_connected_to_and_nothing_else(name):
    venue = venues()[name]()
    venue.known = {n: spot("BTC", "USD") for n in NATIVES.get(name, ["BTC-USD"])}
    sockets = {c.url.partition("?")[0] for c in venue.connections()}
    hosts = {url.partition("://")[2].partition("/")[0] for url in sockets}
    table = re.findall(r"wss://[^ ,(]+", ROWS[name][0])
    assert {t.partition("://")[2].partition("/")[0] for t in table} == hosts
    for path in {url.partition("://")[2].partition("/")[2] for url in sockets} - {""}:
        assert path.rpartition("/")[2] in ROWS[name][0]
        assert path.partition("/")[0] in ROWS[name][0]
    for request in venue.begin():
        assert any(request.url.startswith(a) for a in re.findall(r"https://[^ ,]+", ROWS[name][1])), (
            request.url
        )


def test_the_table_says_how_often_is_asked():
    for name, venue in venues().items():
        used = ROWS[name][3]
        if found := re.search(r"([\d.]+) requests?/s", used):
            assert float(found[1]) == venue.REQUESTS_PER_S, name
        if found := re.search(r"([\d.]+) messages/s", used):
            assert float(found[1]) == venue.SUBSCRIPTIONS_PER_S, name
        if found := re.search(r"([\d.]+) connections/s", used):
            assert float(found[1]) == venue.CONNECTS_PER_S, name
