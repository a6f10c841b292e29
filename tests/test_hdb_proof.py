"""The proof of a date: complete when all agree, and every difference made on purpose is found."""

import copy
import json

import pytest
from psycopg import sql

from tickplant import segment
from tickplant.errors import HistoryError
from tickplant.hdb import evidence
from tickplant.table import segment_name

PLACES = ("published", "journaled", "shared_memory", "postgres")


@pytest.fixture
def proven(loading):
    """A plant whose first date is proven complete; its tables are still in memory."""
    date = loading.roll()
    assert loading.prove(date).complete
    loading.proven = date
    return loading


def meddle(admin, proven, command):
    """Change table trade in PostgreSQL behind everybody's back."""
    name = sql.Identifier(proven.cfg.plant.name, "trade")
    return admin.execute(sql.SQL(command).format(name)).rowcount


def differing(verdict):
    """(table, feed) of the records that differ."""
    return [(r.table, r.feed) for r in verdict.records if not r.complete]


def record(verdict, table="trade", feed=1):
    return next(r for r in verdict.records if (r.table, r.feed) == (table, feed))


def stored(proven):
    """The proof as stored in PostgreSQL and as the file has it, without the time."""
    path = proven.cfg.plant.data_dir / "proofs" / f"{proven.proven}.json"
    plain = json.loads(path.read_text())
    del plain["proven_at_ns"]
    return proven.loader.history.proofs(proven.proven), plain


def ordered(verdict):
    """Its records as PostgreSQL gives them back."""
    return sorted(verdict.records, key=lambda r: (r.table, r.feed))


def test_a_proof_has_four_equal_counts_and_sums_for_each_table_and_feed(proven):
    verdict = proven.loader.verdict
    assert verdict.summary() == "complete: 164 rows"
    assert verdict.out_of_order == []
    counts = {(r.table, r.feed): r.published for r in verdict.records}
    assert counts == {
        ("instrument", 1): 1, ("instrument", 2): 1, ("event", 0): 2,
        ("trade", 1): 50, ("trade", 2): 50, ("quote", 1): 30, ("quote", 2): 30,
    }  # fmt: skip
    for r in verdict.records:
        assert len({getattr(r, place) for place in PLACES}) == 1
        sums = {getattr(r, place + "_checksum") for place in PLACES}
        assert len(sums) == 1
        assert None not in sums


def test_a_proof_repeated_changes_nothing(proven):
    before = stored(proven)
    assert before[0] == ordered(proven.loader.verdict)
    assert before[1]["records"] == [vars(r) for r in proven.loader.verdict.records]
    for _ in range(2):
        assert proven.prove_again(proven.proven).complete
        assert stored(proven) == before


def test_a_row_deleted_in_postgresql_is_found(proven, pg_admin):
    assert meddle(pg_admin, proven, "DELETE FROM {} WHERE row = 7") == 1
    verdict = proven.prove_again(proven.proven)
    assert not verdict.complete
    assert differing(verdict) == [("trade", 1)]
    assert (record(verdict).postgres, record(verdict).journaled) == (49, 50)
    assert verdict.summary() == "DIFFERS in trade (164 rows journaled)"
    proofs, plain = stored(proven)
    assert proofs == ordered(verdict)
    assert not plain["complete"]


@pytest.mark.parametrize(
    "change", ["price = price + 1e-9", "side = 'X'", "instrument = 2", "ts_event = ts_event + 1", "flags = 1"]
)
def test_a_value_changed_in_postgresql_is_found(proven, pg_admin, change):
    assert meddle(pg_admin, proven, f"UPDATE {{}} SET {change} WHERE row = 7") == 1
    verdict = proven.prove_again(proven.proven)
    assert differing(verdict) == [("trade", 1)]
    assert record(verdict).postgres == 50
    assert record(verdict).postgres_checksum != record(verdict).journaled_checksum
    assert len({record(verdict).published_checksum, record(verdict).shared_memory_checksum}) == 1


