"""Which plant it is: made once, kept, found again, and never guessed."""

import pytest

from tests.fix_plant import closed
from tickplant import identity
from tickplant.errors import ConfigError
from tickplant.identity import Identity
from tickplant.tickerplant import TickerPlant


def started_with(site, cfg, text):
    """A plant that has data, stopped, its identity overwritten (None: deleted), then started again."""
    plant = site.ticker_plant(cfg)
    before = plant.identity
    closed(plant)
    path = cfg.plant.data_dir / "identity"
    path.unlink() if text is None else path.write_bytes(text)
    return before, site.ticker_plant(cfg).identity


@pytest.mark.parametrize("text", [b"", None, b"\xff\x00", b"something else"])
def test_an_identity_that_is_gone_or_damaged_is_found_in_the_journals(site, cfg, text):
    before, after = started_with(site, cfg, text)
    assert before == after
    assert identity.known(cfg.plant.data_dir) == before.token


def test_a_plant_whose_identity_nobody_knows_any_more_does_not_make_another(site, cfg):
    plant = site.ticker_plant(cfg)
    closed(plant)
    (cfg.plant.data_dir / "identity").write_bytes(b"")
    for segment in cfg.journal_dir.glob("*/*.tpj"):
        segment.write_bytes(b"damaged")
    again = TickerPlant(cfg)
    with pytest.raises(ConfigError, match="identity is missing or holds no identity"):
        again.open()
    for lock in again._locks:
        lock.release()


def test_two_plants_differ_by_name_or_where_both_are_known_by_token():
    a, b = "a" * 32, "b" * 32
    assert not Identity("tp", a).differs(Identity("tp", a))
    assert Identity("tp", a).differs(Identity("tp", b))
    assert not Identity("tp", a).differs(Identity("tp"))
    assert Identity("tp").differs(Identity("staging"))
