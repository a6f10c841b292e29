"""The proxy of the fault bench does what it says; and what a network does is no more than a pause."""

import random
import socket
import threading

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from faults import proxy
from faults.proxy import FAR, NEAR, Framing, Proxy, Weather
from tests.fix_plant import check_claims, events, free_port, rows_of, trades, until
from tickplant import link as reading_link
from tickplant import sockets, subscribe, wire
from tickplant.feed import repair


def message(body, *, more=False, command=False):
    flags = more | (len(body) > 255) << 1 | command << 2
    size = len(body).to_bytes(8 if flags & 2 else 1, "big")
    return bytes([flags]) + size + body


@given(
    st.lists(st.tuples(st.binary(max_size=400), st.booleans(), st.booleans()), max_size=8),
    st.lists(st.integers(1, 700), max_size=30),
)
def test_messages_are_seen_however_their_bytes_come(parts, steps):
    frames = [message(body, more=more and not command, command=command) for body, more, command in parts]
    stream = bytes(64) + b"".join(frames)
    framing, got, at = Framing(), [], 0
    for step in [*steps, len(stream)]:
        got += framing.pieces(stream[at : at + step])
        at += step
    assert b"".join(piece for piece, _, _ in got) == stream
    begun, after_more = [], False
    for (_, more, command), frame in zip(parts, frames, strict=True):
        if not command:
            begun += [] if after_more else [len(frame) - (9 if frame[0] & 2 else 2)]
            after_more = more
    assert [left for _, begins, left in got if begins] == begun


class Pipe:
    """A PUSH that connects to a PULL through a proxy."""

    def __init__(self, drops=()):
        port = free_port()
        self.pull, self.push = (sockets.context().socket(k) for k in (zmq.PULL, zmq.PUSH))
        sockets.bind(self.pull, f"tcp://{NEAR}:{port}")
        self.proxy = Proxy(1, [proxy.link("way", f"tcp://{NEAR}:{port}", drops)])
        self.link = self.proxy.links["way"]
        self.proxy.start()
        sockets.connect(self.push, f"tcp://{FAR}:{port}")

    def send(self, *numbers):
        for n in numbers:
            self.push.send_multipart([n.to_bytes(4, "big"), bytes(n % 700)])

    def receive(self, timeout_ms=200):
        got = []
        while self.pull.poll(timeout_ms):
            head, body = self.pull.recv_multipart()
            assert len(body) == int.from_bytes(head, "big") % 700
            got.append(int.from_bytes(head, "big"))
        return got

    def close(self):
        self.push.close(linger=0)
        self.pull.close(linger=0)
        self.proxy.close()


@pytest.fixture
def pipe():
    made = Pipe(("up",))
    yield made
    made.close()


def test_a_network_that_is_fine_delivers_everything(pipe):
    pipe.send(*range(3000))
    got = []
    until(lambda: len(got) == 3000, turning=lambda: got.extend(pipe.receive()))
    assert got == list(range(3000))


def test_whole_messages_are_left_out_and_the_rest_is_in_order(pipe):
    pipe.proxy.worsen("way", Weather(drop=0.3), 60)
    pipe.send(*range(1000))
    got = []
    until(lambda: pipe.link.dropped + len(got) == 1000, turning=lambda: got.extend(pipe.receive()))
    assert 200 < pipe.link.dropped < 400
    assert got == sorted(got)


def test_what_is_late_still_comes_in_order(pipe):
    pipe.proxy.worsen("way", Weather(delay_s=0.02, jitter_s=0.05), 60)
    got = []
    for n in range(100):
        pipe.send(n)
        got += pipe.receive(1)
    until(lambda: len(got) == 100, turning=lambda: got.extend(pipe.receive()))
    assert got == list(range(100))


def test_a_message_that_was_cut_is_not_received_and_a_new_connection_is(pipe):
    pipe.send(600)
    assert until(pipe.receive) == [600]
    assert pipe.proxy.halve("way") == 1
    pipe.send(601)
    got = []

    def another():
        pipe.send(602)
        got.extend(pipe.receive())
        return got

    until(another)
    assert 601 not in got


def test_bytes_that_are_held_up_come_later_and_those_that_were_swallowed_never(pipe):
    pipe.send(1)
    assert until(pipe.receive) == [1]
    pipe.proxy.worsen("way", Weather(stopped=True), 60)
    pipe.send(2)
    assert pipe.receive(300) == []
    pipe.proxy.worsen("way", Weather(), 0)
    assert until(pipe.receive) == [2]
    pipe.proxy.worsen("way", Weather(hole=True), 60)
    pipe.send(3)
    until(lambda: pipe.link.connections[0].dead)
    pipe.proxy.worsen("way", Weather(), 0)
    assert pipe.receive(300) == []
    assert pipe.proxy.cut("way", reset=True, all_of_them=True) == 1
    pipe.send(4)
    assert until(pipe.receive) == [4]


def test_a_slow_network_takes_its_time(pipe):
    pipe.proxy.worsen("way", Weather(rate=20_000), 60)
    pipe.send(*[600] * 100)
    got = pipe.receive(10)
    assert len(got) < 100
    until(lambda: len(got) == 100, turning=lambda: got.extend(pipe.receive()))


def test_nobody_is_there_when_the_network_is_down(pipe):
    pipe.proxy.worsen("way", Weather(down=True), 60)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((FAR, pipe.link.port)).close()
    pipe.proxy.worsen("way", Weather(), 0)
    pipe.send(1)
    assert until(pipe.receive) == [1]


