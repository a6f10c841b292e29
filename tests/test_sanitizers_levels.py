"""Books of levels and decimal text under address and undefined-behaviour sanitizers."""

import random
import subprocess

import pytest

from tests.test_sanitizers import ADDRESSES, build


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """Runs the harness with these arguments in its folder; what it printed."""
    folder = tmp_path_factory.mktemp("fuzz")
    program = build(folder, "fuzz_levels.c", *ADDRESSES)

    def run(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run.folder = folder
    return run


def test_random_operations_and_missing_memory_keep_all_invariants(harness):
    assert harness("1", "150") == "150 rounds\n"


def test_numbers_are_never_read_beyond_their_text(harness):
    r = random.Random(1)
    texts = ["".join(r.choices("0123456789.-+eE", k=r.randrange(40))).encode() for _ in range(200)]
    texts += [b"9" * 4000, b"0." + b"0" * 4000, b"1e" + b"9" * 4000, b"-", b"", r.randbytes(300)]
    for i, text in enumerate(texts):
        (harness.folder / f"{i}").write_bytes(text)
    assert harness("-n", *map(str, range(len(texts)))) == f"{len(texts)} files\n"
