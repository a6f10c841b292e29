"""docs/FEEDS.md: the venue that it shows is a whole one, and its options are those that there are."""

import inspect
import json
import re
import struct
import sys
import types
from pathlib import Path

import msgspec
import packet_files as packets
import pytest

from tickplant.feed import live
from tickplant.feed.decode import decode
from tickplant.feed.formats import open_capture
from tickplant.feed.handlers import resolve
from tickplant.feed.recording import Recorder
from tickplant.testing import check_capture

PAGE = (Path(__file__).parents[1] / "docs" / "FEEDS.md").read_text()
VENUE, TEST = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def acme(monkeypatch):
    """The page's venue as a module, which is where its users have theirs."""
    package, module = types.ModuleType("mypackage"), types.ModuleType("mypackage.acme")
    monkeypatch.setitem(sys.modules, "mypackage", package)
    monkeypatch.setitem(sys.modules, "mypackage.acme", module)
    exec(compile(VENUE, "docs/FEEDS.md", "exec"), vars(module))
    return module.Acme


def message(kind, **fields):
    return json.dumps({"type": kind, "market": "btcusd", **fields})


def recorded(path):
    recorder = Recorder(path, "acme", {}, 0)
    markets = {"markets": [{"id": "btcusd", "base": "XBT", "quote": "usd"}]}
    recorder.add("http", "rest", 1, json.dumps(markets), url="https://api.acme.example/markets")
    for n, each in enumerate([
        message("snapshot", seq=7, bids=[["9.5", "1"]], asks=[["9.75", "2"]]),
        message("trade", seq=1, price="9.75", size="0.5", taker="B", time_ms=3),
        message("change", seq=8, bids=[["9.6", "3"], ["9.5", "0"]]),
        message("trade", seq=2, price="9.6", size="0.25", taker="S", time_ms=4),
        message("pong"),
    ]):  # fmt: skip
        recorder.add("recv", "acme", 2 + n, each)
    recorder.close()


def test_the_venue_and_the_test_of_it_run_as_they_stand(acme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "acme.jsonl.zst")
    names = {}
    exec(compile(TEST, "docs/FEEDS.md", "exec"), names)
    names["test_the_sample_day"]()
    batches = check_capture("acme.jsonl.zst", venue="mypackage.acme:Acme", rows={"quote": 2}, plant=False)
    defined = next(rows for batch in batches for table, rows in batch if table == "instrument")
    assert defined["symbol"].tolist() == [b"BTC-USD"]


def test_it_is_a_handler_by_its_place(acme):
    assert callable(resolve("mypackage.acme:Acme"))


def test_what_it_subscribes_to_is_what_was_asked_for(acme, tmp_path):
    venue = acme(["BTC-USD"], ["book"])
    venue.answer(
        "x",
        json.dumps(
            {"markets": [{"id": m, "base": m[:3], "quote": m[3:]} for m in ("btcusd", "ethusd")]}
        ).encode(),
        1,
    )
    (connection,) = venue.connections()
    assert [json.loads(m) for m in connection.send] == [{"subscribe": "book", "markets": ["btcusd"]}]


def test_every_option_is_on_the_page(acme):
    options = set(inspect.signature(live.handler(acme)).parameters) - {"feed"}
    table = PAGE[PAGE.index("| option |") : PAGE.index("A recording decodes")]
    assert options == set(
        re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:] if line))
    )


def test_the_configuration_on_the_page_is_toml():
    block = re.search(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert msgspec.toml.decode(block[1])["feeds"]["kraken"]["handler"] == "kraken"


def test_the_protocol_that_it_shows_is_a_whole_one(tmp_path):
    (protocol,) = re.findall(r"^```toml\n(what = .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    own, path = tmp_path / "acme.toml", tmp_path / "day.pcap"
    own.write_text(protocol)
    bodies = [
        b"D" + struct.pack("<I12sB", 7, b"XYZ", 2),
        b"T" + struct.pack("<IIQqIc", 5, 7, 99, 12345, 250, b"2"),
        b"Ghello",
    ]
    messages = [len(b).to_bytes(2, "little") + b for b in bodies]
    body, sent = b"".join(messages), packets.T0 // 10**9 * 10**9
    packed = struct.pack("<HHBxxxIQ", 20 + len(body), len(messages), 1, 1, sent) + body
    beat = struct.pack("<HHBxxxIQ", 20, 0, 1, 4, sent)
    frames = [packets.ethernet(packets.ipv4(p)) for p in (packed, beat)]
    path.write_bytes(packets.classic([(packets.T0, frame) for frame in frames]))
    found = decode(path, protocol=str(own))
    assert found["messages"] == {"Definition": 1, "Trade": 1}
    assert found["ignored"] == {"Greeting": 1, "heartbeat": 1}
    assert not found["malformed"]
    rows = dict(r for batch in open_capture(path, protocol=str(own)) for r in batch)
    columns = ["ts_event", "trade_id", "price", "size", "side", "action"]
    assert rows["trade"][columns].tolist() == [(sent + 5, 99, 123.45, 2.5, b"S", b"T")]
    assert rows["instrument"][["symbol", "venue", "currency"]].tolist() == [(b"XYZ", b"XACM", b"EUR")]
