"""Checkpoints: recovery from one comes to what recovery from the start comes to, or does not use it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fix_plant import check_claims, crashed, journaled, killed, rows_of, until
from tickplant import checkpoint, wire
from tickplant._core import framing
from tickplant.checkpoint import Checkpoint
from tickplant.clock import date_after
from tickplant.journal import segments
from tickplant.local import wait_for
from tickplant.table import retire, segment_name

u64 = st.integers(0, 2**64 - 1)
accounts = st.dictionaries(st.integers(1, 255), st.tuples(*[u64] * 6).map(list), max_size=3)
feeds = st.fixed_dictionaries(
    {"session": u64, "next_seq": u64, "codes": st.binary(max_size=40), "accounts": accounts}
)
checkpoints = st.builds(
    Checkpoint,
    position=st.just(0),
    last_crc=st.integers(0, 2**32 - 1),
    schema=st.just([{"name": "trade", "number": 3, "columns": [["price", "f8"]]}]),
    taken=st.dictionaries(st.integers(1, 255), u64, max_size=3),
    feeds=st.dictionaries(st.integers(0, 65535), feeds, max_size=3),
)


@pytest.fixture
def cfg(site):
    """A checkpoint after every few frames."""
    return site.configured(tickerplant={"checkpoint_bytes": 2048})


def file_of(plant):
    return plant.day.journal.folder / "checkpoint"


def ids_of(cfg, date):
    return rows_of(cfg, date, "trade")["trade_id"].tolist()


def written(plant, raw):
    """Turn until a checkpoint of all that has been taken is written down."""

    def turn():
        plant.turn()
        raw.serve()

    at = plant.day.journal.position
    until(
        lambda: file_of(plant).exists() and checkpoint.read(file_of(plant).parent).position >= at,
        turning=turn,
    )


def standing(plant):
    """All that recovery has to bring back."""
    intake = plant.day.intake
    return (
        plant.day.journal.position,
        plant.day.journal.last_crc,
        {t.table.name: (t.columns.taken, t.columns.rows, t.committed.load()) for t in plant.day.tables},
        {
            n: (intake.session(n), bytes(intake.codes(n)).rstrip(b"\xff"), intake.accounts(n))
            for n in plant.day.feed_numbers
            if n  # the plant's own session is another each time
        },
    )


@given(made=checkpoints)
def test_what_is_written_is_read(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("journal")
    (folder / f"{0:020d}.tpj").write_bytes(b"")
    made.write(folder)
    assert checkpoint.read(folder) == made


def test_any_flipped_bit_and_any_missing_byte_makes_it_none(tmp_path):
    Checkpoint(0, 7, [], {3: 5}, {}).write(tmp_path)
    (tmp_path / f"{0:020d}.tpj").write_bytes(b"")
    data = (tmp_path / "checkpoint").read_bytes()
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        (tmp_path / "checkpoint").write_bytes(bad)
        assert checkpoint.read(tmp_path) is None
    for size in range(len(data)):
        (tmp_path / "checkpoint").write_bytes(data[:size])
        assert checkpoint.read(tmp_path) is None


def test_one_beyond_the_journal_or_its_durable_position_is_none(tmp_path):
    segment = tmp_path / f"{0:020d}.tpj"
    segment.write_bytes(bytes(100))
    Checkpoint(100, 0, [], {}, {}).write(tmp_path)
    assert checkpoint.read(tmp_path) is None  # nothing is known to be durable
    packed = (100).to_bytes(8, "little")
    (tmp_path / "durable").write_bytes(packed + framing.crc32c(packed).to_bytes(4, "little"))
    assert checkpoint.read(tmp_path) is not None
    segment.write_bytes(bytes(99))
    assert checkpoint.read(tmp_path) is None
    segment.unlink()
    assert checkpoint.read(tmp_path) is None


@pytest.mark.parametrize("seed", range(6))
def test_recovery_from_a_checkpoint_comes_to_the_same_as_from_the_start(site, plant, raw, seed):
    rng = random.Random(seed)
    cfg, defined = plant.config, 0
    for _ in range(rng.randint(8, 25)):
        match rng.randrange(8):
            case 0:
                raw.restart()
                raw.send(raw.trades(1))
                defined = 0
            case 1:
                defined += 1
                raw.send(raw.define(defined, f"S{rng.randrange(9)}"))
            case _:
                raw.send(raw.trades(rng.randint(1, 40), rng.randint(0, defined)))
        if rng.random() < 0.5:
            raw.settle()
    raw.settle()
    if file_of(plant).exists():
        written(plant, raw) if rng.random() < 0.5 else None
    crashed(plant)
    resumed = site.ticker_plant(cfg)
    by_checkpoint = standing(resumed)
    crashed(resumed)
    file_of(resumed).unlink(missing_ok=True)
    whole = site.ticker_plant(cfg)
    assert standing(whole)[2:] == by_checkpoint[2:]
    check_claims(whole)


def test_what_is_below_a_checkpoint_is_not_read_again(site, plant, raw):
    cfg = plant.config
    raw.send(raw.define(1, "A"), *[raw.trades(20, 1) for _ in range(10)])
    raw.settle()
    written(plant, raw)
    raw.send(raw.trades(5, 1))
    raw.settle()
    crashed(plant)
    path = segments(plant.day.journal.folder)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1  # would be refused as damage
    path.write_bytes(data)
    again = raw.plant = site.ticker_plant(cfg)
    assert again.day.tables[2].columns.rows == 205
    raw.send(raw.trades(5, 1))
    raw.settle()
    data[len(data) // 3] ^= 1
    path.write_bytes(data + path.read_bytes()[len(data) :])
    assert ids_of(cfg, plant.day.trading_date) == list(range(210))
    check_claims(again)


@pytest.mark.parametrize("lacking", ["trade", "event", "latest.trade"])
def test_without_all_of_shared_memory_the_journal_is_read_from_its_start(site, plant, raw, lacking):
    cfg = plant.config
    raw.send(raw.define(1, "A"), *[raw.trades(20, 1) for _ in range(10)])
    raw.settle()
    written(plant, raw)
    crashed(plant)
    date = plant.day.trading_date
    name = f"tp.{cfg.plant.name}.{lacking}" if "." in lacking else segment_name(cfg.plant.name, date, lacking)
    retire(name)
    again = raw.plant = site.ticker_plant(cfg)
    assert not file_of(plant).exists()
    assert again.day.intake.session(1) == (raw.session, raw.seq)
    check_claims(again)
    assert wait_for(cfg.plant.name, 10).latest("trade")["XTST:A"]["trade_id"] == 199


def test_a_feed_that_the_checkpoint_does_not_know_has_the_journal_read(site, plant, raw):
    cfg = plant.config
    raw.send(*[raw.trades(20) for _ in range(10)])
    raw.settle()
    written(plant, raw)
    found = checkpoint.read(file_of(plant).parent)
    crashed(plant)
    known = {n: f for n, f in found.feeds.items() if n != 1}
    Checkpoint(found.position, found.last_crc, found.schema, found.taken, known).write(file_of(plant).parent)
    again = site.ticker_plant(cfg)
    assert again.day.intake.session(1) == (raw.session, raw.seq)
    check_claims(again)


def test_none_is_written_before_the_journal_is_durable_up_to_it(plant, raw, monkeypatch):
    written(plant, raw)
    file_of(plant).unlink()
    monkeypatch.setattr(plant._syncer, "want", lambda journal: None)
    before = plant.day.journal.durable
    raw.send(*[raw.trades(20) for _ in range(10)])
    raw.settle()
    raw.settle(lambda: plant.day._checkpoint)
    for _ in range(5):
        plant._housekeep(0)
    assert plant.day.journal.durable == before
    assert not file_of(plant).exists()
    plant.day.journal.sync()
    plant._housekeep(0)
    assert checkpoint.read(file_of(plant).parent).position <= plant.day.journal.durable


def test_a_disk_that_has_no_room_for_it_costs_nothing_else(plant, raw):
    written(plant, raw)
    before = checkpoint.read(file_of(plant).parent)
    (plant.day.journal.folder / "checkpoint.draft").mkdir()  # as good as a full disk
    raw.send(*[raw.trades(20) for _ in range(10)])
    raw.settle()
    raw.settle(lambda: plant.day._checkpoint)
    raw.settle(lambda: plant.day._checkpoint is None)
    assert checkpoint.read(file_of(plant).parent) == before
    check_claims(plant)


def test_a_roll_leaves_the_checkpoint_with_its_date(site, plant, raw):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(*[raw.trades(20) for _ in range(10)])
    raw.settle()
    written(plant, raw)
    plant.roll(date_after(first))
    raw.send(raw.trades(3))
    raw.settle()
    assert not file_of(plant).exists()
    crashed(plant)
    again = raw.plant = site.ticker_plant(cfg)
    raw.send(raw.trades(3))
    raw.settle()
    assert ids_of(cfg, again.day.trading_date) == list(range(200, 206))
    check_claims(again)


def test_a_sealed_date_that_is_resumed_stays_sealed(site, plant, raw):
    cfg, first = plant.config, plant.day.trading_date
    raw.send(*[raw.trades(20) for _ in range(10)])
    raw.settle()
    written(plant, raw)
    plant.day.seal()
    crashed(plant)
    again = site.ticker_plant(cfg)
    assert again.day.trading_date == date_after(first)
    assert [h.kind for h, _ in journaled(cfg, first)].count(wire.SEAL) == 1


def test_a_real_ticker_plant_killed_after_its_checkpoints_goes_on(site):
    cfg = site.configured(tickerplant={"checkpoint_bytes": 1 << 20})
    process = site.run_ticker_plant()
    feed = site.feed(cfg)
    code = feed.instrument("XTST", "A")
    rows = cfg.schema["trade"].empty(10_000)
    rows["instrument"] = code
    folder = next(cfg.journal_dir.glob("[0-9]" * 8))
    published = 0
    while not (folder / "checkpoint").exists():
        feed.append("trade", rows)
        published += len(rows)
    killed(process)
    process = site.run_ticker_plant()
    feed.append("trade", rows)
    reader = wait_for(cfg.plant.name, 10).table("trade")
    until(lambda: len(reader) == published + len(rows))
    assert (folder / "checkpoint").exists()
