"""Hunts for lost wakeups, torn reads and rows seen too early; the product broken on purpose, to be found out.

`native/hunt_*.c` runs the core between processes that are killed, `native/model_core.c` walks it under a
model of C11's memory, which shows what this machine never does; `native/fuzz_core.c` flips and cuts frames.
CORE_VARIANTS and PYTHON_VARIANTS are the table of what is broken and which of them notices.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest
import test_journal
import test_sequencer
import zmq
from broken import CORE, changed, headers, module
from fix_core import ROOT
from fix_plant import until
from test_sanitizers import FLAGS

from tickplant import publisher, requests, sequencer, sockets, wire
from tickplant.feed import handler

UPDATES = 10_000_000
FOUND_BY = UPDATES * 10
"""What is broken is found long before so many updates, and the hunt ends."""
KINDS = {
    "wakeup": ("lost wakeup",),
    "latch": ("torn", "stale", "hung"),
    "table": ("not written", "chain", "data race"),
    "flips": ("a flipped bit is seen", "a torn tail is left out", "a missing frame is seen"),
}
"""What a defect of each is called."""


@dataclass(frozen=True)
class Variant:
    """Changes (old, new) of a header of the core, and which harness of which kind finds them."""

    header: str
    kind: str
    found_by: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]


FENCE_C = "    atomic_thread_fence(memory_order_release); /* SYNC POINT C: after the previous bump */\n"
FENCE_D = "        atomic_thread_fence(memory_order_acquire); /* SYNC POINT D */\n"
CHANGE = "    atomic_store_explicit(word, next, memory_order_release); /* SYNC POINT A */\n"
WAKE = "    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);\n"
READ_WORD = "    uint32_t seen = atomic_load_explicit(word, memory_order_acquire); /* SYNC POINT A */\n"
LOOK = "    if ((now = atomic_load_explicit(value, memory_order_acquire)) > above) return now;\n"
PUT = "    for (uint32_t i = 0; i < cell_size / 8; i++) atomic_store_explicit(cell + i"
BUMP = "    atomic_store_explicit(version, v + 1, memory_order_release);"
SCATTER = "    tp_scatter(t, from, count, t->rows);"
COMMIT = "atomic_store_explicit(t->committed, t->rows, memory_order_release);"
PREV = "        prev[i] = atomic_load_explicit(head, memory_order_relaxed);\n"
HEAD = "        atomic_store_explicit(head, (uint32_t)(first + i + 1), memory_order_release);"
RELAXED = ("memory_order_release", "memory_order_relaxed")

CORE_VARIANTS = {
    "A: the changed word may be seen before the rows":
        Variant("futex", "wakeup", ("model",), ((CHANGE, CHANGE.replace(*RELAXED)),)),
    "A: the reader may look before it reads the word":
        Variant("futex", "wakeup", ("model",), (
            (READ_WORD, READ_WORD.replace("memory_order_acquire", "memory_order_relaxed")),
        )),
    "not looked again":
        Variant("futex", "wakeup", ("model", "hunt"), ((READ_WORD + LOOK, READ_WORD),)),
    "word read after looking again":
        Variant("futex", "wakeup", ("model", "hunt"), ((READ_WORD + LOOK, LOOK + READ_WORD),)),
    "word not changed":
        Variant("futex", "wakeup", ("model", "hunt"), ((CHANGE, "    (void)next;\n"),)),
    "word changed after the wake":
        Variant("futex", "wakeup", ("model", "hunt"), ((CHANGE + WAKE, WAKE + CHANGE),)),
    "nobody is woken":
        Variant("futex", "wakeup", ("model", "hunt"), ((WAKE, ""),)),
    "one sleeper of two is woken":
        Variant("futex", "wakeup", ("hunt",), (("FUTEX_WAKE, INT32_MAX", "FUTEX_WAKE, 1"),)),
    "sleepers of the same process only are woken":
        Variant("futex", "wakeup", ("hunt",), (("FUTEX_WAKE, ", "FUTEX_WAKE_PRIVATE, "),)),
    "version before cell":
        Variant("latch", "latch", ("model", "hunt"), ((PUT, BUMP + "\n" + PUT),)),
    "B: the version may be seen before the cell":
        Variant("latch", "latch", ("model",), ((BUMP, BUMP.replace(*RELAXED)),)),
    "C: the next cell may be seen before the version":
        Variant("latch", "latch", ("model",), ((FENCE_C, ""),)),
    "D: the version may be checked before the cell is read":
        Variant("latch", "latch", ("model",), ((FENCE_D, ""),)),
    "the version is not checked":
        Variant("latch", "latch", ("model", "hunt"), (
            ("if (atomic_load_explicit(version, memory_order_relaxed) == v) return v;", "return v;"),
        )),
    "readers wait for a writer that died half-way (a seqlock)":
        Variant("latch", "latch", ("hunt",), (
            (PUT, "    v &= INT64_MAX;\n    atomic_store(version, v | ~(uint64_t)INT64_MAX);\n" + PUT),
            ("if (v == 0) return 0;", "if (v > INT64_MAX) continue;\n        if (v == 0) return 0;"),
        )),
    "commit before data":
        Variant("table", "table", ("model", "hunt"), (
            (SCATTER, "    t->rows += count;\n    " + COMMIT + "\n    t->rows -= count;\n" + SCATTER),
        )),
    "E: the commit may be seen before the data":
        Variant("table", "table", ("model",), ((COMMIT, COMMIT.replace(*RELAXED)),)),
    "head before link":
        Variant("table", "table", ("model", "hunt"), (
            (PREV + HEAD, "        uint32_t was = atomic_load(head);\n" + HEAD + "\n        prev[i] = was;"),
        )),
    "F: the head may be seen before the link":
        Variant("table", "table", ("model",), ((HEAD, HEAD.replace(*RELAXED)),)),
    "heads are not taken back after a crash":
        Variant("table", "table", ("hunt",), (("while (row > t->rows) {", "while (0) {"),)),
    "the checksum leaves out prev_crc":
        Variant("frame", "flips", ("fuzz",), (
            ("p + TP_CRC_FROM, (size_t)TP_HEADER - TP_CRC_FROM +", "p + 16, (size_t)TP_HEADER - 16 +"),
        )),
    "the checksum leaves out the table":
        Variant("frame", "flips", ("fuzz",), (("tp_crc32c(0, p, TP_CRC_AT)", "tp_crc32c(0, p + 4, 4)"),)),
    "the checksum leaves out the last byte":
        Variant("frame", "flips", ("fuzz",), (
            ("(size_t)TP_HEADER - TP_CRC_FROM + size", "(size_t)TP_HEADER - TP_CRC_FROM + size - 1"),
        )),
    "a torn tail is accepted":
        Variant("frame", "flips", ("fuzz",), (
            ("if (out->size > n - TP_HEADER) return TP_SHORT;",
             "if (out->size > n - TP_HEADER) return TP_GOOD;"),
        )),
    "the chain is not followed":
        Variant("frame", "flips", ("fuzz",), (("if (h.prev_crc != *crc) {", "if (0) {"),)),
}  # fmt: skip


def cc(*arguments):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    made = subprocess.run(["cc", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


def compiled(folder, source, *options, core=CORE):
    made = folder / source.removesuffix(".c")
    cc(*FLAGS, *options, f"-I{core}", ROOT / "tests" / "native" / source, "-o", made)
    return made


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def memory(tmp_path_factory):
    """The memory model, to be linked with what runs in it."""
    return compiled(tmp_path_factory.mktemp("model"), "model.c", "-O2", "-c")


@pytest.fixture
def hunt(tmp_path):
    """hunt(kind, core, updates): what a hunt over the headers in a folder came to."""

    def hunted(kind, core=CORE, updates=UPDATES):
        return run(compiled(tmp_path, f"hunt_{kind}.c", "-O2", core=core), updates)

    return hunted


@pytest.fixture
def walk(tmp_path, memory):
    """walk(kind, core): what a walk through the memory model came to."""

    def walked(kind, core=CORE):
        options = ("-O1", "-fsanitize=thread", "-c", "-Wno-tsan")
        cc(compiled(tmp_path, "model_core.c", *options, core=core), memory, "-o", tmp_path / "walk")
        return run(tmp_path / "walk", kind)

    return walked


@pytest.fixture
def harness(hunt, walk, tmp_path):
    """By name."""
    return {
        "hunt": lambda kind, core: hunt(kind, core, FOUND_BY),
        "model": walk,
        "fuzz": lambda kind, core: run(compiled(tmp_path, "fuzz_core.c", core=core), kind, 1, 4000),
    }


@pytest.mark.parametrize("kind", ["wakeup", "latch", "table"])
def test_nothing_is_lost_torn_or_early_between_processes_that_are_killed(hunt, kind):
    done = hunt(kind)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind}: updates {UPDATES}," in done.stdout
    assert int(re.search(r"writers killed (\d+)", done.stdout)[1]) > 0


@pytest.mark.parametrize("kind", ["wakeup", "latch", "table"])
def test_nothing_is_lost_torn_or_early_in_any_execution_of_the_memory_model(walk, kind):
    done = walk(kind)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"[1-9]\d* executions\n", done.stdout)


@pytest.mark.parametrize(
    ("name", "by"), [(name, by) for name, variant in CORE_VARIANTS.items() for by in variant.found_by]
)
def test_a_broken_core_is_found_out(harness, tmp_path, name, by):
    variant = CORE_VARIANTS[name]
    core = headers(tmp_path, variant.header, *variant.changes)
    done = harness[by](variant.kind, core)
    said = done.stdout + done.stderr
    assert done.returncode, f"{name}: not found by {by}\n{said}"
    assert any(defect in said for defect in KINDS[variant.kind]), said


def test_every_sync_point_of_the_core_has_a_variant_without_it():
    points = {p for h in CORE.glob("*.h") for p in re.findall(r"SYNC POINT ([A-Z])\b", h.read_text())}
    assert points == {name[0] for name in CORE_VARIANTS if name[1] == ":"}


def test_a_variant_of_code_that_is_not_there_any_more_is_an_error():
    for old in ("no such text", "memory_order_acquire"):
        with pytest.raises(AssertionError, match="found [04] times"):
            changed(CORE / "futex.h", (old, ""))


def test_the_long_run_hunts_as_the_tests_do():
    done = run(ROOT / "bin" / "hunt", "--updates", "50000", "latch", "table")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["latch", "table"]


# What a heartbeat is for: the sender's last rows may be lost, and only the next row that it names shows it.


def check_lost_tail(request, publishing=publisher, sequencing=sequencer):
    """A reader that misses all rows asks for them after the heartbeat that follows."""
    cfg, plant, raw = (request.getfixturevalue(name) for name in ("cfg", "plant", "raw"))
    made = publishing.Publisher(cfg)
    made.open()
    sub = sockets.context().socket(zmq.SUB)
    sub.setsockopt(zmq.SUBSCRIBE, b"")
    heads = []

    def heard(kind):
        while sub.poll(0):
            frame = sub.recv()
            heads.append((wire.header(frame).kind, frame))
            if heads[-1][0] == kind:
                return True
        return False

    try:
        sockets.connect(sub, cfg.publisher.publish)
        until(lambda: heard(wire.HEARTBEAT), turning=made.turn)
        raw.send(raw.trades(3))
        raw.settle()
        until(lambda: heard(wire.ROWS), turning=made.turn)
        until(lambda: heard(wire.HEARTBEAT), turning=made.turn)
    finally:
        sub.close(linger=0)
        made.close()
    date = int(plant.day.trading_date)
    sequence = sequencing.TableSequence(cfg.schema["trade"], date, 0)
    beat = heads[-1][1]
    sequence.on_heartbeat(wire.header(beat).trading_date, requests.beat(wire.payload(beat)).rows.get(3, 0))
    want = sequence.want()
    assert want is not None
    assert (want.table.name, want.trading_date, want.row) == ("trade", date, 0)


def check_feed_heartbeat(request, handling=handler):
    """A feed's heartbeat names the row after the last that was published."""
    cfg = request.getfixturevalue("cfg")
    ingress = sockets.context().socket(zmq.SUB)
    ingress.setsockopt(zmq.SUBSCRIBE, b"")
    ingress.bind(cfg.tickerplant.ingress)
    feed = handling.Feed(cfg, "one")
    feed.open()
    kinds = []

    def beat_after_rows():
        while ingress.poll(0):
            head = wire.header(ingress.recv())
            kinds.append(head.kind)
            if head.kind == wire.HEARTBEAT and wire.ROWS in kinds:
                return head
        return None

    try:
        until(lambda: ingress.poll(0))  # connected: the first heartbeat is there
        feed.trade(price=1.0)
        feed.trade(price=2.0)
        head = until(beat_after_rows)
    finally:
        feed.close(0.0)
        ingress.close(linger=0)
    assert (head.session, head.seq) == (feed.session, 2)


