"""Huge pages of shared memory: what a mount allows, and what tables make of it."""

import json
import mmap
import shutil
import subprocess
from itertools import pairwise

import pytest
from core_processes import MIXED, opened
from fix_core import finished
from hypothesis import given
from hypothesis import strategies as st

from tickplant import hugepages, preflight, segment
from tickplant.schema import declare
from tickplant.table import AppendTable, _large, _layout

HUGE = 2 << 20


@pytest.fixture
def on_mount(start):
    """on_mount(options, role, *arguments): a process with a /dev/shm of its own, mounted so."""
    if not hugepages.size() or hugepages.denied():
        pytest.skip("this kernel has no huge pages for tmpfs")
    mount = f'mount -t tmpfs -o "$0" tmpfs {segment.SHM}'
    probe = ["unshare", "--mount", "sh", "-c", mount, "size=1m,huge=advise"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("may not mount: needs root and unshare")

    def run(options, role, *arguments):
        before = ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', options)
        return json.loads(finished(start(role, *arguments, before=before)).splitlines()[-1])

    return run


@pytest.mark.parametrize(("options", "override", "mode"), [
    ("rw,size=1k", "always within_size advise [never] deny force", "never"),
    ("rw,huge=advise", "always within_size advise [never] deny force", "advise"),
    ("rw,huge=always,size=1k", "always within_size advise [never] deny force", "always"),
    ("rw,huge=within_size", "[always] within_size advise never deny force", "within_size"),
    ("rw,huge=always", "always within_size advise never [deny] force", "never"),
    ("rw", "always within_size advise never deny [force]", "always"),
])  # fmt: skip
def test_the_mount_says_when_there_are_huge_pages(tmp_path, monkeypatch, options, override, mode):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "25 24 0:23 / /dev/shm rw,relatime shared:4 - tmpfs below rw,huge=never\n"
        "26 24 0:24 / /dev/shmem rw - tmpfs other rw,huge=never\n"
        f"30 25 0:27 / /dev/shm rw,relatime - tmpfs top {options}\n"
        "31 24 0:28 / /tmp rw - tmpfs other rw,huge=always\n"
    )
    (tmp_path / "shmem_enabled").write_text(override)
    (tmp_path / "hpage_pmd_size").write_text("2097152\n")
    monkeypatch.setattr(hugepages, "MOUNTS", mounts)
    monkeypatch.setattr(hugepages, "SYSTEM", tmp_path)
    assert hugepages.mode(segment.SHM) == mode
    assert hugepages.allowed(segment.SHM) == (mode != "never")
    (hint,) = preflight.hints() or [""]
    wanted = "" if mode != "never" else "echo never" if "[deny]" in override else "remount,huge=advise"
    assert wanted in hint
    assert bool(hint) == (mode == "never")


def test_a_kernel_without_huge_pages_allows_none(tmp_path, monkeypatch):
    monkeypatch.setattr(hugepages, "SYSTEM", tmp_path / "absent")
    assert (hugepages.size(), hugepages.mode(segment.SHM), preflight.hints()) == (0, "never", [])


TYPES = st.lists(st.sampled_from(["u1", "i2", "u4", "i8", "f8", "S3", "S40"]), min_size=1, max_size=8)


@given(
    TYPES, st.integers(1, 1 << 24), st.integers(1, 1 << 21), st.sampled_from([4096, 1 << 16, HUGE, 32 << 20])
)
def test_places_are_at_whole_pages_and_do_not_overlap(types, max_rows, instruments, page):
    table = declare("some", 1, {f"c{i}": t for i, t in enumerate(types)}, max_rows=max_rows)
    at = _layout(table, instruments, page)
    places = [at["prev"], *at["offsets"], at["size"]]
    sizes = [4, *(column.size for column in table.columns)]
    assert not any(place % page for place in places)
    assert at["head"] + 4 * instruments <= at["prev"] < at["head"] + 4 * instruments + page
    for (begin, end), size in zip(pairwise(places), sizes, strict=True):
        assert size * max_rows <= end - begin < size * max_rows + page


