"""Messages and packets, byte by byte as a protocol's declaration says."""

from packet_files import T0

from tickplant.feed.packets.protocol import raw_type

SECOND = T0 // 10**9
ZONE_SAFE = 15 * 3_600
"""Seconds after midnight that are of the same day anywhere that these protocols are."""


def packed(fields, values):
    """Values by name as the fields are on the wire; those not given are zeros or spaces."""
    made = []
    for field in fields:
        value = values.get(field.name, b"" if field.kind == "c" else 0)
        if field.kind == "c":
            made.append(value.ljust(field.width))
        elif field.width in (1, 2, 4, 8):
            made.append(value)
        else:
            made.append(value.to_bytes(field.width, fields.order, signed=field.kind == "i"))
    return fields.struct.pack(*made)


def clock(clocks, fields, at_s, ns):
    """Values of the fields of a time."""
    for each in clocks:
        if all(name in fields for name, _ in each.parts()):
            since = {"epoch": at_s, "midnight": ZONE_SAFE, "second": 0}[each.since]
            units = [unit for _, unit in each.parts()]
            whole = since * 10**9 + ns
            out = {}
            for (name, unit), last in zip(each.parts(), [*[False] * (len(units) - 1), True], strict=True):
                out[name] = whole // unit
                whole -= whole // unit * unit
                assert last or whole < unit
            return out
    return {}


def written(protocol, message, kind, values):
    """A message as it is on the wire."""
    head, layout = protocol.message, protocol.layout(message)
    size = message.size or layout.size
    raw = raw_type(protocol, kind)
    header = {name: layout[name].raw(value) for name, value in head.constant.items()}
    if len(head.type) == 1:
        header[head.type[0]] = raw
    else:
        at = 0
        for name in head.type:
            header[name] = raw[at : at + layout[name].width]
            at += layout[name].width
    if head.size:
        header[head.size] = size - head.size_adds
    if message.tail:
        header[message.tail] = 0
    return packed(layout, {**values, **header}).ljust(size, b"\0")


def in_packet(protocol, messages, seq=1):
    packet, fields = protocol.packet, protocol.header()
    body = b"".join(messages)
    body += bytes(-(fields.size + len(body)) % packet.pads)
    values = {name: fields[name].raw(value) for name, value in packet.constant.items()}
    values |= clock([packet.time] if packet.time else [], fields, SECOND, 0)
    values |= {packet.count: len(messages), packet.seq: seq, packet.size: fields.size + len(body)}
    values.pop("", None)
    for name, beats in packet.beat.items():
        while values.get(name, 0) in beats:
            values[name] = values.get(name, 0) + 1
    return packed(fields, values) + body
