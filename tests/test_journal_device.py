"""A device that refuses: each call of a journal fails once; the writer ends, recovery has what was written.

The calls are enumerated in this process; whole ticker plants run on a device that fails below them
(tests/native/device_shim.c).
"""

import errno
import os
import shutil

import numpy as np
import pytest

from tests.fix_plant import check_claims, rows_of, trades, until
from tickplant import wire
from tickplant._core import framing
from tickplant.errors import JournalError
from tickplant.journal import JournalWriter, begins, durable_position, segments

SEGMENT = 1 << 16
CALLS = ("mkdir", "open", "write", "pwrite", "fsync", "fdatasync", "unlink", "rename")


class Device:
    """Calls about files below a folder, of which the `failing`th of one name is refused."""

    def __init__(self, folder, name="", failing=-1, error=errno.EIO, short=False):
        self.folder, self.name, self.failing, self.error, self.short = (
            str(folder),
            name,
            failing,
            error,
            short,
        )
        self.made = dict.fromkeys(CALLS, 0)
        self.refused = False
        self.after = 0
        """Calls that change something, after the refusal."""

    def install(self, monkeypatch):
        for name in CALLS:
            monkeypatch.setattr(os, name, self._guarded(name, getattr(os, name)))

    def _guarded(self, name, real):
        def call(what, *arguments, **options):
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
            if not path.startswith(self.folder):
                return real(what, *arguments, **options)
            number, self.made[name] = self.made[name], self.made[name] + 1
            self.after += self.refused and name != "open"
            if (name, number) == (self.name, self.failing):
                if self.short:  # a part is written; the rest is what is refused
                    self.failing, self.short = self.failing + 1, False
                    (data,) = arguments
                    return real(what, data[: len(data) // 2])
                self.refused = True
                raise OSError(self.error, os.strerror(self.error))
            return real(what, *arguments, **options)

        return call


class Script:
    """Two frames at a time into several segments, with syncs, a restart, and a trim."""

    def __init__(self, folder):
        self.folder, self.journal = folder, JournalWriter(folder, {"what": "test"}, SEGMENT)
        self.promise = 0
        self.ends, self.frames = [], []

    def run(self):
        for _ in self.journal.recover():
            pass
        for number, size in enumerate((100, 40_000, 30_000, 700, 66_000, 200)):
            self.append(number, size)
            if number % 2:
                self.promise = self.journal.sync()
        self.journal.trim(self.journal.position)
        self.journal.close()
        self.promise = self.journal.position
        self.journal = JournalWriter(self.folder, {"what": "test"}, SEGMENT)
        for _ in self.journal.recover():
            pass
        self.append(6, 66_000)
        self.append(7, 50)
        self.journal.trim(self.journal.position)
        self.journal.close()
        self.promise = self.journal.position

    def append(self, number, size):
        first = framing.seal(
            bytes([number]) * size, wire.ROWS, prev_crc=self.journal.last_crc, row=2 * number
        )
        second = framing.seal(b"then", wire.ROWS, prev_crc=wire.crc(first), row=2 * number + 1)
        self.frames += [first, second]
        self.journal.append(first + second, wire.crc(second))


def frames_of(journal):
    """(frames, without those that begin a segment) of a recovery."""
    out = []
    for _, chunk in journal.recover():
        for at, size, kind, *_ in framing.index(chunk).tolist():
            if kind != wire.SEGMENT:
                out.append(chunk[at : at + size])
    return out


def written(folder):
    """The whole frames that are in the files, whatever recovery says of them."""
    out = []
    for path in segments(folder):
        data = path.read_bytes()
        for at, size, kind, *_ in framing.index(data).tolist():
            if kind != wire.SEGMENT and framing.check(data[at : at + size]) == 0:
                out.append(data[at : at + size])
    return out


def calls_of_the_script(folder, monkeypatch):
    """How often each call is made if none is refused."""
    device = Device(folder)
    with monkeypatch.context() as patches:
        device.install(patches)
        Script(folder / "j").run()
    return device.made


def check_ended(script, device):
    """The writer says why, again and again, and touches nothing."""
    said = script.journal._failed
    frame = framing.seal(b"x", wire.ROWS, prev_crc=script.journal.last_crc)
    for again in (lambda: script.journal.append(frame, wire.crc(frame)), script.journal.sync):
        with pytest.raises(JournalError) as refused:
            again()
        assert str(refused.value) == said
    script.journal.close()
    assert device.after == 0


def check_recovered(script):
    """All that was written is there, in order and not more; what was promised is among it."""
    there = written(script.folder) if script.folder.exists() else []
    promise = durable_position(script.folder)
    journal = JournalWriter(script.folder, {"what": "test"}, SEGMENT)
    found = frames_of(journal)
    assert found == there
    assert promise <= journal.position
    assert script.promise <= journal.position
    start = script.frames.index(found[0]) if found else 0
    assert found == script.frames[start : start + len(found)]
    assert start == 0 or begins(segments(script.folder)[0]) > 0
    script.journal = journal
    script.append(9, 70_000)
    journal.close()
    assert frames_of(JournalWriter(script.folder, {"what": "test"}, SEGMENT))[:-2] == found


FAULTS = [
    ("write", errno.ENOSPC, False),
    ("write", errno.EIO, False),
    ("write", errno.ENOSPC, True),
    ("fdatasync", errno.EIO, False),
    ("fsync", errno.EIO, False),
    ("open", errno.ENOSPC, False),
    ("pwrite", errno.ENOSPC, False),
    ("mkdir", errno.ENOSPC, False),
    ("unlink", errno.EIO, False),
]


@pytest.mark.parametrize(("name", "error", "short"), FAULTS)
def test_whichever_call_is_refused_the_writer_ends_and_what_was_written_is_recovered(
    shm_folder, monkeypatch, name, error, short
):
    count = calls_of_the_script(shm_folder / "whole", monkeypatch)[name]
    count -= name == "mkdir"  # the last one finds the folder in place, whatever the device says
    assert count
    for number in range(count):
        folder = shm_folder / str(number)
        device, script = Device(folder, name, number, error, short), Script(folder / "j")
        with monkeypatch.context() as patches:
            device.install(patches)
            with pytest.raises(JournalError, match=os.strerror(error)) as refused:
                script.run()
            assert str(script.folder) in str(refused.value)
            assert device.refused
            check_ended(script, device)
        check_recovered(script)


@pytest.mark.parametrize("name", ["fsync", "open", "fdatasync", "rename"])
def test_a_device_that_refuses_while_a_torn_tail_is_cut_off_costs_nothing(shm_folder, monkeypatch, name):
    whole = shm_folder / "whole"
    script = Script(whole / "j")
    for _ in script.journal.recover():
        pass
    for number, size in enumerate((100, 66_000, 66_000)):
        script.append(number, size)
    os.close(script.journal._fd)
    first = segments(whole / "j")[0]
    first.write_bytes(first.read_bytes()[:-1])
    number, folder = 0, shm_folder / "left"
    while True:
        shutil.copytree(whole, folder)
        device, journal = Device(folder, name, number), JournalWriter(folder / "j", {}, SEGMENT)
        with monkeypatch.context() as patches:
            device.install(patches)
            try:
                for _ in journal.recover():
                    pass
            except JournalError as e:
                assert os.strerror(errno.EIO) in str(e)
        assert frames_of(JournalWriter(folder / "j", {}, SEGMENT)) == script.frames[:3]
        shutil.rmtree(folder)
        if not device.refused:
            break
        number += 1
    assert number > 0


def test_what_a_failed_sync_lost_is_not_taken_for_written_because_the_kernel_still_shows_it(
    shm_folder, monkeypatch
):
    """After a failed sync its pages are clean, readable and not on disk; to sync them again would succeed."""
    script = Script(shm_folder / "j")
    for _ in script.journal.recover():
        pass
    script.append(0, 5000)
    on_disk = script.journal.sync()
    script.append(1, 5000)

    def fail(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def forget(fd, start, length, advice):
        assert (length, advice) == (0, os.POSIX_FADV_DONTNEED)
        assert start <= on_disk
        os.truncate(f"/proc/self/fd/{fd}", on_disk)

    with monkeypatch.context() as patches:
        patches.setattr(os, "fdatasync", fail)
        with pytest.raises(JournalError, match="can't be synced"):
            script.journal.sync()
    monkeypatch.setattr(os, "posix_fadvise", forget)
    assert frames_of(JournalWriter(script.folder, {}, SEGMENT)) == script.frames[:2]


@pytest.mark.parametrize("ending", ["close", "seal"])
def test_a_sync_that_failed_beside_keeps_the_plant_from_ending_as_if_all_were_well(
    plant, raw, monkeypatch, ending
):
    monkeypatch.setattr(plant._syncer, "want", lambda journal: None)
    raw.send(raw.trades(3))
    raw.settle()
    journal = plant.day.journal
    append_frame = journal.append_frame

    def fail(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def failing_beside(*arguments, **fields):
        if arguments:
            append_frame(*arguments, **fields)
        with monkeypatch.context() as patches:
            patches.setattr(os, "fdatasync", fail)
            with pytest.raises(JournalError):
                journal.sync()

    if ending == "seal":
        monkeypatch.setattr(journal, "append_frame", failing_beside)
    else:
        failing_beside()
    with pytest.raises(JournalError, match="can't be synced"):
        getattr(plant.day if ending == "seal" else plant, ending)()


@pytest.mark.parametrize(
    ("fault", "error", "durability"),
    [
        ("write", errno.ENOSPC, "none"),
        ("short", errno.ENOSPC, "group"),
        ("sync", errno.EIO, "group"),
        ("sync", errno.EIO, "always"),
        ("open", errno.ENOSPC, "group"),
        ("folder", errno.EIO, "always"),
    ],
)
def test_a_plant_on_a_device_that_refuses_ends_and_the_next_one_loses_and_repeats_nothing(
    site, shim, monkeypatch, fault, error, durability
):
    cfg = site.configured(tickerplant={"durability": durability, "segment_bytes": 1 << 20})
    mark, said = site.folder / "fails", site.folder / "said"
    with monkeypatch.context() as patches:
        for name, value in {
            "LD_PRELOAD": shim, "DEVICE_FAULT": fault, "DEVICE_ERROR": error, "DEVICE_MARK": mark,
            "DEVICE_LOG": said, "DEVICE_FOLDER": cfg.journal_dir,
        }.items():  # fmt: skip
            patches.setenv(name, str(value))
        process = site.run_ticker_plant()
    feed = site.feed(cfg)
    code, published = feed.instrument("XTST", "A"), 0

    def publish(count):
        nonlocal published
        feed.append("trade", trades(cfg.schema["trade"], published, count, code))
        published += count

    publish(1000)
    assert feed.drained(30)
    mark.touch()

    def ended():
        if process.poll() is None:
            publish(500)
            return False
        return True

    until(ended)
    assert process.returncode == 74
    assert f"the journal in {cfg.journal_dir}" in site.logs()
    assert os.strerror(error) in site.logs()
    lines = said.read_text().split("\n")[:-1] if said.exists() else []
    assert [line for line in lines if line != "sync"] == lines[-1:], "it went on after it was refused"
    assert lines[-1].startswith("refused")
    mark.unlink()

    plant = site.ticker_plant(cfg)
    publish(10)
    date = plant.day.trading_date
    table = next(t for t in plant.day.tables if t.table.name == "trade")
    until(lambda: table.committed.load() >= published, turning=plant.turn)
    plant.commit()
    found = rows_of(cfg, date, "trade")["trade_id"]
    assert found.tobytes() == np.arange(published).tobytes()
    check_claims(plant)