@given(st.lists(st.integers(1, 1 << 20), min_size=1, max_size=20), st.sampled_from([0, HUGE]))
def test_what_is_taken_covers_all_rows_and_keeps_within_the_reservation(steps, page):
    """Each range is one that rows need, and is rounded up to whole huge pages only."""
    append, taken = AppendTable(MIXED), []
    append._huge_page, append._layout = page, _layout(MIXED, 64, page or 4096)

    class Recorder:
        def allocate(self, offset, length, huge=None):
            taken.append((offset, offset + length, huge))

    have = 0
    for step in steps:
        upto = min(have + step, MIXED.max_rows)
        for offset, column in zip(append._layout["offsets"], MIXED.columns, strict=True):
            append._allocate(Recorder(), offset, column.size * have, column.size * upto)
            begin, end, huge = taken.pop()
            reserved = min(p for p in [*append._layout["offsets"], append._layout["size"]] if p > offset)
            assert begin == offset + column.size * have
            assert offset + column.size * upto <= end <= reserved
            assert huge is (None if not page else column.size * upto >= HUGE)
            if huge:
                assert end % HUGE == 0
                assert end - offset - column.size * upto < HUGE
            else:
                assert end == offset + column.size * upto
        have = upto


def test_a_table_is_large_if_an_extent_fills_a_huge_page():
    table = declare("some", 1, {"price": "f8"}, max_rows=1 << 18)
    assert _large(table, 1 << 18, HUGE)
    assert not _large(table, (1 << 18) - 1, HUGE)
    assert not _large(declare("some", 1, {"price": "f8"}, max_rows=(1 << 18) - 1), 1 << 20, HUGE)
    assert not _large(table, 1 << 18, 0)


def test_without_huge_pages_tables_are_where_they_were(plant_name, monkeypatch):
    """Offsets by hand: header and head 4 pages and one, then prev and columns from page to page."""
    monkeypatch.setattr(hugepages, "mode", lambda folder: "never")
    table = declare("some", 1, {"price": "f8"}, max_rows=1 << 18)
    append, _, _ = opened(plant_name, table, extent_rows=1 << 18)
    about = segment.description(append.segment, b"tpTABLE1")
    at, places = 20_480 + (1 << 20), []
    for column in table.columns:
        places.append(at)
        at += column.size << 18
    assert (about["head"], about["prev"], about["offsets"], about["size"]) == (16_384, 20_480, places, at)


@pytest.mark.parametrize("first", ["never", "advise"])
def test_a_table_of_the_other_layout_is_gone_on_with(plant_name, monkeypatch, first):
    """A remount is no reason to make tables anew."""
    monkeypatch.setattr(hugepages, "size", lambda: HUGE)
    monkeypatch.setattr(hugepages, "mode", lambda folder: first)
    wide = declare("mixed", 1, {"price": "f8"}, max_rows=1 << 20)
    append, _, _ = opened(plant_name, wide, extent_rows=1 << 18)
    append.extend(300_000)
    at = append._layout
    monkeypatch.setattr(hugepages, "mode", lambda folder: "advise" if first == "never" else "never")
    again, _, found = opened(plant_name, wide, extent_rows=1 << 18)
    assert found
    assert again._layout == at
    again.extend(900_000)
    assert again._allocated >= 900_000


@pytest.mark.parametrize("option", ["always", "advise", "within_size"])
def test_a_large_table_gets_huge_pages_and_a_small_one_does_not(on_mount, option):
    said = on_mount(f"size=1g,huge={option}", "huge_table", 2_000_000)
    rows = said["bytes"]
    assert said["writer"] > 0.8 * rows
    assert said["reader"] > 0.8 * rows
    assert said["small"] == 0
    assert said["small_blocks"] < 100 * mmap.PAGESIZE
    assert said["blocks"] < 1.35 * rows


def test_a_table_on_a_mount_without_huge_pages_has_small_ones(on_mount):
    said = on_mount("size=1g,huge=never", "huge_table", 2_000_000)
    assert (said["writer"], said["reader"]) == (0, 0)


@pytest.mark.parametrize("option", ["always", "advise"])
def test_a_full_mount_with_huge_pages_is_an_error_and_no_signal(on_mount, option):
    """The error leaves what rows have, gives back what they have not, and room later is used."""
    said = on_mount(f"size=72m,huge={option}", "fill_huge_table")
    assert "mount -o remount" in said["why"]
    assert said["sound"]
    assert said["after"] > said["rows"] > 100_000
