"""What docs/SECURITY.md promises, sentence by sentence, against users who are real."""

import fcntl
import os
import re
import shutil
import signal
import stat
import threading
from pathlib import Path

import pytest
from fix_plant import Site, until
from strangers import NOBODY, as_user

from tickplant import control, local, segment, service, status
from tickplant.clock import as_int, date_after, now_ns
from tickplant.control import Control
from tickplant.eod import end_of_day
from tickplant.errors import ConfigError, NotRunning, SegmentError
from tickplant.segment import SHM
from tickplant.table import segment_name


@pytest.fixture
def site():
    """A place for a plant that other users can look into, as a group's folder is."""
    made = Site()
    made.folder.chmod(0o755)
    yield made
    for path in SHM.glob(f"tp.{made.name}.*"):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif not segment._ours(path.lstat(), os.geteuid()):
            path.unlink()
    made.clear()


def filled(raw):
    """Three rows of a scripted feed, and the plant has them."""
    raw.send(raw.trades(3))
    raw.settle()


def written(path):
    """What an attempt to cut a file short, to write to it or to remove it has come to."""
    gone = []
    for attempt in (
        lambda: os.truncate(path, 0),
        lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)),
        lambda: os.unlink(path),
        lambda: os.rename(path, f"{path}.mine"),
    ):
        try:
            attempt()
            gone.append(True)
        except OSError:
            gone.append(False)
    return any(gone)


def test_a_reader_in_the_group_can_change_no_file_of_the_plant(site):
    cfg = site.configured()
    plant = site.ticker_plant(cfg)
    filled(site.raw_feed(plant))
    there = [*SHM.glob(f"tp.{site.name}.*"), *cfg.plant.data_dir.rglob("*"), *cfg.plant.run_dir.rglob("*")]
    files = [path for path in there if path.is_file()]
    assert len(files) > 10
    changed = as_user(lambda: [str(path) for path in files if written(path)], gid=os.getegid())
    assert changed == []
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o022] == []


def test_readers_read_and_sleep_without_a_right_to_write(site):
    plant = site.ticker_plant(site.configured())
    filled(site.raw_feed(plant))

    def read():
        table = local.connect(site.name).table("trade", plant.day.trading_date)
        return len(table), table.wait(3, 0.001)

    assert as_user(read, gid=os.getegid()) == (3, 3)
    with pytest.raises(SegmentError, match="Permission denied"):
        as_user(read)


def test_a_plant_and_its_readers_pass_by_whatever_others_put_under_its_names(site):
    cfg = site.configured()
    today = as_int(cfg.calendar.date_at(now_ns()))
    precious = site.folder / "precious"
    precious.write_text("precious")

    def attack():
        base = f"{SHM}/tp.{site.name}."
        os.mkfifo(base + "ctl", 0o666)
        os.symlink(precious, base + "lock")
        os.mkdir(f"{base}{today}.trade", 0o777)
        for name in ("²2.trade", "00000000.trade", "99999999.trade.x", "latest.trade", f"{today + 1}.trade"):
            with open(base + name, "wb") as file:
                file.write(bytes(segment.HEADER_SIZE))

    as_user(attack)
    process = site.run_ticker_plant()
    feed = site.feed(cfg)
    plant = local.connect(site.name)
    feed.trade(instrument=feed.instrument("XNAS", "AAPL"), price=1.0, size=2.0)
    feed.flush()
    until(lambda: len(plant.table("trade")) == 1)
    assert plant.latest("trade")["XNAS:AAPL"]["price"] == 1.0
    assert precious.read_text() == "precious"
    assert process.poll() is None
    problems = status.look(cfg)["problems"]
    assert any(
        f"tp.{site.name}.00000000.trade is not this plant's: a file of user nobody" in p for p in problems
    )
    assert any(f"more of these: ls -la {SHM}/tp.{site.name}.*" in p for p in problems)
    assert "a FIFO of user nobody; it is passed by" in site.logs()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    again = site.run_ticker_plant()
    assert again.poll() is None
    assert control.remove_all(site.name)


