"""The command line: every command, what it prints, and its exit status when something is wrong."""

import contextlib
import csv
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import click
import itch_messages as itch
import pytest
from click.testing import CliRunner

from tests.fix_plant import rows_of, until
from tickplant import Feed
from tickplant.cli import main
from tickplant.cli.main import cli
from tickplant.clock import date_after
from tickplant.control import Control
from tickplant.errors import AlreadyRunning, CaptureError
from tickplant.journal import segments

ROOT = pathlib.Path(__file__).parents[1]
TRADES = 5
"""Rows of trades that `one_of_each` comes to: an execution is none if it is not printable."""
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
ITCH = DATA / "nasdaq-itch50"


def commands(group, path=()):
    """Every command and group, as words."""
    yield path
    if isinstance(group, click.Group):
        for name in group.list_commands(click.Context(group)):
            yield from commands(group.get_command(click.Context(group), name), (*path, name))


def call(monkeypatch, capsys, *arguments):
    """(exit status, output, error output) of a command line, run in this process as the program runs it."""
    monkeypatch.setattr(sys, "argv", ["tickplant", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, error = capsys.readouterr()
    return ended.value.code or 0, out, error


@pytest.fixture
def tickplant(monkeypatch, capsys):
    """Calls the command line."""
    return lambda *arguments: call(monkeypatch, capsys, *arguments)


@pytest.fixture
def live(site):
    """A plant of real processes with trades of two instruments."""
    cfg = site.configured(hdb={"throwaway": True})
    site.run_ticker_plant()
    site.run("run", "publisher")
    with Feed(cfg, "one") as feed:
        for symbol in ("A", "B"):
            code = feed.instrument("XTST", symbol)
            for i in range(20):
                feed.trade(instrument=code, trade_id=i, price=1.5 + i, size=10.0, ts_event=10**18 + i)
        assert feed.drained(30.0)
    until(lambda: sum(status_of(cfg, "tickerplant").get("rows", {"": 0}).values()) > 40)
    until(lambda: status_of(cfg, "publisher").get("state") == "running")
    return cfg


def status_of(cfg, name):
    with contextlib.suppress(OSError, ValueError):
        return json.loads((cfg.status_dir / f"{name}.json").read_text())
    return {}


@pytest.mark.parametrize("words", list(commands(cli)), ids=lambda w: " ".join(w) or "tickplant")
def test_every_command_explains_itself(words):
    for option in ("--help", "-h"):
        result = CliRunner().invoke(cli, [*words, option])
        assert result.exit_code == 0, result.output
        assert result.output.startswith("Usage:")
        assert len(result.output.splitlines()) > 3


def test_the_version_is_told(tickplant):
    import tickplant as package

    assert tickplant("--version") == (0, f"tickplant, version {package.__version__}\n", "")


@pytest.mark.parametrize("words", [
    ["nonsense"], ["tail"], ["tail", "trade", "-n", "-1"], ["run"], ["run", "feed"], ["--colour"],
    ["demo", "--seconds", "0"], ["demo", "/no/such/file"], ["hdb", "verify", "yesterday"],
    ["decode", "/no/such/file"],
])  # fmt: skip
def test_wrong_use_is_status_2(tickplant, words):
    status, out, error = tickplant(*words)
    assert (status, out) == (2, "")
    assert "Traceback" not in error


NEEDS_CONFIG = [
    ["status"], ["tail", "trade"], ["eod"], ["config", "check"], ["journal", "ls"], ["journal", "verify"],
    ["hdb", "init"], ["hdb", "verify", "20260101"], ["run", "tickerplant"], ["run", "publisher"],
    ["run", "hdb"], ["run", "feed", "one"], ["up"],
]  # fmt: skip


@pytest.mark.parametrize("words", NEEDS_CONFIG, ids=" ".join)
def test_without_a_configuration_the_status_is_78_and_the_remedy_is_told(tickplant, tmp_path, words):
    status, out, error = tickplant("--config", tmp_path / "none.toml", *words)
    assert (status, out) == (78, "")
    assert error.startswith(f"tickplant: can't read the configuration {tmp_path}/none.toml: No such file")
    assert "--config FILE" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [
    ["tail", "trade"], ["eod"], ["journal", "ls"], ["journal", "verify"], ["journal", "dump", "20260101"],
    ["journal", "repair", "20260101"],
], ids=" ".join)  # fmt: skip
def test_what_needs_a_plant_without_one_is_status_69(tickplant, cfg, words):
    status, out, error = tickplant("--config", cfg.path, *words)
    assert (status, out) == (69, "")
    assert error.startswith("tickplant: there is no ")
    assert re.search(r"tickplant (up|status|journal ls)", error), "it says what to type"
    assert error.count("\n") == 1


def test_a_configuration_can_be_checked(tickplant, cfg, monkeypatch):
    cfg.path.write_text(cfg.path.read_text().replace('handler = "none"', 'handler = "simulated"'))
    expected = f"{cfg.path}: good; plant {cfg.plant.name}, 2 feeds\n"
    status, out, _ = tickplant("--config", cfg.path, "config", "check")
    assert status == 0
    assert out.startswith(expected)
    assert len(out.splitlines()) == 1 + len(list(cfg.schema))
    monkeypatch.setenv("TICKPLANT_CONFIG", str(cfg.path))
    assert tickplant("config", "check")[1].startswith(expected)
    cfg.path.write_text(cfg.path.read_text() + "\n[nonsense]\n")
    status, out, error = tickplant("config", "check")
    assert (status, out) == (78, "")
    assert "nonsense" in error


def test_a_capture_is_decoded_as_json(tickplant, tmp_path, monkeypatch):
    path = tmp_path / "12302019.itch"
    path.write_bytes(itch.file(itch.one_of_each()))
    status, out, _ = tickplant("decode", path, "--json")
    found = json.loads(out)
    assert status == 0
    assert set(found) >= {"capture", "format", "messages", "malformed", "tables"}
    assert set(found["tables"]["trade"]) == {
        "rows", "size_sum", "notional_sum", "first_ts_event", "last_ts_event",
    }  # fmt: skip
    assert found["tables"]["trade"]["rows"] == TRADES
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = tickplant("decode", path, "--date", "2020-01-01", "--venue", "XBOS")
    assert status == 0
    assert "2020-01-01T05:00:00.000001" in out


def test_a_capture_that_is_damaged_or_malformed_is_status_1_and_none_is_refused(tickplant, tmp_path):
    path = tmp_path / "20191230"
    for content in (itch.file(itch.one_of_each())[:-1], itch.file([*itch.one_of_each(), b"?"])):
        path.write_bytes(content)
        status, out, _ = tickplant("decode", path, "--json")
        assert status == 1
        assert json.loads(out)["tables"]["trade"]["rows"] == TRADES
    path.write_bytes(b"a text")
    status, out, error = tickplant("decode", path)
    assert (status, out) == (CaptureError.exit_code, "")
    assert "is not a capture that tickplant reads" in error
    assert tickplant("decode", path, "--date", "x")[0] != 0


@pytest.mark.skipif(not ITCH.is_dir(), reason=f"no captures in {ITCH}")
def test_real_captures_have_the_verified_figures(tickplant):
    status, out, _ = tickplant(
        "decode", ITCH / "bx_sampled_obfuscated.itch.gz", "--date", "2019-12-30", "--json"
    )
    assert status == 0
    assert sum(json.loads(out)["messages"].values()) == 12_012
    status, out, _ = tickplant("decode", ITCH / "real_day_prefix_1MiB.itch.gz", "--date", "2019-01-30")
    assert status == 1
    assert "truncated: bytes 1,048,574 to 1,048,575: the file ends inside a message" in out


def test_the_last_rows_can_be_seen_here_and_from_elsewhere(tickplant, live):
    request = until(lambda: status_of(live, "publisher").get("request"))
    for where in ([], ["--remote", request]):
        status, out, error = tickplant("--config", live.path, "tail", "trade", "-n", "3", "--json", *where)
        assert status == 0, error
        rows = [json.loads(line) for line in out.splitlines()]
        assert [row["row"] for row in rows] == [37, 38, 39]
        assert (rows[-1]["instrument"], rows[-1]["price"], rows[-1]["size"]) == ("XTST:B", 20.5, 10.0)
        assert rows[-1]["ts_event"] == 1_000_000_000_000_000_019
    status, out, _ = tickplant("--config", live.path, "tail", "trade", "-s", "XTST:A", "-n", "2")
    head, *lines = out.splitlines()
    assert head.split()[:4] == ["row", "2001-09-09", "UTC", "instrument"]
    assert [line.split()[:3] for line in lines] == [
        ["18", "01:46:40.000000018", "XTST:A"], ["19", "01:46:40.000000019", "XTST:A"],
    ]  # fmt: skip
    status, out, _ = tickplant("tail", "trade", "-s", "XTST:B", "-n", "2", "--csv", "--remote", request)
    assert [row["trade_id"] for row in csv.DictReader(io.StringIO(out))] == ["18", "19"]
    assert tickplant("--config", live.path, "tail", "trade", "-n", "0") == (0, "", "")
    assert len(tickplant("--config", live.path, "tail", "trade", "-n", "999")[1].splitlines()) == 41
    for words in (
        ["tail", "nonsense"],
        ["tail", "trade", "-s", "XTST:C"],
        ["tail", "trade", "-s", "nocolon"],
    ):
        status, out, error = tickplant("--config", live.path, *words)
        assert (status, out, error.count("\n")) == (1, "", 1)


def test_status_is_1_while_something_is_wrong(tickplant, live):
    status, out, _ = tickplant("--config", live.path, "status", "--json")
    seen = json.loads(out)
    assert status == 1
    assert seen["state"] == "running"
    assert "hdb has never said how it is; is it started?" in seen["problems"]
    assert seen["rows"]["trade"] == 40
    usual = {"state": "finished", "pid": 1, "written_ns": 0}
    for name in ("hdb", "feed-one", "feed-two"):
        (live.status_dir / f"{name}.json").write_text(json.dumps(usual))
    status, out, _ = tickplant("--config", live.path, "status", "--json")
    assert (status, json.loads(out)["problems"]) == (0, [])
    assert "all is well" in tickplant("--config", live.path, "status")[1]


def test_the_day_is_ended_and_its_journal_read(tickplant, live):
    date = Control.attach(live.plant.name).date.load()
    status, out, _ = tickplant("--config", live.path, "eod")
    assert status == 0
    assert out.startswith(f"sealed {date}; the trading date is now ")
    for more in ([], ["--date", date]):
        status, again, _ = tickplant("--config", live.path, "eod", *more)
        assert status == 0
        assert Control.attach(live.plant.name).date.load() == date_after(date)
        assert "is ended already" in again
    status, out, _ = tickplant("--config", live.path, "journal", "ls")
    assert [line.split()[0] for line in out.splitlines()] == [str(date), out.splitlines()[1].split()[0]]
    status, out, _ = tickplant("--config", live.path, "journal", "verify")
    assert status == 0
    assert out.count("sound") == 2
    status, out, _ = tickplant("--config", live.path, "journal", "dump", date)
    kinds = [line.split()[1] for line in out.splitlines()]
    assert (kinds[0], kinds[1], kinds[-1]) == ("segment", "state", "seal")
    positions = [line.split()[0] for line in out.splitlines()]
    short = tickplant("--config", live.path, "journal", "dump", date, "--from", positions[2], "-n", "1")[1]
    assert short == out.splitlines(keepends=True)[2]
    assert len(rows_of(live, date, "trade")) == 40


def test_a_damaged_journal_is_told_and_repaired(tickplant, plant, raw):
    cfg, date = plant.config, plant.day.trading_date
    for _ in range(3):
        raw.send(raw.trades(5))
        raw.settle()
    plant.close()
    with segments(cfg.journal_dir / str(date))[0].open("rb+") as file:
        file.seek(-300, os.SEEK_END)
        file.write(b"\xff\xff")
    status, out, _ = tickplant("--config", cfg.path, "journal", "verify", date)
    assert status == 1
    assert "then: tickplant journal repair" in out
    status, _, error = tickplant("--config", cfg.path, "journal", "dump", date)
    assert status == 74
    assert "is damaged at byte" in error
    status, out, _ = tickplant("--config", cfg.path, "journal", "repair", date)
    assert status == 0
    assert "add --accept-loss" in out
    assert "repaired" in tickplant("--config", cfg.path, "journal", "repair", date, "--accept-loss")[1]
    assert tickplant("--config", cfg.path, "journal", "verify", cfg.journal_dir / str(date))[0] == 0


def test_a_stopped_plant_is_told_at_once(tickplant, plant):
    plant.close()
    status, _, error = tickplant("--config", plant.config.path, "eod")
    assert status == 69
    assert error == "tickplant: the ticker plant is stopped; see: tickplant status\n"


def test_a_second_ticker_plant_is_status_69(tickplant, plant):
    status, _, error = tickplant("--config", plant.config.path, "run", "tickerplant")
    assert status == 69
    assert "another ticker plant holds" in error


def test_the_history_is_made_and_a_date_proven_by_hand(tickplant, site, postgres, pg_admin):
    cfg = site.configured(hdb={"dsn": postgres.dsn})
    for _ in range(2):
        status, out, _ = tickplant("--config", cfg.path, "hdb", "init")
        assert (status, out) == (0, f"the tables of {cfg.plant.name} are there\n")
    status, _, error = tickplant("--config", cfg.path, "hdb", "verify", 20260101)
    assert status == 69
    assert "20260101 has neither a journal nor a proof" in error
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.trades(5))
    raw.settle()
    date = plant.day.trading_date
    plant._close_day(date + 1)
    status, _, error = tickplant("--config", cfg.path, "hdb", "verify", date)
    assert status == 69
    assert f"the hdb has not finished {date} yet; see: tickplant status" in error
    status, out, _ = tickplant("--config", cfg.path, "hdb", "load", "--date", date)
    assert (status, out) == (0, f"{date}: complete: 6 rows\n")
    pg_admin.execute(f'DELETE FROM "{cfg.plant.name}".trade WHERE row = 3')
    status, out, _ = tickplant("--config", cfg.path, "hdb", "verify", date)
    assert (status, out) == (1, f"{date}: DIFFERS in trade (6 rows journaled)\n")
    assert f"tickplant hdb load --date {date}" in tickplant("--config", cfg.path, "status")[1].replace(
        "\n", " "
    )
    pg_admin.execute(f'DROP SCHEMA "{cfg.plant.name}" CASCADE')


