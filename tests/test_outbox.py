"""The outbox: what the plant has not acknowledged can be had again, from any place, across sessions."""

import errno
import os
import shutil
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant import wire
from tickplant._core import framing
from tickplant.errors import AlreadyRunning, JournalFull
from tickplant.feed import outbox as module
from tickplant.feed.outbox import Outbox
from tickplant.journal import segments

SEGMENT = 70_000


def opened(folder, most=1 << 40):
    box = Outbox(folder, "f", SEGMENT, most)
    box.open()
    return box


def put(box, session, seq, count, size=3000):
    frame = framing.seal(
        bytes(size), wire.ROWS, table=1, session=session, seq=seq, count=count, prev_crc=box.last_crc
    )
    if not box.admit(len(frame)):
        raise JournalFull(box.full)
    box.append(frame, (session, seq), count)


def places(frames):
    found = []
    for offset, *_ in framing.index(frames).tolist():
        head = wire.header(frames, offset)
        found.append((head.session, head.seq, head.count))
    return found


def everything(box, after, limit=1 << 14):
    """All that follows a place, asked for piece by piece as the plant does."""
    found, more = [], True
    while more:
        frames, more = box.fetch(after, limit)
        new = places(frames)
        assert new or not more
        found += new
        if new:
            after = (new[-1][0], new[-1][1] + new[-1][2])
    return found


def filled(folder, plan):
    """An outbox over several sessions; `plan`: frames (count, size) of each. Returns it and its places."""
    put_in = []
    for session, frames in enumerate(plan, 1):
        box = opened(folder)
        seq = 0
        for count, size in frames:
            put(box, session, seq, count, size)
            put_in.append((session, seq, count))
            seq += count
        box.close()
    return opened(folder), put_in


plans = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([1, 3000, 40_000])), max_size=12), max_size=4
)


@settings(deadline=None, max_examples=60)
@given(plan=plans, limit=st.sampled_from([1, 10_000, 1 << 22]), data=st.data())
def test_what_follows_any_place_is_there_and_nothing_else(tmp_path_factory, plan, limit, data):
    box, put_in = filled(tmp_path_factory.mktemp("box"), plan)
    with closing(box):
        place = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 60)))
        expected = [p for p in put_in if (p[0], p[1] + p[2]) > place]
        assert everything(box, place, limit) == expected
        box.acknowledge(place)
        later = max(place, data.draw(st.sampled_from([(9, 9, 9), *put_in]))[:2])
        assert everything(box, later, limit) == [p for p in put_in if (p[0], p[1] + p[2]) > later]


@settings(deadline=None, max_examples=40)
@given(plan=plans, data=st.data())
def test_after_acknowledging_and_a_restart_the_rest_is_there(tmp_path_factory, plan, data):
    folder = tmp_path_factory.mktemp("box")
    box, put_in = filled(folder, plan)
    with closing(box):
        place = data.draw(st.sampled_from([(0, 0), (9, 9), *(p[:2] for p in put_in)]))
        box.acknowledge(place)
    with closing(opened(folder)) as box:
        assert everything(box, place) == [p for p in put_in if (p[0], p[1] + p[2]) > place]


def test_sessions_follow_each_other_whatever_the_clock_does_and_though_nothing_was_published(
    tmp_path, monkeypatch
):
    begun = []
    for at in (1000, 2000, 1500, 1500, 3000):
        monkeypatch.setattr(module, "now_ns", lambda at=at: at)
        with closing(opened(tmp_path)) as box:
            begun.append(box.begin())
            assert box.waiting_bytes == 0
            assert box.fetch((0, 0), 1 << 20) == (b"", False)
    assert begun[:2] == [1000, 2000]
    assert begun == sorted(set(begun))


def test_a_session_that_begins_does_not_acknowledge_what_waits(tmp_path):
    with closing(opened(tmp_path)) as box:
        put(box, 1, 0, 5)
    with closing(opened(tmp_path)) as box:
        session = box.begin()
        assert box.waiting_bytes > 3000
        put(box, session, 0, 2)
        assert everything(box, (0, 0)) == [(1, 0, 5), (session, 0, 2)]
        box.acknowledge((1, 5))
        assert box.waiting_bytes > 3000
        box.acknowledge((session, 2))
        assert box.waiting_bytes == 0


def test_acknowledged_segments_are_deleted_but_never_the_last(tmp_path):
    box = opened(tmp_path)
    for n in range(100):
        put(box, 1, n, 1)
    many = len(segments(tmp_path))
    assert many > 3
    box.acknowledge((1, 50))
    assert 1 < len(segments(tmp_path)) < many
    assert [p[1] for p in everything(box, (1, 50))] == list(range(50, 100))
    box.acknowledge((1, 100))
    assert len(segments(tmp_path)) == 1
    assert box.waiting_bytes == 0
    assert box.fetch((1, 100), 1 << 20) == (b"", False)
    put(box, 1, 100, 1)
    assert everything(box, (1, 100)) == [(1, 100, 1)]
    box.close()


def test_one_answer_is_no_larger_than_asked_for(tmp_path):
    box = opened(tmp_path)
    for n in range(30):
        put(box, 1, n, 1)
    frames, more = box.fetch((0, 0), 10_000)
    assert len(places(frames)) == 3
    assert more
    frames, more = box.fetch((0, 0), 1)
    assert len(places(frames)) == 1
    box.close()


def test_acknowledging_the_past_or_twice_changes_nothing(tmp_path):
    box = opened(tmp_path)
    for n in range(60):
        put(box, 2, n, 1)
    box.acknowledge((2, 40))
    waiting = box.waiting_bytes
    box.acknowledge((2, 40))
    box.acknowledge((2, 3))
    box.acknowledge((1, 999))
    assert box.waiting_bytes == waiting
    box.close()


