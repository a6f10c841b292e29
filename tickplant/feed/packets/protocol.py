"""Fixed-layout protocols in packets, declared in a TOML file (pure); some come with tickplant.

Fields are texts as `protocol_fields` reads them: "name:type name:type ...".

    what = "messages of some venue"     for people
    venue = "XNYS"                      of the instruments; an option of the capture goes before
    byte_order = "little"               or big
    timezone = "America/New_York"       of times since midnight
    currency = "USD"                    of the instruments
    symbol = ["symbol"]                 fields, the first of which that a message has is its symbol; or
    id = "index"                        a number by which it goes; a message with `index` tells its symbol,
                                        until then the number is the symbol
    order = "order_id"                  a message with neither is of the instrument of its order (ORPHAN if
                                        that is not known)
    series = [{ root = "root", year = "yy", month = "mm", day = "dd", strike = "strike", divisor = 10 }]
                                        of options, where a message has all these fields: the symbol is the
                                        OSI's; month: A to L calls, M to X puts; `decimals` or a divisor
    decimals = { A = 1, B = 2 }         what values mean that tell a number of decimals otherwise

    [packet]
    fields = "size:u2 flag:u1 count:u1 seq:u4 s:u4 ns:u4"       the header
    size = "size"                       the whole packet's
    count = "count"                     messages; without it they go to the end of the packet
    seq = "seq"                         the number of its first message, from 1; 0: of messages that are not
                                        numbered. Of a packet with none: of the next message
    numbers = "messages"                or packets: what is numbered
    session = ["session"]               numbers begin anew when one of these is another
    reset = { flag = [12] }             a packet like this begins them anew, if its number is no higher
    beat = { flag = [1] }               heartbeats; and packets with no messages are
    beat_size = 18                      bytes of a heartbeat, if they are not those of a header
    channel = ["unit"]                  each of these is numbered by itself (port: that it was sent to);
                                        without it each address and port, unless the option `to` says
                                        which lines are one
    pads = 2                            packets with a count are padded to a multiple of so many bytes
    constant = { version = 1 }          what is so in every packet
    time = { s = "s", ns = "ns" }       when it was sent, of fields in units s, ms, us, ns

    [message]
    fields = "size:u2 type:u2"          the header of each
    type = ["type"]                     several: characters, one after the other
    size = "size"                       bytes of the message; without it they are as many as it declares
    size_adds = 0                       added to that, so that it is all of the message's bytes
    exact = true                        messages of another size than declared are malformed; else they
                                        may be longer, as venues extend them
    constant = { schema = 2 }

    [[time]]                            a message's time: the first of these whose fields it has, else the
    ns = "time"                         packet's, else when that was captured
    since = "epoch"                     or midnight; or second: the one that the message with `reference`
                                        told last, or which is nearest to the packet's time if none has
                                        come, or messages were lost since

    [[messages]]                        a type; declared more than once: of the longest layout that fits
    name = "Imbalance"
    type = "105"                        or several
    fields = "s:u4 ns:u4 index:u4"      behind the header's; what is behind them is left out
    size = 69                           bytes of the message, if the fields are not all of it
    more = [5, 10]                      so many bytes may be behind that
    tail = "length"                     without a size in the header: so many bytes are behind the fields
    unnumbered = { type = ["T"] }       packets that only hold such messages, with headers like this, are not
                                        in the numbering
    resets = { type = ["L"] }           when the header of such a message is like this, numbers begin anew
    index = { id = "index", symbol = "symbol", decimals = "scale" }
    reference = { s = "time" }          its time is the reference
    replaces = "old_id"                 the order whose instrument the order of this message takes over
    suffix = "participant"              a field that is added to the symbol, behind a dot
    adds_or_replaces = true             rows of order: A, or U if the order is there, with it as ref_id
    [[messages.rows]]                   each gives a row for each of these whose `when` fits
    table = "imbalance"
    when = { kind = ["O", "C"] }        field: values, one of which it must be; `unless`: none of which
    flags = ["CROSS"]
    of_order = true                     rows of trade: price and side are those of the order that rests, which
                                        a row of order with action E of the same message names. Nothing known
                                        of it: an event
    [messages.rows.columns]
    price = "price"                     a field as it is, or
    size = { field = "qty", divisor = 100, none = [0] }         none: NaN
    near_price = { field = "px", scaled = true }                by the decimals that the index has told: NaN
                                        if it has not; `decimals = "field"` by a field of the message
    side = { field = "side", map = { 1 = "B", 2 = "S" } }       others: empty, or NaN
    action = { value = "T" }

A message without rows, index or reference is ignored by its declared type, and needs no fields. Prices of a
quote whose size is 0 are NaN.
"""

from typing import Literal

import msgspec

from tickplant.errors import ConfigError
from tickplant.feed.packets.protocol_fields import Fields, Order

Scalar = str | int | float
Raw = int | bytes
PORT = "port"


