"""A feed of another plant, or one that the plant does not know: nothing is taken, and both sides say why."""

import copy

import pytest

from tests.fix_plant import Site, closed, events, rows_of, trades, until
from tickplant import wire
from tickplant.config import Config
from tickplant.errors import ConfigError
from tickplant.feed import binding
from tickplant.feed.outbox import Outbox
from tickplant.identity import Identity


def edited(cfg: Config, **changes) -> Config:
    content = copy.deepcopy(dict(cfg.content))
    for section, values in changes.items():
        content[section] |= values
    return Config(content, cfg.path)


@pytest.fixture
def staging():
    made = Site()
    yield made
    made.clear()


def elsewhere(staging, cfg, **changes) -> Config:
    """The configuration of another plant that has the endpoints of this one."""
    ends = {name: cfg.content["tickerplant"][name] for name in ("ingress", "repair")}
    return staging.configured(tickerplant=ends, **changes)


def test_a_feed_of_another_plant_is_not_taken_in_and_both_sides_say_so(site, plant, staging):
    cfg = elsewhere(staging, plant.config)
    feed = staging.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 100))
    until(lambda: feed.status()["waiting"], turning=plant.turn)
    feed.append("trade", trades(cfg.schema["trade"], 100, 100))
    until(lambda: plant.ingress.strangers > 1, turning=plant.turn)
    plant.commit()
    assert len(rows_of(plant.config, plant.day.trading_date, "trade")) == 0
    assert site.name in feed.status()["waiting"]
    texts = rows_of(plant.config, plant.day.trading_date, "event")["text"].tolist()
    assert any(b"is one of" in t and staging.name.encode() in t for t in texts)
    assert feed._outbox.waiting_bytes
    assert not feed.drained(0.0)


def test_a_feed_whose_plant_was_made_anew_keeps_its_rows_for_the_former(site, cfg, plant):
    folder = cfg.outbox_dir("one")
    folder.mkdir(parents=True)
    binding.Binding("one", 1, cfg.plant.name, "f" * 32).write(folder)
    feed = site.feed(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 10))
    until(lambda: feed.status()["waiting"], turning=plant.turn)
    assert str(folder / "bound") in feed.status()["waiting"]
    assert plant.day.intake.session(1) == (0, 0)


def test_a_feed_learns_its_plant_at_the_first_contact_and_keeps_to_it(site, cfg, staging):
    far = staging.configured(plant={"name": site.name}, tickerplant=cfg.content["tickerplant"])
    feed = staging.feed(far)  # before its plant ever ran, on another host
    assert feed._outbox.binding.of == Identity(site.name)
    plant = site.ticker_plant(cfg)
    feed.append("trade", trades(cfg.schema["trade"], 0, 10))
    until(lambda: feed.drained(0.0), turning=plant.turn)
    assert binding.read(far.outbox_dir("one")).of == plant.identity


def test_a_feed_that_was_added_to_a_running_plant_hears_why_it_is_refused(site, cfg, plant):
    more = edited(cfg, feeds={"three": {"id": 3, "handler": "none"}})
    feed = site.feed(more, "three")
    feed.append("trade", trades(cfg.schema["trade"], 0, 10))
    until(lambda: feed.status()["waiting"], turning=plant.turn)
    assert "[feeds.three]" in feed.status()["waiting"]
    assert "restart" in feed.status()["waiting"]
    closed(plant)
    again = site.ticker_plant(more)
    until(lambda: feed.drained(0.0), turning=again.turn)
    assert len(rows_of(more, again.day.trading_date, "trade")) == 10
    assert feed.status()["waiting"] is None
    assert events(more, again.day.trading_date, "gap") == []


def test_an_outbox_is_its_feeds_with_its_number(cfg):
    box = Outbox(cfg.outbox_dir("one"), "one", 1 << 20, 1 << 30, 1, "tp")
    box.open()
    box.begin()
    box.close()
    for feed, number, plant in (("one", 2, "tp"), ("two", 1, "tp"), ("one", 1, "other")):
        with pytest.raises(ConfigError, match="is the outbox of"):
            Outbox(cfg.outbox_dir("one"), feed, 1 << 20, 1 << 30, number, plant).open()


def test_an_outbox_whose_note_is_gone_is_still_its_feeds(cfg):
    box = Outbox(cfg.outbox_dir("one"), "one", 1 << 20, 1 << 30, 1, "tp")
    box.open()
    box.begin()
    box.close()
    (cfg.outbox_dir("one") / "bound").unlink()
    with pytest.raises(ConfigError, match="with number 1"):
        Outbox(cfg.outbox_dir("one"), "one", 1 << 20, 1 << 30, 2, "tp").open()


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("hello", {"session": (1 << 64) - 1, "seq": 5, "process": 1}),
        ("hello", {"session": (1 << 63) - 1, "seq": 5, "process": 1}),
        ("hello", {"session": 1, "seq": (1 << 60), "process": 1}),
        ("beside", {"session": 1, "seq": 0, "position": (1 << 64) - 1, "file": [1, 2], "process": 1}),
        ("beside", {"session": 1, "seq": 0, "position": (1 << 63) - 1, "file": "mine", "process": 1}),
        ("place", {"feed": 5}),
    ],
)
def test_what_no_feed_says_is_refused_and_locks_no_feed_out(plant, raw, op, fields):
    if fields.get("file") == "mine":
        folder = plant.config.outbox_dir("one")
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        (folder / f"{0:020d}.tpj").touch()
        found = (folder / "lock").stat()
        fields = fields | {"file": [found.st_dev, found.st_ino]}
        before = plant.ingress.strangers
        raw.say(op, **fields)
        raw.say("hello", session=(1 << 64) - 1, seq=0)
    else:
        before = plant.ingress.strangers
        raw.say(op, **fields)
    until(lambda: plant.ingress.strangers > before, turning=plant.turn)
    raw.send(raw.trades(3))
    raw.settle()
    assert len(rows_of(plant.config, plant.day.trading_date, "trade")) == 3


def test_what_was_not_foreseen_costs_the_peer_and_not_the_plant(plant, raw, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("not foreseen")

    with monkeypatch.context() as m:
        m.setattr(plant.ingress, "_hello", broken)
        raw.say("hello", session=raw.session, seq=0)
        until(lambda: plant.ingress.strangers, turning=plant.turn)
    raw.send(raw.trades(3))
    raw.settle()
    texts = rows_of(plant.config, plant.day.trading_date, "event")["text"].tolist()
    assert any(b"ZeroDivisionError" in t for t in texts)


@pytest.mark.parametrize("date", ["x", -1, (1 << 64) - 1, 1.5, None, True, [1], 99])
def test_an_end_of_day_that_names_no_date_is_refused(plant, date):
    answer = wire.unpack(plant._serve(wire.pack("eod", date=date)))
    assert answer["op"] == "error"
    assert plant.turn() in (True, False)
