"""What a feed and its plant say to one another, and an operator to the plant; see messages.py.

    feed to plant    hello, place, beside, frames (its frames are a second part of the message)
    plant to feed    fetch, ack, place, refuse, follow, reason
    admin socket     eod, define to the plant

Each says whose it is. Who hears a stranger takes nothing of what it says: a feed is one of this plant by the
plant's identity, its own name and its number, all three.
"""

from typing import Annotated

from msgspec import Meta

from tickplant.identity import Identity
from tickplant.messages import Count, Language, Message, Name, Number32, Text, TradingDate

ROWS_MAX = 1 << 50
"""Rows that one session may have: at ten million a second, it takes three years to come there."""

NAMES_AT_ONCE = 1024
"""Instruments that one message may define."""

Seq = Annotated[int, Meta(ge=0, le=ROWS_MAX)]
FeedNumber = Annotated[int, Meta(ge=1, le=4095)]
File = Annotated[list[Count], Meta(max_length=2)]


class OfFeed(Message, frozen=True, kw_only=True):
    """Which feed says it, and of which plant; the token is empty until the feed has met its plant."""

    feed: Name
    number: FeedNumber
    plant: Name
    identity: Name

    @property
    def of(self) -> Identity:
        """The plant whose feed says this."""
        return Identity(self.plant, self.identity)


class Hello(OfFeed, frozen=True, kw_only=True, tag="hello"):
    """Up to where the feed has published; `process` tells it from another in the same session."""

    session: Count
    seq: Seq
    process: Count


class AskPlace(OfFeed, frozen=True, kw_only=True, tag="place"):
    """Where does the plant stand with this feed?"""


class Beside(OfFeed, frozen=True, kw_only=True, tag="beside"):
    """The next row will be `seq`, at `position` of the outbox with that lock file (device, inode)."""

    session: Count
    seq: Seq
    position: Count
    file: File
    process: Count


class Frames(OfFeed, frozen=True, kw_only=True, tag="frames"):
    """What follows the place (session, seq) that was asked for.

    `knows`: has the outbox had that session? `mine`: the session of the process that answers; `crc`: CRC-32C
    of the second part.
    """

    session: Count
    seq: Seq
    more: bool
    knows: bool
    mine: Count
    crc: Number32


class OfPlant(Message, frozen=True, kw_only=True):
    """Which plant says it; `reason`: why it takes nothing of the feed's at present, if so."""

    plant: Name
    identity: Name
    reason: Text = ""

    @property
    def of(self) -> Identity:
        """The plant that says this."""
        return Identity(self.plant, self.identity)


class Fetch(OfPlant, frozen=True, kw_only=True, tag="fetch"):
    """Tell what follows this place, about so many bytes of it."""

    session: Count
    seq: Seq
    bytes: Count


class Ack(OfPlant, frozen=True, kw_only=True, tag="ack"):
    """All before this place is durable; `follows`: does the plant read the outbox?"""

    session: Count
    seq: Seq
    follows: bool


class Place(OfPlant, frozen=True, kw_only=True, tag="place"):
    """Where the plant stands with the feed, and whether the process of that session is alive."""

    session: Count
    seq: Seq
    alive: bool


class Refuse(OfPlant, frozen=True, kw_only=True, tag="refuse"):
    """Another process has this feed, in session `have`: this session is to end."""

    session: Count
    have: Count


class Follow(OfPlant, frozen=True, kw_only=True, tag="follow"):
    """The outbox of this session is read where it lies."""

    session: Count


class Reason(OfPlant, frozen=True, kw_only=True, tag="reason"):
    """Nothing but the reason: the feed keeps what it publishes until that is mended."""


class EndOfDay(Message, frozen=True, kw_only=True, tag="eod"):
    """End a trading date (0: the one that is open); `stop`: and the ticker plant."""

    date: TradingDate = 0
    stop: bool = False


class Define(Message, frozen=True, kw_only=True, tag="define"):
    """Give these instruments (venue, symbol) numbers, though no feed defines them."""

    names: Annotated[list[tuple[Name, Name]], Meta(max_length=NAMES_AT_ONCE)]


FROM_FEED: Language[OfFeed] = Language(Hello, AskPlace, Beside, Frames)
FROM_PLANT: Language[OfPlant] = Language(Fetch, Ack, Place, Refuse, Follow, Reason)
FROM_OPERATOR: Language[EndOfDay | Define] = Language(EndOfDay, Define)


def route(plant: str, feed: str) -> bytes:
    """The routing id that a feed chooses where no key names it: a feed of another plant has another."""
    return f"{plant}/{feed}".encode()
