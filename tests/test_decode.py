"""What `decode` says of a capture: every message counted, every sum as verified elsewhere."""

import gzip
import os
import pathlib

import itch_messages as itch
import numpy as np
import pytest

from tickplant.errors import CaptureError, ConfigError
from tickplant.feed.decode import EVENTS_MAX, Account, decode

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
ITCH = DATA / "nasdaq-itch50"
needs_captures = pytest.mark.skipif(not ITCH.is_dir(), reason=f"no captures in {ITCH}")


def written(path, messages):
    path.write_bytes(gzip.compress(itch.file(messages)))
    return path


def test_every_table_has_its_rows_sums_and_span(tmp_path):
    path = written(tmp_path / "12302019.itch.gz", [
        itch.system(ns=5),
        itch.directory(ns=6),
        itch.trade(700, 100_001, 14, ns=7),
        itch.trade(300, 200_000, 15, ns=9),
    ])  # fmt: skip
    found = decode(path)
    midnight = 1_577_682_000_000_000_000
    assert found["messages"] == {"S": 1, "R": 1, "P": 2}
    assert (found["format"], found["malformed"], found["damaged"]) == ("itch50", 0, False)
    assert found["tables"]["trade"] == {
        "rows": 2,
        "size_sum": 1000.0,
        "notional_sum": 700 * 10.0001 + 300 * 20.0,
        "first_ts_event": midnight + 7,
        "last_ts_event": midnight + 9,
    }
    assert found["tables"]["status"]["size_sum"] is None
    assert "event" not in found["tables"]


def test_date_and_venue_can_be_given(tmp_path):
    path = written(tmp_path / "day", [itch.directory(ns=6)])
    found = decode(path, date="2019-12-30", venue="XBOS")
    assert found["tables"]["instrument"]["first_ts_event"] == 1_577_682_000_000_000_006


@pytest.mark.parametrize(("options", "said"), [
    ({"date": "30.12.2019"}, "'30.12.2019' is not of the form YYYY-MM-DD"),
    ({"colour": "red"}, "colour"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(tmp_path, options, said):
    path = written(tmp_path / "day", [itch.directory()])
    with pytest.raises(ConfigError, match=said):
        decode(path, **options)


def test_what_is_malformed_is_counted_and_told_but_only_so_much_of_it(tmp_path):
    path = written(tmp_path / "20191230", [itch.directory(), *[b"?" * 20] * 100])
    found = decode(path)
    assert found["malformed"] == 100
    assert found["event_kinds"] == {"malformed": 100}
    assert found["tables"]["event"]["rows"] == 100
    assert len(found["events"]) == EVENTS_MAX
    assert found["events"][0]["kind"] == "malformed"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"hello " * 100])
def test_what_is_no_capture_is_refused(tmp_path, content):
    path = tmp_path / "20191230"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match="is not a capture that tickplant reads"):
        decode(path)


def test_an_account_leaves_out_what_is_not_a_number_or_not_a_time():
    rows = np.zeros(3, [("ts_event", "i8"), ("price", "f8"), ("size", "f8")])
    rows["ts_event"], rows["price"], rows["size"] = (0, 9, 5), (1, np.nan, 2), (10, 20, 30)
    account = Account()
    account.add(rows)
    account.add(rows[:0])
    assert account.plain() == {
        "rows": 3, "size_sum": 60.0, "notional_sum": 70.0, "first_ts_event": 5, "last_ts_event": 9,
    }  # fmt: skip


@needs_captures
def test_a_sampled_day_of_nasdaq_bx_has_the_verified_counts():
    found = decode(ITCH / "bx_sampled_obfuscated.itch.gz", date="2019-12-30")
    counts = {
        "S": 6, "R": 3, "H": 3, "A": 4997, "F": 3, "E": 198, "X": 45, "D": 1745, "U": 12, "P": 5000,
    }  # fmt: skip
    assert found["messages"] == counts
    assert sum(found["messages"].values()) == 12_012
    assert found["event_kinds"] == {"orphan": 117}
    assert (found["malformed"], found["damaged"]) == (0, False)
    # 198 executions and 5,000 trades, without the executions of orders that are not in the file
    assert found["tables"]["trade"]["rows"] == 5180
    assert found["tables"]["trade"]["size_sum"] <= 61_798 + 674_132


@needs_captures
def test_the_head_of_a_real_day_has_the_verified_counts_and_is_cut_off():
    found = decode(ITCH / "real_day_prefix_1MiB.itch.gz", date="2019-01-30")
    assert found["messages"] == {"S": 1, "R": 8713, "H": 8707, "Y": 8707, "L": 9453}
    assert sum(found["messages"].values()) == 35_581
    assert found["tables"]["instrument"]["rows"] == 8713
    assert (found["malformed"], found["damaged"]) == (0, True)
    assert found["event_kinds"] == {"truncated": 1}
    midnight = 1_548_824_400_000_000_000
    seconds = [(found["tables"]["status"][k] - midnight) / 1e9 for k in ("first_ts_event", "last_ts_event")]
    assert [round(s, 2) for s in seconds] == [3 * 3600 + 3 * 60 + 59.69, 3 * 3600 + 8 * 60 + 45.25]
