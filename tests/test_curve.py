"""Who gets in over TCP: known keys, each to its own side and in its own name; and rows go on meanwhile."""

import socket

import numpy as np
import pytest
import zmq

from tests.fix_curve import Stranger, curved, fresh_keys, goes_on, turned
from tests.fix_plant import check_claims, events, free_port, rows_of, trades, until
from tickplant import curve, sockets, subscribe, subscriber, wire, zap
from tickplant._core import framing
from tickplant.cli.main import cli
from tickplant.clock import date_after
from tickplant.curve import Guard
from tickplant.errors import AlreadyRunning, ConfigError, NotRunning
from tickplant.keys import FEEDS, READERS, Keys
from tickplant.tickerplant import TickerPlant


@pytest.fixture
def cfg(site):
    return curved(site)


@pytest.fixture
def keys(cfg):
    return Keys(cfg.keys_dir)


@pytest.fixture
def raw(site, plant, keys):
    return site.raw_feed(plant, keys=keys.client("one", FEEDS))


@pytest.fixture
def other(site, plant, keys):
    return site.raw_feed(plant, 2, keys=keys.client("two", FEEDS))


@pytest.fixture
def strange(request):
    """Make a Stranger; it is closed at the end."""

    def make(*arguments, **options):
        made = Stranger(*arguments, **options)
        request.addfinalizer(made.close)
        return made

    return make


@pytest.fixture
def quick(monkeypatch):
    """Guards that look all the time."""
    monkeypatch.setattr(curve, "LOOK_NS", 0)


def told(plant, kind="refused"):
    plant.commit()
    return [about for about, *_ in events(plant.config, plant.day.trading_date, kind)]


def endpoints(cfg):
    return cfg.tickerplant.ingress, cfg.tickerplant.repair, cfg.publisher.publish, cfg.publisher.request


def test_a_small_plant_over_tcp_loses_nothing(site, cfg):
    plant, publisher = site.ticker_plant(cfg), site.publisher(cfg)
    desk = cfg.keys_dir / READERS / "desk.key_secret"
    with turned(plant, publisher):
        feed = site.feed(cfg)
        code = feed.instrument("XTST", "A")
        sent = 0
        subscription = subscribe(cfg.publisher.request, ["trade"], from_row=0, keys=desk)
        got = []
        for round_ in range(20):
            feed.append("trade", trades(cfg.schema["trade"], sent, 500, code))
            sent += 500
            if round_ == 10:  # all connections end; what is lost by that is fetched
                sockets.cut(publisher.pub, publisher.endpoint)
        assert feed.drained(30)

        def taken():
            batch = subscription.next(0.1)
            if batch is not None:
                got.append(batch)
            return sum(len(b) for b in got) >= sent

        until(taken)
        names = list(subscription.instruments)
        subscription.close()
        feed.close()
    rows = np.concatenate([np.asarray(b) for b in got])
    assert rows["trade_id"].tolist() == list(range(sent))
    assert names == ["XTST:A"]
    assert plant.ingress.strangers == 0
    check_claims(plant)


def test_real_processes_find_their_keys(site, cfg):
    site.run_ticker_plant()
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 100))
    assert feed.drained(30)
    site.run("run", "publisher")
    keys = cfg.keys_dir / READERS / "desk.key_secret"
    subscription = until(lambda: joined(cfg.publisher.request, keys))
    got = []
    until(lambda: sum(map(len, got)) == 100, turning=lambda: got.append(received(subscription)))
    subscription.close()
    assert [i for ids in got for i in ids] == list(range(100))


def received(subscription):
    batch = subscription.next(0.1)
    return [] if batch is None else batch["trade_id"].tolist()


def joined(endpoint, keys):
    try:
        return subscribe(endpoint, ["trade"], keys=keys)
    except NotRunning:
        return None


