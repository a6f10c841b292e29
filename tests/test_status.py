"""How a plant looks from outside: sound, and with every kind of problem."""

import io
import json
import os

import msgspec
import pytest
from rich.console import Console

from tickplant import status
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.config import Config

DEAD = 4_194_303
"""A pid that nobody has."""


class Said:
    """What processes have said, to be told otherwise."""

    def __init__(self, cfg):
        self.cfg = cfg
        cfg.status_dir.mkdir(parents=True)

    def say(self, name, **said):
        usual = {
            "name": name, "state": "running", "pid": os.getpid(), "written_monotonic_ns": monotonic_ns(),
            "memory_bytes": 12_000_000,
        }  # fmt: skip
        (self.cfg.status_dir / f"{name}.json").write_text(json.dumps(usual | said))

    def problems(self):
        return status.look(self.cfg)["problems"]


@pytest.fixture
def said(plant):
    """A plant whose processes all say that they are well."""
    plant.turn()
    made = Said(plant.config)
    made.say("tickerplant", **plant.status())
    for name in ("publisher", "hdb", "feed-one", "feed-two"):
        made.say(name)
    return made


def test_a_plant_that_is_well_has_no_problems(said, plant):
    seen = status.look(plant.config)
    assert seen["problems"] == []
    assert (seen["plant"], seen["state"]) == (plant.config.plant.name, "running")
    assert seen["trading_date"] == plant.day.trading_date
    assert set(seen["rows"]) == {t.name for t in plant.config.schema}
    assert set(seen["processes"]) == {"tickerplant", "publisher", "hdb", "feed-one", "feed-two"}
    assert json.loads(json.dumps(seen)) == seen


def test_a_plant_that_was_never_started_says_how_to_start_it(cfg):
    seen = status.look(cfg)
    assert seen["state"] == "not running"
    assert (
        f"the ticker plant is not running; start it: tickplant --config {cfg.path} run tickerplant"
        in (seen["problems"][0])
    )
    assert "hdb has never said how it is; is it started?" in seen["problems"]
    assert (seen["rows"], seen["trading_date"], seen["proofs"]) == ({}, None, [])


def test_a_plant_that_stopped_died_or_stalls_is_told_apart(said, plant):
    plant.control.pid.store(1)  # it has been there longer than any plant
    plant.control.heartbeat.store(monotonic_ns() - 3 * SECOND_NS)
    assert said.problems() == [
        "the ticker plant has not turned for 2 s; see its log, or restart tickplant-tickerplant"
    ]
    plant.control.pid.store(DEAD)
    assert said.problems()[0].startswith("the ticker plant is dead; start it")
    plant.control.pid.store(0)
    assert said.problems()[0].startswith("the ticker plant is stopped; start it")


@pytest.mark.parametrize(("how", "problem"), [
    ({"state": "failed", "error": "no disk"}, "hdb failed: no disk"),
    ({"state": "stopped"}, "hdb is stopped"),
    ({"pid": DEAD}, f"hdb (pid {DEAD}) is gone; its supervisor should bring it back"),
    ({"written_monotonic_ns": 0}, "hdb has said nothing for more than 5 s: it hangs"),
    ({"written_monotonic_ns": 1 << 62}, "hdb has said nothing for more than 5 s: it hangs"),
    ({"waiting": "PostgreSQL is away"}, "hdb: PostgreSQL is away"),
    ({"degraded": "no room in /dev/shm"}, "hdb: no room in /dev/shm"),
])  # fmt: skip
def test_a_process_that_is_not_well_is_a_problem(said, how, problem):
    said.say("hdb", **how)
    assert said.problems() == [problem]


def test_a_feed_that_is_finished_is_none(said):
    said.say("feed-one", state="finished", pid=DEAD)
    assert said.problems() == []


def test_rows_that_a_feed_lost_are_a_problem(said, plant):
    about = plant.status()
    about["feeds"]["two"]["gaps"] = 3
    said.say("tickerplant", **about)
    assert said.problems() == ["feed two lost rows 3 times; see: tickplant tail event"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "\0"])
