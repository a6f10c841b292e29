import os
import random
import signal
import threading
from itertools import pairwise

import numpy as np
import pytest
from core_processes import DATE, HEADS, MIXED, expected, extend, opened
from fix_core import finished
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant import segment
from tickplant._core import framing
from tickplant.errors import NotRunning, SegmentError, TableFull, TickplantError
from tickplant.schema import declare
from tickplant.table import MAGIC, AppendTable, Grower, SharedTable

ROWS = 250_000


def filled(plant, rows, **options):
    append, intake, _ = opened(plant, **options)
    extend(append, intake, 0, rows)
    return append, intake, SharedTable(plant, DATE, "mixed")


def same(table, rows):
    """Does the reader see exactly the expected rows?"""
    assert len(table) == rows
    assert (table.rows(0, rows) == expected(0, rows)).all()
    for column in MIXED.columns:
        assert (table.column(column.name, rows) == expected(0, rows)[column.name]).all()


def scanned(table, code, wanted):
    codes = table.column("instrument", len(table))
    return np.flatnonzero(np.where(codes < HEADS, codes, 0) == code)[-wanted:].tolist()


def test_rows_are_there_when_they_are_committed_whenever_the_writer_dies(plant_name, start):
    """Writers are killed at random; readers verify every cell of every row they see."""
    r = random.Random(4)
    _, _, table = filled(plant_name, 1)
    same(table, 1)
    readers = [start("watch_table", plant_name, ROWS) for _ in range(2)]
    for seed, goal in enumerate(sorted(r.randrange(ROWS) for _ in range(6))):
        process = start("write_table", plant_name, ROWS, seed)
        while len(table) < goal and process.poll() is None:
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
        for code in (0, 1, HEADS - 1):
            assert table.last_rows(code, 50)[0].tolist() == scanned(table, code, 50)
    finished(start("write_table", plant_name, ROWS, 99))
    for reader in readers:
        finished(reader)
    same(table, ROWS)


@settings(max_examples=30)
@given(batches=st.lists(st.integers(0, 300), max_size=8), wanted=st.integers(1, 80))
def test_last_rows_are_what_a_scan_finds(plant_name, batches, wanted):
    segment.remove(f"tp.{plant_name}.{DATE}.mixed")
    append, intake, table = filled(plant_name, 1)
    for count in batches:
        extend(append, intake, len(table), count)
    same(table, 1 + sum(batches))
    for code in range(HEADS):
        assert table.last_rows(code, wanted)[0].tolist() == scanned(table, code, wanted)
    assert table.last_rows(HEADS + 1, 10)[0].tolist() == []


def test_another_writer_of_the_same_identity_goes_on(plant_name):
    _, _, table = filled(plant_name, 5000)
    append, intake, found = opened(plant_name)
    assert found
    assert append.columns.rows == 5000
    extend(append, intake, 4000, 2000)  # 1,000 of them are there
    same(table, 6000)


@pytest.mark.parametrize("other", ["identity", "date", "heads", "table"])
def test_what_another_plant_or_declaration_left_is_made_anew(plant_name, other):
    _, _, table = filled(plant_name, 10)
    declared = declare("mixed", 1, {"a": "i8"}) if other == "table" else MIXED
    append = AppendTable(declared)
    identity = "other" if other == "identity" else "test"
    date = DATE + 1 if other == "date" else DATE
    assert not append.open(plant_name, identity, date, HEADS + (other == "heads"), 4096)
    assert len(SharedTable(plant_name, date, "mixed")) == 0
    same(table, 10)  # who had it mapped keeps what he had


def test_views_are_read_only_for_numpy(plant_name):
    _, _, table = filled(plant_name, 10)
    view = table.column("a", 10)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True


def test_views_are_read_only_for_the_kernel(plant_name, start):
    filled(plant_name, 10)
    process = start("scribble", plant_name)
    assert process.wait() == -signal.SIGSEGV


def test_views_outlive_the_table(plant_name):
    _, _, table = filled(plant_name, 100)
    view = table.column("a", 100)
    segment.remove(table.segment.name)
    del table
    assert (view == expected(0, 100)["a"]).all()


def test_reading_allocates_no_memory(plant_name):
    append, _, table = filled(plant_name, 3000)
    path = segment.SHM / append.segment.name
    before = path.stat().st_blocks
    same(SharedTable(plant_name, DATE, "mixed"), 3000)
    for code in range(HEADS + 1):
        table.last_rows(code, 1 << 30)
    assert path.stat().st_blocks == before


def test_full_shared_memory_is_an_error_and_no_signal(plant_name, tiny_shm):
    printed = finished(tiny_shm("1500k", "fill_table", plant_name))
    assert "full: no room in /dev/shm" in printed
    assert "mount -o remount" in printed


def test_the_reservation_is_the_end(plant_name):
    small = declare("small", 1, {"a": "i8"}, max_rows=5000)
    append = AppendTable(small)
    append.open(plant_name, "test", DATE, HEADS, 4096)
    append.ensure(5000)
    assert append.columns.room == 5000
    with pytest.raises(TableFull, match=r"raise tables\.small\.max_rows"):
        append.ensure(5001)
    assert append.full is not None
    assert not append.wants_more


def test_extents_grow_up_to_their_size_and_ahead_of_the_rows(plant_name):
    append, _, _ = opened(plant_name, extent_rows=16_384)
    assert append.wants_more
    rooms = []
    for rows in (1, 4097, 8193, 16_385, 32_769, 49_153):
        append.ensure(rows)
        rooms.append(append.columns.room)
    assert rooms == [4096, 8192, 16_384, 32_768, 49_152, 65_536]
    assert max(b - a for a, b in pairwise(rooms)) == 16_384


