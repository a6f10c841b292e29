import gc
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant import segment
from tickplant.errors import NotRunning, SegmentError, TableFull

MAGIC = b"tpTEST01"


def opened():
    return len(os.listdir("/proc/self/fd"))


def blocks(name):
    return (segment.SHM / name).stat().st_blocks


def test_a_new_object_has_its_size_its_mode_and_no_memory(plant_name):
    name = f"tp.{plant_name}.x"
    umask = os.umask(0o077)
    try:
        made = segment.create(name, 1 << 30, 0o660)
    finally:
        os.umask(umask)
    about = (segment.SHM / name).stat()
    assert (about.st_size, about.st_blocks, stat.S_IMODE(about.st_mode)) == (1 << 30, 0, 0o660)
    made.map[4096] = 7
    assert segment.attach(name).map[4096] == 7


def test_an_object_is_created_once_and_attached_by_name(plant_name):
    name = f"tp.{plant_name}.x"
    with pytest.raises(NotRunning, match="is the ticker plant running"):
        segment.attach(name)
    segment.create(name, 4096)
    with pytest.raises(SegmentError, match="exists already"):
        segment.create(name, 4096)
    assert segment.names(f"tp.{plant_name}.") == [name]
    segment.remove(name)
    segment.remove(name)
    assert segment.names(f"tp.{plant_name}.") == []


def test_an_empty_object_is_one_being_made(plant_name):
    name = f"tp.{plant_name}.x"
    (segment.SHM / name).touch()
    with pytest.raises(NotRunning, match="just being made"):
        segment.attach(name)


def test_a_symbolic_link_is_not_followed(plant_name, tmp_path):
    (tmp_path / "elsewhere").write_bytes(bytes(4096))
    (segment.SHM / f"tp.{plant_name}.x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SegmentError, match="can't open"):
        segment.attach(f"tp.{plant_name}.x")


def test_allocated_is_what_was_asked_for(plant_name):
    name = f"tp.{plant_name}.x"
    made = segment.create(name, 1 << 24)
    made.allocate(8192, 4096 * 3)
    assert blocks(name) == 3 * 8
    made.allocate(8192, 4096 * 3)
    assert blocks(name) == 3 * 8
    made.allocate(1 << 20, 1)
    assert blocks(name) == 4 * 8


def test_no_room_and_other_failures_are_told_apart(plant_name, monkeypatch):
    made = segment.create(f"tp.{plant_name}.x", 1 << 20)

    def fail(number):
        def fallocate(fd, offset, length):
            raise OSError(number, os.strerror(number))

        return fallocate

    monkeypatch.setattr(os, "posix_fallocate", fail(28))
    with pytest.raises(TableFull, match="no room in /dev/shm for 4,096 bytes"):
        made.allocate(0, 4096)
    monkeypatch.setattr(os, "posix_fallocate", fail(5))
    with pytest.raises(SegmentError, match="Input/output error"):
        made.allocate(0, 4096)


def test_attempts_to_attach_leave_no_descriptor_open(plant_name):
    name = f"tp.{plant_name}.x"
    segment.create(name, segment.HEADER_SIZE)
    gc.collect()
    before = opened()
    for _ in range(50):
        with pytest.raises(NotRunning, match="just being made"):
            segment.description(segment.attach(name), MAGIC)
    gc.collect()
    assert opened() <= before


def test_a_mapping_outlives_its_descriptor_and_its_name(plant_name):
    made = segment.create(f"tp.{plant_name}.x", 4096)
    made.map[0] = 9
    made.close()
    made.close()
    segment.remove(made.name)
    assert made.closed
    assert made.map[0] == 9


@given(st.dictionaries(st.text(max_size=8), st.integers(0, 1 << 60) | st.text(max_size=30), max_size=9))
def test_a_description_is_read_back(plant_name, about):
    name = f"tp.{plant_name}.x"
    segment.remove(name)
    made = segment.create(name, segment.HEADER_SIZE)
    segment.describe(made, MAGIC, about)
    assert segment.description(segment.attach(name), MAGIC) == about
    with pytest.raises(SegmentError, match="not what it should be"):
        segment.description(made, b"tpOTHER1")


def test_the_magic_is_written_last(plant_name):
    """Without it, all the rest of the header counts for nothing."""
    made = segment.create(f"tp.{plant_name}.x", segment.HEADER_SIZE)
    segment.describe(made, MAGIC, {"a": 1})
    made.map[0:8] = bytes(8)
    with pytest.raises(NotRunning, match="just being made"):
        segment.description(made, MAGIC)


def test_a_description_that_is_too_long_is_refused(plant_name):
    made = segment.create(f"tp.{plant_name}.x", segment.HEADER_SIZE)
    with pytest.raises(SegmentError, match="too long"):
        segment.describe(made, MAGIC, {"text": "x" * segment.HEADER_SIZE})
    assert made.map[0:8] == bytes(8)
