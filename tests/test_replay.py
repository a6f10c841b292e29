"""Rows by number out of a journal, from any row, in answers of bounded size."""

import contextlib
import os
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant import wire
from tickplant._core import framing
from tickplant.errors import FrameError, JournalDamaged
from tickplant.journal import JournalReader, JournalWriter
from tickplant.replay import READERS_KEPT, ReplayIndex

ROW = 32

frames = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.sampled_from([1, 1, 900, 900, 3000])), max_size=60
)


def written(folder, plan, segment_bytes=1 << 17):
    """A journal of frames (table, count, rows' size) and its writer; the first row of each frame."""
    journal = JournalWriter(folder, {"what": "test"}, segment_bytes)
    list(journal.recover())
    rows, firsts = {}, []
    for table, count, size in plan:
        row = rows.get(table, 0)
        journal.append_frame(wire.ROWS, bytes(count * size * ROW), table=table, row=row, count=count)
        firsts.append((table, row, count))
        rows[table] = row + count
    return journal, rows, firsts


def places(blob):
    heads = [wire.header(blob, o) for o, *_ in framing.index(blob).tolist()]
    return [(h.table, h.row, h.count) for h in heads]


@settings(deadline=None, max_examples=60)
@given(
    plan=frames, table=st.integers(1, 4), row=st.integers(0, 200), limit=st.sampled_from([0, 5000, 1 << 20])
)
def test_from_any_row_on(tmp_path_factory, plan, table, row, limit):
    folder = tmp_path_factory.mktemp("journal")
    journal, rows, firsts = written(folder, plan)
    with closing(journal), closing(ReplayIndex(folder)) as index:
        while index.follow():
            pass
        assert index.rows == rows
        found, at = [], row
        while blob := index.fetch(table, at, limit):
            new = places(blob)
            assert len(new) == 1 or len(blob) <= limit
            found += new
            at = new[-1][1] + new[-1][2]
        assert found == [f for f in firsts if f[0] == table and f[1] + f[2] > row]


@settings(deadline=None, max_examples=40)
@given(plan=frames, data=st.data())
def test_readers_that_go_on_in_turns_are_all_answered(tmp_path_factory, plan, data):
    folder = tmp_path_factory.mktemp("journal")
    journal, _, firsts = written(folder, plan)
    with closing(journal), closing(ReplayIndex(folder)) as index:
        while index.follow():
            pass
        places_of = {n: (data.draw(st.integers(1, 4)), data.draw(st.integers(0, 50))) for n in range(12)}
        at, found = {n: first for n, (_, first) in places_of.items()}, {n: [] for n in places_of}
        going = list(places_of)
        while going:
            n = data.draw(st.sampled_from(going))
            blob = index.fetch(places_of[n][0], at[n], data.draw(st.sampled_from([0, 40_000])), bool(n % 2))
            if not blob:
                going.remove(n)
                continue
            found[n] += places(blob)
            at[n] = sum(found[n][-1][1:])
        for n, (number, first) in places_of.items():
            assert found[n] == [f for f in firsts if f[0] == number and f[1] + f[2] > first]


def test_who_checks_frames_gets_them_as_they_lie_and_who_does_not_is_told_of_damage(tmp_path):
    journal, _, _ = written(tmp_path, [(1, 2, 9)] * 8)
    with closing(journal), closing(ReplayIndex(tmp_path)) as index:
        while index.follow():
            pass
        (path,) = tmp_path.glob("*.tpj")
        data = bytearray(path.read_bytes())
        at = int(framing.index(data)[4, 0])
        for offset, raw_rows in ((at + wire.HEADER_SIZE + 5, 8), (at, 3)):
            data[offset] ^= 1
            path.write_bytes(data)
            raw = index.fetch(1, 0, 1 << 20, check=False)
            assert len(places(raw)) == raw_rows
            assert len(wire.split(raw)) == len(places(index.fetch(1, 0, 1 << 20))) == 3
            with pytest.raises(JournalDamaged, match="is damaged at byte"):
                index.fetch(1, 6, 1 << 20)
        with pytest.raises(JournalDamaged, match="is damaged at byte"):
            index.fetch(1, 6, 1 << 20, check=False)


