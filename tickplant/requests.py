"""What a remote reader and its publisher say to one another.

    reader
        describe {date}                          the plant, and its tables on a date (0: the open one)
        instruments {from}                       names of the instruments from that number on
        replay {date, table, row, bytes, check}  frames that hold the rows from `row` on; with `check` false
                                                 as they lie in the journal, for readers that check them and
                                                 ask again without
        latest {table, date, row, from, bytes}   cells (latest.py) of the instruments from number `from` on
                                                 whose last row is at (date, row) or later
    publisher
        plant, instruments, rows + frames, latest + cells, error {text, gone, again}

and over PUB, every `heartbeat_ms`, a `Beat`. Table numbers are those of the date that is asked about: the
tables of two dates may differ. `schema` is the fingerprint of a date's tables, `identity` the plant's
token: all answers have it, so a reader that goes on elsewhere notices another plant.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tickplant.errors import MessageRefused
from tickplant.messages import (
    Count,
    Language,
    Message,
    Name,
    Number32,
    TableNumber,
    Text,
    TradingDate,
)

TEXT_MAX = 2048
"""Characters of a refusal that are told."""


class Describe(Message, frozen=True, tag="describe"):
    """Asks for `About`."""

    date: TradingDate = 0


class NamesFrom(Message, frozen=True, tag="instruments"):
    """Asks for `Names`."""

    first: Count = msgspec.field(name="from")


class Replay(Message, frozen=True, tag="replay"):
    """Asks for `Replayed`."""

    date: TradingDate
    table: TableNumber
    row: Count
    bytes: Count
    check: bool = True


class LatestFrom(Message, frozen=True, tag="latest"):
    """Asks for `Newest`."""

    date: TradingDate
    table: TableNumber
    row: Count
    first: Count = msgspec.field(name="from")
    bytes: Count


class About(Message, frozen=True, tag="plant"):
    """The plant, and its tables on a date."""

    name: Name
    identity: Name
    trading_date: TradingDate
    """The date that is sent."""
    rows: dict[TableNumber, Count]
    """Of that date."""
    publish: Name
    """Where live rows are."""
    date: TradingDate
    """The date that was asked about."""
    schema: list[dict[str, Any]]
    """As `Schema.describe`, of that date."""
    fingerprint: Number32
    latest: list[TableNumber]
    """Tables of the plant with latest values."""


class Names(Message, frozen=True, tag="instruments"):
    """(venue, symbol) of the instruments from a number on."""

    identity: Name
    first: Count = msgspec.field(name="from")
    names: Annotated[list[tuple[Name, Name]], Meta(max_length=1 << 16)]


class Replayed(Message, frozen=True, tag="rows"):
    """Goes before frames."""

    identity: Name
    date: TradingDate
    table: TableNumber
    row: Count
    end: Count
    """Rows of the table that there are."""
    next: TradingDate
    """The date after this one; 0 while it is open."""
    next_schema: Number32 = 0
    """The fingerprint of that date's tables."""


class Newest(Message, frozen=True, tag="latest"):
    """Goes before cells."""

    identity: Name
    date: TradingDate
    table: TableNumber
    row: Count
    first: Count = msgspec.field(name="from")
    next: Count
    """Where to go on, 0 at the end."""
    schema: Number32
    """The fingerprint of the table."""


class Refused(Message, frozen=True, tag="error"):
    """What can't be answered, and why."""

    text: Text
    gone: bool = False
    """The rows are elsewhere."""
    again: bool = False
    """The request was damaged on its way: ask again."""


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A heartbeat of the publisher: the rows sent of its trading date, and how the ticker plant is."""

    rows: dict[TableNumber, Count]
    """By table number."""
    schema: Number32
    """The fingerprint of the date's tables."""
    identity: Name
    plant: Name = "unknown"
    """running, stalled, dead or stopped"""
    moved_ms: Count | None = None
    """Since the ticker plant's last turn."""
    beat_ms: Count = 0
    """Until the next heartbeat."""

    def packed(self) -> bytes:
        """The payload of a frame of kind heartbeat."""
        return msgspec.msgpack.encode(self)


NO_BEAT = Beat(rows={}, schema=0, identity="")

Request = Describe | NamesFrom | Replay | LatestFrom
Answer = About | Names | Replayed | Newest | Refused
TO_PUBLISHER: Language[Request] = Language(Describe, NamesFrom, Replay, LatestFrom)
TO_READER: Language[Answer] = Language(About, Names, Replayed, Newest, Refused)
_BEATS = msgspec.msgpack.Decoder(Beat)


def beat(payload: bytes | memoryview) -> Beat:
    """What a heartbeat says. Raises MessageRefused for anything else."""
    try:
        return _BEATS.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise MessageRefused(f"not a heartbeat of a publisher: {e}") from None
