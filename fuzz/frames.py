"""Targets: what the plant's own processes say to one another, and the journal."""

import contextlib

from fuzz.target import Target


def targets() -> dict[str, Target]:
    """By name."""
    return {"wire": Target(wire, wire_corpus), "journal": Target(journal, journal_corpus)}


def wire(data: bytes) -> None:
    """Frames end to end, and control messages: valid, or refused with FrameError."""
    from tickplant import wire
    from tickplant._core import framing
    from tickplant.errors import FrameError

    frames = wire.split(data)
    if b"".join(frames) != data[: sum(map(len, frames))] or any(framing.check(f) for f in frames):
        raise AssertionError("frames that are not")
    for frame in frames:
        wire.payload(frame)
    framing.index(data)
    framing.scan(data, 0)
    sealed = framing.crc32c(data).to_bytes(4, "little")
    for read in (wire.header, wire.payload, wire.unpack, wire.small_map, lambda d: wire.unpack(d + sealed)):
        with contextlib.suppress(FrameError):
            found = read(data)
            if isinstance(found, dict):
                for name, kind in (("op", "str"), ("seq", "int"), ("rows", "bytes"), ("list", "list")):
                    with contextlib.suppress(FrameError):
                        wire.field(found, name, kind)  # type: ignore[arg-type]


def wire_corpus() -> list[bytes]:
    """Frames of each kind, and messages."""
    from tickplant import wire
    from tickplant._core import framing

    frames = [framing.seal(b"payload", kind, table=1, seq=kind, count=1) for kind in wire.KINDS]
    packed = wire.pack("hello", seq=5, rows=b"\0\1", list=[1, 2], text="x")
    return [b"".join(frames), frames[0], packed, packed[:-4], frames[1] + packed]


def journal(data: bytes) -> None:
    """A segment of a journal: its valid beginning is read, the rest is refused or set aside."""
    import shutil

    from fuzz.files import written
    from tickplant._core import framing
    from tickplant.errors import TickplantError
    from tickplant.journal import JournalReader, JournalWriter

    folder = written(b"", "place").with_name("journal")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / _segment_name()).write_bytes(data)
    reader = JournalReader(folder)
    with contextlib.suppress(TickplantError):
        while chunk := reader.read():
            if sum(size for _, size in framing.index(chunk)[:, :2].tolist()) != len(chunk):
                raise AssertionError("a chunk that is not whole frames")
    reader.close()
    with contextlib.suppress(TickplantError):
        writer = JournalWriter(folder, {"what": "fuzz"}, 1 << 16)
        for _ in writer.recover():
            pass
        writer.close()


def _segment_name() -> str:
    return "0" * 20 + ".tpj"


def journal_corpus() -> list[bytes]:
    """A segment as the writer writes it."""
    import shutil

    from fuzz.files import written
    from tickplant import wire
    from tickplant.journal import JournalWriter, segments

    folder = written(b"", "place").with_name("sound")
    shutil.rmtree(folder, ignore_errors=True)
    writer = JournalWriter(folder, {"what": "fuzz"}, 1 << 16)
    for _ in writer.recover():
        pass
    for number in range(3):
        writer.append_frame(wire.STATE, b"state %d" % number, row=number)
    writer.close()
    return [segments(folder)[0].read_bytes()]