def test_a_row_given_to_another_feed_in_postgresql_is_found(proven, pg_admin):
    assert meddle(pg_admin, proven, "UPDATE {} SET feed = 2 WHERE row = 7") == 1
    assert differing(proven.prove_again(proven.proven)) == [("trade", 1), ("trade", 2)]


def test_rows_whose_numbers_were_exchanged_are_found_by_the_ordered_sum_alone(proven, pg_admin):
    for number, becomes in ((7, 1_000_000), (8, 7), (1_000_000, 8)):
        assert meddle(pg_admin, proven, f"UPDATE {{}} SET row = {becomes} WHERE row = {number}") == 1
    verdict = proven.prove_again(proven.proven)
    assert differing(verdict) == []
    assert verdict.out_of_order == ["trade"]
    assert not verdict.complete
    assert verdict.summary().startswith("DIFFERS in trade")
    assert not stored(proven)[1]["complete"]


def test_a_row_that_a_feed_claims_and_nobody_has_is_found(proven, monkeypatch):
    sealed = evidence.journal_seal

    def claims_more(folder):
        seal = copy.deepcopy(sealed(folder))
        seal["claims"][1]["trade"][0] += 1
        return seal

    monkeypatch.setattr(evidence, "journal_seal", claims_more)
    verdict = proven.prove_again(proven.proven)
    assert differing(verdict) == [("trade", 1)]
    assert record(verdict).published == 51


def test_a_claim_that_is_missing_altogether_is_found(proven, monkeypatch):
    sealed = evidence.journal_seal
    monkeypatch.setattr(evidence, "journal_seal", lambda f: sealed(f) | {"claims": {}})
    verdict = proven.prove_again(proven.proven)
    assert len(differing(verdict)) == len(verdict.records) == 7
    assert {r.published for r in verdict.records} == {0}


def test_a_cell_changed_in_shared_memory_is_found(proven):
    shared = segment.attach(segment_name(proven.cfg.plant.name, proven.proven, "trade"), writable=True)
    about = segment.description(shared, b"tpTABLE1")
    names = [c.name for c in proven.cfg.schema["trade"].columns]
    shared.map[about["offsets"][names.index("price")] + 8 * 7] ^= 1
    shared.close()
    verdict = proven.prove_again(proven.proven)
    assert differing(verdict) == [("trade", 1)]
    assert record(verdict).shared_memory_checksum != record(verdict).postgres_checksum


def test_shared_memory_that_is_gone_counts_as_not_there_and_not_against_the_date(proven):
    for table in proven.cfg.schema:
        segment.remove(segment_name(proven.cfg.plant.name, proven.proven, table.name))
    verdict = proven.prove_again(proven.proven)
    assert verdict.complete
    assert {(r.shared_memory, r.shared_memory_checksum) for r in verdict.records} == {(None, None)}
    assert stored(proven)[0] == ordered(verdict)


def test_a_date_that_is_not_sealed_can_not_be_proven(loading):
    with pytest.raises(HistoryError, match=f"{loading.date} is not sealed yet; run: tickplant eod"):
        loading.prove_again(loading.date)


def test_a_date_that_differs_keeps_its_tables_and_one_that_is_complete_does_not(loading, pg_admin):
    loading.until_loaded()
    loading.proven = date = loading.date
    assert meddle(pg_admin, loading, "DELETE FROM {} WHERE row = 7") == 1
    loading.roll()
    assert not loading.prove(date).complete
    name = segment_name(loading.cfg.plant.name, date, "trade")
    for _ in range(3):
        loading.plant.finished.tidy(loading.plant.day.trading_date)
    assert (segment.SHM / name).exists()
    loading.loader.history.drop(date)
    (loading.cfg.plant.data_dir / "proofs" / f"{date}.json").unlink()
    loading.loader.verdict = None
    assert loading.prove(date).complete
    loading.plant.finished.tidy(loading.plant.day.trading_date)
    assert not (segment.SHM / name).exists()
