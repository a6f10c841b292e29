"""The ITCH decoder under address and undefined-behaviour sanitizers, on hostile files."""

import random
import subprocess

import itch_messages as itch
import pytest
from itch_streams import busy

from tests.test_sanitizers import ADDRESSES, build


@pytest.fixture(scope="module")
def check_invariants(tmp_path_factory):
    """Runs the harness on files with this content; fails with what it printed."""
    folder = tmp_path_factory.mktemp("fuzz")
    few = "-DCELL_BITS=3"  # so that pages of orders share cells
    harness = build(folder, "fuzz_itch.c", *ADDRESSES, few)

    def run(contents: list[bytes], *options: str) -> None:
        names = []
        for i, content in enumerate(contents):
            names.append(f"{i}.itch")
            (folder / names[-1]).write_bytes(content)
        done = subprocess.run(
            [harness, *options, *names],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, f"{len(names)} files\n"), done.stderr[-3000:]

    return run


def test_valid_streams_hold_all_invariants(check_invariants):
    r = random.Random(1)
    check_invariants([itch.file(busy(r, 3000, refs)) for refs in (3, 50, 5000)])


def test_many_orders_on_many_levels_hold_all_invariants(check_invariants):
    r = random.Random(2)
    adds = [itch.add(i, b"BS"[i % 2 :][:1], 100, r.randrange(5000)) for i in range(8000)]
    gone = [itch.delete(i) for i in r.sample(range(8000), 7900)]
    check_invariants([itch.file(adds + gone)])


def test_truncated_files_hold_all_invariants(check_invariants):
    data = itch.file(itch.one_of_each())
    check_invariants([data[:size] for size in range(0, len(data), 5)])


def test_bit_flips_hold_all_invariants(check_invariants):
    r = random.Random(3)
    contents = []
    for _ in range(60):
        data = bytearray(itch.file(busy(r, 150, 20)))
        for _ in range(r.randrange(1, 40)):
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        contents.append(bytes(data))
    check_invariants(contents)


def test_random_bytes_hold_all_invariants(check_invariants):
    r = random.Random(4)
    framed = [b"\0%c" % r.randrange(12, 51) + r.randbytes(r.randrange(60)) for _ in range(2000)]
    kinds = b"SRHYLVWKJhAFECXDUPQBINO"
    typed = [bytes([r.choice(kinds)]) + r.randbytes(r.randrange(11, 50)) for _ in range(3000)]
    check_invariants([r.randbytes(5000), b"".join(framed), itch.file(typed), b"", b"\0", b"\0\0", b"\0\0\0"])


def test_without_memory_the_decoder_stops_and_leaks_nothing(check_invariants):
    r = random.Random(5)
    adds = [itch.add(i, b"B", 100, i % 100) for i in range(3000)]
    check_invariants([itch.file(adds), itch.file(busy(r, 400, 30))], "-m")
