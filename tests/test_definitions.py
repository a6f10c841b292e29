"""Definitions: a feed's codes mean what it said last, and what can't be defined is refused, its rows kept."""

from tests.fix_plant import check_claims, events, rows_of


def told(plant, kind):
    plant.commit()
    return events(plant.config, plant.day.trading_date, kind)


def names_of_trades(plant):
    numbers = rows_of(plant.config, plant.day.trading_date, "trade")["instrument"].tolist()
    return [plant.registry.instruments[n] for n in numbers]


def test_a_code_that_changes_its_meaning_is_told_and_rows_keep_the_one_they_had(site, cfg, plant, raw):
    raw.send(raw.define(1, "A"), raw.trades(2, 1), raw.define(1, "A"), raw.trades(1, 1))
    raw.settle()
    assert told(plant, "redefined") == []
    raw.send(raw.define(1, "B"), raw.trades(2, 1))
    raw.settle()
    assert told(plant, "redefined") == [(1, raw.session, 5, 5)]
    assert names_of_trades(plant) == ["XTST:A"] * 3 + ["XTST:B"] * 2
    check_claims(plant)
    plant.close()
    again = site.ticker_plant(cfg)
    assert again.registry.instruments[again.day.intake.code(1, 1)] == "XTST:B"


def test_codes_that_change_for_ever_are_a_handful_of_rows(plant, raw):
    raw.send(*[raw.define(1, f"S{n % 7}") for n in range(200)])
    raw.settle()
    assert 5 < len(told(plant, "redefined")) < 10


def test_a_feed_with_more_new_instruments_than_it_may_does_not_use_up_those_of_others(site):
    cfg = site.configured(limits={"feed_instruments": 3})
    plant = site.ticker_plant(cfg)
    raw, other = site.raw_feed(plant), site.raw_feed(plant, 2)
    rows = raw.schema["instrument"].empty(4)
    rows["code"] = rows["instrument"] = [1, 2, 3, 4]
    rows["venue"], rows["symbol"] = b"XTST", [b"A", b"B", b"C", b"D"]
    raw.send(raw.make("instrument", rows), raw.define(5, "E"), raw.define(6, "A"))
    raw.send(*[raw.trades(1, code) for code in range(1, 7)])
    raw.settle()
    assert told(plant, "refused") == [(1, raw.session, 0, 3), (1, raw.session, 4, 4)]
    assert names_of_trades(plant) == ["XTST:A", "XTST:B", "XTST:C", "", "", "XTST:A"]
    other.send(other.define(1, "E"), other.trades(1, 1))

    def both():
        other.serve()
        return plant.day.intake.session(2) == (other.session, other.seq)

    raw.settle(both)
    assert names_of_trades(plant)[-1] == "XTST:E"


def test_the_limit_of_new_instruments_is_for_each_trading_date(site):
    cfg = site.configured(limits={"feed_instruments": 1})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.define(1, "A"))
    raw.settle()
    plant.roll(plant._after(plant.day.trading_date))
    raw.send(raw.define(2, "B"), raw.define(3, "C"))
    raw.settle()
    assert list(plant.registry.instruments) == ["XTST:A", "XTST:B"]


def test_a_code_out_of_range_takes_the_instrument_of_its_own_row_alone(site):
    cfg = site.configured(tickerplant={"instruments_max": 64})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.define(1, "A"), raw.define(2, "B"))
    rows = raw.schema["trade"].rows(bytearray(raw.trades(5, 1)[80:]))
    raw.kept.pop()
    raw.seq, raw.counts = raw.seq - 5, {"instrument": 2}
    rows["instrument"] = [1, 64, 2, 4_000_000_000, 7]
    raw.send(raw.make("trade", rows))
    raw.settle()
    assert names_of_trades(plant) == ["XTST:A", "", "XTST:B", "", ""]
    texts = [r["text"] for r in rows_of(cfg, plant.day.trading_date, "event") if r["kind"] == b"undefined"]
    assert any(t.startswith(b"2 rows with an instrument code from 64 on") for t in texts)
    assert len(texts) == 2


def test_a_code_whose_new_meaning_is_refused_means_no_instrument_now_and_after_a_recovery(site):
    cfg = site.configured(limits={"feed_instruments": 1})
    plant = site.ticker_plant(cfg)
    raw = site.raw_feed(plant)
    raw.send(raw.define(1, "A"), raw.trades(1, 1), raw.define(1, "B"), raw.trades(1, 1))
    raw.settle()
    plant.commit()
    assert names_of_trades(plant) == ["XTST:A", ""]
    plant.close()
    again = site.ticker_plant(cfg)
    assert again.day.intake.code(1, 1) == 0
