"""A full /dev/shm, wherever it is met: the journal goes on, readers wait, and room brings back all of it.

Each scenario is a process with a small /dev/shm of its own (tests/room_plant.py).
"""

import os
import shutil
import subprocess
import sys

import pytest
from fix_core import ROOT, finished

from tickplant import segment


@pytest.fixture
def scenario():
    """scenario(name, seed): what the process of a scenario has said, once it has ended well."""
    mount = f"mount -t tmpfs -o size=160m tmpfs {segment.SHM}"
    probe = ["unshare", "--mount", "sh", "-c", mount]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("may not mount: needs root and unshare")

    def run(name, seed):
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh",
             sys.executable, "-m", "tests.room_plant", name, str(seed)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return finished(process)

    return run


@pytest.mark.parametrize("name", ["start_with_little", "become_full", "roll_when_full", "more_instruments"])
@pytest.mark.parametrize("seed", [1, 2])
def test_without_room_the_journal_goes_on_and_room_brings_the_tables_back(scenario, name, seed):
    assert scenario(name, seed).endswith("well\n")
