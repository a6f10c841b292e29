"""The commands about journals, for one who may not read them."""

import os

import pytest
from click.testing import CliRunner

from tickplant.cli import journals
from tickplant.cli.journals import journal
from tickplant.errors import JournalError
from tickplant.journal import JournalWriter


@pytest.mark.parametrize("command", ["dump", "verify", "repair"])
def test_a_journal_that_may_not_be_read_is_an_error_with_its_place(tmp_path, monkeypatch, command):
    folder = tmp_path / "20261120"
    writer = JournalWriter(folder, {}, 1 << 20)
    list(writer.recover())
    writer.append_frame(4, b"\x80")
    writer.close()

    def refused(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refused)
    result = CliRunner().invoke(journal, [command, str(folder)])
    assert isinstance(result.exception, JournalError)
    assert "Permission denied; run this as the plant's user" in str(result.exception)
    assert str(folder) in str(result.exception)


def test_a_folder_that_may_not_be_listed_is_not_an_empty_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(journals.os, "access", lambda *_: False)
    with pytest.raises(JournalError, match="Permission denied"):
        journals._folders(None, str(tmp_path))
