"""How a plant looks from outside: sound, and with every kind of problem."""

import io
import json
import os

import pytest
from rich.console import Console

from tickplant import status
from tickplant.clock import SECOND_NS, monotonic_ns

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
