"""Messages from a real ZeroMQ socket into the intake, and those that are not taken."""

import os

import numpy as np
import pytest
import zmq

from tests.fix_plant import trades, until
from tickplant import sockets, wire
from tickplant._core import framing
from tickplant._core.drain import BELL, MESSAGE, Drain
from tickplant._core.intake import CONTROL, MALFORMED, STAGE_FULL, TAKEN, UNKNOWN_FEED

TURN = (1000, 1 << 20, -1, 10)


@pytest.fixture
def sub(plant):
    """A socket that the plant's drain does not read, with something that sends to it."""
    socket = sockets.context().socket(zmq.PULL)
    socket.bind("inproc://drain")
    yield socket
    socket.close(linger=0)


@pytest.fixture
def push(sub):
    socket = sockets.context().socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDTIMEO, 10_000)
    socket.connect("inproc://drain")
    yield socket
    socket.close(linger=0)


@pytest.fixture
def drain(plant, sub):
    plant.day.intake.begin(1, 7, 0)
    made = Drain(plant.day.intake, sockets.library(), sub.underlying)
    yield made
    made.close()


def sealed(table, seq, count=1, **header):
    """A frame of trades of feed 1, session 7."""
    rows = trades(table, seq, count)
    rows["instrument"] = 0
    header = {"feed": 1, "session": 7, "seq": seq, "feed_row": seq, "schema": table.fingerprint} | header
    return framing.seal(rows.view("u1"), wire.ROWS, table=table.number, count=count, **header)


def test_messages_are_taken_in_order_until_there_are_no_more(plant, drain, push):
    table, intake = plant.config.schema["trade"], plant.day.intake
    assert not drain.wait(*TURN)
    for seq in range(0, 300, 3):
        push.send(sealed(table, seq, 3))
    until(lambda: drain.wait(*TURN))
    until(lambda: intake.session(1) == (7, 300), turning=lambda: drain.wait(*TURN) and drain.pour(9))
    assert intake.frames >= 100
    plant.commit()
    assert plant.day.tables[2].columns.taken == 300


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", MALFORMED),
        (b"x" * 1000, MALFORMED),
        (framing.seal(b"", wire.HEARTBEAT, feed=1, session=7, seq=0), CONTROL),
        (framing.seal(b"", wire.HEARTBEAT, feed=99, session=7, seq=0), UNKNOWN_FEED),
    ],
)
def test_a_message_that_is_not_taken_is_held_until_it_is_asked_for(plant, drain, push, message, reason):
    table = plant.config.schema["trade"]
    push.send(message)
    push.send(sealed(table, 0))
    until(lambda: drain.wait(*TURN))
    assert [drain.pour(9), drain.pour(9)] == [reason, reason]
    assert drain.message() == message
    with pytest.raises(ValueError, match="no message is held"):
        drain.message()
    until(lambda: plant.day.intake.session(1) == (7, 1), turning=lambda: drain.wait(*TURN) and drain.pour(9))


def test_a_message_that_the_stage_has_no_room_for_is_taken_after_a_commit(plant, drain, push):
    table, intake = plant.config.schema["trade"], plant.day.intake
    rows = 400
    frames, full = 0, False
    while not full:
        push.send(sealed(table, frames * rows, rows))
        frames += 1
        until(lambda: drain.wait(*TURN))
        full = drain.pour(9)
        assert full in (TAKEN, STAGE_FULL)
    assert intake.session(1) == (7, (frames - 1) * rows)
    plant.commit()
    assert drain.pour(9) == TAKEN
    assert intake.session(1) == (7, frames * rows)


@pytest.mark.parametrize("budget", [(2, 1 << 20, -1, 10), (1000, 1, -1, 10)])
def test_a_turn_takes_no_more_than_its_budget_whatever_comes(plant, drain, push, budget):
    table = plant.config.schema["trade"]
    for seq in range(5):
        push.send(sealed(table, seq))
        push.send(b"nonsense")
    until(lambda: drain.wait(*budget))
    taken = 0
    while drain.pour(9):
        drain.message()
        taken += 1
    assert plant.day.intake.session(1)[1] + taken <= 2


def test_a_descriptor_wakes_as_a_message_does(plant, drain, push):
    bell, ringer = os.pipe()
    try:
        assert drain.wait(10, 1 << 20, bell, 0) == 0
        os.write(ringer, b"x")
        assert drain.wait(10, 1 << 20, bell, 60_000) == BELL
        push.send(sealed(plant.config.schema["trade"], 0))
        until(lambda: drain.wait(10, 1 << 20, bell, 0) == MESSAGE | BELL)
        os.read(bell, 1)
        assert drain.wait(10, 1 << 20, bell, 60_000) == MESSAGE  # held, until it is taken
        assert drain.pour(9) == TAKEN
        assert drain.wait(10, 1 << 20, bell, 0) == 0
    finally:
        os.close(bell)
        os.close(ringer)


def test_what_is_no_libzmq_is_refused(plant, sub):
    for path in ("/nowhere.so", np.__file__):
        with pytest.raises(OSError, match="is not a libzmq"):
            Drain(plant.day.intake, path, sub.underlying)


def test_a_socket_that_is_closed_is_an_error(plant, drain, sub):
    sub.close(linger=0)
    with pytest.raises(OSError, match="can't be received from"):
        drain.wait(*TURN)
