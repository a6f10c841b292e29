import copy
import tomllib

import pytest

from tickplant.config import (
    ENVIRONMENT,
    Config,
    Hdb,
    Outbox,
    Plant,
    Publisher,
    Security,
    TickerPlant,
    load,
    shipped,
)
from tickplant.errors import ConfigError, TickplantError

CONTENT = tomllib.loads(shipped().read_text())
FEED = {"id": 1, "handler": "simulated"}


def changed(key, value):
    """The shipped configuration with one key set, or removed if the value is None."""
    content = copy.deepcopy(CONTENT)
    content["feeds"] = {"one": dict(FEED), "two": {"id": 2, "handler": "itch50"}}
    *path, last = key.split("/")
    place = content
    for part in path:
        place = place.setdefault(part, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


def refused(content, path):
    with pytest.raises(ConfigError) as why:
        Config(content, path)
    return str(why.value)


def test_the_shipped_configuration_loads_and_shows_the_defaults():
    config = load(shipped())
    sections = (config.plant, config.tickerplant, config.publisher, config.hdb, config.outbox)
    assert config.security == Security()
    assert sections == (Plant(), TickerPlant(), Publisher(), Hdb(), Outbox())
    assert [t.name for t in config.schema][:4] == ["instrument", "event", "trade", "quote"]
    assert [t.number for t in config.schema] == list(range(1, len(config.schema) + 1))
    assert config.feeds == {}


@pytest.mark.parametrize("section", ["plant", "tickerplant", "publisher", "hdb", "outbox", "security"])
def test_the_shipped_configuration_shows_every_key(section):
    fields = {
        "plant": Plant, "tickerplant": TickerPlant, "publisher": Publisher, "hdb": Hdb, "outbox": Outbox,
        "security": Security,
    }[section].__struct_fields__  # fmt: skip
    shown = set(CONTENT[section]) | ({"throwaway"} & set(fields))
    assert shown == set(fields)


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("plant/name", "Big Plant", "plant.name"),
        ("plant/name", "", "plant.name"),
        ("plant/name", "../x", "plant.name"),
        ("plant/name", 5, "plant.name"),
        ("plant/data_dir", 5, "plant.data_dir"),
        ("plant/timezone", "Mars", "plant.timezone"),
        ("plant/roll", "noon", "plant.roll"),
        ("plant/colour", "red", "plant: Object contains unknown field `colour`"),
        ("plants/name", "x", "unknown field `plants`"),
        ("tickerplant/durability", "maybe", "tickerplant.durability"),
        ("tickerplant/segment_bytes", 100, "tickerplant.segment_bytes is 100; must be from 65536"),
        ("tickerplant/segment_bytes", "1", "tickerplant.segment_bytes"),
        ("tickerplant/instruments_max", 1, "tickerplant.instruments_max"),
        ("tickerplant/instruments_max", 1 << 30, "tickerplant.instruments_max"),
        ("tickerplant/extent_rows", 0, "tickerplant.extent_rows"),
        ("tickerplant/held_bytes_max", -1, "tickerplant.held_bytes_max"),
        ("tickerplant/sync_interval_ms", -1, "tickerplant.sync_interval_ms"),
        ("tickerplant/keep_days", -1, "tickerplant.keep_days"),
        ("publisher/heartbeat_ms", 0, "publisher.heartbeat_ms"),
        ("security/allow_plaintext", "yes", "security.allow_plaintext"),
        ("security/curve", 1, "security.curve"),
        ("security/server_key", "short", "security.server_key"),
        ("security/server_key", "~" * 40, "security.server_key"),
        ("hdb/mode", "sometimes", "hdb.mode"),
        ("hdb/chunk_rows", 0, "hdb.chunk_rows"),
        ("hdb/chunk_ms", -5, "hdb.chunk_ms"),
        ("outbox/segment_bytes", 1, "outbox.segment_bytes"),
        ("outbox/max_bytes", 1, "outbox.max_bytes"),
        ("feeds/one/id", 0, "feeds.one.id is 0"),
        ("feeds/one/id", 4096, "feeds.one.id is 4096"),
        ("feeds/one/id", 2, "feeds.two and feeds.one both have id 2"),
        ("feeds/one/id", "1", "feeds.one.id"),
        ("feeds/one/handler", None, "feeds.one: Object missing required field `handler`"),
        ("feeds/two/speed", 1, "feeds.two: Object contains unknown field `speed`"),
        ("feeds/two/options", [], "feeds.two.options"),
        ("feeds/no:good", FEED | {"id": 9}, "feed name 'no:good'"),
        ("tables", [], "tables: Expected `object`"),
        ("tables/event", False, "tables.event is missing"),
        ("tables/event", True, "tables.event is true; declare its columns"),
        ("tables/instrument/columns/code", None, "tables.instrument.columns.code must be 'u4'"),
        ("tables/event/columns/kind", "S8", "tables.event.columns.kind must be 'S16'"),
        ("tables/trade/columns/price", "f16", "column trade.price has type 'f16'"),
        ("tables/trade/columns/price", 8, "tables.trade.columns"),
        ("tables/trade/columns/flags", "u2", "table trade declares ['flags']"),
        ("tables/trade/max_rows", 0, "max_rows of table trade is 0"),
        ("tables/trade/max_rows", "many", "tables.trade.max_rows"),
        ("tables/Trade", {"columns": {}}, "table name 'Trade'"),
        ("tables/extra", {}, "tables.extra: Object missing required field `columns`"),
    ],
)
def test_each_mistake_is_one_error_that_names_file_and_key(tmp_path, key, value, place):
    message = refused(changed(key, value), tmp_path / "plant.toml")
    assert message.startswith(f"{tmp_path / 'plant.toml'}: ")
    assert place in message
    assert "\n" not in message


