"""Judging and mending journals that recovery refuses: what is wrong, what can be kept, what is lost."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tickplant import wire
from tickplant._core import framing, rowsums
from tickplant.clock import now_ns
from tickplant.errors import JournalDamaged
from tickplant.journal import JournalReader, JournalWriter, begins, durable_position, segments
from tickplant.lock import Lock
from tickplant.schema import Schema

SEGMENT_BYTES = 1 << 28


@dataclass
class Report:
    """What verification found."""

    frames: int = 0
    rows: int = 0
    position: int = 0
    size: int = 0
    durable: int = 0
    damage: str | None = None

    @property
    def sound(self) -> bool:
        """Is every byte part of a good frame?"""
        return self.damage is None and self.position >= self.size  # it may grow while it is read

    def text(self) -> str:
        """One line for people."""
        good = f"{self.frames:,} frames, {self.rows:,} rows, {self.position:,} bytes good"
        if self.sound:
            return f"{good}; sound"
        if self.damage is None or self.position >= self.durable:
            return f"{good}; then {self.size - self.position:,} bytes of a torn tail, which starting cuts off"
        return f"{good}; {self.damage}; then: tickplant journal repair"


def verify(folder: Path) -> Report:
    """Read a journal from start to end, checking every frame and the chain."""
    report = Report(durable=durable_position(folder))
    files = segments(folder)
    if files:
        report.size = begins(files[-1]) + files[-1].stat().st_size
    reader = JournalReader(folder)
    try:
        while chunk := reader.read():
            frames = framing.index(chunk)
            report.frames += len(frames)
            report.rows += int(frames[frames[:, 2] == wire.ROWS, 6].sum())
    except JournalDamaged as e:
        report.damage = str(e)
    finally:
        reader.close()
    report.position = reader.position or 0
    if report.position < report.durable and report.damage is None:
        report.damage = f"{report.durable - report.position:,} bytes that were durable are not there"
    return report


def salvage(folder: Path) -> Iterator[memoryview]:
    """Every valid frame of a journal, in order, whatever lies between them."""
    for path in segments(folder):
        data = memoryview(path.read_bytes())
        at = 0
        while at < len(data):
            if framing.check(data[at:]) == 0:
                size = wire.HEADER_SIZE + wire.header(data, at).size
                yield data[at : at + size]
                at += size
            else:
                at = _next_magic(data, at + 1)


def _next_magic(data: memoryview, start: int) -> int:
    """Where the next frame may begin."""
    window = 1 << 20
    for at in range(start, len(data), window):
        found = bytes(data[at : at + window + 1]).find(b"TP")
        if found >= 0:
            return at + found
    return len(data)


@dataclass
class _Mended:
    """The frames that were kept, numbered anew."""

    next_row: dict[int, int] = field(default_factory=dict)
    seen_row: dict[int, int] = field(default_factory=dict)
    lost: list[tuple[int, int, int]] = field(default_factory=list)
    schema: Schema | None = None

    def keep(self, frame: memoryview, writer: JournalWriter) -> None:
        """Append a frame, with the row number it has now."""
        h = wire.header(frame)
        if h.kind == wire.SEGMENT:
            about = wire.small_map(wire.payload(frame))
            writer.about = {k: v for k, v in about.items() if k not in ("format", "position")}
            if "schema" in about:
                self.schema = Schema.read(about["schema"])
            return
        if h.kind == wire.ROWS:
            seen = self.seen_row.get(h.table, 0)
            if h.row > seen:
                self.lost.append((h.table, seen, h.row - 1))
            self.seen_row[h.table] = h.row + h.count
        row = self.next_row.get(h.table, 0) if h.kind == wire.ROWS else h.row
        self.next_row[h.table] = row + h.count
        writer.append_frame(
            h.kind, bytes(frame[wire.HEADER_SIZE :]), table=h.table, feed=h.feed,
            trading_date=h.trading_date, row=row, session=h.session, seq=h.seq, feed_row=h.feed_row,
            feed_sum=h.feed_sum, time_ns=h.time_ns, count=h.count, schema=h.schema,
        )  # fmt: skip

    def declare(self, writer: JournalWriter, trading_date: int) -> None:
        """Loss is data: an event row for each hole."""
        if self.schema is None or not self.lost:
            return
        table, session, total = self.schema["event"], now_ns(), 0
        for seq, (number, first, last) in enumerate(self.lost):
            row = table.empty(1)
            row["ts_event"] = row["ts_recv"] = row["ts_plant"] = session
            row["kind"], row["first"], row["last"] = b"lost", first, last
            row["text"] = f"rows of {self.schema.numbered(number).name} lost in a damaged journal".encode()
            data = row.tobytes()
            total += rowsums.row_sum(data, table.row_size, np.zeros(1, np.uint64))
            at = self.next_row.get(table.number, 0)
            self.next_row[table.number] = at + 1
            writer.append_frame(
                wire.ROWS, data, table=table.number, trading_date=trading_date, row=at,
                session=session, seq=seq, feed_row=seq, feed_sum=total % (1 << 64), time_ns=session,
                count=1, schema=table.fingerprint,
            )  # fmt: skip


def repair(folder: Path, accept_loss: bool) -> str:
    """Cut what is damaged out of a journal; what was done, or would be, in a sentence.

    The journal as it was is kept beside it as `<name>.damaged`. Rows behind a hole keep their order and get
    lower numbers; each hole becomes an event row. Raises AlreadyRunning if the ticker plant runs.
    """
    lock = _lock(folder)
    try:
        return _repair(folder, accept_loss)
    finally:
        if lock:
            lock.release()


def _lock(folder: Path) -> Lock | None:
    """Keep the ticker plant of this journal from starting. Raises AlreadyRunning if it runs."""
    for above in folder.resolve().parents:
        if (above / "tickerplant.lock").exists():
            return Lock(above / "tickerplant.lock", "ticker plant")
    return None


def _repair(folder: Path, accept_loss: bool) -> str:
    report = verify(folder)
    if report.sound:
        return f"{folder}: sound, nothing to repair"
    aside = folder.with_name(folder.name + ".damaged")
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    mended = _Mended()
    writer = JournalWriter(draft, {}, SEGMENT_BYTES)
    for _ in writer.recover():
        pass
    for frame in salvage(folder):
        mended.keep(frame, writer)
    mended.declare(writer, int(folder.name) if folder.name.isdigit() else 0)
    writer.close()
    holes = ", ".join(f"table {t} rows {a} to {b}" for t, a, b in mended.lost) or "no row that can be named"
    if not accept_loss:
        shutil.rmtree(draft)
        return f"{folder}: {report.text()}\nwould lose: {holes}; to do it: add --accept-loss"
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    draft.rename(folder)
    return f"{folder}: repaired; lost: {holes}; as it was: {aside}"
