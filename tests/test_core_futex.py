import mmap
import threading

import pytest
from fix_core import finished
from test_sanitizers import build, ran

from tickplant._core.memory import Bell, Word

SECOND = 1_000_000_000


class Shared:
    """A counter, a bell and its sleepers flag."""

    def __init__(self, word=0):
        self.memory = mmap.mmap(-1, 4096)
        self.count, self.word, self.flag = (Word(self.memory, 64 * i, True) for i in range(3))
        self.word.store(word)
        self.bell = Bell(self.word, self.flag)


def test_what_is_there_already_is_not_waited_for():
    s = Shared()
    s.count.store(5)
    assert s.bell.wait_above(s.count, 4, 10 * SECOND) == 5
    assert s.flag.load() == 0


def test_a_wait_ends_in_time_with_nothing_new_and_leaves_the_flag():
    s = Shared()
    for timeout in (-1, 0, 1, 1_000_000):
        assert s.bell.wait_above(s.count, 0, timeout) == 0
    assert s.flag.load() == 1


def test_ringing_clears_the_flag_of_sleepers_that_died():
    s = Shared()
    s.bell.wait_above(s.count, 0, 0)
    s.bell.ring()
    assert (s.flag.load(), s.word.load()) == (0, 1)
    s.bell.ring()  # nobody asks for it
    assert (s.flag.load(), s.word.load()) == (0, 1)


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
        while not s.flag.load() and thread.is_alive() and (not seen or seen[-1] < number - 1):
            pass
        s.count.store(number)
        s.bell.ring()
    thread.join()
    assert seen[-1] == 20
    assert 1 <= (s.word.load() - word) % (1 << 32) <= 20


def test_only_the_writer_rings_and_only_a_writable_flag_can_be_slept_on():
    memory = mmap.mmap(-1, 4096)
    flag = Word(memory, 64, True)
    with pytest.raises(TypeError, match="for reading"):
        Bell(Word(memory, 0), flag).ring()
    with pytest.raises(TypeError, match="writable"):
        Bell(Word(memory, 0), Word(memory, 64))


def test_nobody_asleep_costs_no_system_call(tmp_path):
    harness = build(tmp_path, "hunt_wakeup.c", "-O2")
    assert ran(harness, 0) == "0 system calls of 1000 rings\n"


def test_two_processes_answer_each_other_twenty_thousand_times(tmp_path, start):
    path = tmp_path / "words"
    path.write_bytes(bytes(4096))
    players = [start("bounce", path, me, 20_000) for me in (0, 1)]
    assert [finished(player) for player in players] == ["", ""]
