"""Files of columns that no mapping knows: what is said of them, and a first draft of a mapping."""

import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from tickplant.cli.main import cli
from tickplant.errors import CaptureError
from tickplant.feed.files.draft import draft
from tickplant.feed.formats import open_capture

pytest.importorskip("pyarrow")
AT = 1_735_689_600_123_000_000


def by_draft(path, table):
    """The rows of a file by its very draft."""
    own = path.with_name("draft.toml")
    own.write_text(draft(path))
    rows = [r for batch in open_capture(path, mapping=str(own)) for t, r in batch if t == table]
    return np.concatenate(rows)


def written(tmp_path, text, name="some.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_an_unknown_file_is_refused_with_its_first_line_the_nearest_mapping_and_what_to_type(tmp_path):
    path = written(
        tmp_path, "exchange,symbol,timestamp,local_timestamp,id,side,price,qty\nx,y,1,1,1,buy,1,1\n"
    )
    with pytest.raises(CaptureError) as refused:
        open_capture(path)
    said = str(refused.value)
    assert "is not a capture that tickplant reads" in said
    assert "Its first line is 'exchange,symbol,timestamp,local_timestamp,id,side,price,qty'" in said
    assert (
        "The nearest mapping is tardis-trades (Tardis trades): it lacks amount and it has 'qty' instead"
        in said
    )
    assert f"tickplant mapping new {path} > mine.toml" in said


@pytest.mark.parametrize("content", [b"", b"\0\1\2 of no text", b"\x89PNG\r\n"])
def test_of_what_is_no_text_no_line_is_told(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CaptureError) as refused:
        open_capture(tmp_path / "x")
    assert "first line" not in str(refused.value)
    with pytest.raises(CaptureError, match="no text with columns"):
        draft(tmp_path / "x")


def test_a_mapping_that_does_not_fit_says_what_differs(tmp_path):
    path = written(tmp_path, "a,b\n1,2\n")
    with pytest.raises(CaptureError, match="has not the columns of Tardis trades: it lacks exchange, symbol"):
        open_capture(path, mapping="tardis-trades")


def test_the_draft_of_trades_reads_them(tmp_path):
    path = written(
        tmp_path, "n;timestamp;sym;px;qty;side\n1;1735689600123;ABC;5.5;2;buy\n2;1735689600124;ABC;5;1;sell\n"
    )
    rows = by_draft(path, "trade")
    assert rows[["ts_event", "price", "size", "side"]].tolist() == [
        (AT, 5.5, 2.0, b"B"), (AT + 1_000_000, 5.0, 1.0, b"S")]  # fmt: skip


def test_the_draft_of_quotes_reads_them(tmp_path):
    path = written(tmp_path, "time,bid,ask,bid_size,ask_size\n2025-01-01T00:00:00.123Z,5,6,1,2\n")
    rows = by_draft(path, "quote")
    assert rows[["ts_event", "bid_price", "bid_size", "ask_price", "ask_size"]].tolist() == [(AT, 5, 1, 6, 2)]


def test_the_draft_of_bars_reads_them(tmp_path):
    path = written(tmp_path, "date,open,high,low,close,volume\n2025-01-01 00:00:00.123,5,6,4,5.5,100\n")
    rows = by_draft(path, "bar")
    assert rows[["start", "open", "high", "low", "close", "volume"]].tolist() == [(AT, 5, 6, 4, 5.5, 100)]


def test_the_draft_of_a_file_without_a_header_goes_by_its_values(tmp_path):
    rows = by_draft(written(tmp_path, "x,1735689600123,5.5,2\n"), "trade")
    assert rows[["ts_event", "price", "size"]].tolist() == [(AT, 5.5, 2.0)]


def test_a_draft_is_made_of_what_is_in_a_zip_and_of_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("inside.csv", "time,px,qty\n1735689600123,5.5,2\n")
    assert by_draft(tmp_path / "x.zip", "trade")["price"].tolist() == [5.5]
    pq.write_table(pa.table({"time": [1735689600123], "px": [5.5], "qty": [2.0]}), tmp_path / "x.parquet")
    assert by_draft(tmp_path / "x.parquet", "trade")["price"].tolist() == [5.5]


def test_the_commands_print_a_draft_and_the_mappings_there_are(tmp_path):
    path = written(tmp_path, "time,px,qty\n1735689600123,5.5,2\n")
    done = CliRunner().invoke(cli, ["mapping", "new", str(path)])
    assert (done.exit_code, done.output) == (0, draft(path))
    assert "binance-vision-trades" in CliRunner().invoke(cli, ["mapping", "ls"]).output
