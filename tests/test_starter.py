"""The first configuration: it loads, it runs, and it replaces nothing."""

import socket

import pytest

from tickplant import config, starter
from tickplant.errors import ConfigError


def test_what_is_written_loads_with_all_shipped_tables_and_one_simulated_venue(tmp_path):
    path = starter.write(tmp_path / "My Plant")
    plant = config.load(path)
    assert plant.plant.name == "my_plant"
    assert plant.plant.data_dir == tmp_path / "My Plant" / "data"
    assert [(f.id, f.handler) for f in plant.feeds.values()] == [(1, "simulated")]
    assert plant.schema.describe() == config.load(config.shipped()).schema.describe()


def test_a_configuration_that_is_there_stays(tmp_path):
    path = starter.write(tmp_path)
    path.write_text("mine")
    with pytest.raises(ConfigError, match=f"{path} is there already; run it: tickplant --config {path} up"):
        starter.write(tmp_path)
    assert path.read_text() == "mine"


def test_a_folder_that_can_not_be_made_is_an_error_with_what_to_type(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose another folder: tickplant init DIR"):
        starter.write(tmp_path / "file" / "plant")


def test_ports_that_something_listens_at_are_left_to_it(tmp_path):
    taken = config.load(starter.write(tmp_path / "one")).tickerplant.repair
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(taken.rpartition(":")[2])))
        s.listen()
        other = config.load(starter.write(tmp_path / "two"))
    ours = {
        other.tickerplant.ingress,
        other.tickerplant.repair,
        other.publisher.publish,
        other.publisher.request,
    }
    assert len(ours) == 4
    assert taken not in ours
