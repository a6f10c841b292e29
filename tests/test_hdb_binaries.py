"""PostgreSQL's programs: found, passed over, or missed with the remedy."""

from pathlib import Path

import pytest

from tickplant.errors import HistoryError
from tickplant.hdb import binaries


def test_without_postgresql_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter([Path("/nonexistent")]))
    with pytest.raises(HistoryError, match="apt install postgresql"):
        binaries.find_binaries()


def test_binaries_older_than_wanted_are_passed_over(monkeypatch: pytest.MonkeyPatch, pg_folder: Path) -> None:
    found = binaries.find_binaries()
    for major in ("9", "13"):
        old = pg_folder / major
        old.mkdir()
        (old / "initdb").touch()
        (old / "postgres").write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {major}.5'\n")
        (old / "postgres").chmod(0o755)
    places = [pg_folder / "9", pg_folder / "13", found]
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(places))
    assert binaries.find_binaries() == found
    assert binaries.find_binaries("13") == pg_folder / "13"