# The product, through such a network.

LINKS = ("ingress", "repair", "publish", "request")


class Far:
    """A plant turned by threads, to whose feed and readers the way is a proxy."""

    def __init__(self, site):
        ports = [free_port() for _ in LINKS]
        near, far = ([f"tcp://{host}:{p}" for p in ports] for host in (NEAR, FAR))
        self.cfg = site.configured(
            tickerplant={"ingress": near[0], "repair": near[1]},
            publisher={"publish": near[2], "request": near[3]},
        )
        self.plant, self.publisher = site.ticker_plant(self.cfg), site.publisher(self.cfg)
        self.network = Proxy(1, [proxy.link(n, e, ("up", "down")) for n, e in zip(LINKS, near, strict=True)])
        self.network.start()
        self._stop, self.errors = threading.Event(), []
        self._threads = [threading.Thread(target=self._turn, args=(r,)) for r in (self.plant, self.publisher)]
        for thread in self._threads:
            thread.start()
        feeds = site.configured(tickerplant={"ingress": far[0], "repair": far[1]})
        self.request = far[3]
        self.feed = site.feed(feeds)
        self.published = 0

    def _turn(self, role):
        try:
            while not self._stop.is_set():
                role.turn()
        except Exception as e:
            self.errors.append(e)
            raise

    def publish(self, count):
        self.feed.append("trade", trades(self.cfg.schema["trade"], self.published, count))
        self.published += count

    def close(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.network.close()
        assert self.errors == []


@pytest.fixture
def far(site):
    made = Far(site)
    yield made
    made.close()


def received(subscription):
    batch = subscription.next(0.1)
    return [] if batch is None else batch["trade_id"].tolist()


def complete(far):
    """Everything is in the plant, once and in order, and no gap is declared."""
    assert far.feed.drained(60)
    far.close()
    far.plant.commit()
    date = far.plant.day.trading_date
    assert rows_of(far.cfg, date, "trade")["trade_id"].tolist() == list(range(far.published))
    assert events(far.cfg, date, "gap") == []
    check_claims(far.plant)


@pytest.mark.parametrize("which", LINKS)
def test_a_flipped_bit_anywhere_costs_nothing(far, which):
    subscription = subscribe(far.request, ["trade"], from_row=0)
    link, seen, random_ = far.network.links[which], 0, random.Random(which)

    def read():
        nonlocal seen
        batch = subscription.next(0.02)
        if batch is not None:
            assert batch["trade_id"].tolist() == list(range(seen, seen + len(batch)))
            seen += len(batch)

    for _ in range(15):
        before = link.flipped
        if which in ("request", "repair"):  # so that there is something to ask for
            other = {"request": "publish", "repair": "ingress"}[which]
            far.network.cut(other, reset=True, all_of_them=True)
        far.network.flip(which, random_.randint(1, 3))

        def more():
            far.publish(20)
            read()

        until(lambda before=before: link.flipped > before, turning=more)
    link.flips = 0
    until(lambda: seen == far.published, turning=read)
    subscription.close()
    complete(far)


def test_an_answer_that_was_damaged_is_asked_for_again_and_no_gap_is_declared(far):
    far.publish(100)
    assert far.feed.drained(60)
    far.network.worsen("ingress", Weather(stopped=True), 60)
    link = far.network.links["repair"]
    for _ in range(10):
        before = link.flipped
        far.network.flip("repair", 1)
        far.publish(1000)
        until(lambda before=before: link.flipped > before)
    complete(far)


def test_a_subscription_of_which_nothing_is_heard_is_made_anew(far, monkeypatch):
    monkeypatch.setattr(reading_link, "DEAF_NS", 300_000_000)
    subscription = subscribe(far.request, ["trade"], from_row=0)
    first = list(far.network.links["publish"].connections)
    assert len(first) == 2
    far.network.worsen("publish", Weather(drop=1.0), 60)
    link = far.network.links["publish"]
    until(
        lambda: link.connections and not any(c in first for c in link.connections),
        turning=lambda: subscription.next(0.01),
    )
    far.network.worsen("publish", Weather(), 0)
    far.publish(50)
    assert until(lambda: received(subscription)) == list(range(50))
    subscription.close()


def test_a_feed_to_which_nothing_is_answered_connects_anew(far, monkeypatch):
    monkeypatch.setattr(repair, "DEAF_NS", 300_000_000)
    link = far.network.links["repair"]
    far.publish(10)
    assert far.feed.drained(60)
    first = list(link.connections)
    assert len(first) == 1
    far.network.worsen("repair", Weather(drop=1.0), 60)
    until(lambda: link.connections and link.connections[0] is not first[0])
    far.network.worsen("repair", Weather(), 0)
    far.publish(10)
    complete(far)


def test_a_request_that_was_damaged_is_answered_so_that_it_is_asked_again(far):
    subscription = subscribe(far.request, ["trade"], from_row=0)
    far.network.worsen("publish", Weather(drop=1.0), 600)
    damaged = bytearray(wire.pack("replay", date=1, table=3, row=0, bytes=100))
    damaged[5] ^= 1
    refused = far.publisher.answers.refused
    subscription._link.dealer.send(bytes(damaged))
    until(lambda: far.publisher.answers.refused > refused, turning=lambda: subscription.next(0.01))
    far.network.worsen("publish", Weather(), 0)
    far.publish(50)
    assert until(lambda: received(subscription)) == list(range(50))
    subscription.close()