def test_repair_works_over_curve(plant, raw):
    goes_on(raw)
    assert {m["op"] for m in raw.asked} == {"fetch"}
    assert rows_of(plant.config, plant.day.trading_date, "trade")["trade_id"].tolist() == list(range(6))
    assert told(plant, "gap") == told(plant) == []


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("who", ["wrong server key", "unknown key", "plaintext", "revoked key", "other side"])
def test_who_has_no_key_for_an_endpoint_does_not_get_in(site, cfg, plant, raw, keys, strange, which, who):
    publisher = site.publisher(cfg)
    domain, opposite = (FEEDS, READERS) if which < 2 else (READERS, FEEDS)
    name = {FEEDS: "two", READERS: "desk"}
    good = keys.client(name[domain], domain)
    having = {
        "wrong server key": good._replace(server=zmq.curve_keypair()[0]),
        "unknown key": fresh_keys(cfg),
        "plaintext": None,
        "revoked key": good,
        "other side": keys.client(name[opposite], opposite),
    }[who]
    if who == "revoked key":
        keys.revoke(name[domain])
    kind = (zmq.PUB, zmq.DEALER, zmq.SUB, zmq.DEALER)[which]
    stranger = strange(endpoints(cfg)[which], having, kind)

    def turn():
        plant.turn()
        publisher.turn()

    until(lambda: stranger.refused >= 2, turning=turn)
    assert not stranger.admitted
    goes_on(raw)
    assert plant.ingress.strangers == publisher.answers.requests == 0


def test_who_has_a_key_gets_in_everywhere_on_its_side(site, cfg, plant, keys, strange):
    """What the test above would not see if nobody at all got in."""
    publisher = site.publisher(cfg)
    feed, desk = keys.client("two", FEEDS), keys.client("desk", READERS)
    kinds = (zmq.PUB, zmq.DEALER, zmq.SUB, zmq.DEALER)
    for endpoint, having, kind in zip(endpoints(cfg), (feed, feed, desk, desk), kinds, strict=True):
        comer = strange(endpoint, having, kind)
        until(lambda c=comer: c.admitted, turning=lambda: (plant.turn(), publisher.turn()))
        assert comer.refused == 0


def test_a_feed_that_publishes_in_anothers_name_is_refused_and_told(plant, raw, other):
    raw.send(raw.trades(2))
    raw.settle()
    forged = raw.frame(raw.schema["trade"], raw.schema["trade"].empty(1))
    other.send(forged, b"", forged[:19], forged)
    until(lambda: plant.ingress.strangers == 4, turning=plant.turn)
    goes_on(raw)
    other.send(other.trades(1))
    other.settle()
    assert told(plant) == [2, 2, 2]
    assert told(plant, "malformed") == []
    rows = rows_of(plant.config, plant.day.trading_date, "trade")
    assert rows["feed"].tolist() == [1] * 8 + [2]
    check_claims(plant)


def test_a_feed_that_answers_in_anothers_name_is_refused_and_told(plant, raw, other, keys, strange):
    raw.send(raw.trades(2))
    raw.settle()
    liar = strange(plant.config.tickerplant.repair, keys.client("two", FEEDS), zmq.DEALER, identity="one")
    lie = raw.frame(raw.schema["trade"], raw.schema["trade"].empty(5), seq=raw.seq)
    liar.socket.send(wire.pack("hello", session=raw.session, seq=raw.seq + 5, process=2))
    head = wire.pack("frames", session=raw.session, seq=raw.seq, more=False, crc=framing.crc32c(lie))
    liar.socket.send_multipart([head, lie])
    until(lambda: plant.ingress.strangers >= 2, turning=plant.turn)
    assert not plant.ingress.feeds[1].fetching
    assert set(told(plant)) == {2}
    raw.trades(3)  # to be fetched, from whom they are of, while the liar is still there
    raw.send(raw.beat())
    raw.settle()
    ids = rows_of(plant.config, plant.day.trading_date, "trade")["trade_id"].tolist()
    assert ids == list(range(5))


def test_rows_in_anothers_name_do_not_stop_that_ones_rows(plant, raw, other):
    forged = raw.frame(raw.schema["trade"], raw.schema["trade"].empty(1))
    for _ in range(30):
        other.send(*[forged] * 50)
        raw.send(raw.trades(5))
    raw.settle()
    until(lambda: plant.ingress.strangers >= 1000, turning=plant.turn)  # the rest PUB may have dropped
    assert len(told(plant)) == plant.ingress.strangers.bit_length()
    assert rows_of(plant.config, plant.day.trading_date, "trade")["trade_id"].tolist() == list(range(150))


