"""Journals that are damaged: refused, judged, and mended without losing a frame that is good."""

import random
import re

import numpy as np
import pytest

from tests.fix_plant import check_claims, crashed, journaled, rows_of
from tickplant import repair, wire
from tickplant.errors import AlreadyRunning, JournalDamaged
from tickplant.journal import JournalReader, segments
from tickplant.tickerplant import TickerPlant

FRAMES = 12
ROWS = 5


@pytest.fixture
def stopped(site, plant, raw):
    """A plant that has taken frames of two tables and stopped; its journal's folder."""
    raw.send(raw.define(1, "A"))
    for _ in range(FRAMES):
        raw.send(raw.trades(ROWS, 1))
        raw.settle()
    folder = plant.config.journal_dir / str(plant.day.trading_date)
    plant.close()
    raw.close()
    return folder


def frames(folder):
    """(offset in the journal, header) of every frame."""
    out, at = [], 0
    for path in segments(folder):
        data = path.read_bytes()
        at = 0
        while at < len(data):
            head = wire.header(data, at)
            out.append((path, at, head))
            at += wire.HEADER_SIZE + head.size
    return out


def of_trades(folder):
    return [f for f in frames(folder) if f[2].kind == wire.ROWS and f[2].table == 3]


def damage(path, at, size=1):
    data = bytearray(path.read_bytes())
    for i in range(at, at + size):
        data[i] ^= 0xFF
    path.write_bytes(data)


