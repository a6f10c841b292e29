import os
import subprocess
from pathlib import Path

import pytest

from tickplant import control, segment
from tickplant._core.memory import Word
from tickplant.clock import monotonic_ns
from tickplant.control import BELL, SYNCED, Control
from tickplant.errors import NotRunning, SegmentError
from tickplant.schema import TABLES_MAX, Schema, declare

SCHEMA = Schema([declare("trade", 1, {"price": "f8"}), declare("quote", 2, {"bid": "f8"})])
DATA = Path("/nowhere")
WORDS = ("date", "heartbeat", "written", "durable", "pid")


def test_words_that_the_plant_stores_are_read_by_others(plant_name):
    own = Control.create(plant_name, SCHEMA, DATA)
    other = Control.attach(plant_name)
    for number, name in enumerate(WORDS, 1 << 40):
        getattr(own, name).store(number)
    assert [getattr(other, name).load() for name in WORDS] == list(range(1 << 40, (1 << 40) + 5))
    assert other.schema.describe() == SCHEMA.describe()


def test_readers_may_write_nothing(plant_name):
    own = Control.create(plant_name, SCHEMA, DATA)
    other = Control.attach(plant_name)
    for name in WORDS:
        with pytest.raises(TypeError, match="for reading"):
            getattr(other, name).store(1)
    with pytest.raises(TypeError, match="for reading"):
        other.bell.ring()
    assert other.bell.wait_above(other.written, 0, 0) == 0
    modes = [path.stat().st_mode & 0o777 for path in segment.SHM.glob(f"tp.{plant_name}.*")]
    assert modes == [0o640]
    assert own.written.load() == 0


def test_a_ring_wakes_who_waits_for_a_word(plant_name):
    own = Control.create(plant_name, SCHEMA, DATA)
    other = Control.attach(plant_name)
    own.written.store(5)
    own.bell.ring()
    assert other.bell.wait_above(other.written, 0, 10_000_000_000) == 5


@pytest.mark.parametrize(("one", "other"), [("bell", "synced"), ("synced", "bell")])
def test_a_ring_wakes_only_who_sleeps_for_it(plant_name, one, other):
    own = Control.create(plant_name, SCHEMA, DATA)
    reader = Control.attach(plant_name)
    words = {"bell": Word(own._block.map, BELL), "synced": Word(own._block.map, SYNCED)}
    getattr(reader, one).wait_above(reader.durable, 0, 1)  # it is not there in time
    getattr(own, other).ring()
    assert (words[one].load(), words[other].load()) == (0, 1)
    getattr(own, one).ring()
    assert (words[one].load(), words[other].load()) == (1, 1)


def test_a_sound_block_of_the_same_schema_is_taken_over(plant_name):
    Control.create(plant_name, SCHEMA, DATA).written.store(77)
    reader = Control.attach(plant_name)
    again = Control.create(plant_name, SCHEMA, DATA)
    assert again.written.load() == 77
    again.written.store(78)
    assert reader.written.load() == 78


@pytest.mark.parametrize("damage", ["schema", "header", "size"])
def test_a_block_that_is_not_sound_is_made_anew(plant_name, damage):
    Control.create(plant_name, SCHEMA, DATA).written.store(77)
    block = segment.SHM / f"tp.{plant_name}.ctl"
    schema = SCHEMA
    if damage == "schema":
        schema = Schema(list(SCHEMA)[:1])
    elif damage == "header":
        content = bytearray(block.read_bytes())
        content[1030] ^= 1
        block.write_bytes(content)
    else:
        os.truncate(block, 100)
    fresh = Control.create(plant_name, schema, DATA)
    assert fresh.written.load() == 0
    assert Control.attach(plant_name).schema.describe() == schema.describe()


def test_a_block_describes_as_many_tables_as_a_plant_may_have(plant_name):
    columns = {f"column_{n:03}": "f8" for n in range(30)}
    schema = Schema([declare(f"table_{n:03}", n, columns) for n in range(1, TABLES_MAX + 1)])
    made = Control.create(plant_name, schema, DATA)
    made.written.store(5)
    assert Control.attach(plant_name).schema.describe() == schema.describe()
    assert Control.create(plant_name, schema, DATA).written.load() == 5


