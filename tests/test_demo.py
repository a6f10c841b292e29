"""The demo: real processes from capture to proof, whatever is killed meanwhile, and nothing left behind."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest
from rich.console import Console

from tickplant.batch import Batch
from tickplant.clock import now_ns
from tickplant.demo import screen
from tickplant.demo.reader import Latencies, Tally
from tickplant.feed.sink import shipped_schema
from tickplant.instruments import Instruments

ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
ITCH = DATA / "nasdaq-itch50"
CAPTURES = [ITCH / "bx_sampled_obfuscated.itch.gz", ITCH / "real_day_prefix_1MiB.itch.gz"]
TABLES = ["instrument", "event", "trade", "quote", "order", "depth", "status", "imbalance", "bar"]
PLACES = ["published", "journaled", "shared_memory", "remote", "local", "postgres"]
PATIENCE_S = 180.0


class Running:
    """A demo in a temporary folder of its own."""

    def __init__(self, *arguments):
        self.temporary = pathlib.Path(tempfile.mkdtemp(prefix="tpd"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tickplant", "demo", *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "200"}, start_new_session=True,
        )  # fmt: skip

    def said(self, name):
        for path in self.temporary.glob(f"tickplant-demo-*/run/status/{name}.json"):
            try:
                return json.loads(path.read_text())
            except (OSError, ValueError):
                pass
        return {}

    def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < end, f"never came true; {self.members()}"
            time.sleep(0.02)
        return found

    def until_running(self, *names, rows=True):
        """These processes are up, and rows flow."""
        self.until(lambda: all(self.said(n).get("state") == "running" for n in names))
        if rows:
            self.until(lambda: sum(self.said("reader-local").get("rows", {"": 0}).values()) > 1000)

    def kill(self, name):
        """kill -9, and it was alive."""
        pid = self.said(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        return pid

    def end(self):
        """(exit status, standard output, standard error)."""
        out, error = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, error

    def members(self):
        """Processes that name the temporary folder in command line or environment."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(self.temporary).encode() in said and int(entry.name) != os.getpid():
                found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ")))
        return found

    def check_nothing_left(self):
        self.until(lambda: not self.members())
        assert list(self.temporary.iterdir()) == []
        assert list(pathlib.Path("/dev/shm").glob(f"tp.demo{self.process.pid}.*")) == []

    def clear(self):
        for pid, _ in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()
        for path in pathlib.Path("/dev/shm").glob(f"tp.demo{self.process.pid}.*"):
            path.unlink()
        shutil.rmtree(self.temporary, ignore_errors=True)


@pytest.fixture
def start():
    """Starts demos, and clears up after them."""
    started = []

    def run(*arguments):
        started.append(Running(*arguments))
        return started[-1]

    yield run
    for one in started:
        one.clear()


def verdict(out):
    """The JSON of the last line."""
    return json.loads(out.splitlines()[-1])


def check_complete(found):
    assert found["complete"] is True
    for table in found["tables"].values():
        assert table["checksum_ok"] is True
        assert len({table[p] for p in PLACES}) == 1
        assert int(table["checksum"], 16) >= 0


def test_a_simulated_day_ends_complete_as_json_and_leaves_nothing(start):
    demo = start("--seconds", "1", "--json")
    demo.until_running("publisher", rows=False)
    ports = [int(demo.said("publisher")[k].rsplit(":", 1)[1]) for k in ("publish", "request")]
    status, out, error = demo.end()
    assert (status, error) == (0, "")
    found = verdict(out)
    assert set(found) == {"trading_date", "complete", "seconds", "tables", "latency_us"}
    assert isinstance(found["trading_date"], int)
    assert found["seconds"] > 1
    assert list(found["tables"]) == TABLES
    assert {frozenset(t) for t in found["tables"].values()} == {
        frozenset([*PLACES, "checksum", "checksum_ok"])
    }
    assert 0 < found["latency_us"]["p50"] <= found["latency_us"]["p99"]
    check_complete(found)
    assert found["tables"]["trade"]["published"] > 100
    demo.check_nothing_left()
    for port in ports:
        with socket.socket() as s:
            assert s.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(not ITCH.is_dir(), reason=f"no captures in {ITCH}")
