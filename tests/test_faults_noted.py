"""What ends a process is said in one line with its place, also when it is the same again and again."""

import errno
import json
import os
from pathlib import Path

import pytest

from tickplant import faults, service
from tickplant.errors import AlreadyRunning, Fault, JournalError, SystemRefused


def thrown(error):
    try:
        raise error
    except Exception as e:
        return e


class Broken:
    """In the place of a Pulse."""

    def status(self):
        raise ValueError("no")

    def _tell(self, doing, trouble):
        int("x")


def test_what_nobody_thought_of_is_one_line_with_the_place():
    found = faults.fault(thrown(ValueError("a\nb")))
    assert isinstance(found, Fault)
    assert str(found).startswith("ValueError: a b (at ")
    assert "test_faults_noted.py:" in str(found)
    assert faults.fault(thrown(KeyError())).exit_code == 70


def test_the_place_is_in_tickplant_though_it_was_raised_below():
    with pytest.raises(ValueError, match="invalid literal") as e:
        service.Pulse("x", Path("."), dict).__class__._said(Broken())
    assert faults.place(e.value).startswith("tickplant/service.py:")


def test_what_the_system_refuses_is_not_a_defect_and_has_a_remedy():
    denied = faults.fault(thrown(PermissionError(errno.EACCES, "Permission denied", "/var/lib/x")))
    assert isinstance(denied, SystemRefused)
    assert denied.exit_code == 74
    assert "/var/lib/x: Permission denied (at " in str(denied)
    assert "chown -R" in str(denied)
    assert "ulimit -n" in str(faults.fault(thrown(OSError(errno.EMFILE, "Too many open files"))))


def test_errors_raised_on_purpose_stay_what_they_are():
    error = JournalError("the disk is full")
    assert faults.fault(error) is error


def test_the_same_five_times_in_a_minute_is_said_as_such(tmp_path, monkeypatch):
    now = [10**18]
    monkeypatch.setattr(faults, "now_ns", lambda: now[0])
    error = thrown(ValueError("x"))
    for _ in range(4):
        now[0] += 10 * faults.SECOND_NS
        assert "5 times" not in faults.note(tmp_path, "feed-mine", error)
    said = faults.note(tmp_path, "feed-mine", error)
    assert "the same fault 5 times in a minute" in said
    assert "systemctl stop tickplant-feed@mine" in said
    assert faults.recent(tmp_path, "feed-mine") == said
    assert "5 times" not in faults.note(tmp_path, "feed-mine", thrown(KeyError("y")))
    now[0] += 61 * faults.SECOND_NS
    assert faults.recent(tmp_path, "feed-mine") is None
    for _ in range(5):
        now[0] += 20 * faults.SECOND_NS
        assert "5 times" not in faults.note(tmp_path, "feed-mine", error)


@pytest.mark.parametrize("damage", ["[", "{}", '[{"at_ns": "x"}]', "[" * 50_000, "9" * 70_000])
def test_notes_that_are_damaged_count_for_nothing(tmp_path, damage):
    (tmp_path / f"hdb{faults.SUFFIX}").write_text(damage)
    assert faults.read(tmp_path, "hdb") == []
    assert faults.note(tmp_path, "hdb", thrown(ValueError("x"))).startswith("ValueError")


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link"):
        with pytest.raises(OSError, match=r"not a plain file|symbolic link"):
            faults.contents(tmp_path / name, 10)


def test_a_process_that_ends_by_surprise_says_so_by_its_status_and_raises_one_line(tmp_path):
    pulse = service.Pulse("role", tmp_path, dict)
    with pytest.raises(Fault, match="ZeroDivisionError"), service.ending(pulse):
        1 / 0  # noqa: B018
    said = json.loads((tmp_path / "role.json").read_text())
    assert said["state"] == "failed"
    assert said["error"].startswith("ZeroDivisionError: division by zero (at ")


def test_a_second_one_of_its_kind_leaves_the_status_of_the_first_alone(tmp_path):
    pulse = service.Pulse("role", tmp_path, dict)
    pulse.write("running")
    with pytest.raises(AlreadyRunning), service.ending(pulse):
        raise AlreadyRunning("another holds it")
    assert json.loads((tmp_path / "role.json").read_text())["state"] == "running"


def test_a_status_that_can_not_be_made_ends_nothing(tmp_path, caplog):
    pulse = service.Pulse("role", tmp_path, lambda: {}["nothing"])
    pulse.write("running")
    pulse.write("running")
    said = json.loads((tmp_path / "role.json").read_text())
    assert said["degraded"].startswith("can't say how it is: KeyError")
    assert caplog.text.count("can't say how it is") == 1


def test_without_a_descriptor_the_status_is_written_and_says_so(tmp_path, caplog):
    import resource

    pulse = service.Pulse("role", tmp_path, dict)
    pulse.write("running")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(3):
            pulse.write("running")
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    said = json.loads((tmp_path / "role.json").read_text())
    assert said["degraded"].startswith("no file descriptors are left")
    assert said["memory_bytes"] > 0
    assert caplog.text.count("no file descriptors are left") == 1
    pulse.write("running")
    assert "degraded" not in json.loads((tmp_path / "role.json").read_text())
