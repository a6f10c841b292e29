"""One stream out of several lines: order, duplicates, gaps, sessions."""

from hypothesis import given
from hypothesis import strategies as st

from tickplant.feed.packets.arbiter import Arbiter, Gap, Run
from tickplant.feed.packets.stream import SESSIONS_MAX, Session, Stream

MS = 1_000_000


def numbers(steps):
    """The messages that are delivered, and gaps as (first, last)."""
    out = []
    for step in steps:
        if isinstance(step, Run):
            out += range(step.seq + step.skip, step.seq + step.size)
        else:
            out.append((step.first, step.last))
    return out


def put(arbiter, *offers, now=0):
    return numbers(step for seq, size in offers for step in arbiter.offer(seq, size, None, now))


def test_the_first_copy_is_taken_and_the_other_counted():
    arbiter = Arbiter()
    assert put(arbiter, (5, 2), (5, 2), (7, 1), (7, 1)) == [5, 6, 7]
    assert (arbiter.duplicates, arbiter.late, arbiter.early) == (3, 0, 0)


def test_the_usual_packet_is_taken_without_a_step_unless_others_wait():
    arbiter = Arbiter(1)
    assert arbiter.follows(1, 3)
    assert not arbiter.follows(1, 3)
    assert put(arbiter, (6, 1)) == []
    assert not arbiter.follows(4, 2)
    assert put(arbiter, (4, 2)) == [4, 5, 6]


def test_packets_cut_otherwise_on_the_other_line_give_each_message_once():
    arbiter = Arbiter(1)
    assert put(arbiter, (1, 3), (2, 4), (4, 1), (8, 2), (7, 2), (6, 1)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert arbiter.duplicates == 2 + 1 + 1


def test_what_is_missing_is_waited_for_and_then_a_gap():
    arbiter = Arbiter(1, wait_ns=10 * MS)
    assert put(arbiter, (4, 1), now=0) == []
    assert arbiter.missing() == (1, 3)
    assert numbers(arbiter.tick(10 * MS - 1)) == []
    assert arbiter.tick(10 * MS) == [Gap(1, 3, "not on any line within 10 ms"), Run(4, 1, 0, None)]
    assert arbiter.missing() is None
    assert put(arbiter, (2, 1), (5, 1), now=11 * MS) == [5]
    assert (arbiter.late, arbiter.duplicates) == (1, 0)


def test_while_what_is_missing_comes_piece_by_piece_it_is_not_given_up():
    arbiter = Arbiter(1, wait_ns=10 * MS)
    assert put(arbiter, (9, 1), now=0) == []
    for seq in range(1, 5):
        assert numbers(arbiter.tick(seq * 9 * MS)) == []
        assert put(arbiter, (seq, 1), now=seq * 9 * MS) == [seq]
    assert numbers(arbiter.tick(4 * 9 * MS + 10 * MS)) == [(5, 8), 9]


def test_a_heartbeat_tells_what_is_missing_at_the_end():
    arbiter = Arbiter(1, wait_ns=10 * MS)
    assert arbiter.heard(1, 0) == []
    assert put(arbiter, (1, 2)) == [1, 2]
    assert arbiter.heard(3, 0) == []
    assert arbiter.missing() is None
    assert numbers(arbiter.heard(6, 5 * MS)) == []
    assert arbiter.missing() == (3, 5)
    assert numbers(arbiter.heard(6, 14 * MS)) == []
    assert numbers(arbiter.heard(6, 15 * MS)) == [(3, 5)]
    assert put(arbiter, (6, 1)) == [6]


def test_more_than_may_wait_makes_a_gap_at_once():
    arbiter = Arbiter(1, held_max=3)
    assert put(arbiter, (3, 1), (4, 1), (6, 1)) == []
    (gap, *rest) = arbiter.offer(8, 1, None, 0)
    assert gap == Gap(1, 2, "3 packets wait behind it")
    assert numbers(rest) == [3, 4]
    assert numbers(arbiter.finish("the end")) == [(5, 5), 6, (7, 7), 8]


def test_what_comes_before_the_first_is_no_duplicate():
    arbiter = Arbiter()
    assert put(arbiter, (5, 1), (3, 2), (4, 2)) == [5]
    assert (arbiter.early, arbiter.duplicates) == (3, 1)


@given(st.data())
def test_whatever_the_lines_do_each_message_is_delivered_once_in_order_or_in_a_gap(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=20))
    starts = [1 + sum(sizes[:i]) for i in range(len(sizes))]
    packets = list(zip(starts, sizes, strict=True))
    sent = data.draw(st.lists(st.sampled_from(packets), max_size=60))
    arbiter = Arbiter(1, wait_ns=data.draw(st.integers(1, 50)), held_max=data.draw(st.integers(1, 5)))
    steps, now = [], 0
    for seq, size in sent:
        now += data.draw(st.integers(0, 20))
        steps += arbiter.offer(seq, size, None, now)
        assert len(arbiter._held) <= arbiter._held_max
        steps += arbiter.tick(now)
    steps += arbiter.finish("the end")
    delivered = [n for n in numbers(steps) if isinstance(n, int)]
    covered = []
    for n in numbers(steps):
        covered += range(n[0], n[1] + 1) if isinstance(n, tuple) else [n]
    assert covered == list(range(1, len(covered) + 1))
    total = sum(size for _, size in sent)
    assert len(delivered) + arbiter.duplicates + arbiter.late == total


def test_another_session_begins_with_one_and_packets_of_the_old_are_passed_over():
    stream = Stream(wait_ns=10 * MS)
    assert stream.offer("a", 7, 2, "x", 0) == [Session(None, "a"), Run(7, 2, 0, "x")]
    assert stream.offer("a", 10, 1, "y", 0) == []
    steps = stream.offer("b", 2, 1, "z", 0)
    assert steps == [Gap(9, 9, "the session ended"), Run(10, 1, 0, "y"), Session("a", "b")]
    assert stream.offer("a", 11, 4, "late", 1) == []
    assert stream.ignored["old session"] == 4
    assert stream.missing() == (1, 1)
    assert stream.offer("b", 1, 1, "first", 2) == [Run(1, 1, 0, "first"), Run(2, 1, 0, "z")]


def test_sessions_that_are_remembered_are_bounded():
    stream = Stream()
    for session in range(SESSIONS_MAX + 3):
        stream.offer(session, 1, 1, None, 0)
    assert stream.offer(SESSIONS_MAX + 1, 1, 1, None, 0) == []
    assert stream.offer(0, 1, 1, None, 0)[0] == Session(SESSIONS_MAX + 2, 0)
