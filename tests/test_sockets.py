"""Where sockets may listen, and what they refuse."""

import contextlib
import socket
import stat

import pytest
import zmq

from tests.fix_plant import until
from tickplant import sockets, wire
from tickplant.errors import ConfigError


@pytest.fixture
def pull():
    made = sockets.context().socket(zmq.PULL)
    yield made
    made.close(linger=0)


@pytest.mark.parametrize(
    "endpoint", ["tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://192.0.2.1:5555", "tcp://eth0:1", "tcp://[::]:1"]
)
def test_plaintext_beyond_this_host_is_refused(pull, endpoint):
    with pytest.raises(ConfigError, match="security.curve.*security.allow_plaintext"):
        sockets.bind(pull, endpoint)
    sockets.check_exposure(endpoint, plaintext=True)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///x"])
def test_this_host_may_be_served_in_plaintext(endpoint):
    sockets.check_exposure(endpoint, plaintext=False)


def test_a_port_may_be_left_open(pull):
    bound = sockets.bind(pull, "tcp://127.0.0.1:*")
    assert int(bound.rpartition(":")[2]) > 0


def test_a_port_that_is_taken_is_refused(pull):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="can't listen"):
            sockets.bind(pull, f"tcp://127.0.0.1:{taken.getsockname()[1]}")


def test_a_path_that_is_too_long_is_refused(pull, site):
    with pytest.raises(ConfigError, match="107"):
        sockets.bind(pull, f"ipc://{site.folder}/{'x' * 107}")


def test_a_file_in_the_way_is_left_alone(pull, site):
    path = site.folder / "file"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="not a socket"):
        sockets.bind(pull, f"ipc://{path}")
    assert path.read_text() == "mine"


def test_a_socket_file_is_for_owner_and_group(pull, site):
    path = site.folder / "deep" / "socket"
    sockets.bind(pull, f"ipc://{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_nonsense_can_not_be_connected_to(pull):
    with pytest.raises(ConfigError, match="nonsense"):
        sockets.connect(pull, "nonsense")


def test_a_message_that_is_too_long_is_not_received(pull, site):
    endpoint = sockets.bind(pull, f"ipc://{site.folder}/s")
    push = zmq.Context.instance().socket(zmq.PUSH)
    push.connect(endpoint)
    push.send(bytes(wire.MESSAGE_MAX + wire.HEADER_SIZE))
    assert pull.poll(10_000)
    assert len(pull.recv()) == wire.MESSAGE_MAX + wire.HEADER_SIZE
    push.send(bytes(wire.MESSAGE_MAX + wire.HEADER_SIZE + 1))
    push.send(b"after")  # on a new connection, or never: the one before is cut
    push.close(linger=0)
    while pull.poll(200):
        assert len(pull.recv()) <= wire.MESSAGE_MAX + wire.HEADER_SIZE


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"


@pytest.fixture
def peer():
    """A TCP server that speaks as much ZMTP as each test has it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def accepted(listener):
    with contextlib.suppress(BlockingIOError):
        one, _ = listener.accept()
        one.setblocking(True)
        one.sendall(GREETING + b"\x04" + bytes([len(READY)]) + READY)
        return one
    return None


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.SUB, zmq.PUB])
def test_a_connection_on_which_no_zmtp_was_spoken_is_made_again_and_again(peer, kind, monkeypatch):
    monkeypatch.setattr(sockets, "MEND_NS", 0)
    made = sockets.context().socket(kind)
    connection = sockets.Connection(made, f"tcp://127.0.0.1:{peer.getsockname()[1]}")
    held = []
    try:
        for _ in range(3):
            held.append(until(lambda: accepted(peer), turning=connection.mend))
            held[-1].sendall(b"\x02" + (1 << 40).to_bytes(8, "big"))  # a message of 1 TiB
    finally:
        connection.close()
        for one in held:
            one.close()


def test_a_connection_that_is_well_is_left_alone(peer, monkeypatch):
    monkeypatch.setattr(sockets, "MEND_NS", 0)
    connection = sockets.Connection(
        sockets.context().socket(zmq.DEALER), f"tcp://127.0.0.1:{peer.getsockname()[1]}"
    )
    first = until(lambda: accepted(peer), turning=connection.mend)
    first.close()  # libzmq itself comes back
    second = until(lambda: accepted(peer), turning=connection.mend)
    for _ in range(200):
        connection.mend()
        assert accepted(peer) is None
    connection.close()
    second.close()


def test_a_peer_that_answers_no_greeting_is_given_up_and_tried_again(peer, monkeypatch):
    """Within five seconds of libzmq's, not thirty."""
    connection = sockets.Connection(
        sockets.context().socket(zmq.DEALER), f"tcp://127.0.0.1:{peer.getsockname()[1]}"
    )
    assert connection.socket.getsockopt(zmq.HANDSHAKE_IVL) == 5000
    assert connection.socket.getsockopt(zmq.CONNECT_TIMEOUT) == 5000
    connection.close()
