"""Declarations of protocols from their files, and whether they are right."""

import zoneinfo
from functools import cache
from pathlib import Path

import msgspec

from tickplant.errors import ConfigError
from tickplant.feed.packets.protocol import PORT, Message, Protocol, RowRule, raw_type
from tickplant.feed.packets.protocol_fields import Fields
from tickplant.feed.sink import shipped_schema
from tickplant.schema import KEY_COLUMNS, Flag

PRESETS = Path(__file__).parent / "protocols"


@cache
def presets() -> dict[str, Protocol]:
    """The protocols that come with tickplant, by name."""
    return {path.stem: read(path) for path in sorted(PRESETS.glob("*.toml"))}


def named(name: str) -> Protocol:
    """The protocol of this name, or in this file. Raises ConfigError if there is none, or it is wrong."""
    known = presets().get(name)
    if known:
        return known
    if not Path(name).is_file():
        raise ConfigError(f"no protocol {name!r}, and no such file; there are {', '.join(presets())}")
    return read(Path(name))


def read(path: Path) -> Protocol:
    """A protocol from its file. Raises ConfigError if it is wrong."""
    try:
        return parse(path.read_bytes())
    except OSError as e:
        raise ConfigError(f"can't read the protocol {path}: {e.strerror}") from None
    except ConfigError as e:
        raise ConfigError(f"protocol {path}: {e}") from None


def parse(text: bytes) -> Protocol:
    """A protocol from its text. Raises ConfigError if it is wrong."""
    try:
        protocol = msgspec.toml.decode(text, type=Protocol)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise ConfigError(str(e)) from None
    _check(protocol)
    return protocol


def _check(protocol: Protocol) -> None:
    if not (protocol.venue.isascii() and 0 < len(protocol.venue) <= 16):
        raise ConfigError(f"venue {protocol.venue!r} must be 1 to 16 ASCII characters")
    try:
        zoneinfo.ZoneInfo(protocol.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ConfigError(f"there is no time zone {protocol.timezone!r}") from None
    _check_headers(protocol)
    types = {t for m in protocol.messages if not m.fields and not m.size for t in m.types}
    for message in protocol.messages:
        try:
            _check_message(protocol, message)
        except ConfigError as e:
            raise ConfigError(f"message {message.name!r}: {e}") from None
    if twice := types & {t for m in protocol.messages if m.fields or m.size for t in m.types}:
        raise ConfigError(f"type {', '.join(sorted(twice))} is declared with a layout and without one")


def _check_headers(protocol: Protocol) -> None:
    packet, head = protocol.packet, protocol.message
    fields = protocol.header()
    names = [packet.size, packet.count, packet.seq]
    for name in filter(None, [*names, *packet.session, *packet.channel]):
        if name != PORT and fields.place(name) >= 0 and name in names and fields[name].kind == "c":
            raise ConfigError(f"the field {name} is no number")
    clocks = packet.time.parts() if packet.time else []
    for name, _ in clocks:
        fields.place(name)
    for field, values in [*packet.reset.items(), *packet.beat.items(), *_lists(packet.constant)]:
        fields.place(field)
        for value in values:
            fields[field].raw(value)
    of_message = protocol.message_header()
    if not head.type:
        raise ConfigError("the message's header has no type")
    for name in [*head.type, *filter(None, [head.size]), *head.constant]:
        of_message.place(name)
    if len(head.type) > 1 and any(of_message[name].kind != "c" for name in head.type):
        raise ConfigError("a type of several fields must be of characters")
    for field, values in _lists(head.constant):
        of_message[field].raw(values[0])


def _lists(constant: dict[str, str | int]) -> list[tuple[str, list[str | int]]]:
    return [(name, [value]) for name, value in constant.items()]


def _check_message(protocol: Protocol, message: Message) -> None:
    fields = protocol.layout(message)
    for kind in message.types:
        raw_type(protocol, kind)
    header = protocol.message_header()
    for field, values in [*message.resets.items(), *message.unnumbered.items()]:
        header.place(field)
        for value in values:
            header[field].raw(value)
    if message.size and message.size < fields.size:
        raise ConfigError(f"size {message.size} is less than its fields' {fields.size}")
    if not protocol.message.size and not message.fields and not message.size:
        raise ConfigError("it has no size")
    index, clock = message.index, message.reference
    used = [message.tail, message.replaces, *([index.id, index.symbol, index.decimals] if index else [])]
    used += [name for name, _ in clock.parts()] if clock else []
    used.append(message.suffix)
    for rule in message.rows:
        used += _check_rows(protocol, message, rule, fields)
    for name in filter(None, used):
        _ = fields[name]


def _check_rows(protocol: Protocol, message: Message, rule: RowRule, fields: Fields) -> list[str]:
    """Rows of one table; the fields that they use."""
    schema, used = shipped_schema(), [""]
    if rule.table not in schema or (
        rule.table == "instrument" and not (message.index or protocol.symbol or protocol.id in fields)
    ):
        raise ConfigError(f"rows can't be of table {rule.table!r}")
    declared = {c.name for c in schema[rule.table].columns} - KEY_COLUMNS.keys()
    if wrong := rule.columns.keys() - declared:
        raise ConfigError(f"table {rule.table} has no column {', '.join(sorted(wrong))}")
    if rule.of_order and not (
        rule.table == "trade" and any(r.table == "order" for r in message.rows)
        and not {"price", "side"} & rule.columns.keys()
    ):  # fmt: skip
        raise ConfigError("of_order is of rows of trade without price and side, beside a row of order")
    if wrong := set(rule.flags) - set(Flag.__members__):
        raise ConfigError(f"there is no flag {', '.join(sorted(wrong))}")
    for name, values in [*rule.when.items(), *rule.unless.items()]:
        for value in values:
            fields[name].raw(value)
    for column, source in rule.sources().items():
        used += [source.field, source.decimals]
        if source.divisor < 1 or (source.value is None) != bool(source.field):
            raise ConfigError(f"{rule.table}.{column} needs a field or a value, and a positive divisor")
    return used