def test_nobody_else_can_hold_the_locks_of_a_plant(site):
    cfg = site.configured()
    site.ticker_plant(cfg)
    locks = [*SHM.glob(f"tp.{site.name}.lock"), cfg.plant.data_dir / "tickerplant.lock"]

    def hold():
        for path in locks:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert len(locks) == 2
    for gid in (NOBODY, os.getegid()):
        with pytest.raises(PermissionError):
            as_user(hold, gid=gid)


def test_readers_are_not_led_by_the_objects_of_others(site):
    """A stranger's control block and table of the right form, before there is a plant, and beside it."""
    cfg = site.configured()
    plant = site.ticker_plant(cfg)
    date = plant.day.trading_date
    names = [f"tp.{site.name}.ctl", segment_name(site.name, date, "trade")]
    forged = {name: (SHM / name).read_bytes()[: segment.HEADER_SIZE] for name in names}
    for name in names:
        segment.remove(name)

    def forge():
        for name, content in forged.items():
            (SHM / name).write_bytes(content)

    as_user(forge)
    for name in names:
        with pytest.raises(NotRunning, match="is not this plant's: a file of user nobody"):
            segment.attach(name)
    with pytest.raises(NotRunning):
        Control.attach(site.name)


def test_a_run_dir_that_was_emptied_is_filled_again_while_all_goes_on(site):
    cfg = site.configured()
    plant = site.ticker_plant(cfg)
    publisher = site.publisher(cfg)
    pulse = service.Pulse("tickerplant", cfg.status_dir, plant.status)
    pulse.write("running")
    there = sorted(path for path in site.folder.rglob("*") if path.is_socket() or path.is_fifo())
    assert len(there) == 6
    shutil.rmtree(cfg.plant.run_dir)
    for path in there:
        path.unlink(missing_ok=True)

    def turn():
        plant.turn()
        publisher.turn()

    until(lambda: all(path.exists() for path in there), turning=turn)
    pulse.write("running")
    assert (cfg.status_dir / "tickerplant.json").exists()
    filled(site.raw_feed(plant))
    before, sealed = plant.day.trading_date, []
    asking = threading.Thread(target=lambda: sealed.append(end_of_day(cfg)), daemon=True)
    asking.start()
    until(lambda: sealed, turning=turn)
    assert sealed[0]["sealed"] == before


@pytest.mark.parametrize("name", [".", "..", ".hidden", "-x", "a/b", "a\nb", "x" * 65, "", "a\n", "ä"])
def test_names_that_are_no_file_names_are_refused_by_name(site, name):
    with pytest.raises(ConfigError, match=r"feed name .* must match"):
        site.configured(feeds={name: {"id": 3, "handler": "none"}})
    with pytest.raises(ConfigError, match=r"table name .* must match"):
        site.configured(tables={name: {"columns": {"price": "f8"}}})
    with pytest.raises(ConfigError, match=r"column name .* must match"):
        site.configured(tables={"mine": {"columns": {name: "f8"}}})


def test_what_an_operator_put_into_a_proven_journal_stays_and_ends_nothing(site, caplog):
    cfg = site.configured(tickerplant={"keep_days": 0})
    plant = site.ticker_plant(cfg)
    first = plant.day.trading_date
    folder = cfg.journal_dir / str(first)
    (folder / "notes").mkdir()
    (folder / "readme.txt").write_text("mine")
    plant.roll(date_after(first))
    proofs = cfg.plant.data_dir / "proofs"
    proofs.mkdir()
    (proofs / f"{first}.json").write_text('{"complete": true}')
    for _ in range(3):
        plant.finished.tidy(plant.day.trading_date)
    assert sorted(path.name for path in folder.iterdir()) == ["notes", "readme.txt"]
    assert caplog.text.count("is done with, and stays") == 1


PAGE = Path(__file__).parents[1] / "docs" / "SECURITY.md"
SENTENCES = [line for line in PAGE.read_text().splitlines() if line.startswith("- ")]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_each_sentence_of_the_page_is_held_by_a_test_that_there_is(sentence):
    named = re.findall(r"`(tests/\w+\.py)::(test_\w+)`", sentence)
    assert named, "no test holds this sentence"
    for path, test in named:
        assert re.search(rf"^def {test}\(", (PAGE.parents[1] / path).read_text(), re.MULTILINE), test


def test_the_page_has_its_sentences():
    assert len(SENTENCES) > 25
