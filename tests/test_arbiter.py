"""One stream out of several lines: order, duplicates, gaps, sessions."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tickplant.feed.packets.arbiter import Arbiter, Gap, Run
from tickplant.feed.packets.restarts import Told
from tickplant.feed.packets.stream import SESSIONS_MAX, Anew, Session, Stream

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


A_LINE, B_LINE = "A", "B"


def packets_of(steps):
    """What was delivered, one by one."""
    return [step.item for step in steps if isinstance(step, Run)]


def feed(stream, *sent):
    """Offer packets (number, item, line, sent); their content is their item."""
    steps = []
    for at, (seq, item, line, sent_ns) in enumerate(sent):
        steps += stream.offer(None, seq, 1, item, at * MS, Told(line, sent_ns, hash(item)))
    return steps


def week(name, first, last, line=A_LINE, sent=None):
    """Packets `first` to `last`; `sent` is the time of the first, None: they tell none."""
    return [(n, f"{name}{n}", line, 0 if sent is None else sent + n - first) for n in range(first, last + 1)]


def anews(steps):
    return [(step.last, step.seq) for step in steps if isinstance(step, Anew)]


def test_a_lower_number_in_a_packet_that_was_sent_later_begins_the_numbers_anew():
    stream = Stream()
    steps = feed(stream, *week("a", 1000, 1009, sent=1), *week("b", 1, 1, sent=100))
    assert packets_of(steps) == [f"a{n}" for n in range(1000, 1010)] + ["b1"]
    assert anews(steps) == [(1009, 1)]


def test_a_run_of_low_numbers_on_one_line_begins_them_anew_even_if_its_times_went_back():
    for sent in (None, 1):
        stream = Stream()
        steps = feed(stream, *week("a", 1000, 1009, sent=sent and 500), *week("b", 1, 20, sent=sent))
        steps += stream.finish("the end")
        assert packets_of(steps) == [f"a{n}" for n in range(1000, 1010)] + [f"b{n}" for n in range(1, 21)]
        assert anews(steps) == [(1009, 1)]
        assert stream.ignored.total() == 0


def test_numbers_that_were_heard_begin_anew_with_other_messages_and_not_with_the_same():
    old, new = week("a", 1, 10), week("b", 1, 20)
    stream = Stream()
    steps = feed(stream, *old, *new)
    assert packets_of(steps) == [item for _, item, _, _ in (*old, *new)]
    assert anews(steps) == [(10, 1)]
    stream = Stream()
    assert packets_of(feed(stream, *old, *old)) == [item for _, item, _, _ in old]
    assert (anews(feed(stream, *old)), stream.ignored["duplicate"]) == ([], 20)


def test_a_line_that_lags_behind_is_no_restart_whatever_it_brings():
    stream = Stream()
    steps = feed(stream, *week("a", 100, 200, sent=100), *week("a", 1, 200, B_LINE, sent=1))
    steps += stream.finish("the end")
    assert packets_of(steps) == [f"a{n}" for n in range(100, 201)]
    assert +stream.ignored == {"before the first": 99, "duplicate": 101}
    stream = Stream()
    steps = feed(stream, *week("a", 100, 200), *week("a", 1, 200, B_LINE)) + stream.finish("the end")
    assert packets_of(steps) == [f"a{n}" for n in range(100, 201)]


def test_a_run_at_the_end_of_a_capture_is_a_restart_and_a_single_packet_is_not():
    for last, wanted in ((1, []), (2, [(109, 1)]), (3, [(109, 1)])):
        stream = Stream()
        steps = feed(stream, *week("a", 100, 109), *week("b", 1, last)) + stream.finish("the end")
        assert anews(steps) == wanted
        assert len(packets_of(steps)) == 10 + last * bool(wanted)


def test_packets_that_a_network_put_out_of_order_are_no_restart():
    stream = Stream()
    steps = feed(stream, *week("a", 20, 29), *week("a", 15, 19), *week("a", 30, 40))
    assert anews(steps) == []
    assert packets_of(steps) == [f"a{n}" for n in range(20, 41)]
    assert stream.ignored["before the first"] == 5


def test_messages_of_a_gap_that_come_too_late_are_no_restart():
    stream = Stream(wait_ns=MS)
    steps = feed(stream, *week("a", 1, 5), *week("a", 50, 90), *week("a", 6, 49))
    assert anews(steps) == []
    assert stream.ignored["late"] == 44


def test_after_a_restart_packets_of_the_old_numbers_are_passed_over():
    stream = Stream()
    for sent in (1, None):
        stream = Stream()
        old, new = week("a", 900, 1009, sent=sent), week("b", 1, 40, sent=sent and 1000)
        slow = [(n, item, B_LINE, at) for n, item, _, at in old[60:] + new]
        steps = feed(
            stream, *old[:5], (900, "a900", B_LINE, sent or 0), *old[5:], *new[:20], *slow, *new[20:]
        )
        steps += stream.finish("the end")
        assert packets_of(steps) == [item for _, item, _, _ in old + new]
        assert [step for step in steps if isinstance(step, Gap)] == []
        assert stream.ignored["old numbers"] == 50


def test_a_heartbeat_of_the_old_numbers_makes_no_gap():
    stream = Stream()
    feed(
        stream, *week("a", 100, 140, sent=1), *week("a", 100, 140, B_LINE, sent=1), *week("b", 1, 5, sent=100)
    )
    assert stream.offer(None, 141, 0, "", 99 * MS, Told(B_LINE, 60, None)) == []
    assert stream.finish("the end") == []


def test_what_is_missing_before_the_first_after_a_restart_is_a_gap():
    stream = Stream()
    steps = feed(stream, *week("a", 1000, 1009, sent=1), *week("b", 4, 6, sent=100)) + stream.finish("end")
    assert [(gap.first, gap.last) for gap in steps if isinstance(gap, Gap)] == [(1, 3)]


def lossy(chance, timed):
    """Packets of numbers that begin anew, as they come on two lines, each (at, line, packet); all that were
    sent before, and after."""
    first, count = chance.randrange(200, 5000), chance.randrange(60, 90)
    old = [(first + n, f"a{n}", n + 1 if timed else 0) for n in range(count)]
    new = [(n + 1, f"b{n}", count + n + 1 if timed else 0) for n in range(chance.randrange(30, 60))]
    sent, queue = old + new, []
    for line, lag in ((A_LINE, 0), (B_LINE, chance.randrange(20))):
        lost = {chance.randrange(1, len(sent)) for _ in range(chance.randrange(12))}
        for at, packet in enumerate(sent):
            if at not in lost:
                queue.append((at + lag, line, packet))
                if chance.randrange(10) == 0:
                    queue.append((at + lag + chance.randrange(1, 4), line, packet))
    return sorted(queue, key=lambda each: each[0]), old, new


@given(st.booleans(), st.integers(0, 2**32))
def test_two_lines_with_losses_and_a_restart_give_each_packet_once_or_in_a_gap(timed, seed):
    queue, old, new = lossy(random.Random(seed), timed)
    stream, steps = Stream(wait_ns=5 * MS), []
    for at, line, (seq, item, sent_ns) in queue:
        steps += stream.offer(None, seq, 1, item, at * MS, Told(line, sent_ns, hash(item)))
    steps += stream.finish("the end")
    got = packets_of(steps)
    assert len(anews(steps)) == 1
    assert got == [item for _, item, _ in old + new if item in set(got)]
    at = next(i for i, step in enumerate(steps) if isinstance(step, Anew))
    gaps = [(g, i < at or "came after" in g.cause) for i, g in enumerate(steps) if isinstance(g, Gap)]
    for of_old, packets in ((True, old), (False, new)):
        gone = {n for g, is_old in gaps if is_old is of_old for n in range(g.first, g.last + 1)}
        there = {seq for seq, item, _ in packets if item in set(got)}
        heard = {packet[0] for _, _, packet in queue if packet in packets}
        assert not there & gone
        assert heard <= there | gone


@given(st.booleans(), st.integers(0, 2**32), st.integers(0, 200))
def test_copies_of_a_slow_line_are_never_a_restart(timed, seed, lag):
    chance = random.Random(seed)
    sent = [(n, f"a{n}", n if timed else 0) for n in range(chance.randrange(1, 400), 600)]
    queue = [(at, A_LINE, packet) for at, packet in enumerate(sent) if chance.random() < 0.97]
    queue += [(at + lag + chance.randrange(3), B_LINE, packet) for at, packet in enumerate(sent)]
    stream, steps = Stream(wait_ns=5 * MS), []
    for at, line, (seq, item, sent_ns) in sorted(queue, key=lambda each: each[0]):
        steps += stream.offer(None, seq, 1, item, at * MS, Told(line, sent_ns, hash(item)))
    steps += stream.finish("the end")
    assert anews(steps) == []
    assert stream.ignored["old numbers"] == 0
    got = packets_of(steps)
    assert len(set(got)) == len(got)