def test_captures_end_complete_with_every_message_and_tell_of_the_truncation(start):
    demo = start("--date", "2019-12-30", *CAPTURES)
    status, out, error = demo.end()
    assert (status, error) == (0, "")
    rows = {}
    proof, _ = out.split("\n\n", 1)
    for line in proof.splitlines():
        cells = line.split()
        if cells[0] in TABLES:
            assert cells[-1] == "ok"
            assert len(set(cells[1:7])) == 1
            rows[cells[0]] = int(cells[1].replace(",", ""))
    # R; and session starts, orphans and the truncation; A F E X D U ...; H Y L and S, of both captures
    assert rows["instrument"] == 3 + 8713
    assert rows["event"] == 117 + 1 + 2
    assert rows["trade"] == 5180
    assert rows["order"] == 7000
    assert rows["status"] == 9 + 26_868
    assert "event truncated [1,048,574, 1,048,575]: the file ends inside a message" in out
    assert "event orphan: 113 more" in out
    assert out.rstrip().endswith("complete")
    demo.check_nothing_left()


@pytest.mark.parametrize(("number", "expected"), [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9),
])  # fmt: skip
def test_a_demo_that_is_ended_from_outside_leaves_nothing(start, number, expected):
    demo = start("--seconds", "600", "--json")
    demo.until_running("hdb", "reader-remote")
    if number == signal.SIGINT:
        os.killpg(demo.process.pid, number)  # as a terminal does
    else:
        demo.process.send_signal(number)
    status, out, error = demo.end()
    assert status == expected
    assert "Traceback" not in out + error
    demo.check_nothing_left()


def test_a_demo_ended_while_it_starts_leaves_nothing(start):
    demo = start("--json")
    demo.until(lambda: list(demo.temporary.glob("tickplant-demo-*/run/status/*.json")))
    demo.process.send_signal(signal.SIGTERM)
    assert demo.end()[0] == 143
    demo.check_nothing_left()


def test_a_feed_that_is_killed_ends_the_demo_with_an_error(start):
    demo = start("--seconds", "600", "--json")
    demo.until_running("feed-crypto-sim")
    demo.kill("feed-crypto-sim")
    status, out, error = demo.end()
    assert status == 1
    assert out == ""
    assert error.startswith("feed-crypto-sim failed")
    assert "Traceback" not in error
    demo.check_nothing_left()


