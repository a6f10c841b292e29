"""The systemd units: what they say, and what they do on a machine of their own (systemd_machine.py)."""

import configparser
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from tests.fix_plant import Site, until
from tests.systemd_machine import CHECKOUT, Machine, Unavailable
from tickplant import config
from tickplant.cli.main import cli
from tickplant.errors import NotRunning
from tickplant.feed import sender

UNITS = CHECKOUT / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
TARGET = "tickplant.target"
PLANT, PUBLISHER = "tickplant-tickerplant.service", "tickplant-publisher.service"
HDB, FEED = "tickplant-hdb.service", "tickplant-feed@sim.service"
ALL = [PLANT, PUBLISHER, HDB, FEED]
EXPOSURE_MAX = 3.0

each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda p: p.name)
needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")


def settings(service: Path) -> dict[str, list[str]]:
    """What a unit file sets, by key."""
    found: dict[str, list[str]] = {}
    for line in service.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


# What they say.


@needs_analyze
def test_systemd_understands_every_line_of_every_unit(tmp_path: Path) -> None:
    program = tmp_path / "tickplant"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in [*SERVICES, UNITS / TARGET]:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/local/bin/tickplant", str(program)))
    files = sorted(str(p) for p in tmp_path.glob("tickplant?*"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
@each_service
def test_a_service_is_exposed_little(service: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(service)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level, done.stderr
    assert float(level[1]) < EXPOSURE_MAX


@each_service
def test_a_service_runs_a_command_that_there_is_with_the_configuration_that_is_read(service: Path) -> None:
    (line,) = settings(service)["ExecStart"]
    program, option, path, *words = line.split()
    assert (program, option, path) == ("/usr/local/bin/tickplant", "--config", str(config.SYSTEM_FILE))
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found
        command = found
    assert words == (["%i"] if "@" in service.name else [])
    assert len([p for p in command.params if isinstance(p, click.Argument)]) == len(words)


@each_service
def test_a_service_may_write_where_the_default_configuration_has_it_write(service: Path) -> None:
    said, default = settings(service), config.Plant()
    assert [f"/var/lib/{n}" for n in said["StateDirectory"]] == [str(default.data_dir)]
    assert [f"/run/{n}" for n in said["RuntimeDirectory"]] == [str(default.run_dir)]
    assert said["RuntimeDirectoryPreserve"] == ["yes"]


def test_all_services_have_the_same_user_and_the_same_sandbox() -> None:
    parts = {re.search(r"^User=.*?(?=^\[Install)", s.read_text(), re.S | re.M)[0] for s in SERVICES}  # type: ignore[index]
    assert len(parts) == 1


@each_service
def test_shared_memory_outlives_a_service(service: Path) -> None:
    said = settings(service)
    assert not {"DynamicUser", "PrivateIPC", "RemoveIPC", "InaccessiblePaths"} & set(said)


@each_service
def test_a_service_stops_with_the_target_but_not_with_the_ticker_plant(service: Path) -> None:
    said = settings(service)
    assert said["PartOf"] == [TARGET]
    assert not {"Requires", "BindsTo", "Requisite", "Upholds"} & set(said)


def test_all_unit_files_are_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    listed = setup["options.data_files"]["share/tickplant/systemd"].split()
    assert sorted(listed) == sorted(f"systemd/{p.name}" for p in UNITS.iterdir())


def test_a_paced_feed_that_waits_for_the_plant_still_feeds_its_watchdog(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = site.feed(site.configured(), paced=True)
    rows = feed.config.schema["trade"].empty(1)
    monkeypatch.setattr(sender, "WINDOW_BYTES", 0)
    feed.append("trade", rows)
    beats: list[int] = []
    feed.beat = lambda: beats.append(0)
    waiting = threading.Thread(target=feed.append, args=("trade", rows), daemon=True)
    waiting.start()
    until(lambda: len(beats) > 2)
    assert waiting.is_alive()
    feed.stopping.set()
    waiting.join()


# What they do.


class Plant:
    """The plant on the machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def said(self, name: str) -> dict[str, Any]:
        """What a process says of itself."""
        path = self.machine.file(f"/run/tickplant/status/{name}.json")
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def of(self, service: str) -> dict[str, Any]:
        """What the process says that the service runs now; nothing if it has said nothing yet."""
        name = service.removeprefix("tickplant-").removesuffix(".service").replace("@", "-")
        said = self.said(name)
        return said if said.get("pid") == self.machine.main_pid(service) else {}

    def rows(self) -> int:
        """Rows that the ticker plant that runs now has of the trading date."""
        return sum(self.of(PLANT).get("rows", {}).values())

    def flows(self) -> None:
        """Rows come, and get as far as PostgreSQL and the network."""
        rows = self.machine.until(self.rows, "rows")
        self.machine.until(lambda: self.rows() > rows, "more rows")
        self._grows(HDB, "loaded_bytes")
        self._grows(PUBLISHER, "frames_sent")

    def _grows(self, service: str, key: str) -> None:
        before = self.machine.until(lambda: self.of(service).get(key), key)
        self.machine.until(lambda: self.of(service).get(key, 0) > before, f"more {key}")

    def pids(self, *but: str) -> dict[str, int]:
        """The main process of each service, but for some."""
        return {s: self.machine.main_pid(s) for s in ALL if s not in but}

    def restarts(self, service: str) -> int:
        return int(self.machine.show(service, "NRestarts"))


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with these units and a simulated feed; the publisher's watchdog is impatient."""
    content = msgspec.toml.decode(config.shipped().read_bytes())
    options = {"rate": 10_000.0, "instruments": 50}
    content["feeds"] = {"sim": {"id": 1, "handler": "simulated", "options": options}}
    content["hdb"]["throwaway"] = True
    content["hdb"]["chunk_ms"] = 100
    content["plant"]["roll"] = f"{datetime.now(UTC) + timedelta(hours=6):%H:%M}"  # not while this runs
    made = Machine()
    try:
        made.boot(UNITS, msgspec.toml.encode(content), {PUBLISHER: "[Service]\nWatchdogSec=3\nLimitCORE=0\n"})
        made.do("systemctl", "enable", FEED)
        yield made
    except Unavailable as e:
        pytest.skip(str(e))
    finally:
        made.end()


@pytest.fixture(scope="module")
def keyed() -> Iterator[Machine]:
    """A machine whose plant has CURVE, and whose keys were made by root before anything had ever run."""
    content = msgspec.toml.decode(config.shipped().read_bytes())
    options = {"rate": 1_000.0, "instruments": 10}
    content["feeds"] = {"sim": {"id": 1, "handler": "simulated", "options": options}}
    content["security"]["curve"] = True
    content["plant"]["roll"] = f"{datetime.now(UTC) + timedelta(hours=6):%H:%M}"  # not while this runs
    made = Machine()
    try:
        made.boot(UNITS, msgspec.toml.encode(content), {})
        made.do("tickplant", "keys", "new", "sim", "--feed")
        made.do("systemctl", "start", PLANT, PUBLISHER, FEED)
        yield made
    except Unavailable as e:
        pytest.skip(str(e))
    finally:
        made.end()


@pytest.fixture
def plant(machine: Machine) -> Plant:
    """The plant, up, with rows that flow."""
    machine.do("systemctl", "start", TARGET)
    plant = Plant(machine)
    plant.flows()
    return plant


def test_after_the_start_of_the_target_every_service_is_up_and_says_how_it_is(
    machine: Machine, plant: Plant
) -> None:
    assert [machine.show(s, "ActiveState") for s in [TARGET, *ALL]] == ["active"] * 5
    assert [machine.show(s, "User") for s in ALL] == ["tickplant"] * 4
    assert re.fullmatch(r"trading date \d{8}, [\d,]+ rows", machine.show(PLANT, "StatusText"))
    assert re.fullmatch(r"[\d,]+ rows published", machine.show(FEED, "StatusText"))
    assert all(machine.show(s, "StatusText") for s in (PUBLISHER, HDB))
    assert "reception only permitted" not in machine.ask("journalctl", "--no-pager")


def test_a_member_of_the_group_reads_the_rows_and_nobody_else_does(machine: Machine, plant: Plant) -> None:
    someone = ["setpriv", "--reuid=nobody", "--regid=nogroup"]
    tail = ["tickplant", "tail", "quote", "-n", "5"]
    member = machine.do(*someone, "--groups=tickplant", *tail)
    assert len(member.splitlines()) == 6, "a head, and five rows"
    assert machine.run(*someone, "--clear-groups", *tail).returncode != 0
    seen = json.loads(machine.do(*someone, "--groups=tickplant", "tickplant", "status", "--json"))
    assert (seen["state"], seen["problems"]) == ("running", [])


def test_a_service_that_stops_takes_nothing_from_the_others(machine: Machine, plant: Plant) -> None:
    others = plant.pids(PUBLISHER)
    machine.do("systemctl", "stop", PUBLISHER)
    assert machine.file("/run/tickplant/tickerplant.sock").is_socket()
    assert machine.file("/run/tickplant/pg/.s.PGSQL.5432").is_socket()
    machine.do("systemctl", "start", PUBLISHER)
    plant.flows()
    assert plant.pids(PUBLISHER) == others


def test_a_publisher_that_hangs_is_restarted(machine: Machine, plant: Plant) -> None:
    others, restarts, pid = plant.pids(PUBLISHER), plant.restarts(PUBLISHER), machine.main_pid(PUBLISHER)
    machine.kill(PUBLISHER, signal.SIGSTOP)
    machine.until(lambda: machine.main_pid(PUBLISHER) not in (0, pid), "the watchdog")
    machine.until(lambda: machine.active(PUBLISHER), "another publisher")
    plant.flows()
    assert plant.restarts(PUBLISHER) == restarts + 1
    assert plant.pids(PUBLISHER) == others
    logged = machine.ask("journalctl", "--no-pager", "--unit", PUBLISHER)
    assert "Watchdog timeout" in logged
    assert "Fatal Python error: Aborted" in logged  # and where it was, for whoever asks why


@pytest.mark.parametrize("service", [PLANT, PUBLISHER, HDB])
def test_a_service_that_is_killed_under_load_is_back_and_the_others_never_left(
    machine: Machine, plant: Plant, service: str
) -> None:
    others, restarts, pid = plant.pids(service), plant.restarts(service), machine.main_pid(service)
    machine.kill(service, signal.SIGKILL)
    machine.until(lambda: machine.main_pid(service) not in (0, pid), f"another {service}")
    machine.until(lambda: machine.active(service), service)
    plant.flows()
    assert plant.restarts(service) == restarts + 1
    assert plant.pids(service) == others


def test_after_all_this_the_day_is_complete(machine: Machine, plant: Plant) -> None:
    machine.do("systemctl", "stop", FEED)
    assert machine.show(FEED, "Result") == "success"
    published = plant.said("feed-sim")
    assert published["state"] == "finished"
    sealed = re.match(r"sealed (\d{8});", machine.do("tickplant", "eod"))
    assert sealed
    path = machine.file(f"/var/lib/tickplant/proofs/{sealed[1]}.json")
    machine.until(path.exists, "the proof")
    proof = json.loads(path.read_text())
    records = [r for r in proof["records"] if r["feed"] == 1]
    places = [sum(r[p] for r in records) for p in ("published", "journaled", "shared_memory", "postgres")]
    assert proof["complete"], proof
    assert plant.restarts(FEED) == 0
    assert places == [published["rows_published"]] * 4
    assert plant.said("tickerplant")["feeds"]["sim"]["gaps"] == 0


def test_the_stop_of_the_target_drains_and_ends_everything(machine: Machine, plant: Plant) -> None:
    machine.do("systemctl", "stop", TARGET)
    ended = ("inactive", "failed")
    machine.until(lambda: all(machine.show(s, "ActiveState") in ended for s in ALL), "the end of all")
    assert [machine.show(s, "Result") for s in ALL] == ["success"] * 4
    assert machine.ask("ps", "-u", "tickplant", "-o", "pid=,args=") == ""
    states = [plant.said(n)["state"] for n in ("feed-sim", "tickerplant", "publisher", "hdb")]
    assert states == ["finished", "stopped", "stopped", "stopped"]
    taken, published = plant.said("tickerplant")["feeds"]["sim"], plant.said("feed-sim")
    assert taken["next_seq"] == published["rows_published"]


# With keys.

KEYS = "/var/lib/tickplant/keys"
REQUEST = "tcp://127.0.0.1:7013"


def owned(machine: Machine) -> dict[str, str]:
    """Owner, group and mode of everything in the folder of keys."""
    listed = machine.do("find", KEYS, "-printf", "%p %u:%g %m\\n")
    return dict(line.split(" ", 1) for line in listed.splitlines())


def test_a_plant_reads_keys_that_root_made_and_its_feed_gets_in(keyed: Machine) -> None:
    plant = Plant(keyed)
    rows = keyed.until(plant.rows, "rows")
    keyed.until(lambda: plant.rows() > rows, "more rows")
    assert [keyed.show(s, "User") for s in (PLANT, FEED)] == ["tickplant"] * 2
    assert keyed.file("/var/lib/tickplant/outbox/sim").stat().st_uid != 0


def test_keys_are_the_plants_alone_whenever_they_were_made(keyed: Machine) -> None:
    keyed.do("tickplant", "keys", "new", "later", "--client")  # by root, in a folder that is tickplant's
    found = owned(keyed)
    folders = {KEYS, f"{KEYS}/feeds", f"{KEYS}/readers"}
    files = {
        f"{KEYS}/{n}.{s}" for n in ("server", "feeds/sim", "readers/later") for s in ("key", "key_secret")
    }
    assert found == {
        **dict.fromkeys(folders, "tickplant:tickplant 700"), **dict.fromkeys(files, "tickplant:tickplant 600")
    }  # fmt: skip


@pytest.mark.parametrize("groups", ["--groups=tickplant", "--clear-groups"])
def test_nobody_else_reads_a_secret_or_sees_a_name(keyed: Machine, groups: str) -> None:
    someone = ["setpriv", "--reuid=nobody", "--regid=nogroup", groups]
    for command in (
        ["cat", f"{KEYS}/server.key_secret"], ["ls", KEYS], ["cat", f"{KEYS}/feeds/sim.key"],
        ["tickplant", "keys", "list"], ["tickplant", "keys", "new", "mine"],
        ["tickplant", "keys", "revoke", "sim"],
    ):  # fmt: skip
        done = keyed.run(*someone, *command)
        assert done.returncode != 0, command
        assert "ermission denied" in done.stderr, (command, done.stderr)
    assert f"{KEYS}/feeds/sim.key" in owned(keyed)


def test_a_reader_gets_in_with_its_key_until_that_is_revoked(keyed: Machine) -> None:
    keyed.do("tickplant", "keys", "new", "desk", "--client")
    keyed.do("install", "-o", "nobody", "-m", "600", f"{KEYS}/readers/desk.key_secret", "/tmp/desk")
    someone = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    tail = [*someone, "tickplant", "tail", "quote", "-n", "3", "--remote", REQUEST]
    keyed.until(lambda: keyed.run(*tail, "--keys", "/tmp/desk").returncode == 0, "a reader to get in")
    assert len(keyed.do(*tail, "--keys", "/tmp/desk").splitlines()) == 3
    assert keyed.run(*tail).returncode == NotRunning.exit_code  # without a key
    keyed.do("tickplant", "keys", "revoke", "desk")
    assert keyed.run(*tail, "--keys", "/tmp/desk").returncode == NotRunning.exit_code
    assert [keyed.show(s, "NRestarts") for s in (PLANT, PUBLISHER, FEED)] == ["0"] * 3
