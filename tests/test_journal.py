import contextlib
import os
import resource
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant import wire
from tickplant._core import framing
from tickplant.errors import JournalDamaged, JournalError
from tickplant.journal import JournalReader, JournalWriter, begins, durable_position, segments

SEGMENT = 1 << 16
ABOUT = {"what": "test"}


def writer(folder, segment_bytes=SEGMENT):
    """A writer that is ready, and the frames that are there, without those that begin a segment."""
    made = JournalWriter(folder, ABOUT, segment_bytes)
    frames = [f for position, chunk in made.recover() for f in split(chunk)]
    return made, frames


def split(chunk):
    whole = [chunk[at : at + size] for at, size in framing.index(chunk)[:, :2].tolist()]
    assert b"".join(whole) == chunk
    return [f for f in whole if wire.header(f).kind != wire.SEGMENT]


def append(journal, payload, **fields):
    """The frame appended."""
    frame = framing.seal(payload, wire.ROWS, prev_crc=journal.last_crc, **fields)
    journal.append(frame, wire.header(frame).crc)
    return frame


def read_all(reader, bound=None, chunk=1 << 22):
    out = []
    while found := reader.read(bound, chunk):
        out += split(found)
    return out


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def die(journal):
    """What a killed writer leaves: nothing synced that was not."""
    for fd in (journal._fd, journal._note):
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def no_descriptors():
    """This process may open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def filled(folder, payloads, synced=None):
    """A journal of these payloads, of which the first `synced` are durable; the frames."""
    journal, _ = writer(folder)
    frames = []
    for number, payload in enumerate(payloads):
        if number == synced:
            journal.sync()
        frames.append(append(journal, payload, row=number))
    if synced == len(payloads):
        journal.sync()
    die(journal)
    return frames


def test_without_descriptors_a_writer_goes_on_in_its_segment_and_begins_another_later(shm_folder):
    journal, _ = writer(shm_folder)
    frames = [append(journal, bytes(1000))]
    journal.sync()
    with no_descriptors():
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/dev/null", os.O_RDONLY)
        frames += [append(journal, bytes(1000), row=n) for n in range(300)]
        journal.trim(journal.sync())
    assert [begins(p) for p in segments(shm_folder)] == [0]
    assert durable_position(shm_folder) == journal.position
    frames.append(append(journal, bytes(1000)))
    assert len(segments(shm_folder)) == 2
    journal.close()
    assert read_all(JournalReader(shm_folder)) == frames


@settings(max_examples=15)
@given(st.lists(st.integers(0, 40_000), max_size=25), st.integers(80, 100_000))
def test_what_was_appended_is_read_and_recovered_over_segment_borders(shm_folder, sizes, chunk):
    folder = shm_folder / "j"
    shutil.rmtree(folder, ignore_errors=True)
    frames = filled(folder, [os.urandom(s) for s in sizes])
    assert read_all(JournalReader(folder), chunk=chunk) == frames
    journal, recovered = writer(folder)
    assert recovered == frames
    assert journal.torn is None
    files = segments(folder)
    assert journal.position == (begins(files[-1]) + files[-1].stat().st_size if files else 0)
    more = append(journal, b"more")
    journal.close()
    assert read_all(JournalReader(folder)) == [*frames, more]


def test_segments_are_named_by_position_and_say_whose_they_are(shm_folder):
    filled(shm_folder, [bytes(40_000)] * 6)
    files = segments(shm_folder)
    assert len(files) == 3
    position = 0
    for path in files:
        assert begins(path) == position
        frame = path.read_bytes()
        about = wire.small_map(frame[80 : 80 + wire.header(frame).size])
        assert about == {"format": 1, "position": position, **ABOUT}
        position += len(frame)


def test_reading_begins_at_any_frame_and_checks_the_chain_from_there(shm_folder):
    frames = filled(shm_folder, [bytes(30_000)] * 5 + [b"x"])
    rows = []
    for path in segments(shm_folder):
        for at, _, kind, *_ in framing.index(path.read_bytes()).tolist():
            if kind == wire.ROWS:
                rows.append(begins(path) + at)
    for number, at in enumerate(rows):
        assert read_all(JournalReader(shm_folder, at)) == frames[number:]
        before = wire.header(frames[number]).prev_crc
        assert read_all(JournalReader(shm_folder, at, before)) == frames[number:]
        with pytest.raises(JournalDamaged, match="broken chain"):
            JournalReader(shm_folder, at, before ^ 1).read()
        with pytest.raises(JournalDamaged, match="not a frame"):
            JournalReader(shm_folder, at + 1).read()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(-2, 2)), max_size=30))
def test_a_reader_follows_the_writer_and_stops_at_its_bound(shm_folder, turns):
    folder = shm_folder / "j"
    shutil.rmtree(folder, ignore_errors=True)
    journal, _ = writer(folder)
    reader, bounded = JournalReader(folder), JournalReader(folder)
    frames, read, ends, upto, reached = [], [], [], [], 0
    for size, back in turns:
        frames.append(append(journal, bytes(size)))
        ends.append(journal.position)
        read += read_all(reader)
        assert read == frames
        bound = ends[max(0, len(ends) - 3)] + back
        reached = max(reached, bound)
        upto += read_all(bounded, bound)
        assert upto == frames[: sum(e <= reached for e in ends)]
        assert (bounded.position or 0) <= reached
    journal.close()
    reader.close()
    bounded.close()


def test_a_frame_longer_than_a_chunk_is_read_whole(shm_folder):
    frames = filled(shm_folder, [os.urandom(5 << 20), b"x", os.urandom(1000)])
    assert read_all(JournalReader(shm_folder)) == frames
    assert read_all(JournalReader(shm_folder), chunk=100) == frames


def test_truncated_at_every_byte_the_longest_valid_prefix_is_recovered(shm_folder):
    original, folder = shm_folder / "original", shm_folder / "cut"
    frames = filled(original, [b"a" * 9, b"b" * 40, b"c" * 31, b"d" * 5], synced=1)
    (path,) = segments(original)
    whole = path.read_bytes()
    ends = [len(whole) - sum(map(len, frames[i + 1 :])) for i in range(4)]
    for cut in range(ends[0], len(whole)):
        shutil.copytree(original, folder)
        os.truncate(folder / path.name, cut)
        journal, recovered = writer(folder)
        kept = sum(e <= cut for e in ends)
        assert recovered == frames[:kept]
        assert journal.position == ends[kept - 1]
        torn = {n: c for n, c in contents(folder).items() if n.endswith(".torn")}
        assert (journal.torn is None) == (torn == {}) == (cut in ends)
        if torn:
            assert torn == {f"{path.stem}.{ends[kept - 1]}.torn": whole[ends[kept - 1] : cut]}
        die(journal)
        before = contents(folder)
        again, recovered = writer(folder)  # repeated, it changes nothing
        assert (recovered, again.torn) == (frames[:kept], None)
        assert contents(folder) == before
        more = append(again, b"more")
        again.close()
        assert read_all(JournalReader(folder)) == [*frames[:kept], more]
        shutil.rmtree(folder)


def test_truncated_at_every_byte_of_what_was_durable_it_is_refused_untouched(shm_folder):
    frames = filled(shm_folder, [b"a" * 9, b"b" * 40, b"c" * 31], synced=3)
    (path,) = segments(shm_folder)
    whole = path.read_bytes()
    for cut in range(len(whole) - len(frames[1]) - len(frames[2]), len(whole)):
        path.write_bytes(whole[:cut])
        before = contents(shm_folder)
        with pytest.raises(
            JournalDamaged, match=f"whole only up to .*tickplant journal verify {shm_folder}$"
        ):
            writer(shm_folder)
        assert contents(shm_folder) == before
    path.write_bytes(whole)
    assert writer(shm_folder)[1] == frames


def test_a_segment_whose_first_frame_never_got_there_is_begun_anew(shm_folder):
    for cut in (0, 1, 79, 100):
        folder = shm_folder / str(cut)
        frames = filled(folder, [bytes(40_000)] * 4, synced=2)
        last = segments(folder)[-1]
        os.truncate(last, cut)
        kept = frames[:2] if begins(last) < sum(map(len, frames[:3])) else frames[:3]
        journal, recovered = writer(folder)
        assert recovered == kept
        more = append(journal, b"more")
        journal.close()
        assert writer(folder)[1] == [*kept, more]


@pytest.mark.parametrize("durable", [False, True])
def test_every_flipped_bit_is_cut_off_or_refused(shm_folder, durable):
    """Beyond what was promised durable it is a torn tail; below, nothing is touched."""
    original, folder = shm_folder / "original", shm_folder / "flipped"
    frames = filled(original, [b"a" * 9, b"b" * 16, b"c" * 31], synced=3 if durable else 1)
    (path,) = segments(original)
    whole = path.read_bytes()
    at = len(whole) - len(frames[1]) - len(frames[2])
    for bit in range(8 * at, 8 * (at + len(frames[1]))):
        shutil.copytree(original, folder)
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / path.name).write_bytes(damaged)
        before = contents(folder)
        if durable:
            with pytest.raises(JournalDamaged) as refused:
                writer(folder)
            assert str(folder / path.name) in str(refused.value)
            assert f"byte {at:,}" in str(refused.value)
            assert str(refused.value).endswith(f"run: tickplant journal verify {folder}")
            assert contents(folder) == before
        else:
            journal, recovered = writer(folder)
            assert recovered == frames[:1], bit
            assert contents(folder)[f"{path.stem}.{at}.torn"] == damaged[at:]
            die(journal)
        shutil.rmtree(folder)


@pytest.mark.parametrize("change", ["missing", "repeated", "exchanged", "cut"])
@pytest.mark.parametrize("durable", [False, True])
def test_frames_missing_repeated_or_exchanged_break_the_chain(shm_folder, change, durable):
    frames = filled(shm_folder, [b"a", b"b", b"c", b"d"], synced=4 if durable else 1)
    (path,) = segments(shm_folder)
    lead = path.read_bytes()[: -sum(map(len, frames))]
    order = {
        "missing": (0, 2, 3),
        "repeated": (0, 1, 1, 2, 3),
        "exchanged": (0, 2, 1, 3),
        "cut": (0,),
    }
    path.write_bytes(lead + b"".join(frames[i] for i in order[change]))
    kept = 2 if change == "repeated" else 1
    if durable:
        with pytest.raises(JournalDamaged, match="broken chain|whole only up to"):
            writer(shm_folder)
    else:
        assert writer(shm_folder)[1] == frames[:kept]


@pytest.mark.parametrize("damage", ["cut", "flip", "short"])
@pytest.mark.parametrize("durable", [False, True])
def test_damage_before_the_last_segment_is_a_torn_tail_unless_it_was_durable(shm_folder, damage, durable):
    """A power cut with several segments unsynced may leave any of them in part, and later ones whole."""
    frames = filled(shm_folder, [bytes(40_000)] * 6, synced=6 if durable else None)
    first, second, third = segments(shm_folder)
    whole, later = first.read_bytes(), [second.read_bytes(), third.read_bytes()]
    changed = {
        "cut": whole[:-1],
        "flip": whole[:50_000] + b"\1" + whole[50_001:],
        "short": whole[:40_000],
    }[damage]
    first.write_bytes(changed)
    before = contents(shm_folder)
    if durable:
        with pytest.raises(JournalDamaged, match="tickplant journal verify"):
            writer(shm_folder)
        assert contents(shm_folder) == before
        return
    kept = frames[: {"cut": 1, "flip": 1, "short": 0}[damage]]
    journal, recovered = writer(shm_folder)
    assert recovered == kept
    assert journal.torn is not None
    assert "2 segments after a torn tail" in journal.torn
    aside = [(shm_folder / f"{p.stem}.0.torn").read_bytes() for p in (second, third)]
    assert aside == later
    more = [append(journal, bytes(40_000)) for _ in range(4)]  # segments of the same names again
    journal.close()
    assert writer(shm_folder)[1] == kept + more


def test_a_lost_last_segment_is_refused_if_it_was_durable(shm_folder):
    filled(shm_folder, [bytes(40_000)] * 4, synced=4)
    segments(shm_folder)[-1].unlink()
    with pytest.raises(JournalDamaged, match="whole only up to"):
        writer(shm_folder)


def test_a_journal_without_any_segment_is_refused_if_something_was_durable(shm_folder):
    filled(shm_folder, [b"x"], synced=1)
    segments(shm_folder)[0].unlink()
    with pytest.raises(JournalDamaged, match="whole only up to byte 0, position 0 of"):
        writer(shm_folder)


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_set_aside_and_the_journal_begins_anew(shm_folder, data, lead):
    folder = shm_folder / "j"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = framing.seal(data, wire.SEGMENT)[: len(data)] if lead else data
    (folder / f"{0:020d}.tpj").write_bytes(data)
    journal, frames = writer(folder)
    assert frames == []
    if data:
        assert contents(folder)[f"{0:020d}.0.torn"] == data
    more = append(journal, b"more")
    journal.close()
    assert writer(folder)[1] == [more]


def test_the_durable_position_lags_and_never_leads(shm_folder, monkeypatch):
    """A sync covers every segment that the writer before may have left unsynced."""
    filled(shm_folder, [bytes(40_000)] * 6, synced=1)
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    assert durable_position(shm_folder) < begins(segments(shm_folder)[1])
    journal, _ = writer(shm_folder)
    assert synced == [str(p) for p in segments(shm_folder)]
    assert durable_position(shm_folder) == journal.durable == journal.position
    append(journal, b"x")
    assert durable_position(shm_folder) < journal.position
    assert journal.sync() == durable_position(shm_folder) == journal.position


@pytest.mark.parametrize("content", [b"", b"short", bytes(12), b"\xff" * 12])
def test_a_durable_file_that_is_damaged_promises_nothing(shm_folder, content):
    filled(shm_folder, [b"x"], synced=1)
    (shm_folder / "durable").write_bytes(content)
    assert durable_position(shm_folder) == 0


def test_a_full_disk_is_an_error_after_which_nothing_is_written(shm_folder):
    journal, _ = writer(shm_folder)
    first = append(journal, bytes(1000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.position + 500, hard))
    try:
        with pytest.raises(JournalError, match="can't write"):
            append(journal, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    before = contents(shm_folder)
    for again in (lambda: append(journal, b"x"), journal.sync):
        with pytest.raises(JournalError, match="can't write"):
            again()
    journal.close()
    assert contents(shm_folder) == before
    journal, frames = writer(shm_folder)
    assert frames == [first]
    assert journal.torn is not None
    assert "500 bytes" in journal.torn


def test_a_failed_sync_is_not_tried_again(shm_folder, monkeypatch):
    def fail(fd):
        raise OSError(5, "Input/output error")

    journal, _ = writer(shm_folder)
    append(journal, b"x")
    durable = durable_position(shm_folder)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(JournalError, match="can't be synced: Input/output error"):
        journal.sync()
    monkeypatch.undo()  # the kernel would now say that all is well
    with pytest.raises(JournalError, match="can't be synced"):
        journal.sync()
    with pytest.raises(JournalError, match="can't be synced"):
        append(journal, b"y")
    journal.close()
    assert durable_position(shm_folder) == durable


def test_a_segment_that_can_not_be_created_is_an_error(shm_folder):
    journal, _ = writer(shm_folder)
    (shm_folder / f"{0:020d}.tpj").write_bytes(b"in the way")
    with pytest.raises(JournalError, match="can't create journal segment"):
        append(journal, b"x")


def test_a_payload_that_no_reader_would_take_is_refused(shm_folder):
    journal, _ = writer(shm_folder)
    with pytest.raises(JournalError, match="too long"):
        journal.append_frame(wire.STATE, bytes(wire.MESSAGE_MAX + 1))
    journal.append_frame(wire.STATE, bytes(wire.MESSAGE_MAX))
    journal.close()
    (frame,) = writer(shm_folder)[1]
    assert wire.header(frame).size == wire.MESSAGE_MAX


def test_what_was_trimmed_is_not_held_open_if_nobody_ever_syncs(shm_folder):
    """An outbox is not synced while it is in use; its deleted segments must give the disk back."""
    journal, _ = writer(shm_folder)
    for _ in range(20):
        append(journal, bytes(SEGMENT))
        append(journal, bytes(SEGMENT))
        journal.trim(journal.position)
    held = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
    ours = [path for path in held if path.startswith(str(shm_folder))]
    assert ours == [str(segments(shm_folder)[-1])]
    journal.close()


def test_trim_deletes_whole_segments_and_never_the_last(shm_folder):
    frames = filled(shm_folder, [bytes(40_000)] * 6)
    journal, _ = writer(shm_folder)
    files = segments(shm_folder)
    assert journal.trim(begins(files[1]) - 1) == 0
    assert journal.trim(begins(files[1])) == 1
    assert segments(shm_folder) == files[1:]
    assert read_all(JournalReader(shm_folder)) == frames[2:]
    with pytest.raises(JournalError, match="it begins at"):
        JournalReader(shm_folder, 0).read()
    assert journal.trim(1 << 60) == len(files) - 2
    more = append(journal, b"more")
    journal.close()
    assert writer(shm_folder)[1] == [*frames[4:], more]


def test_a_journal_that_is_not_there_reads_empty_until_it_comes(shm_folder):
    reader = JournalReader(shm_folder / "later")
    assert reader.read() == b""
    frames = filled(shm_folder / "later", [b"x"])
    assert read_all(reader) == frames
    assert reader.position > 0


def test_a_reader_that_is_left_in_the_middle_holds_no_file(shm_folder):
    journal, _ = writer(shm_folder)
    append(journal, b"x")
    journal.close()
    reader = JournalReader(shm_folder)
    reader.read()
    descriptor = reader._fd
    os.fstat(descriptor)
    del reader
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
