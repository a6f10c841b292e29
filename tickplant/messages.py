"""Control messages, typed: what may be said, checked as a whole when it is read.

A kind of message is a struct, its name on the wire is its tag. A `Language` is the kinds that one side may
say to another:

    class Fetch(Message, tag="fetch"):
        session: Count
        seq: Count

    FROM_PLANT = Language(Fetch, Ack)
    message = FROM_PLANT.read(data)

Reading raises MessageDamaged for bytes that are not what was sent, and MessageRefused for a message that
nobody may say: a kind that is not of the language, a field that is missing, of another type or out of
range. Fields that a kind does not have are passed over: a newer peer may say more. Nothing else is ever
raised, and a message that was read has every field as it is declared.
"""

import re
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from tickplant import wire
from tickplant.errors import MessageRefused

Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""A number of rows or bytes, a place in a session or journal, a session."""
Number32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
"""An instrument, a checksum, a fingerprint."""
TableNumber = Annotated[int, Meta(ge=0, le=255)]
TradingDate = Annotated[int, Meta(ge=0, le=99_991_231)]
"""yyyymmdd; 0: none."""
Name = Annotated[str, Meta(max_length=256)]
"""Of a plant, a feed, a table."""
Text = Annotated[str, Meta(max_length=4096)]
"""Something for people."""

_OP = "op"
_PATH = re.compile(r" - at `\$\.?(.*)`")


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field=_OP, forbid_unknown_fields=False):
    """Base of all kinds."""

    def packed(self) -> bytes:
        """The message as it travels."""
        return wire.sealed(msgspec.msgpack.encode(self))


M = TypeVar("M", bound=Message)


class Language(Generic[M]):
    """The kinds of messages that one side may say to another."""

    def __init__(self, *kinds: type[M]) -> None:
        self.kinds = {str(kind.__struct_config__.tag): kind for kind in kinds}
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(reduce(or_, kinds))

    def read(self, data: bytes | memoryview) -> M:
        """The message. Raises MessageDamaged, MessageRefused."""
        packed = wire.opened(data)
        try:
            return self._decoder.decode(packed)
        except msgspec.ValidationError as e:
            raise MessageRefused(self._refusal(packed, str(e))) from None
        except (msgspec.MsgspecError, ValueError, RecursionError) as e:
            raise MessageRefused(f"a control message that is no map: {e}") from None

    def _refusal(self, packed: bytes | memoryview, why: str) -> str:
        """What is wrong with a message, so that its sender can find it."""
        op = _op(packed)
        if op not in self.kinds:
            return f"there is no message {op!r} here; there are: {', '.join(self.kinds)}"
        found = _PATH.search(why)
        where = f"field {found[1]!r} of " if found and found[1] else ""
        return f"{where}message {op!r}: {why[: found.start()] if found else why}"


def _op(packed: bytes | memoryview) -> Any:
    """The name that a message gives itself, if it can be told."""
    try:
        op = msgspec.msgpack.decode(packed, type=dict).get(_OP)
    except (msgspec.MsgspecError, ValueError, RecursionError, TypeError):
        return None
    return op[:64] if isinstance(op, str) else op if isinstance(op, int | None) else type(op).__name__
