"""README.md and the shipped configuration say what is so."""

import pathlib
import re

import click
import msgspec
import pytest

import tickplant
from tests.fix_plant import free_port, until
from tickplant import config
from tickplant.cli.main import cli
from tickplant.feed import venues

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LOCAL, REMOTE, HANDLER = BLOCKS


@pytest.fixture
def live(site):
    """A plant of real processes with rows of the instruments that README.md names."""
    request = f"tcp://127.0.0.1:{free_port()}"
    cfg = site.configured(
        publisher={"request": request, "publish": f"tcp://127.0.0.1:{free_port()}"},
        feeds={"mine": {"id": 7, "handler": "mypackage.mine:run"}},
    )
    site.run_ticker_plant()
    site.run("run", "publisher")
    with tickplant.Feed(cfg, "one") as feed:
        for symbol in ("AAPL", "MSFT"):
            code = feed.instrument("XNAS", symbol)
            for i in range(150):
                feed.trade(instrument=code, price=100.0 + i, size=10.0, side="B")
                feed.quote(instrument=code, bid_price=99.0 + i, ask_price=101.0 + i)
        assert feed.drained(30.0)
    return cfg


def run(block, cfg):
    """Run a block of README.md on this plant; its names."""
    block = block.replace('connect("tp")', f'connect("{cfg.plant.name}")')
    block = block.replace('load("tickplant.toml")', f'load("{cfg.path}")')
    block = block.replace("tcp://127.0.0.1:7013", cfg.publisher.request)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_local_example_runs(live, capsys):
    names = run(LOCAL, live)
    assert len(names["trades"]) == 300
    assert list(names["plant"].instruments) == ["XNAS:AAPL", "XNAS:MSFT"]
    assert names["columns"]["price"][-1] == 249.0
    date, row, count, price = capsys.readouterr().out.split()
    assert (int(date), int(row), int(count), float(price)) == (names["plant"].trading_date, 0, 300, 249.0)


def test_the_remote_example_runs(live, capsys, monkeypatch):
    made, subscribe = [], tickplant.subscribe
    monkeypatch.setattr(tickplant, "subscribe", lambda *a, **o: made.append(subscribe(*a, **o)) or made[0])
    run(REMOTE, live)
    made[0].close()
    table, row, value = capsys.readouterr().out.split()
    assert table in ("trade", "quote")
    assert int(row) == 0
    assert float(value) > 90


def test_the_feed_handler_example_runs(live):
    names = run(HANDLER, live)
    with tickplant.Feed(names["config"], "mine") as feed:
        feed.beat = lambda: feed.stopping.set() if feed.rows_published > 3 else None
        names["run"](feed)
        assert feed.drained(30.0)
    plant = tickplant.connect(live.plant.name)
    until(lambda: "XMYV:ACME" in plant.instruments)
    rows = plant.table("trade").rows("XMYV:ACME", last=5)
    assert rows["side"].tolist() == [b"B"] * len(rows)


def tables():
    """Tables that README.md lists."""
    listed = README[README.index("| table | a row is |") :]
    return re.findall(r"^\| `([a-z]+)` \|", listed[: listed.index("\n\n")], re.MULTILINE)


def rows_of_commands():
    """(command, arguments as README.md gives them)."""
    listed = README[README.index("| command | what it does |") :]
    lines = listed[: listed.index("\n\n")].splitlines()[2:]
    return [re.match(r"\| `(\S+) ?(.*?)` \|", one.replace("\\|", "/")).groups() for one in lines]


def test_the_commands_table_is_complete_down_to_subcommands_and_options():
    context = click.Context(cli)
    told = dict(rows_of_commands())
    assert set(told) == set(cli.list_commands(context))
    for name, arguments in told.items():
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            words = re.match(r"[a-z/]+", arguments).group().split("/")
            assert set(words) == set(command.commands), name
            continue
        options = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
        for option in re.findall(r"(?<!\S|\w)\[?(--?[a-z]+)", arguments):
            assert option in options, (name, option)


def test_the_tables_are_those_of_the_shipped_configuration():
    assert set(tables()) == {t.name for t in config.load(config.shipped()).schema}


def test_every_value_of_the_shipped_configuration_is_the_default():
    content = msgspec.toml.decode(config.shipped().read_bytes())
    least = {"tables": content["tables"]}
    defaults = config.Config(least, pathlib.Path("defaults"))
    shipped = config.load(config.shipped())
    for section in ("plant", "tickerplant", "publisher", "hdb", "outbox", "security", "limits"):
        assert getattr(shipped, section) == getattr(defaults, section), section
        keys = set(msgspec.structs.asdict(getattr(defaults, section))) - {"throwaway"}
        assert set(content[section]) == keys, section
    assert shipped.feeds == {}
    assert set(content) == {
        "plant",
        "tickerplant",
        "publisher",
        "hdb",
        "outbox",
        "security",
        "limits",
        "tables",
    }


def test_the_files_that_readme_points_to_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    for program in re.findall(r"^    (bin/\w+)", README, re.MULTILINE):
        assert (ROOT / program).exists(), program


def test_the_table_of_venues_is_made_from_their_declarations():
    assert venues.table() in README
