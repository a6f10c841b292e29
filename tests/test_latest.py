import itertools
import os
import random
import signal

import pytest
from core_processes import COPIES, DATE, HEADS, frame, whole
from fix_core import finished

from tickplant import segment
from tickplant._core.intake import Intake
from tickplant.errors import NotRunning, SegmentError, TickplantError
from tickplant.latest import LatestTable, SharedLatest
from tickplant.table import AppendTable

UPDATES = 300_000


def writer(plant, slots=HEADS, identity="test"):
    latest = LatestTable(plant, identity, COPIES, slots)
    columns = AppendTable(COPIES).columns
    latest.ensure(slots, columns)
    return latest, Intake([columns], 0, 1, 1)


def put(intake, code, number, date=DATE):
    rows = COPIES.empty(1)
    for column in COPIES.columns:
        if column.type == "i8":
            rows[column.name] = number
    rows["instrument"] = code
    intake.apply(frame(COPIES, rows, number, trading_date=date))


def reader(plant):
    """The reader of latest values, as soon as there is one."""
    while True:
        try:
            return SharedLatest(plant, "copies")
        except NotRunning:
            os.sched_yield()


def test_values_are_whole_and_never_go_back_while_they_are_replaced(plant_name, start):
    writer(plant_name)
    start("write_copies", plant_name)
    watchers = [start("watch_copies", plant_name, UPDATES) for _ in range(2)]
    assert [finished(watcher) for watcher in watchers] == ["", ""]


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_writer_stopped_or_killed_anywhere_leaves_whole_values(plant_name, start, how):
    r = random.Random(how)
    process = start("write_copies", plant_name)
    latest, seen = reader(plant_name), -1
    for _ in range(10 if how == signal.SIGSTOP else 5):
        goal = seen + r.randrange(1, 3000)
        while latest.get(1) is None or whole(latest.get(1)) < goal:
            assert process.poll() is None
        process.send_signal(how)
        if how == signal.SIGKILL:
            process.wait()
        for code in (0, 1):
            whole(latest.get(code))
        seen = whole(latest.get(1))
        cells = latest.cells(0, HEADS)
        assert [whole((DATE, n, row)) for n, row in zip(cells["number"].tolist(), cells["row"], strict=True)]
        process.send_signal(signal.SIGCONT)
        if how == signal.SIGKILL:
            process = start("write_copies", plant_name)


def test_get_and_snapshot_give_the_last_row_of_each_instrument(plant_name):
    _, intake = writer(plant_name)
    latest = SharedLatest(plant_name, "copies")
    assert latest.get(3) is None
    assert len(latest.cells(0, HEADS)) == len(latest.snapshot(HEADS)) == 0
    for number, code in enumerate([3, 5, 3, 1]):
        put(intake, code, number)
    date, number, row = latest.get(3)
    assert (date, number, int(row["copy_5"])) == (DATE, 2, 2)
    assert latest.row(3) == row
    assert latest.cells(0, HEADS)["number"].tolist() == [3, 2, 1]
    assert latest.snapshot(HEADS)["instrument"].tolist() == [1, 3, 5]
    assert latest.snapshot(HEADS).tobytes() == latest.cells(0, HEADS)["row"].tobytes()
    assert len(latest.snapshot(2)) == 1
    for code in (-1, HEADS, 1 << 40):
        assert latest.get(code) is None
        assert latest.row(code) is None


def test_rows_that_were_handed_out_stay_what_they_are(plant_name):
    _, intake = writer(plant_name)
    latest = SharedLatest(plant_name, "copies")
    rows = []
    for number in range(50):
        put(intake, 3, number)
        rows.append(latest.row(3))
    assert [int(row["copy_5"]) for row in rows] == list(range(50))
    with pytest.raises(ValueError, match="read-only"):
        rows[0]["copy_5"] = 1