class _Part(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class Clock(_Part, frozen=True, kw_only=True):
    """A time in fields of several units."""

    s: str = ""
    ms: str = ""
    us: str = ""
    ns: str = ""
    since: Literal["epoch", "midnight", "second"] = "epoch"

    def parts(self) -> list[tuple[str, int]]:
        """The fields, and nanoseconds in their units."""
        units = ((self.s, 10**9), (self.ms, 10**6), (self.us, 10**3), (self.ns, 1))
        return [(name, unit) for name, unit in units if name]


class Packet(_Part, frozen=True, kw_only=True):
    """The header of a packet."""

    fields: str
    size: str = ""
    count: str = ""
    seq: str = ""
    numbers: Literal["messages", "packets"] = "messages"
    session: list[str] = []
    reset: dict[str, list[str | int]] = {}
    beat: dict[str, list[str | int]] = {}
    beat_size: int = 0
    pads: int = 1
    channel: list[str] = []
    constant: dict[str, str | int] = {}
    time: Clock | None = None


class Head(_Part, frozen=True, kw_only=True):
    """The header of a message."""

    fields: str
    type: list[str] = msgspec.field(default_factory=lambda: ["type"])
    size: str = ""
    size_adds: int = 0
    exact: bool = False
    constant: dict[str, str | int] = {}


class Source(_Part, frozen=True, kw_only=True):
    """Where a value comes from: a field of the message, or always the same."""

    field: str = ""
    value: Scalar | None = None
    map: dict[str, Scalar] = {}
    divisor: int = 1
    decimals: str = ""
    scaled: bool = False
    none: list[int] = []


class RowRule(_Part, frozen=True, kw_only=True):
    """Rows of one table."""

    table: str
    columns: dict[str, Source | str]
    when: dict[str, list[str | int]] = {}
    unless: dict[str, list[str | int]] = {}
    flags: list[str] = []
    of_order: bool = False

    @property
    def ends(self) -> bool:
        """Whether the orders of these messages are no more."""
        source = self.columns.get("action")
        return self.table == "order" and isinstance(source, Source) and source.value == "D"

    def sources(self) -> dict[str, Source]:
        """Where each column comes from."""
        return {n: Source(field=s) if isinstance(s, str) else s for n, s in self.columns.items()}


class Index(_Part, frozen=True, kw_only=True):
    """What an instrument's number means."""

    id: str
    symbol: str
    decimals: str = ""


class Series(_Part, frozen=True, kw_only=True):
    """The fields that tell an option."""

    root: str
    year: str
    month: str
    day: str
    strike: str
    divisor: int = 1
    decimals: str = ""

    def fields(self) -> list[str]:
        """All of them."""
        return [n for n in (self.root, self.year, self.month, self.day, self.strike, self.decimals) if n]


class Message(_Part, frozen=True, kw_only=True):
    """Messages of one type."""

    name: str
    type: str | list[str]
    fields: str = ""
    size: int = 0
    more: list[int] = []
    tail: str = ""
    unnumbered: dict[str, list[str | int]] = {}
    resets: dict[str, list[str | int]] = {}
    index: Index | None = None
    reference: Clock | None = None
    replaces: str = ""
    adds_or_replaces: bool = False
    suffix: str = ""
    rows: list[RowRule] = []

    @property
    def types(self) -> list[str]:
        """Its types."""
        return [self.type] if isinstance(self.type, str) else self.type

    @property
    def ignored(self) -> bool:
        """Whether it says nothing for any table."""
        return not (self.rows or self.index or self.reference)


class Protocol(_Part, frozen=True, kw_only=True):
    """One protocol; see the module."""

    what: str
    venue: str
    byte_order: Order
    packet: Packet
    message: Head
    messages: list[Message]
    timezone: str = "UTC"
    currency: str = ""
    symbol: list[str] = []
    id: str = ""
    order: str = ""
    series: list[Series] = []
    decimals: dict[str, int] = {}
    time: list[Clock] = []

    def header(self) -> Fields:
        """The header of a packet."""
        return Fields.read(self.packet.fields, self.byte_order)

    def message_header(self) -> Fields:
        """The header of a message."""
        return Fields.read(self.message.fields, self.byte_order)

    def layout(self, message: Message) -> Fields:
        """The header of a message of one type and its fields."""
        return Fields.read(message.fields, self.byte_order, self.message_header())


def raw_type(protocol: Protocol, text: str) -> Raw:
    """A type as it is on the wire: a number, or all its characters. Raises ConfigError if it is none."""
    fields = protocol.message_header()
    kinds = [fields[name] for name in protocol.message.type]
    if len(kinds) == 1:
        return kinds[0].raw(text)
    width = sum(f.width for f in kinds)
    if len(text) > width:
        raise ConfigError(f"type {text!r} has more than {width} characters")
    return text.encode().ljust(width)
