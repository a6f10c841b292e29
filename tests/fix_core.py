"""Names, folders and processes for tests of the mechanisms; nothing of them is left behind."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tickplant import segment

ROOT = Path(__file__).parents[1]
_numbers = itertools.count()

# A busy machine is no failure; fixtures of a function serve all of its examples, which clear up themselves.
settings.register_profile(
    "tickplant",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tickplant")


@pytest.fixture
def plant_name():
    """A name that no other plant has; its shared memory is removed in the end."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    yield name
    for left in segment.SHM.glob(f"tp.{name}.*"):
        if left.is_dir() and not left.is_symlink():
            left.rmdir()
        else:
            left.unlink()


@pytest.fixture
def shm_folder():
    """An empty folder in memory, where a sync costs nothing."""
    folder = Path(tempfile.mkdtemp(prefix="tickplant-", dir=segment.SHM))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start():
    """start(role, *arguments): a process of core_processes.py; killed in the end if it still runs."""
    running = []

    def run(role, *arguments, before=()):
        script = str(ROOT / "tests" / "core_processes.py")
        process = subprocess.Popen(
            [*before, sys.executable, script, role, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def tiny_shm(start):
    """tiny_shm(size, role, *arguments): the same with a /dev/shm of its own of this size."""
    mount = f"mount -t tmpfs -o size=$0 tmpfs {segment.SHM}"
    probe = ["unshare", "--mount", "sh", "-c", mount, "1m"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("may not mount: needs root and unshare")

    def run(size, role, *arguments):
        before = ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', size)
        return start(role, *arguments, before=before)

    return run


def finished(process):
    """What a process printed, once it has ended well."""
    printed, _ = process.communicate()
    assert process.returncode == 0, f"exit code {process.returncode}\n{printed}"
    return printed


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The device that fails, to be loaded before a process."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("there is no C compiler")
    made = tmp_path_factory.mktemp("shim") / "device_shim.so"
    flags = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    source = ROOT / "tests" / "native" / "device_shim.c"
    done = subprocess.run(
        [cc, *flags, source, "-o", made, "-ldl"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return made