def test_rows_that_are_applied_again_never_take_a_value_back(plant_name):
    _, intake = writer(plant_name)
    latest = SharedLatest(plant_name, "copies")
    put(intake, 3, 10)
    put(intake, 5, 4, date=DATE + 1)
    for code, number, date in [(3, 7, DATE), (3, 12, DATE - 1), (5, 9, DATE), (6, 8, DATE)]:
        rows = COPIES.empty(1)
        rows["instrument"] = code
        intake.apply(frame(COPIES, rows, number, trading_date=date), again=True)
    assert [latest.get(code)[:2] for code in (3, 5, 6)] == [(DATE, 10), (DATE + 1, 4), (DATE, 8)]
    rows = COPIES.empty(1)
    rows["instrument"] = 3
    intake.apply(frame(COPIES, rows, 11), again=True)
    assert latest.get(3)[:2] == (DATE, 11)


def test_rows_of_instruments_without_a_slot_are_left_out(plant_name):
    _, intake = writer(plant_name, slots=4)
    put(intake, 4, 1)
    put(intake, (1 << 32) - 1, 2)
    assert len(SharedLatest(plant_name, "copies").snapshot(1000)) == 0


def test_slots_are_allocated_as_instruments_come(plant_name):
    latest = LatestTable(plant_name, "test", COPIES, 100_000)
    columns = AppendTable(COPIES).columns
    path = segment.SHM / latest.segment.name
    sizes = []
    for slots in (1, 4096, 4097, 100_000, 200_000):
        latest.ensure(slots, columns)
        sizes.append((latest.slots, path.stat().st_blocks))
    assert [slots for slots, _ in sizes] == [4096, 4096, 8192, 100_000, 100_000]
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3] == sizes[4]


def test_another_writer_goes_on_with_the_same_slots_and_another_plant_does_not(plant_name):
    _, intake = writer(plant_name)
    put(intake, 1, 7)
    again, intake = writer(plant_name)
    latest = SharedLatest(plant_name, "copies")
    assert again.reopened
    assert latest.get(1)[1] == 7
    put(intake, 1, 8)
    assert latest.get(1)[1] == 8
    other, _ = writer(plant_name, identity="other")
    assert not other.reopened
    assert SharedLatest(plant_name, "copies").get(1) is None
    assert latest.get(1)[1] == 8


def test_full_shared_memory_is_an_error_and_no_signal(plant_name, tiny_shm):
    assert "full: no room in" in finished(tiny_shm("1m", "fill_latest", plant_name))


def test_there_is_nothing_to_read_before_a_writer_came(plant_name):
    with pytest.raises(NotRunning, match="is the ticker plant running"):
        SharedLatest(plant_name, "copies")


@pytest.mark.parametrize(
    "change",
    [{"cell_size": 8}, {"slot_size": 64}, {"slots_max": 1 << 30}, {"schema": []}, {"schema": 3},
     {"cell_size": "x"}, {"slots_max": float("inf")}, {"slot_size": None}],
)  # fmt: skip
def test_a_description_that_is_not_sound_is_refused(plant_name, change):
    latest, _ = writer(plant_name)
    about = segment.description(latest.segment, b"tpLATST1") | change
    segment.describe(latest.segment, b"tpLATST1", about)
    with pytest.raises(TickplantError):
        SharedLatest(plant_name, "copies")


def test_a_header_cut_short_is_refused(plant_name):
    for size in itertools.chain((1, 100), range(4096, segment.HEADER_SIZE, 4096)):
        made = segment.create(f"tp.{plant_name}.latest.copies", size)
        made.map[0] = 0  # so that it has memory
        with pytest.raises(SegmentError, match="too short"):
            SharedLatest(plant_name, "copies")
        segment.remove(made.name)


@pytest.mark.parametrize(
    ("first", "upto"), [(4096, 5000), (300_000, 300_001), (1 << 62, 1 << 62), (0, 0), (5, 2)]
)
def test_beyond_the_instruments_that_have_a_slot_there_are_no_cells(plant_name, first, upto):
    latest, intake = writer(plant_name, slots=4096)
    put(intake, 3, 1)
    assert len(SharedLatest(plant_name, "copies").cells(first, upto)) == 0
    assert len(SharedLatest(plant_name, "copies").cells(0, 1 << 62)) == 1
    assert latest.slots == 4096