def test_a_key_that_is_no_feeds_may_say_nothing(cfg, plant, raw, keys, strange):
    keys.new("three", FEEDS)
    three = strange(cfg.tickerplant.ingress, keys.client("three", FEEDS))
    forged = raw.frame(raw.schema["trade"], raw.schema["trade"].empty(1))

    def said():
        three.socket.send(forged)
        return plant.ingress.strangers

    until(said, turning=plant.turn)
    goes_on(raw)
    assert set(told(plant)) == {0}


def test_raw_connections_that_are_idle_or_talk_garbage_hold_nothing_up(plant, raw):
    held = []
    try:
        for endpoint in endpoints(plant.config)[:2]:
            address = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
            for n in range(40):
                held.append(socket.create_connection(address))
                greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE"
                held[-1].sendall((b"", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 20, greeting)[n % 4])
            goes_on(raw)
        goes_on(raw)
    finally:
        for one in held:
            one.close()
    assert plant.ingress.strangers == 0


@pytest.mark.parametrize("rolls", [False, True])
def test_a_revoked_feed_is_cut_off_while_it_runs_and_the_others_come_back(
    plant, raw, other, keys, quick, rolls
):
    raw.send(raw.trades(2))
    other.send(other.trades(2))
    raw.settle()
    other.settle()
    if rolls:  # as at midnight: the first rows are in the date before
        plant.roll(date_after(plant.day.trading_date))
    keys.revoke("two")
    one = keys.client("one", FEEDS).public
    until(lambda: plant.guard._admitted == {one}, turning=plant.guard.look)

    def back():
        raw.send(raw.trades(1))
        raw.say("hello", session=raw.session, seq=raw.seq)
        other.send(other.trades(1))
        plant.turn()
        raw.serve()

    until(lambda: plant.day.intake.session(1)[1] > 10, turning=back)
    raw.settle()
    assert plant.day.intake.session(2) == (other.session, 2)
    plant.commit()
    dates = sorted(int(folder.name) for folder in plant.config.journal_dir.glob("[0-9]" * 8))
    rows = np.concatenate([rows_of(plant.config, date, "trade") for date in dates])
    assert rows["trade_id"][rows["feed"] == 1].tolist() == list(range(raw.seq))
    check_claims(plant)


def test_a_revoked_reader_is_cut_off_while_it_reads_and_the_others_miss_nothing(site, cfg, keys, quick):
    keys.new("lamp", READERS)
    plant, publisher = site.ticker_plant(cfg), site.publisher(cfg)
    with turned(plant, publisher):
        feed = site.feed(cfg)
        desk, lamp = (
            subscribe(cfg.publisher.request, ["trade"], keys=cfg.keys_dir / READERS / f"{n}.key_secret")
            for n in ("desk", "lamp")
        )
        seen = {desk: 0, lamp: 0}

        def publish():
            feed.trade(price=1.0, size=1.0)
            feed.flush()
            for one in seen:
                if (batch := one.next(0.01)) is not None:
                    assert batch.first_row == seen[one]
                    seen[one] += len(batch)

        until(lambda: min(seen.values()) > 5, turning=publish)
        keys.revoke("lamp")
        until(lambda: len(publisher.guard._admitted) == 1, turning=publish)
        while lamp.next(0.05) is not None:
            pass
        upto = seen[desk]
        seen.pop(lamp)
        until(lambda: seen[desk] > upto + 20, turning=publish)
        assert lamp.next(0.05) is None
        desk.close()
        lamp.close()
        feed.close(0.0)


def moved(keys, domain, name, before, after):
    path = keys.folder / domain / f"{name}.{before}"
    path.rename(path.with_suffix(f".{after}"))