def test_a_status_file_that_can_not_be_read_is_a_process_that_has_said_nothing(said, text):
    (said.cfg.status_dir / "hdb.json").write_text(text)
    assert said.problems() == ["hdb has never said how it is; is it started?"]


def test_the_newest_proofs_are_shown(said):
    folder = said.cfg.plant.data_dir / "proofs"
    folder.mkdir()
    for day in range(1, 8):
        proof = {"trading_date": 20261100 + day, "complete": day != 6, "records": []}
        (folder / f"{20261100 + day}.json").write_text(json.dumps(proof))
    shown = status.look(said.cfg)["proofs"]
    assert [(p["trading_date"], p["complete"]) for p in shown] == [
        (20261100 + d, d != 6) for d in range(3, 8)
    ]


def screen(cfg):
    out = io.StringIO()
    status.show(status.look(cfg), Console(file=out, width=200))
    return out.getvalue()


def test_the_screen_shows_processes_rows_and_what_is_wrong(said, plant):
    shown = screen(plant.config)
    assert "all is well" in shown
    assert f"plant {plant.config.plant.name} running, trading date {plant.day.trading_date}" in shown
    assert "12 MB" in shown
    said.say("hdb", state="failed", error="could not load [dsn]")
    shown = screen(plant.config)
    assert "! hdb failed: could not load [dsn]" in shown
    assert "all is well" not in shown


def test_the_screen_can_be_drawn_of_nothing(cfg):
    assert "trading date -" in screen(cfg)


def feeds(said, **settings):
    """The plant's configuration with these settings for feed one."""
    content = msgspec.toml.decode(said.cfg.path.read_bytes())
    content["feeds"]["one"] |= settings
    return Config(content, said.cfg.path)


OPEN, CLOSED = (
    1_720_015_200_000_000_000,
    1_720_029_600_000_000_000,
)  # 2024-07-03 10:00, 14:00 New York: a half day


@pytest.mark.parametrize(("now_ns", "silent_s", "state", "problems"), [
    (OPEN, 15, "open", 0),
    (OPEN, 45, "stale", 1),
    (OPEN - 1790 * SECOND_NS, 4000, "open", 0),  # it opened 10 s ago
    (CLOSED, 100_000, "closed", 0),
])  # fmt: skip
def test_a_feed_that_is_silent_while_its_venue_is_open_is_a_problem(
    said, monkeypatch, now_ns, silent_s, state, problems
):
    pytest.importorskip("exchange_calendars")
    monkeypatch.setattr(status, "now_ns", lambda: now_ns)
    said.say("feed-one", last_row_monotonic_ns=monotonic_ns() - silent_s * SECOND_NS)
    settings = feeds(said, calendar="XNYS", stale_after_s=30.0)
    seen = status.look(settings)
    assert seen["markets"]["one"]["state"] == state
    assert sum("feed one has heard nothing of its market" in p for p in seen["problems"]) == problems
    out = io.StringIO()
    status.show(seen, Console(file=out, width=200))
    assert {"closed": "closed until 2024-07-05 13:30Z"}.get(state, state) in out.getvalue()


def test_a_venue_that_never_closes_is_watched_at_any_hour_if_at_all(said):
    said.say("feed-one", last_row_monotonic_ns=monotonic_ns() - 40 * SECOND_NS)
    assert status.look(feeds(said, stale_after_s=30.0))["markets"]["one"]["state"] == "stale"
    assert status.look(feeds(said, stale_after_s=50.0))["markets"]["one"]["state"] == "open"
    assert status.look(feeds(said))["problems"] == []


def test_a_feed_that_does_not_run_or_has_not_said_is_not_stale(said):
    said.say("feed-one", state="finished", last_row_monotonic_ns=0)
    assert status.look(feeds(said, stale_after_s=1.0))["problems"] == []
    said.say("feed-one")
    assert status.look(feeds(said, stale_after_s=1.0))["problems"] == []


def test_a_calendar_that_is_none_is_a_problem_and_no_failure(said):
    pytest.importorskip("exchange_calendars")
    assert "there is no calendar 'XXXX'" in status.look(feeds(said, calendar="XXXX"))["problems"][0]