def test_a_capture_that_is_none_ends_the_demo_with_the_reason(start, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no capture")
    demo = start(path, "--json")
    status, _, error = demo.end()
    assert status == 1
    assert "is not a capture that tickplant reads" in error.replace("\n", " ")
    demo.check_nothing_left()


def test_hdb_publisher_and_ticker_plant_killed_meanwhile_the_day_ends_complete(start):
    demo = start("--seconds", "12", "--json")
    demo.until_running("hdb", "publisher", "tickerplant")
    for name in ("publisher", "tickerplant", "hdb"):
        dead = demo.kill(name)
        demo.until(lambda name=name, dead=dead: demo.said(name)["pid"] != dead or demo.process.poll())
        demo.until_running(name, rows=False)
    status, out, error = demo.end()
    assert status == 0, error
    found = verdict(out)
    check_complete(found)
    assert found["tables"]["trade"]["published"] > 1000
    demo.check_nothing_left()


def a_proof(**changes):
    """The proof of one table with one feed."""
    places = {p: 5 for p in ("published", "journaled", "shared_memory", "postgres")}
    sums = {p + "_checksum": 255 for p in places}
    record = {"table": "trade", "feed": 1, **places, **sums, "complete": True} | changes
    return {"complete": record["complete"], "out_of_order": [], "records": [record]}


READER = {"rows": {"trade": 5}, "sums": {"trade": f"{255:016x}"}}


def judged(proof, remote=READER, near=READER):
    return screen.result(20261122, proof, remote, near, 1.0, ["trade"])


def test_the_verdict_is_complete_only_if_proof_and_both_readers_agree():
    good = judged(a_proof())
    assert good["complete"]
    assert good["tables"]["trade"]["checksum"] == f"{255:016x}"
    gone = judged(a_proof(shared_memory=None, shared_memory_checksum=None))
    assert gone["complete"]
    assert gone["tables"]["trade"]["shared_memory"] is None
    less = {"rows": {"trade": 4}, "sums": READER["sums"]}
    other = {"rows": READER["rows"], "sums": {"trade": f"{254:016x}"}}
    for wrong in (less, other, {}):
        assert not judged(a_proof(), remote=wrong)["complete"]
        assert not judged(a_proof(), near=wrong)["complete"]
    bad = judged(a_proof(postgres_checksum=7, complete=False))
    assert (bad["complete"], bad["tables"]["trade"]["checksum_ok"]) == (False, False)
    assert bad["tables"]["trade"]["checksum"] is None
    assert not judged(a_proof() | {"complete": False, "out_of_order": ["trade"]})["complete"]


def test_latencies_are_right_to_a_sixteenth_of_an_octave():
    import numpy as np

    late = Latencies()
    assert late.percentile_us(0.5) is None
    late.add(np.arange(1, 100_001) * 1000)
    for p in (0.01, 0.5, 0.99):
        assert late.percentile_us(p) == pytest.approx(100_000 * p, rel=0.05)
    late.add(np.array([-5, 0]))
    assert late.percentile_us(1e-6) < 0.01


def test_rows_of_a_recording_tell_nothing_of_how_late_they_come():
    table = shipped_schema()["trade"]
    tally = Tally(shipped_schema())
    rows = table.empty(2)
    rows["ts_recv"] = 1_600_000_000 * 10**9
    tally.take(Batch.of(rows, "trade", 20261126, 0), Instruments())
    assert tally.status()["latency_us"] == {"p50": None, "p99": None}
    rows["ts_recv"] = now_ns()
    tally.take(Batch.of(rows, "trade", 20261126, 2), Instruments())
    assert tally.status()["latency_us"]["p50"] > 0


def shown(verdict, width):
    out = io.StringIO()
    screen.show(verdict, [], Console(file=out, width=width))
    return out.getvalue()


def counted(rows, **places):
    names = ("published", "journaled", "shared_memory", "postgres", "remote", "local")
    table = {
        **dict.fromkeys(names, rows),
        **places,
        "checksum": "e248a34db4b00a49",
        "checksum_ok": not places,
    }
    return {"trading_date": 20261126, "complete": not places, "seconds": 1.0, "tables": {"trade": table},
            "latency_us": {"p50": 1.0, "p99": 2.0}}  # fmt: skip


def test_the_proof_shows_every_count_and_checksum_where_there_is_room():
    wide = shown(counted(123_456_789_012), 160)
    assert wide.count("123,456,789,012") == 6
    assert "e248a34db4b00a49" in wide
    usual = shown(counted(304_368), 80)
    assert usual.count("304,368") == 6
    assert "ok" in usual


def test_in_a_narrow_terminal_counts_that_are_the_same_are_shown_once_and_others_in_full():
    assert shown(counted(123_456_789_012), 80).count("123,456,789,012") == 1
    narrow = shown(counted(123_456_789, postgres=123_456_788), 80)
    assert (narrow.count("123,456,789"), narrow.count("123,456,788"), narrow.count("=")) == (1, 1, 4)
    assert "DIFFERS" in narrow
    assert "NOT complete" in narrow
