"""Recordings: what is decoded from them is what was decoded live; damage of any kind is told."""

import gzip
import json
import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import zstandard

from tickplant.errors import CaptureError
from tickplant.feed import recording as module
from tickplant.feed.formats import open_capture
from tickplant.feed.recording import Recorder, Recording
from tickplant.feed.venues.binance import Binance

START = 1_700_000_000_123_456_789
LIST = {"symbols": [{"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT"}]}


def trade(n):
    return {"stream": "btcusdt@trade", "data": {"e": "trade", "E": n, "s": "BTCUSDT", "t": n, "p": "100.5",
            "q": "0.1", "T": 1_700_000_000_000 + n, "m": bool(n % 2)}}  # fmt: skip


def depth(n):
    return {"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate", "E": n, "s": "BTCUSDT",
            "U": n, "u": n, "b": [["99.5", str(n)]], "a": [["101.5", "0.5"]]}}  # fmt: skip


def stream(n):
    """(kind, where, data) of a feed's life: list, snapshot, frames, a loss, a message that is none."""
    yield "http", "https://api/exchangeInfo", json.dumps(LIST)
    yield "connect", "ws", ""
    for i in range(1, n):
        if i == 3:
            yield (
                "http",
                "https://api/depth?symbol=BTCUSDT&limit=1000",
                json.dumps({"lastUpdateId": 2, "bids": [["99", "1"]], "asks": [["102", "1"]]}),
            )
        yield "recv", "ws", json.dumps(trade(i) if i % 3 else depth(i))
        yield "recv", "ws", json.dumps(depth(i)).encode()
        if i == n // 2:
            yield "lost", "ws", "closed by the venue"
    yield "recv", "ws", "not json \x00 \u2603"
    yield "recv", "ws", b"\xff\xfe"


def merged(batches):
    taken = {}
    for batch in batches:
        for table, rows in batch:
            taken.setdefault(table, []).append(rows.tobytes())
    return {table: b"".join(parts) for table, parts in taken.items()}


def live_and_recorded(path, entries, *, take_every=3):
    """Run a decoder as a live feed would, recording what comes; the rows it made."""
    venue, recorder, batches = Binance(), Recorder(path, "BINANCE", {"trades": ["BTC-USDT"]}, START), []
    for i, (kind, where, data) in enumerate(entries):
        ns = START + i * 1_234_567
        if kind == "http":
            recorder.add("http", "rest", ns, data, url=where)
            venue.respond(where, data.encode(), ns)
        elif kind == "recv":
            recorder.add("recv", where, ns, data)
            venue.receive(where, data if isinstance(data, bytes) else data.encode(), ns)
        elif kind == "lost":
            recorder.add("lost", where, ns, data)
            venue.lost(where, ns, data)
        else:
            recorder.add("connect", where, ns, addr="wss://somewhere")
            venue.connected(where, ns)
        if i % take_every == 0:
            batches.append(venue.take())
    batches.append(venue.take())
    recorder.close()
    return venue, merged(batches)


def test_decoding_a_recording_gives_the_rows_that_were_made_live_byte_by_byte(tmp_path):
    venue, live = live_and_recorded(tmp_path / "r", stream(40))
    capture = open_capture(tmp_path / "r")
    again = merged(capture)
    assert again == live
    assert set(again) == {"instrument", "trade", "depth", "quote", "event"}
    assert capture.messages == venue.account.messages
    assert (capture.malformed, capture.damaged, capture.format) == (2, False, "binance")
    assert capture.total == venue.account.messages.total() + 2


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(["recv", "http", "lost"]), st.text() | st.binary()), max_size=8)
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_comes_is_recorded_as_it_came(tmp_path, entries):
    path = tmp_path / "r"
    path.unlink(missing_ok=True)
    entries = [(k, "ws", d if k == "recv" else str(d)) for k, d in entries]
    entries = [
        (k, w, d.encode("utf-8", "replace").decode() if isinstance(d, str) else d) for k, w, d in entries
    ]
    _, live = live_and_recorded(path, entries)
    assert merged(Recording(path)) == live


def test_a_recording_cut_anywhere_gives_the_rows_up_to_there(tmp_path):
    _, live = live_and_recorded(tmp_path / "whole", stream(30))
    plain = zstandard.ZstdDecompressor().stream_reader((tmp_path / "whole").read_bytes()).read()
    header, path = plain.index(b"\n") + 1, tmp_path / "cut"
    for size in range(header, len(plain), 41):
        path.write_bytes(plain[:size])
        capture = Recording(path)
        rows = merged(capture)
        inside = plain[size - 1 : size] != b"\n" and plain[size : size + 1] != b"\n"
        assert capture.damaged == inside
        for table, have in rows.items():
            assert table == "event" or live[table].startswith(have)
    packed = (tmp_path / "whole").read_bytes()
    for size in range(30, len(packed), 13):
        path.write_bytes(packed[:size])
        try:
            rows = merged(Recording(path))
        except CaptureError:
            continue  # not even the header
        for table, have in rows.items():
            assert table == "event" or live[table].startswith(have)