def test_memory_is_taken_ahead_before_it_is_used_up(plant_name):
    append, intake, _ = opened(plant_name)
    extend(append, intake, 0, 1)
    append.columns.taken = 3000
    assert append.wants_more
    append.extend_ahead()
    assert not append.wants_more
    path = segment.SHM / append.segment.name
    before = path.stat().st_blocks
    append.ensure(8192)
    assert append.columns.room == 8192
    assert path.stat().st_blocks == before


def test_memory_is_taken_ahead_of_the_rows_that_are_expected(plant_name):
    append, intake, _ = opened(plant_name)
    extend(append, intake, 0, 1)
    assert not append.wants_more
    append.expected = 5000
    assert append.wants_more
    append.extend_ahead()
    assert not append.wants_more


def test_rows_that_have_memory_do_not_wait_for_what_is_taken_beside(plant_name):
    append, _, _ = opened(plant_name)
    append.ensure(1)
    append.extend_ahead()
    with append._extending:  # as the grower holds it while it takes more
        waiter = threading.Thread(target=append.ensure, args=(4097,), daemon=True)
        waiter.start()
        waiter.join(20)
        assert not waiter.is_alive()
    assert append.columns.room == 8192


def test_the_grower_takes_memory_ahead_in_its_own_thread(plant_name):
    append, intake, _ = opened(plant_name)
    extend(append, intake, 0, 1)
    grower = Grower()
    grower.start()
    append.columns.taken = 4000
    while append.wants_more:
        grower.look([append])
        os.sched_yield()
    append.seal()
    append.extend_ahead()  # a sealed table is left alone
    append.open(plant_name, "test", DATE + 1, HEADS, 4096)
    append.columns.taken = 0
    while append.wants_more:
        grower.look([append])
        os.sched_yield()
    assert grower.is_alive()


def test_a_sealed_table_says_so(plant_name):
    append, _, table = filled(plant_name, 10)
    assert not table.sealed
    append.seal()
    assert table.sealed
    assert append.segment.closed
    same(table, 10)


def test_there_is_nothing_to_read_before_a_writer_came(plant_name):
    with pytest.raises(NotRunning, match="is the ticker plant running"):
        SharedTable(plant_name, DATE, "mixed")


def test_a_damaged_header_is_refused_or_harmless(plant_name):
    append, _, _ = filled(plant_name, 10)
    memory = append.segment.map
    moving = range(128, 136)
    described = range(1024, 1024 + int.from_bytes(memory[8:12], "little"))
    places = {*range(16), *range(120, 144), *range(248, 272), *described, described.stop}
    refused = set()
    for at in sorted(places | set(range(0, segment.HEADER_SIZE, 97))):
        was = memory[at]
        memory[at] = was ^ 0xFF
        try:
            table = SharedTable(plant_name, DATE, "mixed")
            if at not in moving:
                same(table, 10)
        except TickplantError:
            refused.add(at)
        memory[at] = was
    same(SharedTable(plant_name, DATE, "mixed"), 10)
    assert {*range(16), *described} <= refused
    assert not refused - {*range(16), *moving, *described}


def test_a_count_beyond_the_table_is_refused(plant_name):
    append, _, _ = filled(plant_name, 10)
    append.committed.store(MIXED.max_rows + 1)
    with pytest.raises(SegmentError, match="more than it can have"):
        SharedTable(plant_name, DATE, "mixed")
    assert not opened(plant_name)[2]


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.text(max_size=5),
    st.lists(st.integers(-5, 1 << 40), max_size=12), st.sampled_from([0, 8, 16_384, 1 << 32, -8]),
)  # fmt: skip


@settings(max_examples=300)
@given(
    key=st.sampled_from(["schema", "max_rows", "instruments_max", "head", "prev", "offsets"]),
    value=ODD, drop=st.booleans(), table=st.sampled_from(["name", "number", "columns"]),
)  # fmt: skip
def test_a_hostile_description_is_refused_or_harmless(plant_name, key, value, drop, table):
    segment.remove(f"tp.{plant_name}.{DATE}.mixed")
    append, _, _ = filled(plant_name, 10)
    about = segment.description(append.segment, MAGIC)
    if drop:
        del about[key]
    elif key == "schema":
        about["schema"][0][table] = value
    else:
        about[key] = value
    segment.describe(append.segment, MAGIC, about)
    try:
        found = SharedTable(plant_name, DATE, "mixed")
    except TickplantError:
        return
    rows = min(len(found), found.max_rows)
    assert len(found.rows(0, rows)) == rows
    for code in (0, 1, HEADS):
        assert all(0 <= n < rows for n in found.last_rows(code, 5)[0].tolist())


@pytest.mark.parametrize("content", [b"\xc1", b"\x80", b"\x93\x01\x02\x03", b"", b"\xff" * 9])
def test_a_description_that_is_no_map_is_refused(plant_name, content):
    append, _, _ = filled(plant_name, 1)
    memory = append.segment.map
    memory[1024 : 1024 + len(content)] = content
    memory[8:12] = len(content).to_bytes(4, "little")
    memory[12:16] = framing.crc32c(content).to_bytes(4, "little")
    with pytest.raises(TickplantError):
        SharedTable(plant_name, DATE, "mixed")
