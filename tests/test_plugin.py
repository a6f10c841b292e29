"""Code of one's own: found where README.md says, by every command alike; nothing takes tickplant's place."""

import os
import shutil
import subprocess
import sys

import pytest

from tickplant import plugin
from tickplant.errors import ConfigError
from tickplant.feed.handlers import resolve
from tickplant.feed.recording import Recorder
from tickplant.feed.venues import find

VENUE = """
from pathlib import Path
from sibling import NAME
from tickplant.feed.venue import Venue

class Mine(Venue):
    NAME, VENUE, CHANNELS = NAME, "MINE", ()
    def connections(self):
        return []
    def frame(self, conn, data, ts_recv):
        self.sink.add("trade", 1, ts_recv, instrument=self.code("A-B", ts_recv), price=1.0, size=2.0)
        return "trade"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """own(folder, package): a package with a venue in a folder of that name."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugin, "_beside", [])

    def make(folder, package):
        inside = tmp_path / folder / package
        inside.mkdir(parents=True)
        (inside / "__init__.py").write_text("")
        (inside / "venue.py").write_text(VENUE)
        (inside.parent / "sibling.py").write_text(f"NAME = {folder!r}")
        return inside.parent

    yield make
    ours = [n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(str(tmp_path))]
    for name in ours:  # and none of the standard library's that has the name of one
        del sys.modules[name]


def test_it_is_found_beside_the_configuration_and_then_in_the_current_folder(own, monkeypatch):
    here, etc = own("here", "plug_one"), own("etc", "plug_one")
    monkeypatch.chdir(here)
    plugin.look_in(etc)
    assert find("plug_one.venue:Mine").NAME == "etc"
    assert callable(resolve("plug_one.venue:Mine"))


def test_without_a_configuration_it_is_found_in_the_current_folder(own, monkeypatch):
    monkeypatch.chdir(own("here", "plug_two"))
    assert find("plug_two.venue:Mine").NAME == "here"


def test_what_is_installed_comes_first(own, monkeypatch):
    monkeypatch.chdir(own("here", "json"))
    with pytest.raises(ConfigError, match="No module named 'json.venue'"):
        plugin.load("json.venue:Mine", "venue")
    assert plugin.load("json:dumps", "venue").__module__ == "json"


def test_what_is_not_there_says_where_it_was_looked_for(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"no venue 'nowhere:X'.*installed for .*then in {tmp_path}"):
        plugin.load("nowhere:X", "venue")
    (own("broken", "plug_three") / "plug_three" / "bad.py").write_text("import no_such_thing")
    monkeypatch.chdir(tmp_path / "broken")
    with pytest.raises(ConfigError, match="No module named 'no_such_thing'"):
        plugin.load("plug_three.bad:X", "venue")


def test_decode_finds_what_run_finds(own):
    folder = own("here", "plug_four")
    recorder = Recorder(folder / "r", "here", {}, 1)
    recorder.add("recv", "ws", 2, "{}")
    recorder.close()
    command = [shutil.which("tickplant", path=os.path.dirname(sys.executable)), "decode", "r", "--json",
               "--venue", "plug_four.venue:Mine"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"trade": 1' in done.stdout


def test_children_run_this_tickplant_beside_whatever_folder_has_its_name(tmp_path):
    (tmp_path / "tickplant").mkdir()
    (tmp_path / "tickplant" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    code = (
        "from pathlib import Path; from tickplant.supervisor import Supervisor;"
        "s = Supervisor(None, Path('none.toml')); c = s.add('a', '--version'); s.turn();"
        "raise SystemExit(c.process.wait())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "tickplant" in done.stdout) == (0, True), done.stderr
