"""What the native core does, in plain Python: slow, obvious, and the judge of it."""

import struct
from dataclasses import dataclass, field

HEADER = struct.Struct("<HHIIIBBHIQQQQQqII")
FIELDS = (
    "magic table size crc prev_crc kind version feed trading_date row session seq feed_row feed_sum "
    "time_ns count schema"
).split()
MAGIC, VERSION = 0x5054, 1
ROWS, HEARTBEAT, SEGMENT = 1, 2, 3
GOOD, SHORT, NOT_A_FRAME, BAD_CRC, BROKEN_CHAIN = range(5)
U64 = (1 << 64) - 1
UNDEFINED = 0xFFFFFFFF


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in bytes(data):
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def header(data):
    """The fields of the header at the start of data, by name."""
    return dict(zip(FIELDS, HEADER.unpack_from(data), strict=True))


def seal(payload, kind, **fields):
    values = dict.fromkeys(FIELDS, 0) | fields
    values |= {"magic": MAGIC, "version": VERSION, "kind": kind, "size": len(payload)}
    frame = bytearray(HEADER.pack(*(values[f] for f in FIELDS)) + bytes(payload))
    frame[8:12] = struct.pack("<I", crc32c(frame[:8] + frame[12:]))
    return bytes(frame)


def check(data):
    if len(data) < 80:
        return SHORT
    h = header(data)
    if (h["magic"], h["version"]) != (MAGIC, VERSION):
        return NOT_A_FRAME
    if len(data) < 80 + h["size"]:
        return SHORT
    return GOOD if crc32c(data[:8] + data[12 : 80 + h["size"]]) == h["crc"] else BAD_CRC


def scan(data, crc):
    at = frames = 0
    why = GOOD
    while at < len(data):
        why = check(data[at:])
        if why:
            break
        h = header(data[at:])
        if h["prev_crc"] != crc:
            why = BROKEN_CHAIN
            break
        if h["kind"] != SEGMENT:
            crc = h["crc"]
        frames += 1
        at += 80 + h["size"]
    return at, frames, crc, why


def whole_frames(data):
    """(offset, header) of each frame that is all there, checksums not looked at."""
    at, out = 0, []
    while len(data) - at >= 80 and len(data) - at - 80 >= header(data[at:])["size"]:
        out.append((at, header(data[at:])))
        at += 80 + out[-1][1]["size"]
    return out


def mix(h, word):
    h = (h ^ word) * 0x9FB21C651E98DF25 & U64
    return h ^ (h >> 29)


def hash_bytes(h, data):
    for at in range(0, len(data), 8):
        h = mix(h, int.from_bytes(data[at : at + 8], "little"))
    return h


def row_hash(row, names):
    code = int.from_bytes(row[24:28], "little")
    h = hash_bytes(mix(0, len(row)), row[:16])
    h = mix(h, names[code] if code < len(names) else 0)
    return hash_bytes(h, row[30:])


def row_sums(rows, row_size, names, n_feeds, numbers):
    """(counts by feed, sums by feed, ordered sum, sum)."""
    counts, sums, ordered, total = [0] * n_feeds, [0] * n_feeds, 0, 0
    for number, at in zip(numbers, range(0, len(rows), row_size), strict=True):
        row = rows[at : at + row_size]
        h = row_hash(row, names)
        feed = int.from_bytes(row[28:30], "little")
        if feed < n_feeds:
            counts[feed] += 1
            sums[feed] = (sums[feed] + h) & U64
        ordered = (ordered + h * (2 * number + 1)) & U64
        total = (total + h) & U64
    return counts, sums, ordered, total


class Latch:
    """One slot: u64 version, two cells; readers use cell[version & 1]."""

    def __init__(self, cell_size):
        self.version, self.cells = 0, [bytes(cell_size), bytes(cell_size)]

    def put(self, cell):
        self.version += 1
        self.cells[self.version & 1] = cell

    def get(self):
        return self.cells[self.version & 1] if self.version else None

    def slot(self):
        return struct.pack("<Q", self.version) + b"".join(self.cells)


class AppendIndex:
    """The last rows of each instrument, as a scan finds them."""

    def __init__(self, n_heads):
        self.n_heads, self.codes = n_heads, []

    def append(self, codes):
        self.codes += [c if c < self.n_heads else 0 for c in codes]

    def last_rows(self, code, committed, wanted):
        rows = [i for i, c in enumerate(self.codes[:committed]) if c == code]
        return rows[-wanted:] if wanted else []

    def chain(self):
        """(prev, head) as they stand in shared memory."""
        head, prev = [0] * self.n_heads, []
        for row, code in enumerate(self.codes):
            prev.append(head[code])
            head[code] = row + 1
        return prev, head


@dataclass
class Claim:
    rows: int = 0
    sum: int = 0
    base_rows: int = 0
    base_sum: int = 0
    done_rows: int = 0
    done_sum: int = 0