def test_a_handler_of_ones_own_is_run_by_name(tickplant, site):
    made = site.folder / "venue_of_mine.py"
    made.write_text(
        "def run(feed, price):\n"
        "    code = feed.instrument('XMYV', 'ACME')\n"
        "    feed.trade(instrument=code, price=price, size=1.0)\n"
    )
    options = {"id": 9, "handler": "venue_of_mine:run", "options": {"price": 12.5}}
    cfg = site.configured(feeds={"mine": options, "none": {"id": 10, "handler": "capture", "options": {
        "path": "/no/such/file"}}})  # fmt: skip
    plant = site.ticker_plant(cfg)
    process = subprocess.Popen(
        [sys.executable, "-m", "tickplant", "-c", str(cfg.path), "run", "feed", "mine"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site.folder), str(ROOT)])},
    )
    until(lambda: process.poll() is not None, turning=plant.turn)
    assert process.returncode == 0
    assert rows_of(cfg, plant.day.trading_date, "trade")["price"].tolist() == [12.5]
    assert status_of(cfg, "feed-mine")["state"] == "finished"
    for name, status in (("none", CaptureError.exit_code), ("other", 78)):
        process = site.run("run", "feed", name)
        until(lambda process=process: process.poll() is not None, turning=plant.turn)
        assert process.returncode == status
    assert "tickplant: can't read /no/such/file: No such file or directory" in site.logs()
    assert "no [feeds.other]" in site.logs()


