import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fix_plant import closed
from tickplant import segment, wire
from tickplant._core import framing, rowsums
from tickplant.errors import JournalDamaged, SchemaError
from tickplant.instruments import Instruments, full_name, split_name
from tickplant.journal import segments
from tickplant.registry import TABLE, RegistryReader, RegistryWriter, extend, text
from tickplant.table import SharedTable
from tickplant.tickerplant import TickerPlant

NAMES = st.tuples(st.binary(max_size=16), st.binary(max_size=48)).map(
    lambda n: tuple(text(np.bytes_(part)) for part in n)
)


def opened(folder, plant, maximum=1000):
    registry = RegistryWriter(folder, plant, "test")
    registry.open(maximum)
    return registry


@settings(max_examples=25)
@given(batches=st.lists(st.lists(NAMES, max_size=6), max_size=5))
def test_numbers_are_the_same_for_ever_and_for_everyone(shm_folder, plant_name, batches):
    for left in segment.names(f"tp.{plant_name}."):
        segment.remove(left)
    for left in shm_folder.iterdir():
        left.unlink()
    writer = opened(shm_folder, plant_name)
    reader = RegistryReader(shm_folder)
    given_ = {}
    for batch in batches:
        try:
            numbers = writer.add(batch, 5)
        except SchemaError:
            continue
        for name, number in zip(batch, numbers, strict=True):
            assert given_.setdefault(name, number) == number
        assert reader.follow() == len(given_) + 1 == len(writer.instruments)
    assert sorted(given_.values()) == list(range(1, len(given_) + 1))
    again = opened(shm_folder, plant_name)
    for instruments in (again.instruments, reader.instruments, writer.instruments):
        assert {name: instruments.find(*name) for name in given_} == given_
        assert (instruments.hashes[: len(given_) + 1] == writer.instruments.hashes[: len(given_) + 1]).all()
    shown = SharedTable(plant_name, 0, "registry")
    assert shown.column("instrument", len(shown)).tolist() == list(range(1, len(given_) + 1))


def test_a_name_longer_than_a_row_is_refused_with_nothing_added(shm_folder, plant_name):
    writer = opened(shm_folder, plant_name)
    long = text(b"\xff" * 48)  # four characters for each byte that is not text
    for name in [("XNAS", long), ("X" * 17, "A"), ("XNAS", "A\0")]:
        with pytest.raises(SchemaError, match="too long"):
            writer.add([("XNAS", "GOOD"), name], 1)
    assert len(writer.instruments) == 1
    assert writer.add([("XNAS", "GOOD")], 1) == [1]
    assert len(opened(shm_folder, plant_name).instruments) == 2


def test_more_instruments_than_the_maximum_are_refused_with_nothing_added(shm_folder, plant_name):
    writer = opened(shm_folder, plant_name, maximum=4)
    assert writer.add([("X", "A"), ("X", "B"), ("X", "A")], 1) == [1, 2, 1]
    with pytest.raises(SchemaError, match="instruments_max"):
        writer.add([("X", "C"), ("X", "D")], 1)
    assert writer.add([("X", "C"), ("X", "B")], 1) == [3, 2]
    assert len(opened(shm_folder, plant_name).instruments) == 4


def test_names_are_on_disk_before_they_are_shown(shm_folder, plant_name):
    writer = opened(shm_folder, plant_name)
    writer.add([("X", "A")], 1)
    assert writer._journal.durable == writer._journal.position
    (path,) = segments(shm_folder)
    rows = TABLE.rows(framing.payloads(path.read_bytes(), TABLE.number))
    assert rows["symbol"].tolist() == [b"A"]


def test_numbers_out_of_turn_are_damage():
    rows = TABLE.empty(2)
    rows["instrument"] = [1, 3]
    rows["symbol"] = [b"A", b"B"]
    with pytest.raises(JournalDamaged, match="instrument 3 comes out of turn"):
        extend(Instruments(), rows)


def test_rows_read_twice_add_nothing():
    rows = TABLE.empty(2)
    rows["instrument"] = [1, 2]
    rows["symbol"] = [b"A", b"B"]
    instruments = Instruments()
    for _ in range(2):
        extend(instruments, rows)
    assert list(instruments) == [":A", ":B"]


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=8)), max_size=40))
def test_instruments_are_numbered_densely_from_one(names):
    instruments = Instruments()
    numbers = [instruments.add(*name) for name in names]
    assert numbers == [1 + list(dict.fromkeys(names)).index(name) for name in names]
    for name, number in zip(names, numbers, strict=True):
        assert instruments[number] == full_name(*name)
        assert instruments.hashes[number] == rowsums.name_hash(full_name(*name).encode())
    assert instruments.since(0) == instruments.since(1) == list(dict.fromkeys(names))


def test_hashes_grow_with_the_instruments():
    instruments = Instruments()
    for number in range(1, 3000):
        assert instruments.add("X", str(number)) == number
    assert len(set(instruments.hashes[1:3000].tolist())) == 2999


@pytest.mark.parametrize("name", ["AAPL", "", ":", "XNAS:", ":AAPL"])
def test_what_is_no_name_of_an_instrument_is_refused(name):
    with pytest.raises(SchemaError, match="write VENUE:SYMBOL"):
        split_name(name)


def test_unknown_instruments_are_named():
    instruments = Instruments()
    instruments.add("X", "A:B")
    assert instruments.number("X:A:B") == 1
    assert "X:A:B" in instruments
    assert "X:C" not in instruments
    assert instruments[0] == ""
    with pytest.raises(SchemaError, match="has not seen the instrument X:C"):
        instruments.number("X:C")
    for number in (2, -1):
        with pytest.raises(IndexError):
            instruments[number]


def test_registry_frames_are_frames_of_rows(shm_folder, plant_name):
    opened(shm_folder, plant_name).add([("X", "A"), ("X", "B")], 77)
    data = segments(shm_folder)[0].read_bytes()
    kinds = framing.index(data)[:, 2].tolist()
    assert kinds == [wire.SEGMENT, wire.ROWS]
    head = wire.header(data, int(framing.index(data)[1, 0]))
    assert (head.row, head.count, head.time_ns, head.schema) == (0, 2, 77, TABLE.fingerprint)


def test_a_plant_whose_registry_is_gone_says_what_to_do_and_gives_no_number_anew(site, cfg):
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.define(1, "A"))
    raw.settle()
    closed(plant)
    aside = cfg.registry_dir.with_name("aside")
    cfg.registry_dir.rename(aside)
    refused = TickerPlant(cfg)
    with pytest.raises(JournalDamaged, match=r"there is no registry in .*cp -a BACKUP/registry"):
        refused.open()
    for lock in refused._locks:
        lock.release()
    aside.rename(cfg.registry_dir)
    assert list(site.ticker_plant(cfg).registry.instruments) == ["XTST:A"]


def test_a_plant_that_never_had_an_instrument_starts_without_its_registry(site, cfg):
    closed(site.ticker_plant(cfg))
    shutil.rmtree(cfg.registry_dir, ignore_errors=True)
    assert list(site.ticker_plant(cfg).registry.instruments) == []
