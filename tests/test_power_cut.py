"""What a power cut may leave of a journal, enumerated: recovery keeps every promise, and needs nobody.

A journal is written on a folder that is watched: what each call changes and syncs is noted. Then the power
fails after each of these steps. What was synced is there. Of the rest there is any part: each write, each
change of a folder for itself; writes torn at sectors; files as long as they would have become, with zeros
instead of data; the mark `durable` torn at any byte.
"""

import itertools
import os
import random
import shutil
import stat

import pytest

from tickplant import wire
from tickplant._core import framing
from tickplant.journal import JournalWriter, durable_position

SECTOR = 512
SEGMENT = 1 << 16
EXHAUSTIVE = 8
"""So many changes not synced are tried in every combination; of more, samples."""
SAMPLES = 8


class Watched:
    """A folder of which every change is noted, in order, as (kind, inode, ...).

    link, drop, move: of names, in a folder; write, cut: of a file's bytes; sync: of a file or folder;
    and what the test says of the journal: append, promise, trim.
    """

    def __init__(self, root):
        self.root, self.log = root, []
        self.files, self.folders = {}, {root.stat().st_ino}
        self._names = {}
        self.beside = None
        """Called once while a file is being synced: what another thread does meanwhile."""
        self.look()
        for entry in [("sync", inode) for inode in (*self.folders, *self.files)]:
            self.log.append(entry)

    def look(self):
        """Note what has changed."""
        names = {}
        for folder, folders, files in os.walk(self.root):
            parent = os.stat(folder).st_ino
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                names[parent, name] = inode = os.stat(path).st_ino
                if name in folders:
                    self.folders.add(inode)
        self._look_at_names(names)
        for (_, name), inode in names.items():
            if inode not in self.folders:
                self._look_at_bytes(inode, self._path(names, inode, name).read_bytes())
        self._names = names

    def _look_at_names(self, names):
        was = {inode: place for place, inode in self._names.items()}
        for place, inode in names.items():
            if self._names.get(place) == inode:
                continue
            if inode in was and names.get(was[inode]) != inode:
                self.log.append(("move", place[0], was[inode][1], place[1], inode))
            else:
                self.log.append(("link", place[0], place[1], inode))
        for place, inode in self._names.items():
            if place not in names and inode not in names.values():
                self.log.append(("drop", place[0], place[1]))

    def _path(self, names, inode, name):
        (parent,) = (p for (p, n), i in names.items() if i == inode and n == name)
        if parent == self.root.stat().st_ino:
            return self.root / name
        (above,) = (n for (_, n), i in names.items() if i == parent)
        return self._path(names, parent, above) / name

    def _look_at_bytes(self, inode, now):
        before = self.files.get(inode, b"")
        if len(now) < len(before):
            self.log.append(("cut", inode, len(now)))
            before = before[: len(now)]
        if now.startswith(before):
            if len(now) > len(before):
                self.log.append(("write", inode, len(before), now[len(before) :]))
        else:
            self.log.append(("write", inode, 0, now))
        self.files[inode] = now

    def note(self, *entry):
        self.look()
        self.log.append(entry)

    def watch(self, monkeypatch):
        for name in ("open", "write", "pwrite", "unlink", "rename", "mkdir"):
            monkeypatch.setattr(os, name, self._noted(getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._synced(getattr(os, name)))

    def _noted(self, call):
        def noted(*arguments, **options):
            self.look()
            try:
                return call(*arguments, **options)
            finally:
                self.look()

        return noted

    def _synced(self, call):
        def synced(fd):
            self.look()
            done = call(fd)
            at = os.fstat(fd)
            self.log.append(("sync", at.st_ino))
            if self.beside and stat.S_ISREG(at.st_mode):
                beside, self.beside = self.beside, None
                beside()
            return done

        return synced


class Cut:
    """The power fails when the first `upto` steps of a log were made."""

    def __init__(self, watched, upto):
        self.root, log = watched.root.stat().st_ino, watched.log[:upto]
        self.folders = watched.folders
        self.steps = [e for e in log if e[0] in ("link", "drop", "move", "write", "cut")]
        synced, self.open = set(), []
        at = len(self.steps)
        for entry in reversed(log):
            if entry[0] == "sync":
                synced.add(entry[1])
            elif entry[0] in ("link", "drop", "move", "write", "cut"):
                at -= 1
                if entry[1] not in synced:
                    self.open.insert(0, at)
        self.frames = [e[1:] for e in log if e[0] == "append"]
        self.promise = max((e[1] for e in log if e[0] == "promise"), default=0)
        self.trimmed = max((e[1] for e in log if e[0] == "trim"), default=0)

    def states(self, rng):
        """What the disk may hold: {path: bytes}."""
        if len(self.open) <= EXHAUSTIVE:
            for kept in itertools.product((False, True), repeat=len(self.open)):
                chosen = dict(zip(self.open, kept, strict=True))
                yield self._state(chosen, None, rng.random() < 0.5)
        for _ in range(SAMPLES):
            chance = rng.choice((0.3, 0.7, 0.9, 1.0))
            chosen = {at: rng.random() < chance for at in self.open}
            yield self._state(chosen, rng, rng.random() < 0.5)

    def _state(self, chosen, rng, long):
        """The steps that are synced or chosen; with `rng` writes may be torn, `long`: no file is shorter."""
        folders, files, lengths = {f: {} for f in self.folders}, {}, {}
        marks = {e[3] for e in self.steps if e[0] == "link" and e[2] == "durable"}
        for at, (kind, inode, *what) in enumerate(self.steps):
            kept = chosen.get(at, True)
            if kind == "write":
                start, data = what
                lengths[inode] = max(lengths.get(inode, 0), start + len(data))
                content = files.setdefault(inode, bytearray())
                if kept and at in chosen and rng and rng.random() < 0.5:
                    self._torn(content, start, data, rng, 1 if inode in marks else SECTOR)
                elif kept:
                    put(content, start, data)
            elif kind == "cut" and kept:
                del files[inode][what[0] :]
                lengths[inode] = what[0]
            elif kind == "link" and kept:
                folders[inode][what[0]] = what[1]
            elif kind == "drop" and kept:
                folders[inode].pop(what[0], None)
            elif kind == "move" and kept:
                folders[inode].pop(what[0], None)
                folders[inode][what[1]] = what[2]
        for inode, length in lengths.items() if long else ():
            files[inode].extend(bytes(length - len(files[inode])))
        return dict(self._tree(self.root, "", folders, files))

    def _torn(self, content, start, data, rng, unit):
        first, last = start // unit, (start + len(data) - 1) // unit
        some = rng.choice(("first", "last", "any"))
        border = rng.randint(first, last)
        for at in range(first, last + 1):
            if (at < border, at > border, rng.random() < 0.5)[("first", "last", "any").index(some)]:
                begin, end = max(start, at * unit), min(start + len(data), at * unit + unit)
                put(content, begin, data[begin - start : end - start])

    def _tree(self, folder, above, folders, files):
        for name, inode in folders[folder].items():
            if inode in folders:
                yield above + name + "/", None
                yield from self._tree(inode, above + name + "/", folders, files)
            else:
                yield above + name, bytes(files.get(inode, b""))


def put(content, start, data):
    content.extend(bytes(max(0, start - len(content))))
    content[start : start + len(data)] = data


def lay(root, state):
    """Make a state be on disk."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path, data in state.items():
        if data is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)


def opened(root):
    """A writer that has recovered, and the frames that were there, without those that begin a segment."""
    journal = JournalWriter(root / "data" / "j", {"what": "test"}, SEGMENT)
    frames = []
    for _, chunk in journal.recover():
        for at, size, kind, *_ in framing.index(chunk).tolist():
            if kind != wire.SEGMENT:
                frames.append(chunk[at : at + size])
    return journal, frames


def check_kept(cut, frames, told):
    """What was recovered follows on, has all that was promised, and nothing that was not appended."""
    appended = [frame for _, _, frame in cut.frames]
    if frames:
        assert frames[0] in appended, told
        first = appended.index(frames[0])
        assert frames == appended[first : first + len(frames)], told
    wanted = [(end, frame) for start, end, frame in cut.frames if start >= cut.trimmed]
    kept = [f for _, f in wanted if f in frames]
    assert kept == [f for _, f in wanted[: len(kept)]], told  # no hole at the front
    assert len(kept) >= sum(end <= cut.promise for end, _ in wanted), told


def check_recovered(root, cut, state, told, go_on):
    """Recovery of a state goes through, keeps what it has to, and the journal can be gone on with."""
    lay(root, state)
    journal, frames = opened(root)
    check_kept(cut, frames, told)
    assert durable_position(journal.folder) == journal.durable == journal.position, told
    if not go_on:
        journal.close()
        return
    more = framing.seal(b"more", wire.ROWS, prev_crc=journal.last_crc)
    journal.append(more, wire.crc(more))
    journal.close()
    again, found = opened(root)
    again.close()
    assert found == [*frames, more], told
    assert again.torn is None, told


def check_every_cut(root, watched, rng, first=0):
    """Every state that the power, failing after any step, may leave; how many there were."""
    seen = set()
    for upto in range(first, len(watched.log) + 1):
        cut = Cut(watched, upto)
        for number, state in enumerate(cut.states(rng)):
            key = (cut.promise, cut.trimmed, hash(tuple(sorted(state.items(), key=lambda i: i[0]))))
            if key not in seen:
                seen.add(key)
                told = f"cut after step {upto}, state {number}"
                check_recovered(root, cut, state, told, len(seen) % 4 == 0)
    return len(seen)


class Script:
    """Appends, syncs and trims a journal of several segments, and says so."""

    def __init__(self, watched, seed):
        self.watched, self.rng = watched, random.Random(seed)
        self.open()

    def open(self):
        self.journal, self.found = opened(self.watched.root)
        self.watched.note("promise", self.journal.position)

    def kill(self):
        """As kill -9 ends it: what was written is there, and nothing was synced."""
        os.close(self.journal._fd)

    def append(self, size):
        payload = self.rng.randbytes(size)
        frame = framing.seal(payload, wire.ROWS, prev_crc=self.journal.last_crc)
        before = len(self.watched.log)
        self.journal.append(frame, wire.crc(frame))
        end = self.journal.position
        # Said before it is written: it may be there from then on.
        self.watched.log.insert(before, ("append", end - len(frame), end, frame))

    def sync(self):
        position = self.journal.sync()
        self.watched.note("promise", position)

    def trim(self, below):
        self.watched.note("trim", below)
        assert self.journal.trim(below)
        self.watched.look()


@pytest.fixture
def watched(shm_folder, monkeypatch):
    """watched(steps): the log of a script on an empty folder; watching ends with it."""

    def run(steps, seed=1):
        (shm_folder / "disk").mkdir()
        seen = Watched(shm_folder / "disk")
        with monkeypatch.context() as patches:
            seen.watch(patches)
            steps(Script(seen, seed))
        return seen

    return run


def never(script):
    for size in (100, 40_000, 30_000, 700, 40_000, 30_000, 5_000):
        script.append(size)


def grouped(script):
    """A sync for several appends, and appends, even a new segment, while it goes on."""
    for sizes in ((100, 40_000), (30_000, 40_000, 3_000), (100,), (70_000, 2_000)):
        for size in sizes:
            script.append(size)
        script.watched.beside = lambda: script.append(33_000)
        script.sync()
    script.journal.close()


def always(script):
    for size in (100, 66_000, 700, 66_000, 30_000):
        script.append(size)
        script.sync()
    script.journal.close()


def killed(script):
    """The next writer answers for what this one wrote and did not sync."""
    for size in (100, 66_000, 700, 66_000, 200):
        script.append(size)
    script.kill()
    script.open()
    for size in (66_000, 300):
        script.append(size)
    script.sync()
    script.kill()


def trimming(script):
    """Segments deleted from the front, several at once."""
    for size in (66_000, 66_000, 100, 66_000, 100):
        script.append(size)
    script.sync()
    script.trim(script.journal.position)
    script.append(66_000)
    script.append(100)
    script.sync()
    script.trim(script.journal.position)
    script.append(100)


@pytest.mark.parametrize("steps", [never, grouped, always, killed, trimming], ids=lambda s: s.__name__)
def test_whatever_a_power_cut_leaves_every_promise_is_kept_without_repair(shm_folder, watched, steps):
    seen = watched(steps)
    assert sum(e[0] == "link" and e[2].endswith(".tpj") for e in seen.log) >= 3
    count = check_every_cut(shm_folder / "left", seen, random.Random(5))
    assert count > 100


@pytest.mark.parametrize("lost", [False, True])
def test_a_power_cut_while_recovering_from_another_is_recovered_from(shm_folder, watched, lost, monkeypatch):
    """What is on disk is found again, wherever recovery is cut short; `lost`: with a segment missing."""
    rng = random.Random(6)
    seen = watched(never)
    torn = 0
    for _ in range(6):
        cut = Cut(seen, rng.randrange(len(seen.log) * 3 // 4, len(seen.log)))
        *_, state = cut.states(rng)
        if lost:
            state.pop(sorted(path for path in state if path.endswith(".tpj"))[1])
        lay(shm_folder / "left", state)
        found = opened(shm_folder / "left")[1]
        lay(shm_folder / "second", state)
        second = Watched(shm_folder / "second")
        for start, end, frame in cut.frames[: len(found)]:
            second.log += [("append", start, end, frame), ("promise", end)]
        first = len(second.log)
        with monkeypatch.context() as patches:
            second.watch(patches)
            script = Script(second, 7)
            torn += script.journal.torn is not None
            assert script.found == found
            script.append(66_000)
            script.append(70_000)
            script.sync()
            script.journal.close()
        check_every_cut(shm_folder / "left", second, rng, first)
    assert torn >= 3