@dataclass
class FeedState:
    session: int = 0
    next_seq: int = 0
    codes: dict = field(default_factory=lambda: {0: 0})
    claims: dict = field(default_factory=dict)

    def begin(self, session, next_seq):
        for c in self.claims.values():
            c.done_rows += c.rows - c.base_rows
            c.done_sum = (c.done_sum + c.sum - c.base_sum) & U64
            c.rows = c.sum = c.base_rows = c.base_sum = 0
        self.session, self.next_seq, self.codes = session, next_seq, {0: self.codes[0]}

    def claim(self, h):
        c = self.claims.setdefault(h["table"], Claim())
        c.rows, c.sum = (h["feed_row"] + h["count"]) & U64, h["feed_sum"]

    def roll(self):
        for c in self.claims.values():
            c.base_rows, c.base_sum, c.done_rows, c.done_sum = c.rows, c.sum, 0, 0

    def claimed(self):
        return {
            t: ((c.done_rows + c.rows - c.base_rows) & U64, (c.done_sum + c.sum - c.base_sum) & U64)
            for t, c in self.claims.items()
            if (c.done_rows + c.rows - c.base_rows) & U64 or c.rows
        }


(TAKEN, DUPLICATE, CONTROL, MALFORMED, UNKNOWN_FEED, WRONG_SCHEMA, NEW_SESSION, GAP, DEFINITIONS,
 UNDEFINED_CODE, STAGE_FULL) = range(11)  # fmt: skip


def in_range(h):
    """Can the header's session, seq and feed_row be those of a feed that counts its rows from 0?"""
    return h["session"] < 1 << 63 and h["seq"] + h["count"] <= 1 << 50 and h["feed_row"] <= h["seq"]


class Intake:
    """tables: {number: (row size, schema)}."""

    def __init__(self, tables, definitions, feeds, stage_bytes):
        self.tables, self.definitions, self.room = tables, definitions, stage_bytes
        self.feeds = {number: FeedState() for number in feeds}
        self.taken = dict.fromkeys(tables, 0)
        self.trading_date = self.last_crc = self.duplicates = 0
        self.stage = b""

    def judge(self, message):
        if check(message) or 80 + header(message)["size"] != len(message):
            return MALFORMED
        h = header(message)
        if len(message) > self.room or not in_range(h):
            return MALFORMED
        if h["feed"] not in self.feeds:
            return UNKNOWN_FEED
        if h["kind"] == HEARTBEAT:
            return CONTROL
        if h["kind"] != ROWS or h["table"] >= 256:
            return MALFORMED
        row_size, schema = self.tables.get(h["table"], (0, None))
        if h["schema"] != schema:
            return WRONG_SCHEMA
        if h["count"] == 0 or h["count"] * row_size != h["size"]:
            return MALFORMED
        return self._follows(h)

    def _follows(self, h):
        feed = self.feeds[h["feed"]]
        if h["session"] != feed.session:
            return NEW_SESSION
        if h["seq"] > feed.next_seq:
            return GAP
        if h["seq"] < feed.next_seq:
            return DUPLICATE if h["seq"] + h["count"] <= feed.next_seq else MALFORMED
        return TAKEN

    def take(self, message, now_ns, defined=False):
        verdict = self.judge(message)
        self.duplicates += verdict == DUPLICATE
        if verdict != TAKEN:
            return verdict
        h = header(message)
        if h["table"] == self.definitions and not defined:
            return DEFINITIONS
        if len(message) > self.room - len(self.stage):
            return STAGE_FULL
        feed, size = self.feeds[h["feed"]], self.tables[h["table"]][0]
        rows = bytearray(message[80:])
        for at in range(0, len(rows), size):
            code = int.from_bytes(rows[at + 24 : at + 28], "little")
            if feed.codes.get(code, UNDEFINED) == UNDEFINED:
                return UNDEFINED_CODE
            rows[at + 16 : at + 30] = struct.pack("<qIH", now_ns, feed.codes[code], h["feed"])
        kept = {k: h[k] for k in FIELDS if k not in ("magic", "version", "size", "crc", "kind")}
        kept |= {"prev_crc": self.last_crc, "trading_date": self.trading_date, "time_ns": now_ns}
        frame = seal(rows, ROWS, **(kept | {"row": self.taken[h["table"]]}))
        self.stage += frame
        self.last_crc = header(frame)["crc"]
        self.taken[h["table"]] += h["count"]
        feed.next_seq += h["count"]
        feed.claim(h)
        return TAKEN

    def restore(self, frames):
        for _, h in whole_frames(frames):
            if h["kind"] != ROWS or h["table"] >= 256:
                continue
            if h["table"] in self.taken:
                self.taken[h["table"]] = h["row"] + h["count"]
            if h["feed"] in self.feeds:
                feed = self.feeds[h["feed"]]
                if feed.session != h["session"]:
                    feed.begin(h["session"], 0)
                feed.next_seq = h["seq"] + h["count"]
                feed.claim(h)