def test_without_a_block_nothing_runs(plant_name):
    with pytest.raises(NotRunning):
        Control.attach(plant_name)


def test_a_damaged_block_is_refused(plant_name):
    Control.create(plant_name, SCHEMA, DATA)
    block = segment.SHM / f"tp.{plant_name}.ctl"
    content = bytearray(block.read_bytes())
    content[0] ^= 1
    block.write_bytes(content)
    with pytest.raises(SegmentError, match="not what it should be"):
        Control.attach(plant_name)


def test_a_plant_is_running_stalled_dead_or_stopped(plant_name):
    own = Control.create(plant_name, SCHEMA, DATA)
    other = Control.attach(plant_name)
    assert other.state() == "stopped"
    own.pid.store(os.getpid())
    own.heartbeat.store(monotonic_ns())
    assert other.state() == "running"
    own.heartbeat.store(monotonic_ns() - control.STALE_NS - 1)
    assert other.state() == "stalled"
    gone = subprocess.Popen(["true"])
    gone.wait()
    own.pid.store(gone.pid)
    assert other.state() == "dead"
    own.pid.store(0)
    assert other.state() == "stopped"


def test_another_process_that_was_given_the_number_of_a_dead_plant_is_not_taken_for_it(plant_name):
    own = Control.create(plant_name, SCHEMA, DATA)
    own.own(os.getpid())
    turned = own.heartbeat.load()
    later = subprocess.Popen(["sleep", "60"])
    try:
        own.pid.store(later.pid)  # as if the number of the plant's process had come round
        own.heartbeat.store(turned - 10**9)
        assert Control.attach(plant_name).state() == "dead"
        own.heartbeat.store(monotonic_ns() + 60 * 10**9)
        assert Control.attach(plant_name).state() == "running"
    finally:
        later.kill()
        assert later.poll() is None or later.returncode < 0
        own.heartbeat.store(monotonic_ns() + 60 * 10**9)
        os.waitid(os.P_PID, later.pid, os.WEXITED | os.WNOWAIT)
        assert Control.attach(plant_name).state() == "dead"  # nobody has buried it yet
        later.wait()


def test_the_date_before_the_open_one_is_told(plant_name):
    own = Control.create(plant_name, SCHEMA, DATA)
    for date in (20260105, 20260106, 20260106, 20260108):
        own.announce(date)
    other = Control.attach(plant_name)
    assert (other.previous.load(), other.date.load()) == (20260106, 20260108)
    assert other.data_dir == DATA


def test_removing_all_leaves_other_plants_alone(plant_name):
    Control.create(plant_name, SCHEMA, DATA)
    neighbour = Control.create(plant_name + "x", SCHEMA, DATA)
    try:
        assert control.remove_all(plant_name) == [f"tp.{plant_name}.ctl"]
        assert control.remove_all(plant_name) == []
        assert Control.attach(neighbour.plant).state() == "stopped"
    finally:
        control.remove_all(plant_name + "x")


def test_a_block_that_was_made_anew_for_other_tables_is_followed_once_a_date_is_open(plant_name):
    own = Control.create(plant_name, SCHEMA, DATA)
    own.announce(20260102)
    reader = Control.attach(plant_name)
    assert not reader.follow()
    other = Schema([*SCHEMA, declare("bar", 3, {"open": "f8"}, latest=True)])
    newer = Control.create(plant_name, other, DATA)
    assert reader.replaced
    assert not reader.follow()  # it has not begun a date
    newer.announce(20260105)
    assert reader.date.load() == 20260102
    assert reader.follow()
    assert not reader.replaced
    assert (reader.date.load(), reader.latest) == (20260105, ["bar"])
    assert [t.name for t in reader.schema] == ["trade", "quote", "bar"]
    newer.written.store(7)
    newer.bell.ring()
    assert reader.bell.wait_above(reader.written, 6, 10_000_000_000) == 7


def test_a_block_that_is_the_same_or_gone_is_not_replaced(plant_name):
    Control.create(plant_name, SCHEMA, DATA).announce(20260102)
    reader = Control.attach(plant_name)
    Control.create(plant_name, SCHEMA, DATA)
    assert not reader.replaced
    control.remove_all(plant_name)
    assert not reader.follow()
