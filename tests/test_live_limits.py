"""What the live driver asks of a venue, whatever its decoder asks for; and what its status says meanwhile."""

import http.server
import json
import re
import socket
import threading
import types
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from tests.fix_plant import events, until
from tickplant.feed import budget, live, rest, standing
from tickplant.feed.formats import open_capture
from tickplant.feed.recording import Recorder
from tickplant.feed.venue import Channel, Connection, Request, Venue
from tickplant.service import Pulse
from tickplant.status import look

PAGE = (Path(__file__).parents[1] / "docs" / "FEEDS.md").read_text()


def acme():
    """The venue that docs/FEEDS.md shows."""
    module = types.ModuleType("acme")
    exec(
        compile(re.search(r"^```python\n(.*?)^```", PAGE, re.M | re.S)[1], "docs/FEEDS.md", "exec"),
        vars(module),
    )
    return module.Acme


class Renumbering:
    """A server that begins to count anew after each subscription: the book is out of step again at once."""

    def __init__(self, markets=("btcusd",)):
        self.markets, self.asked, self.requests, self.status = list(markets), [], [], 200
        self.seq, self.mute = 0, False
        self._sockets = serve(self._client, "127.0.0.1", 0)
        self.ws = f"ws://127.0.0.1:{self._sockets.socket.getsockname()[1]}"
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(self.path)
                entries = [{"id": m, "base": m[:3], "quote": m[3:]} for m in server.markets]
                body = json.dumps({"markets": entries}).encode()
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoints = {
            "https://api.acme.example": f"http://127.0.0.1:{self._http.server_address[1]}",
            "wss://ws.acme.example": self.ws,
        }
        for each in (self._sockets, self._http):
            threading.Thread(target=each.serve_forever, daemon=True).start()

    def _client(self, client):
        try:
            while True:
                message = client.recv()
                self.asked.append(message)
                if json.loads(message).get("subscribe") == "book" and not self.mute:
                    self.seq += 1000
                    for kind, seq in (("snapshot", self.seq), ("change", self.seq + 5)):
                        client.send(json.dumps({"type": kind, "market": "btcusd", "seq": seq}))
        except ConnectionClosed:
            pass

    def close(self):
        self._sockets.shutdown()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def renumbering(monkeypatch):
    monkeypatch.setattr(budget, "AGAIN_S", 0.001)
    monkeypatch.setattr(budget, "PAUSE_MIN_S", 0.001)
    monkeypatch.setattr(live, "WATCH_S", 0.01)
    made = Renumbering()
    yield made
    made.close()


@pytest.fixture
def run(site, plant):
    """run(venue, endpoints): the live driver in a thread, with what the feed's process would have."""
    ends = []

    def started(venue, endpoints):
        feed = site.feed(plant.config)
        driver = live.Live(feed, venue, endpoints=endpoints)
        thread = threading.Thread(target=driver.run)
        thread.start()

        def end():
            feed.stopping.set()
            until(lambda: not thread.is_alive(), turning=plant.turn)

        ends.append(end)
        return types.SimpleNamespace(
            feed=feed,
            venue=venue,
            driver=driver,
            until=lambda condition: until(condition, turning=plant.turn),
        )

    yield started
    for end in ends:
        end()


def fast(kind):
    return type("Fast", (kind,), {"SUBSCRIPTIONS_PER_S": 1e6, "REQUESTS_PER_S": 1e6, "CONNECTS_PER_S": 1e6})


def test_a_book_that_is_out_of_step_again_and_again_is_asked_for_some_times_and_is_a_problem(
    renumbering, run
):
    running = run(fast(acme())(["BTC-USD"], ["book"]), renumbering.endpoints)
    running.until(lambda: any("out of step after each snapshot" in p for p in running.feed.problems))
    asked = [m for m in renumbering.asked if "subscribe" in m]
    assert 2 <= len(asked) <= 1 + budget.TRIES_MAX


class Impatient(Venue):
    """A venue whose decoder asks at each message, and by another one each time."""

    NAME, VENUE, CHANNELS, count = "impatient", "IMPATIENT", (), 0
    DISTINCT = True

    def connections(self):
        return [Connection("ws", "wss://ws.acme.example", ['{"subscribe": "book"}'])]

    def frame(self, conn, data, ts_recv):
        for _ in range(100):
            self.count += self.DISTINCT
            self.replies.append((conn, json.dumps({"subscribe": "book", "n": self.count})))
            self.requests.append(Request(f"https://api.acme.example/book?n={self.count}"))
        return "message"

    def answer(self, url, data, ts_recv):
        self.requests.append(Request(url))
        return "book"


def test_what_is_asked_for_in_other_words_each_time_is_asked_at_the_pace_of_the_venue(
    renumbering, run, monkeypatch
):
    monkeypatch.setattr(live, "WAITING_MAX", 20)
    monkeypatch.setattr(rest, "ASKED_MAX", 20)
    kind = type("Paced", (Impatient,), {"SUBSCRIPTIONS_PER_S": 50.0, "REQUESTS_PER_S": 50.0})
    running = run(kind(["X"]), renumbering.endpoints)
    running.until(lambda: len(renumbering.asked) > 10 and len(renumbering.requests) > 10)
    speech = running.driver._speech["ws"]
    assert len(speech.waiting) <= 20
    assert len(running.driver.rest._asked) <= 20
    running.until(lambda: any("too often" in p for p in running.feed.problems))
    assert len(running.feed.problems) <= live.PROBLEMS_MAX + 1


