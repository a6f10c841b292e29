import gc
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant import owners, segment
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


NOBODY = 65534
"""A user who has nothing to do with the plant."""


def put(path, kind, elsewhere):
    """Something at a path of shared memory that is not ours."""
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "hard link":
        os.link(elsewhere, path)
    else:
        path.write_bytes(bytes(segment.HEADER_SIZE))
        if os.geteuid():
            pytest.skip("only root makes files of others")
        os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "hard link", "another user's"])
def test_what_is_foreign_is_passed_by_and_told(plant_name, kind, caplog):
    name = f"tp.{plant_name}.x"
    elsewhere = segment.SHM / f"tp.{plant_name}.elsewhere"
    elsewhere.write_bytes(b"precious" + bytes(4088))
    put(segment.SHM / name, kind, elsewhere)
    with pytest.raises(NotRunning, match="is not this plant's: a "):
        segment.attach(name)
    assert not segment.exists(name)
    segment.remove(name)
    made = segment.create(name, segment.HEADER_SIZE)
    made.allocate(0, segment.HEADER_SIZE)
    segment.describe(made, MAGIC, {"a": 1})
    with pytest.raises(SegmentError, match="exists already"):
        segment.create(name, 4096)
    for writable in (False, True):
        assert segment.description(segment.attach(name, writable=writable), MAGIC) == {"a": 1}
    assert segment.exists(name)
    assert name in segment.names(f"tp.{plant_name}.")
    assert segment.SHM / name in segment.foreign(plant_name)
    assert caplog.text.count("it is passed by") == 1
    segment.remove(name)
    assert not segment.exists(name)
    assert os.path.lexists(segment.SHM / name)
    assert elsewhere.read_bytes() == b"precious" + bytes(4088)


def test_a_name_is_reserved_once_whatever_stands_there(plant_name):
    name = f"tp.{plant_name}.lock"
    (plain,) = segment.reserve(name)
    assert plain == segment.SHM / name
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600
    assert segment.reserve(name) == [plain]
    plain.unlink()
    plain.mkdir()
    (other,) = segment.reserve(name)
    assert other.name.startswith(name + "~")
    assert segment.reserve(name) == [other]


def test_a_reader_believes_whom_the_configuration_names_before_itself(plant_name, tmp_path):
    if os.geteuid():
        pytest.skip("only root makes files of others")
    name = f"tp.{plant_name}.ctl"
    for suffix, owner, content in (("", 0, b"r"), ("~1", NOBODY, b"n")):
        path = segment.SHM / (name + suffix)
        path.write_bytes(content * 4096)
        os.chown(path, owner, owner)
    assert segment.attach(name).map[0:1] == b"r"
    folder = tmp_path / "run"
    owners.anchor(plant_name, folder)
    assert segment.attach(name).map[0:1] == b"r"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    assert segment.attach(name).map[0:1] == b"n"
    assert segment.attach(name, writable=True).map[0:1] == b"r"


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