def test_tables_that_are_not_declared_are_the_shipped_ones(tmp_path):
    path = tmp_path / "plant.toml"
    path.write_text(
        '[tables]\nbar = false\n[tables.mine.columns]\nscore = "f8"\n[tables.quote.columns]\nbid = "f8"\n'
    )
    ours = {t.name: t for t in load(path).schema}
    theirs = {t.name: t for t in load(shipped()).schema}
    assert list(ours) == [n for n in theirs if n not in ("bar", "quote")] + ["mine", "quote"]
    assert [c.name for c in ours["quote"].columns][6:] == ["bid"]
    assert ours["trade"].columns == theirs["trade"].columns
    path.write_text("")
    assert load(path).schema.describe() == load(shipped()).schema.describe()


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"[plant\n", "line"), (b"\xff\xfe", "utf-8"), (b"a = 1\na = 2", "a")],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path, content, what):
    path = tmp_path / "plant.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=what) as why:
        load(path)
    assert str(path) in str(why.value)


def test_a_file_that_is_not_there_is_refused_with_the_ways_to_give_one(tmp_path, monkeypatch):
    for missing in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="give one with --config FILE or .TICKPLANT_CONFIG"):
            load(missing)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "env.toml"))
    with pytest.raises(ConfigError, match=r"env\.toml: No such file"):
        load()


def test_the_environment_names_the_file_unless_one_is_given(tmp_path, monkeypatch):
    path = tmp_path / "plant.toml"
    path.write_text(shipped().read_text().replace('name = "tp"', 'name = "other"'))
    monkeypatch.setenv(ENVIRONMENT, str(path))
    assert load().plant.name == "other"
    assert load(shipped()).plant.name == "tp"


def test_places_follow_from_the_data_and_run_directories(tmp_path):
    content = changed("plant/data_dir", str(tmp_path))
    content["plant"]["run_dir"] = str(tmp_path / "run")
    config = Config(content, tmp_path / "plant.toml")
    assert config.journal_dir == tmp_path / "journal"
    assert config.registry_dir == tmp_path / "registry"
    assert config.outbox_dir("one") == tmp_path / "outbox" / "one"
    assert config.status_dir == tmp_path / "run" / "status"
    assert config.feed("two").id == 2
    with pytest.raises(ConfigError, match=r"no \[feeds.three\]; there are: one, two"):
        config.feed("three")


def test_a_mistake_in_the_configuration_has_its_exit_code():
    assert ConfigError.exit_code == 78
    assert issubclass(ConfigError, TickplantError)