def check_simulation(request, sequencing=sequencer):
    request.getfixturevalue("monkeypatch").setattr(test_sequencer, "ROUNDS", 700)
    for seed in range(100):
        test_sequencer.check_simulation(seed, sequencing.TableSequence)


def check_torn_tail(request, journaling):
    folder = request.getfixturevalue("shm_folder")
    request.getfixturevalue("monkeypatch").setattr(test_journal, "JournalWriter", journaling.JournalWriter)
    test_journal.test_truncated_at_every_byte_the_longest_valid_prefix_is_recovered(folder)


def test_the_publishers_heartbeat_shows_a_lost_tail(request):
    check_lost_tail(request)


def test_the_feeds_heartbeat_shows_a_lost_tail(request):
    check_feed_heartbeat(request)


SEEN_END = """\
        if trading_date == self.trading_date:
            self.end = max(self.end, rows)
"""
PYTHON_VARIANTS = {
    "the publisher's heartbeat does not carry the next row": (
        "publisher", ("rows=self.day.rows,", "rows={},"),
        lambda request, broken: check_lost_tail(request, publishing=broken),
    ),
    "the subscriber does not look at the next row of a heartbeat (real publisher)": (
        "sequencer", (SEEN_END, SEEN_END.replace("rows)", "self.end)")),
        lambda request, broken: check_lost_tail(request, sequencing=broken),
    ),
    "the subscriber does not look at the next row of a heartbeat (simulated losses)": (
        "sequencer", (SEEN_END, SEEN_END.replace("rows)", "self.end)")),
        check_simulation,
    ),
    "the feed's heartbeat does not carry the next row": (
        "feed.handler", ("seq=self._sender.seq, time_ns=now_ns())", "time_ns=now_ns())"),
        check_feed_heartbeat,
    ),
    "a torn tail stays in the journal": (
        "journal", ("self._set_aside(kept[-1], self.position - begins(kept[-1]))", "pass"),
        check_torn_tail,
    ),
    "frames after a torn one are handed out with it": (
        "journal", ("return memoryview(data)[:length] if length < len(data) else data", "return data"),
        check_torn_tail,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON_VARIANTS)
def test_a_broken_protocol_is_found_out(name, request):
    source, change, check = PYTHON_VARIANTS[name]
    broken = module(source, change)
    with pytest.raises(AssertionError):
        check(request, broken)


class HeartbeatWithoutNextRow(test_sequencer.Publisher):
    def heartbeat(self):
        return self.date, dict.fromkeys((t.number for t in test_sequencer.TABLES), 0)


def test_the_simulation_notices_heartbeats_without_the_next_row(request, monkeypatch):
    monkeypatch.setattr(test_sequencer, "Publisher", HeartbeatWithoutNextRow)
    with pytest.raises(AssertionError, match="never came to the end"):
        check_simulation(request)
