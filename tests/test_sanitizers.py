"""The headers of the native core under sanitizers, on odd and hostile bytes and between threads."""

import shutil
import subprocess

import pytest
from fix_core import ROOT

FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")


def build(folder, source, *options):
    """Compile a harness of tests/native; skips the test if there is no compiler with these options."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("there is no C compiler")
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }")
    probe = folder / "empty"
    made = subprocess.run([cc, *options, empty, "-o", probe], capture_output=True, check=False)
    if made.returncode or subprocess.run([probe], capture_output=True, check=False).returncode:
        pytest.skip(f"{cc} can't do {' '.join(options)}")
    harness = folder / source.removesuffix(".c")
    code, headers = ROOT / "tests" / "native" / source, ROOT / "tickplant" / "_core"
    made = subprocess.run(
        [cc, *FLAGS, *options, f"-I{headers}", code, "-o", harness, "-pthread", "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return harness


def ran(harness, *arguments):
    done = subprocess.run([harness, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


ADDRESSES = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    return build(tmp_path_factory.mktemp("fuzz"), "fuzz_core.c", *ADDRESSES)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("what", ["frames", "messages", "journal", "chains", "latch", "sums", "flips"])
def test_odd_and_hostile_bytes_do_nothing_undefined(fuzz, what, seed):
    assert ran(fuzz, what, seed, 4000).startswith(what)


def test_latch_append_and_futex_have_no_data_race_between_threads(tmp_path):
    harness = build(tmp_path, "fuzz_core.c", "-O1", "-fsanitize=thread", "-Wno-tsan")
    assert ran(harness, "threads", 1, 20_000).startswith("threads")
