"""The fault bench finds what is wrong, and finds nothing wrong under a short schedule of faults."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from faults import bench, report
from faults.cases import CASES
from faults.check import Findings, check
from faults.failpoint import AT_THE_ROLL, POINTS, ROLES
from faults.site import Site


@pytest.fixture(scope="module")
def day():
    """A site whose date is over, and the date."""
    with Site(seed=5, rate=20_000.0) as site:
        date = site.open()
        site.until(lambda: site.plant.control.written.load() > 1 << 18, "rows to flow")
        site.kill("feed-one", 0.0)
        site.pause(1.0)
        bench.finish(site)
        assert check(site, [date]).good
        yield site, date


def changed(day, change):
    """What the check finds when a reader had written down other rows of trade than it did."""
    site, date = day
    path = site.folder / "local-trade" / str(date)
    kept = path.with_name("kept")
    shutil.copy(path, kept)
    rows = site.config.schema["trade"].rows(path.read_bytes())
    path.write_bytes(change(rows).tobytes())
    try:
        found = check(site, [date])
    finally:
        kept.replace(path)
    assert not found.good
    return found.lost, found.duplicated, found.out_of_order


def test_a_row_that_is_missing_is_found(day):
    assert changed(day, lambda rows: np.delete(rows, 100)) == (1, 0, 0)
    assert changed(day, lambda rows: rows[:-1]) == (1, 0, 0)


def test_a_row_that_is_there_twice_is_found(day):
    assert changed(day, lambda rows: np.insert(rows, 100, rows[7])) == (0, 1, 0)


def test_rows_that_have_changed_places_are_found(day):
    swapped = [*range(100), 101, 100]
    assert changed(day, lambda rows: np.concatenate([rows[swapped], rows[102:]])) == (0, 0, 2)


def test_a_value_that_is_another_is_found(day):
    def change(rows):
        rows = rows.copy()
        rows["size"][50] += 1
        return rows

    assert changed(day, change) == (0, 0, 0)


def test_rows_that_the_journal_lacks_are_found(day):
    site, date = day
    counts = site.counts("two")
    counts.add(1, "quote", 3)
    try:
        assert check(site, [date]).lost == 3
    finally:
        counts.add(1, "quote", -3)


def test_a_row_that_was_never_published_is_found(day, monkeypatch):
    site, date = day
    monkeypatch.setattr(site, "seed", 6)
    found = check(site, [date])
    assert any("price is not what was published" in text for text in found.wrong)


def test_nothing_is_lost_or_twice_or_out_of_order_under_faults_of_all_kinds():
    outcome = bench.run("mixed", seed=1, seconds=15.0)
    assert (outcome.found.lost, outcome.found.duplicated, outcome.found.out_of_order) == (0, 0, 0)
    assert outcome.found.wrong == []
    assert outcome.faults


def test_a_bad_network_and_keys_that_come_and_go_cost_nothing_either():
    outcome = bench.run("curve", seed=2, seconds=10.0)
    assert (outcome.found.lost, outcome.found.duplicated, outcome.found.out_of_order) == (0, 0, 0)
    assert outcome.found.wrong == []
    assert outcome.declared_gaps == 0
    assert outcome.faults > 2


def test_a_day_is_saved_once_by_an_hdb_that_postgresql_refuses_for_a_while():
    outcome = bench.run("postgres-read-only", seed=1, seconds=0.1)
    assert (outcome.found.lost, outcome.found.duplicated, outcome.found.out_of_order) == (0, 0, 0)
    assert outcome.found.wrong == []
    assert outcome.faults == 1


def test_every_step_at_which_a_process_can_be_killed_exists():
    for points in (*ROLES.values(), *AT_THE_ROLL.values()):
        assert set(points) <= set(POINTS)
    assert {"mixed", "kill-tickerplant", "stop-and-go", "network-feed", "network-reader"} <= set(CASES)


def test_the_report_has_a_row_for_each_case_and_what_was_measured_besides(tmp_path):
    calm = bench.Outcome("kill-hdb", 3, Findings(published=1234), 0, 56, 7)
    noted = bench.Outcome("feed-burst", 1, Findings(lost=2), 0, 8, 9, ["memory grew by 3 MiB"])
    report.write(tmp_path / "page.md", "bin/faults", [calm.plain(), noted.plain()])
    text = (tmp_path / "page.md").read_text()
    assert "| kill-hdb | 3 | 1,234 | 0 | 0 | 0 | 0 | 56 | 7 | good |\n" in text
    assert "| feed-burst | 1 | 0 | 2 | 0 | 0 | 0 | 8 | 9 | bad |\n" in text
    assert "- `feed-burst`: memory grew by 3 MiB.\n" in text
    assert "kill-hdb`:" not in text


def test_each_fault_that_is_mixed_is_of_a_case_by_name():
    for fault in CASES["mixed"].faults:
        name = bench.case_of(fault)
        assert name != "mixed"
        assert CASES[name].mixed


def test_the_report_names_cases_and_tests_that_are_there():
    text = (Path(bench.__file__).parent / "beside.md").read_text()
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`([a-z0-9_-]+)`", text)) - {"event"}
    assert len(named) > 40
    for name in named:
        if name.startswith("test_"):
            assert f"def {name}(" in tests, name
        else:
            assert any(case.startswith(name) for case in CASES), name
    missing = [c for c in CASES if not any(c.startswith(n) for n in named if not n.startswith("test_"))]
    assert missing == []