def test_up_runs_the_plant_restarts_what_dies_and_ends_cleanly(site):
    cfg = site.configured(hdb={"throwaway": True})
    content = cfg.path.read_text()
    cfg.path.write_text(content.replace('handler = "none"', 'handler = "simulated"'))
    up = site.run("up")
    names = ["tickerplant", "publisher", "hdb", "feed-one", "feed-two"]
    until(lambda: all(status_of(cfg, n).get("state") == "running" for n in names))
    pids = {n: status_of(cfg, n)["pid"] for n in names}
    for name in ("publisher", "feed-one"):
        os.kill(pids[name], signal.SIGKILL)
        until(lambda name=name: status_of(cfg, name).get("pid") not in (None, pids[name]))
    now = [status_of(cfg, n)["pid"] for n in names]
    up.send_signal(signal.SIGTERM)
    until(lambda: up.poll() is not None)
    assert up.returncode == 0, site.logs()
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in now)
    assert status_of(cfg, "tickerplant")["state"] == "stopped"
    assert Control.attach(cfg.plant.name).state() == "stopped"


def test_a_second_up_is_refused_and_the_first_goes_on(site):
    cfg = site.configured(hdb={"throwaway": True})
    first = site.run("up")
    until(lambda: status_of(cfg, "tickerplant").get("state") == "running")
    pid = status_of(cfg, "tickerplant")["pid"]
    second = site.run("up")
    until(lambda: second.poll() is not None)
    assert second.returncode == AlreadyRunning.exit_code
    assert "another `tickplant up` of this plant holds" in site.logs()
    assert first.poll() is None
    assert status_of(cfg, "tickerplant")["pid"] == pid
    first.send_signal(signal.SIGTERM)
    until(lambda: first.poll() is not None)


