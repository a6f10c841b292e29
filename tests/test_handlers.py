"""Which handlers a configuration can name, what is checked before they run, and how they run."""

import json

import itch_messages as itch
import pytest

from tests.fix_plant import rows_of, until
from tickplant.errors import CaptureError, ConfigError
from tickplant.feed import handlers
from tickplant.feed.formats import open_capture


def mine(feed, *, venue="XMYV", count=3):
    """A handler of somebody's own."""
    code = feed.instrument(venue, "ACME")
    for i in range(count):
        feed.trade(instrument=code, price=1.0 + i, size=100.0, side="B")
    feed.flush()


def refuses(feed):
    raise CaptureError("this venue is closed")


NOT_A_FUNCTION = 7


def configured(site, handler, **options):
    return site.configured(feeds={"mine": {"id": 7, "handler": handler, "options": options}})


def test_every_handler_of_tickplants_own_has_a_name():
    for name, handler in handlers.HANDLERS.items():
        assert handlers.resolve(name) is handler


def test_a_handler_of_ones_own_is_found_by_module_and_function():
    assert handlers.resolve(f"{__name__}:mine") is mine


@pytest.mark.parametrize(("name", "said"), [
    ("nonsense", "it is not of the form package.module:name; built in are simulated, itch50, capture"),
    ("no.such.module:run", "No module named 'no'"),
    (f"{__name__}:nothing", "has no nothing"),
    (f"{__name__}:NOT_A_FUNCTION", "is not a function"),
    (":", "it is not of the form package.module:name"),
    ("", "no feed handler ''"),
    (":run", "it is not of the form package.module:name"),
])  # fmt: skip
def test_a_handler_that_is_not_there_is_refused_by_name(name, said):
    with pytest.raises(ConfigError, match=said):
        handlers.resolve(name)


@pytest.mark.parametrize("options", [{"colour": 1}, {"venue": "X", "count": 1, "more": 2}])
def test_options_that_a_handler_lacks_are_refused_before_it_runs(site, options):
    cfg = configured(site, f"{__name__}:mine", **options)
    with pytest.raises(ConfigError, match=r"feeds.mine.options: got an unexpected keyword"):
        handlers.prepare(cfg, "mine")


def test_an_option_that_is_needed_and_missing_is_refused(site):
    with pytest.raises(ConfigError, match=r"feeds.mine.options: missing a required"):
        handlers.prepare(configured(site, "capture"), "mine")


def test_a_feed_that_is_not_configured_is_refused(cfg):
    with pytest.raises(ConfigError, match=r"no \[feeds.three\]; there are: one, two"):
        handlers.prepare(cfg, "three")


def taken(plant, feed, rows):
    """Turn the plant until it has so many rows of this feed's session."""
    until(lambda: plant.day.intake.session(feed.number) == (feed.session, rows), turning=plant.turn)
    plant.commit()


def test_a_handler_of_ones_own_publishes_with_its_options(site):
    cfg = configured(site, f"{__name__}:mine", venue="XBOS", count=5)
    plant = site.ticker_plant(cfg)
    feed, run = handlers.prepare(cfg, "mine")
    feed.open()
    run()
    taken(plant, feed, 6)
    assert rows_of(cfg, plant.day.trading_date, "trade")["price"].tolist() == [1, 2, 3, 4, 5]
    assert list(plant.registry.instruments) == ["XBOS:ACME"]
    feed.close(0.0)


def test_a_capture_is_published_whole(site, tmp_path):
    path = tmp_path / "12302019.itch"
    path.write_bytes(itch.file(itch.one_of_each()))
    cfg = configured(site, "itch50", path=str(path), venue="XBOS", date="2019-12-31")
    plant = site.ticker_plant(cfg)
    feed, run = handlers.prepare(cfg, "mine")
    feed.open()
    run()
    taken(plant, feed, feed.rows_published)
    trades = rows_of(cfg, plant.day.trading_date, "trade")
    assert trades["action"].tolist().count(b"X") == 1
    assert (trades["ts_recv"] >= trades["ts_event"]).all()
    assert set(plant.registry.instruments) == {"XBOS:ACME"}
    feed.close(0.0)


def test_a_simulated_venue_ends_after_its_seconds_and_at_once_when_told(site):
    cfg = configured(site, "simulated", seconds=0.1, rate=5000.0, instruments=10)
    plant = site.ticker_plant(cfg)
    feed, run = handlers.prepare(cfg, "mine")
    feed.open()
    run()
    assert feed.rows_published > 10
    taken(plant, feed, feed.rows_published)
    endless = configured(site, "simulated", instruments=10)
    feed.stopping.set()
    handlers.simulated(feed, **endless.feed("mine").options)
    feed.close(0.0)


def test_a_capture_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CaptureError, match=f"can't read {tmp_path}/none: No such file or directory"):
        open_capture(tmp_path / "none")


@pytest.mark.parametrize("handler", ["refuses", "mine"])
def test_how_a_feed_ended_is_in_its_status(site, plant, monkeypatch, handler):
    cfg = configured(site, f"{__name__}:{handler}")
    monkeypatch.setattr(handlers.service, "stop_event", lambda event: None)
    monkeypatch.setattr(handlers, "DRAIN_S", 0.0)
    if handler == "refuses":
        with pytest.raises(CaptureError):
            handlers.run_feed(cfg, "mine")
    else:
        handlers.run_feed(cfg, "mine")
    said = json.loads((cfg.status_dir / "feed-mine.json").read_text())
    expected = ("failed", "this venue is closed") if handler == "refuses" else ("finished", None)
    assert (said["state"], said.get("error")) == expected