def test_what_is_being_written_is_followed_up_to_the_bound(tmp_path):
    journal, rows, _ = written(tmp_path, [(1, 1, 1)] * 5)
    index = ReplayIndex(tmp_path)
    with closing(journal), closing(index):
        bound = journal.position
        journal.append_frame(wire.ROWS, bytes(ROW), table=1, row=5, count=1)
        while index.follow(bound):
            pass
        assert index.rows == {1: 5}
        assert index.fetch(1, 5, 1 << 20) == b""
        assert len(places(index.fetch(1, 0, 1 << 20))) == 5
        assert index.follow(journal.position)
        assert index.rows == {1: 6}
        assert places(index.fetch(1, 5, 1 << 20)) == [(1, 5, 1)]
        assert rows == {1: 5}


def test_the_seal_ends_it(tmp_path):
    journal, *_ = written(tmp_path, [(1, 1, 1)])
    with closing(journal), closing(ReplayIndex(tmp_path)) as index:
        index.follow()
        assert not index.sealed
        journal.append_frame(wire.SEAL, b"\x82\xa4rows\x80\xa6claims\x80")
        index.follow()
        assert index.sealed
        journal.append_frame(wire.SEAL, b"\x80")
        with pytest.raises(FrameError):
            index.follow()


def test_a_journal_that_is_not_there_has_no_rows(tmp_path):
    with closing(ReplayIndex(tmp_path / "none")) as index:
        assert index.follow() == b""
        assert index.fetch(1, 0, 1000) == b""


def test_few_rows_in_much_else_are_found_without_reading_it_all(tmp_path, monkeypatch):
    plan = [(1, 1, 1) if n % 50 == 0 else (2, 1, 1000) for n in range(1000)]
    journal, *_ = written(tmp_path, plan, 1 << 30)
    read = []
    with closing(journal), closing(ReplayIndex(tmp_path)) as index:
        while index.follow():
            pass
        real = JournalReader.read
        monkeypatch.setattr(JournalReader, "read", lambda *a: read.append(len(c := real(*a))) or c)
        found, row = [], 0
        while blob := index.fetch(1, row, 4 * 1024):
            found += places(blob)
            row = found[-1][1] + 1
        assert found == [(1, n, 1) for n in range(20)]
        assert sum(read) < journal.position / 2


def files_open(folder):
    """Descriptors of this process for files of a folder."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this very look
            found.append(os.readlink(link))
    return sum(Path(name).parent == folder for name in found)


@pytest.mark.parametrize("check", [True, False])
def test_equal_requests_and_readers_that_come_one_after_the_other_hold_no_more_files(tmp_path, check):
    journal, *_ = written(tmp_path, [(1 + n % 3, 1, 900) for n in range(40)])
    before = files_open(tmp_path)
    with closing(journal), closing(ReplayIndex(tmp_path)) as index:
        while index.follow():
            pass
        for _ in range(3 * READERS_KEPT):  # the same again and again
            assert index.fetch(2, 0, 4 * 900 * ROW, check)
        assert files_open(tmp_path) <= before + 2
        for row in range(13):  # and such as join one after the other, and read to the end
            while blob := index.fetch(1, row, 900 * ROW, check):
                row = sum(places(blob)[-1][1:])
        assert files_open(tmp_path) <= before + 1 + READERS_KEPT
    assert files_open(tmp_path) == 0


def test_a_request_that_fails_holds_no_file(tmp_path):
    journal, *_ = written(tmp_path, [(1, 2, 9)] * 8)
    with closing(journal), closing(ReplayIndex(tmp_path)) as index:
        while index.follow():
            pass
        before = files_open(tmp_path)
        (path,) = tmp_path.glob("*.tpj")
        data = bytearray(path.read_bytes())
        data[int(framing.index(data)[1, 0]) + wire.HEADER_SIZE] ^= 1
        path.write_bytes(data)
        for _ in range(20):
            with pytest.raises(JournalDamaged):
                index.fetch(1, 0, 1 << 20)
        assert files_open(tmp_path) == before
