"""Targets: what comes in files."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from fuzz.target import Target, check

START = 1_700_000_000_123_456_789


def targets() -> dict[str, Target]:
    """By name."""
    columns = {
        f"columns-{name}": Target(partial(mapped, name), partial(mapped_corpus, name)) for name in MAPPED
    }
    return {
        "itch50": Target(itch, itch_corpus),
        "dbn": Target(dbn, dbn_corpus),
        "dbn-file": Target(dbn_file, dbn_file_corpus),
        "recording": Target(recording, recording_corpus),
        **columns,
    }


@cache
def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tickplant-fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def written(data: bytes, name: str) -> Path:
    """A file with this content, until the next one of that name."""
    path = _folder() / name
    path.write_bytes(data)
    return path


def _capture(made: Callable[[], Any], size: int) -> None:
    """Read a capture to its end; only CaptureError may say that it is none."""
    from tickplant.errors import CaptureError

    try:
        capture = made()
    except CaptureError:
        return
    check(list(capture), size, capture.malformed)


def itch(data: bytes) -> None:
    """A BinaryFILE of ITCH 5.0 gives the rows of the reference decoder, in whatever pieces it comes."""
    from itch_streams import assert_same_as_oracle

    assert_same_as_oracle(data, range(7, len(data), max(7, len(data) // 3)))


def itch_corpus() -> list[bytes]:
    """One message of each type, and an order's life."""
    import itch_messages as messages

    each = messages.one_of_each()
    life = [messages.system(), messages.directory(), messages.add(1, b"B", 100, 100_000),
            messages.executed(1, 40, 9), messages.replace(1, 2, 50, 100_100),
            messages.cancel(2, 5), messages.delete(2)]  # fmt: skip
    return [messages.file(each), messages.file(life), *(messages.file([m]) for m in each)]


def dbn(data: bytes) -> None:
    """Records of DBN; the first byte chooses the version."""
    from tickplant.feed.files.dbn import DbnDecoder

    decoder, records = DbnDecoder(data[0] % 3 + 1 if data else 3, "XTST", False), data[1:]
    batch, used, damage = decoder.decode(memoryview(records))
    check([batch], len(data), decoder.malformed)
    seen, at = 0, 0
    while at < used:
        at, seen = at + records[at] * 4, seen + 1
    account = decoder.messages.total() + decoder.ignored.total() + decoder.malformed
    if at != used or seen != account or (damage is None and used < len(records) - 1024):
        raise AssertionError(f"{account} of {seen} records in {used} of {len(records)} bytes, to {at}")


def dbn_corpus() -> list[bytes]:
    """Orders, trades, quotes and books of ten levels."""
    import dbn_messages as m

    level = (10**9, 5, 1)
    each = [
        m.mbo(),
        m.mbo("C"),
        m.mbo("R"),
        m.trade(),
        m.mbp1(bid=level, ask=(2 * 10**9, 5, 1)),
        m.mbp10([level], []),
    ]
    return [b"\2" + b"".join(each), *(b"\2" + e for e in each)]


def dbn_file(data: bytes) -> None:
    """A whole file of DBN, with metadata."""
    from tickplant.feed.files.dbn import Dbn

    _capture(lambda: Dbn(written(data, "some.dbn")), len(data))


def dbn_file_corpus() -> list[bytes]:
    """Plain and packed, of each version."""
    import datetime

    import dbn_messages as m

    days = [("ESZ4", [(datetime.date(2024, 10, 1), datetime.date(2024, 11, 1), "7")])]
    plain = [m.metadata(version=v) + m.mbo() + m.trade() for v in (1, 2, 3)]
    return [*plain, m.packed(plain[2]), m.metadata(days) + m.mbo()]


def recording(data: bytes) -> None:
    """A recording of a venue, unpacked."""
    from tickplant.feed.recording import Recording

    _capture(lambda: Recording(written(data, "some.jsonl")), len(data))


def recording_corpus() -> list[bytes]:
    """A feed's life as the recorder writes it."""
    import zstandard
    from test_recording import stream

    from tickplant.feed.recording import Recorder

    path = _folder() / "sound.jsonl.zst"
    path.unlink(missing_ok=True)
    recorder = Recorder(path, "binance", {"trades": ["BTC-USDT"]}, START)
    for number, (kind, where, entry) in enumerate(stream(8)):
        if kind == "http":
            recorder.add(kind, "", START + number, entry, url=where)
        else:
            recorder.add(kind, where, START + number, entry)
    recorder.close()
    plain = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True).read()
    return [plain, path.read_bytes(), b"\n".join(plain.split(b"\n")[:4])]


MAPPED = {
    "tardis-trades": "",
    "twse-orders": "",
    "dukascopy-ticks": "EURUSD",
    "tardis-incremental-book-l2": "",
}
"""Mappings, and the symbol that files need to be told."""


def mapped(name: str, data: bytes) -> None:
    """A file by one of the mappings that come with tickplant."""
    from tickplant.feed.files.columns import Columns

    _capture(lambda: Columns(written(data, "some.csv"), mapping=name, symbol=MAPPED[name]), len(data))


def mapped_corpus(name: str) -> list[bytes]:
    """A few lines as the mapping says."""
    from tickplant.feed.files.mapping import named

    mapping = named(name)
    lines = {
        "tardis-trades": [b"bitmex,XBTUSD,1583020803145000,1583020803307160,9d6b,sell,8531.5,2152",
                          b"bitmex,XBTUSD,1583020803145001,1583020803307161,9d6c,buy,8532,1"],
        "twse-orders": [b"201612300050  S008300110u555840078.35+00000010004 0855J7003"] * 2,
        "dukascopy-ticks": [b"2020.01.31 10:00:00.500,1.10,1.09,1.5,2.25"] * 2,
        "tardis-incremental-book-l2": [b"deribit,X,1585699200245000,1585699200299712,true,ask,6421.5,18640",
                                       b"deribit,X,1585699200245001,1585699200299713,false,bid,6421,0"],
    }[name]  # fmt: skip
    head = [mapping.delimiter.join(mapping.header).encode()] if mapping.has_header else []
    return [
        b"\n".join([*head, *lines]) + b"\n",
        b"\n".join([*head, lines[0]]),
        b"\r\n".join([*head, *lines * 3]),
    ]
