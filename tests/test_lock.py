"""A lock is held by one, only its user can open it, and nothing else is taken for it."""

import os
import stat

import pytest

from tickplant.errors import AlreadyRunning, SegmentError
from tickplant.lock import Lock

NOBODY = 65534


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_lock_is_held_by_one_at_a_time_and_says_by_whom(tmp_path):
    path = tmp_path / "below" / "lock"
    held = Lock(path, "feed")
    with pytest.raises(AlreadyRunning, match=f"another feed holds {path}"):
        Lock(path, "feed")
    assert path.read_text() == f"{os.getpid()}\n"
    held.release()
    held.release()
    Lock(path, "feed").release()


def test_only_its_user_can_open_it_also_if_it_is_of_an_earlier_version(tmp_path):
    path = tmp_path / "lock"
    Lock(path, "feed").release()
    assert mode(path) == 0o600
    path.chmod(0o664)
    Lock(path, "feed").release()
    assert mode(path) == 0o600


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "hard link", "another user's"])
def test_what_is_no_lock_of_ours_is_refused_and_left_alone(tmp_path, kind):
    path, other = tmp_path / "lock", tmp_path / "other"
    other.write_text("precious")
    if kind == "link":
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "hard link":
        os.link(other, path)
    else:
        if os.geteuid():
            pytest.skip("only root makes files of others")
        path.touch()
        os.chown(path, NOBODY, NOBODY)
    with pytest.raises(SegmentError, match=str(path)):
        Lock(path, "feed")
    assert other.read_text() == "precious"


def test_roots_lock_is_of_the_folders_owner(tmp_path):
    if os.geteuid():
        pytest.skip("needs root")
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    Lock(folder / "lock", "hdb").release()
    assert (folder / "lock").stat().st_uid == NOBODY
    Lock(folder / "lock", "hdb").release()


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SegmentError, match="can't open the lock"):
        Lock(tmp_path / "file" / "lock", "feed")