def test_a_flipped_byte_that_changes_a_row_is_told(tmp_path):
    _, live = live_and_recorded(tmp_path / "whole", stream(1000))
    packed, told = (tmp_path / "whole").read_bytes(), 0
    for at in range(0, len(packed), len(packed) // 40):
        (tmp_path / "bad").write_bytes(packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :])
        try:
            capture = Recording(tmp_path / "bad")
            rows = merged(capture)
        except CaptureError:
            continue
        if rows != live:  # a bit of the container's own that changes nothing is none of ours
            assert capture.damaged
            assert b"damaged" in rows["event"] or b"truncated" in rows["event"]
            told += 1
    assert told > 10


def test_what_was_written_and_flushed_is_readable_before_the_end(tmp_path):
    recorder = Recorder(tmp_path / "r", "BINANCE", {}, START)
    for n in range(1, 4):
        recorder.add("recv", "ws", START + n, json.dumps(trade(n)))
    recorder.flush()
    capture = Recording(tmp_path / "r")
    assert len(merged(capture)["trade"])
    assert capture.messages == {"trade": 3}
    recorder.close()


def test_a_recorder_overwrites_nothing(tmp_path):
    (tmp_path / "r").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        Recorder(tmp_path / "r", "BINANCE", {}, START)
    assert (tmp_path / "r").read_bytes() == b"precious"


def lines(path, *entries):
    head = {"t": "header", "format": 2, "exchange": "BINANCE", "config": {}}
    path.write_bytes(
        b"".join(e if isinstance(e, bytes) else json.dumps(e).encode() + b"\n" for e in (head, *entries))
    )
    return path


@pytest.mark.parametrize(
    "bad",
    [{"t": "recv", "ts": 1e300}, {"t": "recv", "ts": -1.0}, {"t": "recv", "ns": 1 << 64},
     {"t": "recv", "ns": -5}, {"t": "recv", "ts": 1.0, "b64": "****"}, {"t": "unheard", "ts": 1.0},
     {"t": 5}, [1], b"{\n",
     b"\xff\n", b"{}\n", b'{"t":"recv","ts":1,"data":"\\ud800"}\n', b'{"t":"recv","ts":1e999}\n'],
)  # fmt: skip
def test_a_line_that_is_none_is_an_event_and_the_next_is_read(tmp_path, bad):
    good = {"t": "recv", "conn": "ws", "ts": 1.5, "data": json.dumps(trade(1))}
    capture = Recording(lines(tmp_path / "r", bad, good))
    rows = [dict(b) for b in capture]
    assert (capture.malformed, capture.damaged, capture.messages) == (1, False, {"trade": 1})
    kinds = np.concatenate([r["event"]["kind"] for r in rows if "event" in r])
    assert kinds.tolist() == [b"malformed", b"unlisted"]  # no list was recorded
    trades = np.concatenate([r["trade"] for r in rows if "trade" in r])
    assert trades["ts_recv"].tolist() == [1_500_000_000]


def test_lines_of_time_and_frame_in_gzip_are_a_recording_of_binance(tmp_path):
    text = "".join(f"{START + n} {json.dumps(trade(n))}\n" for n in range(1, 5))
    (tmp_path / "r.gz").write_bytes(gzip.compress(text.encode()))
    capture = open_capture(tmp_path / "r.gz")
    rows = [dict(b) for b in capture]
    assert capture.messages == {"trade": 4}
    assert np.concatenate([r["trade"]["ts_recv"] for r in rows]).tolist() == [START + n for n in range(1, 5)]


def test_a_header_longer_than_what_formats_are_told_by_is_one(tmp_path):
    config = {"trades": [f"COIN{random.random()}-USDT" for _ in range(2000)]}
    Recorder(tmp_path / "r", "BINANCE", config, START).close()
    assert isinstance(open_capture(tmp_path / "r"), Recording)


def test_what_is_no_recording_or_of_nobody_we_know_is_refused(tmp_path):
    path = tmp_path / "r"
    for content in (
        b"",
        b"hello\n",
        b"{}\n",
        b'{"t":"header","format":1,"exchange":"BINANCE"}\n',
        b"\x28\xb5\x2f\xfd",
    ):
        path.write_bytes(content)
        with pytest.raises(CaptureError):
            open_capture(path)
        with pytest.raises(CaptureError):
            Recording(path)
    with pytest.raises(CaptureError, match="No such file"):
        Recording(tmp_path / "missing")
    path.write_bytes(b'{"t":"header","format":2,"exchange":"ATLANTIS","config":{}}\n')
    with pytest.raises(CaptureError, match=r"'ATLANTIS'.*binance"):
        Recording(path)
    with pytest.raises(CaptureError, match="'nowhere'"):
        Recording(path, venue="nowhere")
    assert Recording(path, venue="binance").format == "binance"


def test_slices_go_out_by_recorded_time_and_by_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLICE_FRAMES", 2)
    entries = [
        {"t": "recv", "conn": "ws", "ns": START + n, "data": json.dumps(trade(n))} for n in range(1, 8)
    ]
    sizes = [len(dict(b)["trade"]) for b in Recording(lines(tmp_path / "r", *entries))]
    assert sum(sizes) == 7
    assert max(sizes) == 2