def everything(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_sound_journal_is_left_untouched(stopped):
    before = everything(stopped)
    report = repair.verify(stopped)
    assert report.sound
    assert report.rows == FRAMES * ROWS + 2
    assert report.position == report.size == report.durable
    assert report.text().endswith("bytes good; sound")
    for accept in (False, True):
        assert repair.repair(stopped, accept) == f"{stopped}: sound, nothing to repair"
    assert everything(stopped) == before
    assert [p.name for p in stopped.parent.iterdir()] == [stopped.name]


def test_the_plant_refuses_a_damaged_journal_and_names_the_command(stopped, cfg):
    path, at, _ = of_trades(stopped)[5]
    damage(path, at + 100)
    before = everything(stopped)
    refused = TickerPlant(cfg)
    with pytest.raises(JournalDamaged, match=f"run: tickplant journal verify {stopped}"):
        refused.open()
    for lock in refused._locks:
        lock.release()
    assert everything(stopped) == before
    report = repair.verify(stopped)
    assert not report.sound
    assert report.position == at
    assert "damaged at byte" in report.text()
    assert report.text().endswith("then: tickplant journal repair")


def test_without_consent_it_says_what_would_be_lost_and_changes_nothing(stopped):
    path, at, head = of_trades(stopped)[5]
    damage(path, at + 100)
    before = everything(stopped)
    said = repair.repair(stopped, False)
    assert f"would lose: table 3 rows {head.row} to {head.row + ROWS - 1}" in said
    assert said.endswith("to do it: add --accept-loss")
    assert everything(stopped) == before
    assert [p.name for p in stopped.parent.iterdir()] == [stopped.name]


def test_with_consent_every_other_frame_is_kept_and_the_plant_starts_again(site, stopped, cfg):
    date = int(stopped.name)
    spots = of_trades(stopped)
    before = rows_of(cfg, date, "trade")
    damaged = [3, 4, 8]
    for number in damaged:
        path, at, _ = spots[number]
        damage(path, at + 100)
    original = everything(stopped)
    said = repair.repair(stopped, True)
    assert "repaired; lost: table 3 rows 15 to 24, table 3 rows 40 to 44" in said
    assert everything(stopped.with_name(stopped.name + ".damaged")) == original

    kept = [i for i in range(FRAMES) if i not in damaged]
    after = rows_of(cfg, date, "trade")  # dense, or it would say so
    expected = np.concatenate([before[i * ROWS : i * ROWS + ROWS] for i in kept])
    assert after.tobytes() == expected.tobytes()
    assert repair.verify(stopped).sound

    plant = site.ticker_plant(cfg)
    assert len(rows_of(cfg, date, "trade")) == (FRAMES - 3) * ROWS
    events = rows_of(cfg, date, "event")
    lost = events[events["kind"] == b"lost"]
    assert lost[["first", "last"]].tolist() == [(15, 24), (40, 44)]
    assert lost["text"].tolist() == [b"rows of trade lost in a damaged journal"] * 2
    again = site.raw_feed(plant)
    again.send(again.define(1, "A"), again.trades(7, 1))
    again.settle()
    assert len(rows_of(cfg, date, "trade")) == (FRAMES - 3) * ROWS + 7


def test_a_row_behind_the_hole_is_found_by_readers_under_its_new_number(site, stopped, cfg):
    path, at, _ = of_trades(stopped)[0]
    damage(path, at + 60)
    repair.repair(stopped, True)
    plant = site.ticker_plant(cfg)
    day = plant.day
    table = next(t for t in day.tables if t.table.name == "trade")
    assert table.committed.load() == (FRAMES - 1) * ROWS
    shared = np.empty((FRAMES - 1) * ROWS * table.table.row_size, "u1")
    table.columns.gather(0, (FRAMES - 1) * ROWS, shared)
    assert shared.tobytes() == rows_of(cfg, day.trading_date, "trade").tobytes()


def test_a_torn_tail_needs_no_repair_by_hand(site, stopped, cfg):
    path = segments(stopped)[-1]
    with path.open("ab") as file:
        file.write(b"TP half a frame")
    report = repair.verify(stopped)
    assert not report.sound
    assert report.text().endswith("then 15 bytes of a torn tail, which starting cuts off")
    plant = site.ticker_plant(cfg)
    assert len(rows_of(cfg, plant.day.trading_date, "trade")) == FRAMES * ROWS


def test_bytes_that_were_durable_and_are_gone_are_damage(stopped):
    path, at, _ = of_trades(stopped)[-1]
    with path.open("rb+") as file:
        file.truncate(at)
    report = repair.verify(stopped)
    assert not report.sound
    assert re.search(r"[\d,]+ bytes that were durable are not there", report.text())


def test_the_journal_of_a_plant_that_runs_is_not_repaired(plant, raw):
    raw.send(raw.trades(3))
    raw.settle()
    folder = plant.config.journal_dir / str(plant.day.trading_date)
    path = segments(folder)[0]
    with path.open("rb+") as file:
        file.seek(200)
        file.write(b"\xff")
    before = path.read_bytes()  # the durable mark may still move: the plant runs
    with pytest.raises(AlreadyRunning, match="another ticker plant holds"):
        repair.repair(folder, True)
    assert segments(folder) == [path]
    assert path.read_bytes() == before


def test_a_journal_that_grows_while_it_is_read_is_sound(plant, raw, monkeypatch):
    raw.send(raw.trades(3))
    raw.settle()
    folder = plant.config.journal_dir / str(plant.day.trading_date)
    read = JournalReader.read

    def growing(self, *arguments):
        monkeypatch.undo()
        raw.send(raw.trades(3))
        raw.settle()
        return read(self, *arguments)

    monkeypatch.setattr(JournalReader, "read", growing)
    report = repair.verify(folder)
    assert report.position > report.size
    assert report.sound


def test_a_damaged_head_of_the_journal_costs_what_it_says_and_no_rows(stopped):
    damage(segments(stopped)[0], 60)
    said = repair.repair(stopped, True)
    assert "no row that can be named" in said
    kept = [f for f in frames(stopped) if f[2].kind == wire.ROWS and f[2].table == 3]
    assert sum(f[2].count for f in kept) == FRAMES * ROWS


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_damaged_what_is_kept_is_sound_in_order_and_as_it_was(stopped, seed):
    r = random.Random(seed)
    good = {f[2].crc: f[2] for f in frames(stopped)}
    path = segments(stopped)[0]
    for _ in range(r.randrange(1, 6)):
        data = bytearray(path.read_bytes())
        at, size = r.randrange(len(data)), r.choice((1, 2, 40, 500))
        how = r.choice(("flip", "cut", "insert", "magic"))
        if how == "flip":
            data[at : at + size] = r.randbytes(len(data[at : at + size]))
        elif how == "cut":
            del data[at : at + size]
        else:
            data[at:at] = b"TP" * size if how == "magic" else r.randbytes(size)
        path.write_bytes(data)
    salvaged = [wire.header(f) for f in repair.salvage(stopped)]
    assert {h.crc for h in salvaged} <= set(good)
    seqs = [h.row for h in salvaged if h.kind == wire.ROWS and h.table == 3]
    assert seqs == sorted(set(seqs))
    said = repair.repair(stopped, True)
    if "sound" not in said:
        assert repair.verify(stopped).sound
    rows = 0
    for _, _, head in frames(stopped):
        if head.kind == wire.ROWS and head.table == 3:
            assert head.row == rows
            rows += head.count
    assert rows == len(seqs) * ROWS


def test_bytes_that_are_no_journal_at_all_leave_an_empty_one(tmp_path):
    folder = tmp_path / "20260101"
    folder.mkdir()
    (folder / f"{0:020d}.tpj").write_bytes(random.Random(7).randbytes(100_000))
    said = repair.repair(folder, True)
    assert "repaired" in said
    assert repair.verify(folder).sound
    assert repair.verify(folder).frames == 0


def test_a_repaired_day_can_be_killed_and_recovered(site, stopped, cfg):
    path, at, _ = of_trades(stopped)[2]
    damage(path, at + 100)
    repair.repair(stopped, True)
    plant = site.ticker_plant(cfg)
    count = len(journaled(cfg, int(stopped.name)))
    crashed(plant)
    plant = site.ticker_plant(cfg)
    assert len(journaled(cfg, int(stopped.name))) == count
    with pytest.raises(AssertionError):
        check_claims(plant)  # the claims still tell that rows are missing