def test_up_beside_a_plant_that_runs_without_it_is_refused(site):
    cfg = site.configured(hdb={"throwaway": True})
    site.run("run", "tickerplant")
    until(lambda: status_of(cfg, "tickerplant").get("state") == "running")
    second = site.run("up")
    until(lambda: second.poll() is not None)
    assert second.returncode == AlreadyRunning.exit_code
    assert f"plant {cfg.plant.name} runs already, its ticker plant is process" in site.logs()


def test_up_killed_takes_everything_with_it(site):
    cfg = site.configured(hdb={"throwaway": True})
    up = site.run("up")
    names = ["tickerplant", "publisher", "hdb"]
    until(lambda: all(status_of(cfg, n).get("state") == "running" for n in names))
    pids = [status_of(cfg, n)["pid"] for n in names]
    up.kill()
    up.wait()
    assert until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))
    assert until(lambda: not postmasters(cfg))


def postmasters(cfg):
    """PostgreSQL processes of this plant."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(cfg.plant.data_dir / "postgres").encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


@pytest.mark.parametrize(("width", "lines"), [(80, 2), (119, 2), (120, 1), (200, 1)])
def test_decode_fits_the_terminal_with_whole_times(tickplant, tmp_path, monkeypatch, width, lines):
    path = tmp_path / "12302019.itch"
    path.write_bytes(itch.file(itch.one_of_each()))
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = tickplant("decode", path)
    shown = out.splitlines()[1:]
    assert max(len(line) for line in shown) <= width
    about_trades = [line for line in shown if line.startswith("trade ")]
    assert len(about_trades) == lines
    assert sum(line.count("2019-12-30T05:00:00.000") for line in about_trades) == 2


def test_what_an_event_counts_has_its_name(tickplant, tmp_path):
    path = tmp_path / "12302019.itch"
    path.write_bytes(itch.file([itch.directory(), itch.delete(77)])[:-1])
    assert "truncated: bytes 41 to 60" in tickplant("decode", path)[1]
    path.write_bytes(itch.file([itch.directory(), itch.delete(77)]))
    assert "orphan: order 77: D of an order never added" in tickplant("decode", path)[1]
