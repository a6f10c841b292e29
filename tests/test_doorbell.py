"""The doorbell wakes the plant, and never holds up a feed."""

import os
import select
import shutil
import stat

import pytest

from tickplant.doorbell import NAME, Doorbell, Ringer
from tickplant.errors import ConfigError


@pytest.fixture
def bell(tmp_path):
    made = Doorbell(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ringers(tmp_path):
    made = [Ringer(tmp_path, number) for number in (3, 4095)]
    yield made
    for ringer in made:
        ringer.close()


def readable(bell):
    return bool(select.select([bell.fd], [], [], 0)[0])


def test_whoever_rang_is_heard_once(bell, ringers):
    assert not readable(bell)
    assert bell.heard() == set()
    for ringer in ringers:
        assert ringer.connect()
        ringer.ring()
        ringer.ring()
    assert readable(bell)
    assert bell.heard() == {3, 4095}
    assert bell.heard() == set()
    assert not readable(bell)


def test_a_feed_that_goes_does_not_wake_the_plant(bell, ringers):
    ringers[0].connect()
    ringers[0].close()
    assert not readable(bell)


def test_a_fifo_that_is_full_is_no_hindrance(bell, ringers):
    ringers[0].connect()
    for _ in range(100_000):
        ringers[0].ring()
    heard = set()
    while got := bell.heard():
        heard |= got
    assert heard == {3}
    ringers[0].ring()
    assert bell.heard() == {3}


def test_without_a_plant_there_is_nothing_to_ring(tmp_path, ringers):
    assert not ringers[0].connect()
    ringers[0].ring()
    gone = Doorbell(tmp_path)
    assert ringers[0].connect()
    gone.close()
    ringers[0].ring()
    assert not ringers[0].connect()
    after = Doorbell(tmp_path)
    assert ringers[0].connect()
    ringers[0].ring()
    assert after.heard() == {3}
    after.close()


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / NAME).write_text("")
    with pytest.raises(ConfigError, match="is in the way: it is not a FIFO"):
        Doorbell(tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with pytest.raises(ConfigError, match=f"can't make the FIFO {tmp_path / NAME}"):
        Doorbell(tmp_path)
    assert os.listdir(tmp_path) == [NAME]


def test_a_bell_that_was_removed_is_made_again_and_feeds_find_it(tmp_path):
    bell = Doorbell(tmp_path / "run")
    ringer = Ringer(tmp_path / "run", 7)
    assert ringer.connect()
    assert not bell.restore()
    shutil.rmtree(tmp_path / "run")
    assert bell.restore()
    assert not bell.restore()
    ringer.ring()  # into the old one, which nobody has any more
    assert ringer.connect()
    ringer.ring()
    assert bell.heard() == {7}
    ringer.close()
    bell.close()


def test_the_group_may_ring_and_take_no_ring_away(bell, tmp_path):
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o620