def test_a_feed_whose_key_is_accepted_after_it_began_comes_in_and_has_lost_nothing(site, cfg, keys, caplog):
    moved(keys, FEEDS, "one", "key", "away")
    plant = site.ticker_plant(cfg)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 100))
    until(lambda: feed._live.refused, turning=plant.turn)
    assert plant.day.intake.session(1) == (0, 0)
    moved(keys, FEEDS, "one", "away", "key")
    until(lambda: feed.drained(0.0), turning=plant.turn)
    until(lambda: not feed._live.refused, turning=plant.turn)
    before = plant.ingress.feeds[1].asked
    feed.append("trade", trades(cfg.schema["trade"], 100, 100))
    until(lambda: feed.drained(0.0), turning=plant.turn)
    assert plant.ingress.feeds[1].asked == before  # that came live
    ids = rows_of(cfg, plant.day.trading_date, "trade")["trade_id"].tolist()
    assert ids == list(range(200))
    assert told(plant, "gap") == []
    said = [r.message for r in caplog.records if "is not accepted" in r.message]
    assert len(said) == 1


def test_a_feed_that_was_revoked_and_is_accepted_again_comes_back_and_has_lost_nothing(
    site, cfg, plant, keys, quick
):
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 100))
    until(lambda: feed.drained(0.0), turning=plant.turn)
    keys.revoke("one")
    until(lambda: feed._live.refused, turning=lambda: (plant.turn(), plant.guard.look()))
    feed.append("trade", trades(cfg.schema["trade"], 100, 100))
    for _ in range(20):
        plant.turn()
    assert not feed.drained(0.0)
    moved(keys, FEEDS, "one", "revoked", "key")
    until(lambda: feed.drained(0.0), turning=plant.turn)
    ids = rows_of(cfg, plant.day.trading_date, "trade")["trade_id"].tolist()
    assert ids == list(range(200))
    assert told(plant, "gap") == []


def test_a_reader_that_was_revoked_and_is_accepted_again_reads_on_where_it_was(site, cfg, keys, quick):
    plant, publisher = site.ticker_plant(cfg), site.publisher(cfg)
    with turned(plant, publisher):
        feed = site.feed(cfg)
        desk = subscribe(cfg.publisher.request, ["trade"], keys=cfg.keys_dir / READERS / "desk.key_secret")
        keys_file = cfg.keys_dir / READERS / "desk.key"
        seen = []

        def read():
            if (batch := desk.next(0.02)) is not None:
                seen.extend(batch["trade_id"].tolist())

        feed.append("trade", trades(cfg.schema["trade"], 0, 100))
        until(lambda: len(seen) == 100, turning=read)
        keys_file.rename(keys_file.with_suffix(".revoked"))
        until(
            lambda: desk._link._requests.refused and all(c.refused for c in desk._link._pushed), turning=read
        )
        feed.append("trade", trades(cfg.schema["trade"], 100, 100))
        assert len(seen) == 100
        keys_file.with_suffix(".revoked").rename(keys_file)
        until(lambda: len(seen) == 200, turning=read)
        desk.close()
        feed.close(0.0)
    assert seen == list(range(200))


def test_a_reader_without_the_right_keys_is_told_what_to_look_at(site, cfg, keys, monkeypatch):
    plant, publisher = site.ticker_plant(cfg), site.publisher(cfg)
    stranger = fresh_keys(cfg)
    pair = (stranger.public.decode(), stranger.secret.decode())
    good = cfg.keys_dir / READERS / "desk.key_secret"
    with turned(plant, publisher):
        for options in (
            {},
            {"keys": pair, "server_key": stranger.server.decode()},
            {"keys": good, "server_key": pair[0]},
            {"keys": cfg.keys_dir / FEEDS / "one.key_secret"},
        ):
            with monkeypatch.context() as m, pytest.raises(NotRunning, match="tickplant keys list"):
                m.setattr(subscriber, "PATIENCE_NS", 300_000_000)
                subscribe(cfg.publisher.request, ["trade"], **options)
        mine = keys.client("desk", READERS)
        pair = (mine.public.decode(), mine.secret.decode())
        subscribe(cfg.publisher.request, ["trade"], keys=pair, server_key=mine.server.decode()).close()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"keys": "/nowhere/x.key_secret"}, "can't read"),
        ({"keys": ("a" * 40, "b" * 40)}, "server_key"),
        ({"keys": ("short", "b" * 40), "server_key": "c" * 40}, "Z85"),
    ],
)
def test_keys_that_are_none_are_refused_at_once(options, what):
    with pytest.raises(ConfigError, match=what):
        subscribe("tcp://127.0.0.1:1", ["trade"], **options)


