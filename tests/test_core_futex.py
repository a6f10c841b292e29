import mmap
import threading
import time

import pytest
from fix_core import finished
from test_sanitizers import build, ran

from tickplant._core.memory import Bell, Word

SECOND = 1_000_000_000


class Shared:
    """A counter and a bell."""

    def __init__(self, word=0):
        self.memory = mmap.mmap(-1, 4096)
        self.count, self.word = (Word(self.memory, 64 * i, True) for i in range(2))
        self.word.store(word)
        self.bell = Bell(self.word)


def test_what_is_there_already_is_not_waited_for():
    s = Shared()
    s.count.store(5)
    assert s.bell.wait_above(s.count, 4, 10 * SECOND) == 5


def test_a_wait_ends_in_time_with_nothing_new():
    s = Shared()
    for timeout in (-1, 0, 1, 1_000_000):
        assert s.bell.wait_above(s.count, 0, timeout) == 0


def test_each_ring_changes_the_word_and_a_reader_changes_nothing():
    s = Shared()
    before = bytes(s.memory)
    s.bell.wait_above(s.count, 0, 0)
    assert bytes(s.memory) == before
    for number in (1, 2):
        s.bell.ring()
        assert s.word.load() == number


@pytest.mark.parametrize("word", [0, (1 << 32) - 3])
def test_a_sleeper_is_woken_for_each_ring_also_where_the_word_wraps(word):
    s = Shared(word)
    seen = []

    def reader():
        while not seen or seen[-1] < 20:
            now = s.bell.wait_above(s.count, seen[-1] if seen else 0, 10 * SECOND)
            if now > (seen[-1] if seen else 0):
                seen.append(now)

    thread = threading.Thread(target=reader)
    thread.start()
    for number in range(1, 21):
        while thread.is_alive() and number > 1 and (not seen or seen[-1] < number - 1):
            time.sleep(0)  # the reader is about to sleep, or does
        s.count.store(number)
        s.bell.ring()
    thread.join()
    assert seen[-1] == 20
    assert (s.word.load() - word) % (1 << 32) == 20


def test_only_the_writer_rings_and_a_reader_sleeps_on_what_it_may_only_read():
    memory = mmap.mmap(-1, 4096)
    bell, count = Bell(Word(memory, 0)), Word(memory, 64)
    with pytest.raises(TypeError, match="for reading"):
        bell.ring()
    assert bell.wait_above(count, 0, 1_000_000) == 0


def test_a_ring_is_one_system_call(tmp_path):
    harness = build(tmp_path, "hunt_wakeup.c", "-O2")
    assert ran(harness, 0) == "1000 system calls of 1000 rings\n"


def test_two_processes_answer_each_other_twenty_thousand_times(tmp_path, start):
    path = tmp_path / "words"
    path.write_bytes(bytes(4096))
    players = [start("bounce", path, me, 20_000) for me in (0, 1)]
    assert [finished(player) for player in players] == ["", ""]
