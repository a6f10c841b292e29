"""What is wrong with a configuration is found before anything is started, and said by key."""

import re

import pytest
from click.testing import CliRunner

from tickplant import config, preflight, roster
from tickplant.cli.main import cli
from tickplant.feed.binding import Binding


def found(site, **changes):
    return preflight.findings(site.configured(**changes))


def feed(handler, **options):
    return {"feeds": {"one": {"id": 1, "handler": handler, "options": options}}}


GOOD = {"one": {"id": 1, "handler": "simulated"}, "two": {"id": 2, "handler": "simulated"}}


@pytest.mark.parametrize(("changes", "said"), [
    ({"tickerplant": {"ingress": "127.0.0.1:7010"}}, "tickerplant.ingress '127.0.0.1:7010' is no endpoint"),
    ({"tickerplant": {"ingress": "tcp:/127.0.0.1:7010"}}, "is no endpoint"),
    ({"publisher": {"publish": "tcp://127.0.0.1"}}, "is no endpoint"),
    ({"publisher": {"publish": "tcp://127.0.0.1:70123"}}, "has port 70123; must be from 1 to 65535"),
    ({"publisher": {"publish": "tcp://127.0.0.1:7012", "request": "tcp://127.0.0.1:7012"}},
     "publisher.request and publisher.publish both have port 7012"),
    ({"publisher": {"publish": "ipc:///tmp/x", "request": "ipc:///tmp/x"}}, "both have ipc:///tmp/x"),
    ({"publisher": {"publish": "tcp://0.0.0.0:7012"}}, "publisher.publish: tcp://0.0.0.0:7012 would offer"),
    ({"publisher": {"publish": "tcp://*:7012"}}, "would offer plaintext"),
    ({"publisher": {"publish": "tcp://192.0.2.1:7012"}, "security": {"allow_plaintext": True}},
     "this host can't listen at 192.0.2.1"),
    ({"publisher": {"publish": "ipc://" + "/x" * 60}}, "is longer than 107 bytes"),
    ({"publisher": {"publish": "ipc:///dev/null"}}, "/dev/null is in the way: it is not a socket"),
    ({"security": {"curve": True}}, "security.curve: there are no keys in"),
    ({"hdb": {"dsn": "postgresql://me:secret@/host@x"}}, "hdb.dsn: "),
    (feed("simulatd"), "feeds.one: no feed handler 'simulatd'"),
    (feed("nowhere.mine:handler"), "feeds.one: "),
    (feed("simulated", venu="X"), "argument 'venu'; simulated has: venue, kind, seed,"),
    (feed("capture"), "feeds.one.options: missing a required"),
    (feed("simulated", rate="fast"), "feeds.one.options.rate: Expected `float`, got `str`"),
    (feed("kraken", channels=["trads"]), "feeds.one.options.channels has trads; it can be: "),
    ({"feeds": {"one": {"id": 1, "handler": "simulated", "calendar": "XNONE"}}}, "feeds.one.calendar: "),
])  # fmt: skip
def test_what_is_wrong_is_said_by_its_key(site, changes, said):
    lines = found(site, **({"feeds": GOOD} | changes))
    assert any(said in line for line in lines), lines
    assert "secret" not in str(lines)


def test_a_configuration_that_is_sound_has_no_findings(site):
    assert found(site, feeds=GOOD) == []
    assert not (site.folder / "data").exists()


def test_a_handler_that_fails_as_it_is_imported_is_one_line_with_its_place(site):
    (site.folder / "broken_handler_here.py").write_text("1 / 0\n")
    (line,) = found(site, feeds=GOOD | feed("broken_handler_here:run")["feeds"])
    assert line.startswith("feeds.one: ")
    assert "division by zero" in line


def test_folders_that_are_files_or_open_to_all_are_found(site):
    cfg = site.configured(feeds=GOOD)
    cfg.plant.data_dir.write_text("")
    cfg.plant.run_dir.mkdir()
    cfg.plant.run_dir.chmod(0o777)
    lines = preflight.findings(cfg)
    assert any(re.match(r"plant.data_dir .* is not a folder", line) for line in lines)
    assert any(re.match(r"plant.run_dir .*: any user can write to ", line) for line in lines)


def test_the_command_says_each_finding_and_ends_with_78(site):
    site.configured(feeds=GOOD)
    path = str(site.folder / "plant.toml")
    assert "good" in CliRunner().invoke(cli, ["--config", path, "config", "check"]).output
    site.configured(feeds=GOOD, publisher={"publish": "127.0.0.1:1"})
    done = CliRunner().invoke(cli, ["--config", path, "config", "check"])
    assert done.exit_code == 78
    assert "! publisher.publish '127.0.0.1:1' is no endpoint" in done.output


def test_errors_of_the_configuration_show_no_secret(site):
    with pytest.raises(config.ConfigError) as e:
        site.configured(security={"server_key": "my-secret-key"})
    assert "my-secret-key" not in str(e.value)


def test_a_number_that_another_feed_had_is_found_before_the_plant_refuses_it(site):
    cfg = site.configured(feeds=GOOD)
    cfg.plant.data_dir.mkdir(parents=True)
    roster.note(cfg.plant.data_dir, {"one": 1, "former": 2})
    lines = preflight.findings(cfg)
    assert lines == ["feeds.two.id is 2, but rows of feed former bear it: set feeds.two.id = 3"]
    (cfg.plant.data_dir / roster.NAME).write_text("{")
    assert any("feeds.json can't be read" in line for line in preflight.findings(cfg))


def test_an_outbox_of_another_number_or_plant_is_found(site):
    cfg = site.configured(feeds=GOOD)
    for name, of in (("one", Binding("one", 7, cfg.plant.name)), ("two", Binding("two", 2, "elsewhere"))):
        cfg.outbox_dir(name).mkdir(parents=True)
        of.write(cfg.outbox_dir(name))
    first, second = preflight.findings(cfg)
    assert first.startswith("feeds.one.id: ")
    assert "set feeds.one.id = 7" in first
    assert "of plant 'elsewhere'" in second