def test_tail_reads_from_elsewhere_with_a_key(site, cfg, capsys):
    plant, publisher = site.ticker_plant(cfg), site.publisher(cfg)
    desk = str(cfg.keys_dir / READERS / "desk.key_secret")
    with turned(plant, publisher):
        feed = site.feed(cfg)
        feed.append("trade", trades(cfg.schema["trade"], 0, 3))
        assert feed.drained(30)
        until(lambda: publisher.day.rows.get(3) == 3)
        arguments = ["tail", "trade", "-n", "3", "--remote", cfg.publisher.request, "--keys", desk]
        cli(arguments, standalone_mode=False)
        feed.close()
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3  # what the columns are, and the rows


def test_a_feed_without_its_key_says_where_it_has_to_be(site, cfg, keys):
    keys.revoke("one")
    with pytest.raises(ConfigError, match="tickplant keys new one --feed"):
        site.feed(cfg)


def test_a_plant_without_keys_does_not_start(site):
    cfg = site.configured(security={"curve": True})
    plant = TickerPlant(cfg)
    with pytest.raises(ConfigError, match="tickplant keys new"):
        plant.open()
    for held in (plant.sub, plant.router, plant.admin):
        held.close(linger=0)
    for lock in plant._locks:
        lock.release()


def test_ipc_stays_plain_when_curve_is_on(site):
    cfg = curved(
        site, tickerplant={"ingress": f"ipc://{site.folder}/in", "repair": f"ipc://{site.folder}/rep"}
    )
    plant = site.ticker_plant(cfg)
    goes_on(site.raw_feed(plant))
    assert plant.ingress.strangers == 0


def test_curve_may_be_offered_to_the_network_and_plaintext_may_not(site, cfg, keys):
    with sockets.context().socket(zmq.PULL) as one:
        guard = Guard(cfg, FEEDS)
        assert guard.bind(one, "tcp://0.0.0.0:*").startswith("tcp://0.0.0.0:")
    guard.close()
    plain = site.configured(tickerplant={"ingress": f"tcp://0.0.0.0:{free_port()}"})
    with sockets.context().socket(zmq.SUB) as one:
        with pytest.raises(ConfigError, match="plaintext"):
            Guard(plain, FEEDS).bind(one, plain.tickerplant.ingress)
        allowed = site.configured(security={"allow_plaintext": True})
        assert Guard(allowed, FEEDS).bind(one, "tcp://0.0.0.0:*")


def test_without_anybody_to_judge_nobody_gets_in(cfg, plant, raw, keys, strange):
    zap.end(plant.guard)
    late = strange(cfg.tickerplant.ingress, keys.client("two", FEEDS))
    until(lambda: late.refused >= 2, turning=plant.turn)
    assert not late.admitted


def test_keys_that_can_not_be_read_let_nobody_in_and_cut_nobody_off(plant, raw, keys, monkeypatch, quick):
    def unreadable(domain):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(plant.guard.keys, "accepted", unreadable)
    assert plant.guard.admit(keys.client("two", FEEDS).public) == ""
    plant.guard.look()
    goes_on(raw)


def test_two_plants_in_one_process_do_not_share_a_door(cfg, plant):
    with pytest.raises(AlreadyRunning, match="feeds"):
        Guard(cfg, FEEDS)


def test_the_feeds_number_is_where_wire_says(raw):
    frame = raw.frame(raw.schema["trade"], raw.schema["trade"].empty(1), feed=0x0A0B)
    assert frame[wire.FEED] == wire.number(0x0A0B)
    assert wire.header(frame).feed == 0x0A0B
