"""bin/setup: installs where nothing is installed, and does nothing where all that is asked for is."""

import shutil
import subprocess
import sys

import pytest
from fix_core import ROOT


@pytest.fixture
def set_up(tmp_path):
    """Runs it in a copy of the checkout in which no .venv can be made: its exit status and what it said."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tickplant" / "_core", tmp_path / "tickplant" / "_core")
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "bin" / "setup", tmp_path / "bin")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1 $2" != "-m venv" ] || exit 1\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

    def run(*extra):
        command = [tmp_path / "bin" / "setup", *extra]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHON": str(python)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    run.folder = tmp_path
    return run


@pytest.mark.parametrize("extra", [(), ("test",)], ids=["without", "test"])
def test_a_checkout_in_which_nothing_is_installed_is_set_up(set_up, extra):
    assert set_up(*extra) == (1, "bin/setup: can't make .venv\n")


def test_nothing_is_done_where_it_is_installed_with_what_is_asked_for(set_up):
    sources = (
        "setup.py setup.cfg pyproject.toml constraints.txt "
        "tickplant/_core/*.pyx tickplant/_core/*.pxd tickplant/_core/*.h"
    )
    stamp = subprocess.run(
        f"cat {sources} | cksum | tr ' ' '-'", shell=True, cwd=set_up.folder, capture_output=True, text=True,
        check=True,
    ).stdout.strip()  # fmt: skip
    (set_up.folder / ".venv").mkdir()
    (set_up.folder / ".venv" / f".installed-{stamp}-test").touch()
    assert set_up() == (0, "")
    assert set_up("test") == (0, "")
    assert set_up("bench") == (1, "bin/setup: can't make .venv\n")