def test_a_full_outbox_is_an_error_and_loses_nothing_that_is_in_it(tmp_path):
    box = opened(tmp_path, most=50_000)
    with pytest.raises(JournalFull, match="full.*start it, or raise outbox.max_bytes"):
        for n in range(100):
            put(box, 1, n, 1)
    kept = len(everything(box, (0, 0)))
    assert kept > 10
    box.acknowledge((1, kept))
    put(box, 1, kept, 1)
    box.close()


def test_one_process_at_a_time(tmp_path):
    box = opened(tmp_path)
    with pytest.raises(AlreadyRunning):
        opened(tmp_path)
    put(box, 1, 0, 1)
    box.close()
    opened(tmp_path).close()


def test_an_outbox_that_can_not_be_opened_is_not_held(tmp_path):
    opened(tmp_path).close()
    (tmp_path / "claim").unlink()
    (tmp_path / "claim").mkdir()
    for _ in range(2):
        with pytest.raises(module.JournalError, match="claim"):
            opened(tmp_path)


def test_an_outbox_knows_its_last_sessions_though_their_segments_are_deleted(tmp_path):
    sessions = []
    for _ in range(3):
        with closing(opened(tmp_path)) as box:
            sessions.append(box.begin())
            for n in range(100):
                put(box, sessions[-1], n, 1)
            box.acknowledge((sessions[-1], 100))
            assert len(segments(tmp_path)) == 1
    with closing(opened(tmp_path)) as box:
        assert box.knows(sessions[-1])
        assert not box.knows(sessions[-1] + 1)
        later = box.begin()
    with closing(opened(tmp_path)) as box:
        assert box.knows(sessions[-1])
        assert box.knows(later)


def test_a_session_begins_above_the_one_that_the_plant_has(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "now_ns", lambda: 1000)
    with closing(opened(tmp_path)) as box:
        assert box.begin(5000) > 5000
    with closing(opened(tmp_path)) as box:
        assert box.begin() > 5000


def test_two_copies_of_an_outbox_do_not_begin_the_same_session_when_the_clock_has_gone_back(
    tmp_path, monkeypatch
):
    with closing(opened(tmp_path / "one")) as box:
        box.begin()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    monkeypatch.setattr(module, "now_ns", lambda: 1000)
    with closing(opened(tmp_path / "one")) as one, closing(opened(tmp_path / "two")) as two:
        assert one.begin() != two.begin()


def test_what_was_dropped_is_told_in_its_place_and_after_a_restart(tmp_path):
    with closing(opened(tmp_path)) as box:
        session = box.begin()
        put(box, session, 0, 5)
        box.drop((session, 9))
        box.drop((session, 12))
        assert everything(box, (0, 0)) == [(session, 0, 5), (session, 12, 0)]
        put(box, session, 12, 1)
        assert not box.settled
        box.acknowledge((session, 13))
        assert box.settled
        box.drop((session, 20))
        assert not box.settled
    with closing(opened(tmp_path)) as box:
        later = box.begin()
        put(box, later, 0, 1)
        assert everything(box, (session, 13)) == [(session, 20, 0), (later, 0, 1)]
        assert everything(box, (session, 20)) == [(later, 0, 1)]


def test_a_note_of_dropped_rows_that_is_damaged_is_none(tmp_path):
    with closing(opened(tmp_path)) as box:
        put(box, 1, 0, 5)
    (tmp_path / "dropped").write_bytes(b"x" * 20)
    with closing(opened(tmp_path)) as box:
        assert everything(box, (0, 0)) == [(1, 0, 5)]


@pytest.mark.parametrize("before", [3000, 67_000])  # in its segment, and with a new one
@pytest.mark.parametrize("room", [0, 1, 40, 200, 2000])
def test_a_frame_for_which_the_disk_had_some_room_is_whole_or_not_there(tmp_path, monkeypatch, before, room):
    real, left = os.write, [1 << 40]

    def write(fd, data):
        written = real(fd, data[: left[0]]) if left[0] else 0
        left[0] -= written
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written

    monkeypatch.setattr(os, "write", write)
    with closing(opened(tmp_path)) as box:
        put(box, 1, 0, 1, before)
        left[0] = room
        frame = framing.seal(
            bytes(3000), wire.ROWS, table=1, session=1, seq=1, count=1, prev_crc=box.last_crc
        )
        for _ in range(3):
            with pytest.raises(JournalFull, match="full; free space"):
                box.append(frame, (1, 1), 1)
        assert not box.admit(100)
        assert everything(box, (0, 0)) == [(1, 0, 1)]
        left[0] = 1 << 40
        box.append(frame, (1, 1), 1)
        monkeypatch.setattr(module, "monotonic_ns", lambda: 1 << 62)  # when it may be tried again
        put(box, 1, 2, 1)
        assert everything(box, (0, 0)) == [(1, 0, 1), (1, 1, 1), (1, 2, 1)]
    with closing(opened(tmp_path)) as box:
        assert box._journal.torn is None
        assert everything(box, (0, 0)) == [(1, 0, 1), (1, 1, 1), (1, 2, 1)]
    assert len(segments(tmp_path)) == (2 if before > SEGMENT // 2 else 1)


def test_closing_again_closes_nobody_elses_file(tmp_path):
    box = opened(tmp_path)
    box.close()
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]  # has the numbers of those closed
    box.close()
    for descriptor in taken:
        os.close(descriptor)  # raises if it is not open any more