def test_the_same_message_and_the_same_request_are_given_up(renumbering, run):
    kind = type("Same", (fast(Impatient),), {"DISTINCT": False})
    running = run(kind(["X"]), renumbering.endpoints)
    running.until(lambda: sum("too often" in p for p in running.feed.problems) == 2)
    assert len(renumbering.asked) == 1 + budget.TRIES_MAX
    assert len(renumbering.requests) == budget.TRIES_MAX


def refused():
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_venue_that_was_never_reached_is_a_problem_and_a_list_is_not_waited_for_for_ever(renumbering, run):
    nowhere = refused()
    endpoints = {"https://api.acme.example": f"http://{nowhere}", "wss://ws.acme.example": f"ws://{nowhere}"}
    running = run(fast(acme())(["BTC-USD"]), endpoints)
    running.until(lambda: any("was never reached" in p for p in running.feed.problems))
    (said,) = [p for p in running.feed.problems if "was never reached" in p]
    assert said.startswith("acme (wss://ws.acme.example) was never reached")
    assert any("no list of the venue has BTC-USD" in p for p in running.feed.problems)
    assert any("api.acme.example" in p for p in running.feed.problems)


def test_a_socket_that_says_nothing_is_a_problem(renumbering, run, monkeypatch):
    monkeypatch.setattr(standing, "QUIET_NS", 0)
    renumbering.mute = True
    running = run(fast(acme())(["BTC-USD"]), renumbering.endpoints)
    running.until(lambda: any("and says nothing" in p for p in running.feed.problems))


def test_a_channel_that_ought_to_speak_and_does_not_is_a_problem_and_an_event_once(renumbering, run, plant):
    channels = (Channel("trades", "trade", types=("trade",), silence_s=1e-6), Channel("book", "depth"))
    kind = type("Silent", (fast(acme()),), {"CHANNELS": channels})
    running = run(kind(["BTC-USD"]), renumbering.endpoints)
    running.until(lambda: any("nothing of channel trades" in p for p in running.feed.problems))
    assert not any("channel book" in p for p in running.feed.problems)
    date = plant.day.trading_date
    running.until(lambda: events(plant.config, date, "stale"))
    running.feed.stopping.set()
    assert len(events(plant.config, date, "stale")) == 1


def test_an_instrument_that_a_later_list_has_is_subscribed_to_and_the_others_are_not_touched(
    renumbering, run, monkeypatch
):
    monkeypatch.setattr(live, "SEEK_S", 0.01)
    monkeypatch.setattr(live, "SEEK_MIN_S", 0.01)
    running = run(fast(acme())(["BTC-USD", "ETH-USD"], ["trades"]), renumbering.endpoints)
    running.until(lambda: any("no list of the venue has ETH-USD" in p for p in running.feed.problems))
    renumbering.markets.append("ethusd")
    running.until(lambda: len(renumbering.asked) == 2)
    assert [json.loads(m)["markets"] for m in renumbering.asked] == [["btcusd"], ["ethusd"]]
    assert list(running.driver.standing) == ["acme", "acme+1"]
    running.until(lambda: not any("no list" in p for p in running.feed.problems))


def test_a_venue_that_is_asked_too_much_is_left_alone(renumbering, run):
    renumbering.status = 429
    running = run(fast(acme())(["BTC-USD"]), renumbering.endpoints)
    running.until(lambda: running.driver.rest._free_ns > 0)
    assert len(renumbering.requests) == 1
    assert rest.busy_s(429, {"Retry-After": "7"}) == 7.0
    assert rest.busy_s(503, {}) == 0.0


def test_the_feeds_own_events_are_no_life_of_its_market(site, plant):
    feed = site.feed(plant.config)
    began = feed.status()["last_row_monotonic_ns"]
    feed.row("event", kind="disconnected", text="x")
    feed.flush()
    assert feed.status()["last_row_monotonic_ns"] == began
    feed.row("status", kind="x")
    feed.flush()
    assert feed.status()["last_row_monotonic_ns"] > began
    feed.heard()
    heard = feed.status()["last_row_monotonic_ns"]
    feed.row("status", kind="x")
    feed.flush()
    assert feed.status()["last_row_monotonic_ns"] == heard


def test_what_a_feed_knows_to_be_wrong_is_a_problem_of_the_plant(site, plant):
    feed = site.feed(plant.config)
    feed.problems = ["acme was never reached"]
    name = f"feed-{feed.name}"
    plant.config.status_dir.mkdir(parents=True, exist_ok=True)
    Pulse(name, plant.config.status_dir, feed.status).write("running")
    assert f"{name}: acme was never reached" in look(plant.config)["problems"]


def test_what_was_given_up_is_in_the_recording(tmp_path):
    recorder = Recorder(tmp_path / "r", "KRAKEN", {}, 0)
    recorder.add("unanswered", "rest", 5, "why; 8 tries", url="https://x")
    recorder.add("event", "unanswered", 6, "ws: subscribe: asked for too often")
    recorder.close()
    (((_, rows),),) = list(open_capture(tmp_path / "r"))
    assert rows[["kind", "ts_recv", "text"]].tolist() == [
        (b"unanswered", 5, b"https://x: why; 8 tries; not asked again"),
        (b"unanswered", 6, b"ws: subscribe: asked for too often"),
    ]
