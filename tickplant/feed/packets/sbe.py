"""Simple Binary Encoding (FIX, version 1.0): a schema's XML compiled to tables of where its fields are
(pure).

    message      header, root block, groups
    header       block length (2)  template (2)  schema (2)  version (2)
    group        dimensions: entry length, (padding,) number of entries; then the entries

A block is as long as the header or the dimensions say, not as the schema says: a sender of another
version has more or fewer fields at its end (section "Schema Extension Mechanism"). So a block's dtype is
made for the length that is on the wire, and fields beyond it are absent. Blocks of one kind are decoded
together: the bytes of many messages' entries, one after the other, are one structured array.
"""

import struct
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tickplant.errors import CaptureError

_PRIMITIVES = {
    "char": "S1", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8",
    "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8", "float": "f4", "double": "f8",
}  # fmt: skip
_LETTERS = {
    "S1": "c", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f4": "f", "f8": "d",
}  # fmt: skip
HEADER = struct.Struct("<HHHH")
COUNTED_HEADER = struct.Struct("<HHHHHH")
"""With the numbers of groups and of variable texts behind (block length, template, schema, version)."""
COUNTED_GROUP = struct.Struct("<HHHH")
"""Entry length, number of entries, and of groups and variable texts in each entry."""
Columns = npt.NDArray[np.void]


class Encoding(NamedTuple):
    """How a field is encoded: numpy's type, the value that means none, decimal exponent, constant
    value."""

    code: str
    null: int | None = None
    exponent: int = 0
    constant: str | None = None

    @property
    def size(self) -> int:
        """Bytes of it on the wire."""
        return 0 if self.constant is not None else np.dtype(self.code).itemsize


class Field(NamedTuple):
    """A field of a block."""

    name: str
    offset: int
    encoding: Encoding


@dataclass(frozen=True)
class Block:
    """The fields of a message's root, or of a group's entries."""

    fields: tuple[Field, ...]
    length: int
    _dtypes: dict[int, np.dtype[np.void]] = field(default_factory=dict, compare=False)

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """The fields by name."""
        return {f.name: f for f in self.fields}

    def columns(self, data: bytes, length: int) -> Columns:
        """Blocks of `length` bytes, one after the other, as an array of those fields that are there."""
        dtype = self._dtypes.get(length)
        if dtype is None:
            there = [f for f in self.fields if f.encoding.size and f.offset + f.encoding.size <= length]
            dtype = self._dtypes[length] = np.dtype({
                "names": [f.name for f in there],
                "formats": ["<" + f.encoding.code for f in there],
                "offsets": [f.offset for f in there],
                "itemsize": length,
            })  # fmt: skip
        return np.frombuffer(data, dtype)

    def numbers(self, columns: Columns, name: str, absent: float = np.nan) -> npt.NDArray[np.float64]:
        """A field as float64; `absent` where it is null or not there."""
        found = self.by_name.get(name)
        if found is None or name not in (columns.dtype.names or ()):
            return np.full(len(columns), absent)
        raw, encoding = columns[name], found.encoding
        values = raw.astype(np.float64)
        if encoding.exponent < 0:
            values /= 10.0**-encoding.exponent
        elif encoding.exponent:
            values *= 10.0**encoding.exponent
        if encoding.null is not None:
            values[raw == encoding.null] = absent
        return values

    def integers(self, columns: Columns, name: str, absent: int = 0) -> npt.NDArray[np.int64]:
        """An integer field as int64; `absent` where it is null, not there, or beyond 63 bits."""
        found = self.by_name.get(name)
        if found is None or name not in (columns.dtype.names or ()) or columns.dtype[name].kind not in "iu":
            return np.full(len(columns), absent, np.int64)
        raw = columns[name]
        values = raw.astype(np.int64)
        if raw.dtype == np.uint64:
            values[raw > np.uint64(2**63 - 1)] = absent
        if found.encoding.null is not None:
            values[raw == found.encoding.null] = absent
        return values

    def unpacker(self, names: Sequence[str], length: int) -> struct.Struct:
        """To unpack fields of one block of `length` bytes; `names` are in the order of the schema.

        For what is decoded message by message. Raises ValueError if one is beyond the block's end.
        """
        layout, at = "<", 0
        for name in names:
            _, offset, encoding = self.by_name[name]
            text = encoding.code[0] == "S"
            layout += f"{offset - at}x" + (f"{encoding.size}s" if text else _LETTERS[encoding.code])
            at = offset + encoding.size
        if at > length:
            raise ValueError(f"a block of {length} bytes, must be {at} or more")
        return struct.Struct(f"{layout}{length - at}x")

    def texts(self, columns: Columns, name: str) -> npt.NDArray[np.bytes_]:
        """A text field; a constant is repeated, one that is not there is empty."""
        found = self.by_name.get(name)
        if found is not None and found.encoding.constant is not None:
            return np.full(len(columns), found.encoding.constant.encode())
        if found is None or name not in (columns.dtype.names or ()) or columns.dtype[name].kind != "S":
            return np.zeros(len(columns), "S1")
        return np.ascontiguousarray(columns[name])


@dataclass(frozen=True)
class Group:
    """A repeating group: its name, its entries, and where its dimensions are."""

    name: str
    block: Block
    dimensions: struct.Struct
    swapped: bool
    """The number of entries comes before their length."""


@dataclass(frozen=True)
class Template:
    """One message of a schema."""

    number: int
    name: str
    root: Block
    groups: tuple[Group, ...]


class Part(NamedTuple):
    """The root of a message on the wire, or a group: `blocks` blocks of `length` bytes in `data`."""

    length: int
    blocks: int
    data: bytes


def split(template: Template, message: bytes, length: int) -> list[Part]:
    """Root and groups of a message (without its header) with a root of `length` bytes.

    What follows the groups that the schema knows is another version's and is left out. Raises ValueError
    if the message ends inside them, or a group has entries without bytes.
    """
    parts, at, size = [Part(length, 1, message[:length])], length, len(message)
    if at > size:
        raise ValueError(f"a root of {length} in {size} bytes")
    for group in template.groups:
        if at == size:
            break  # a sender of a version before the group
        if at + group.dimensions.size > size:
            raise ValueError(f"{size} bytes end inside group {group.name}")
        one, two = group.dimensions.unpack_from(message, at)
        each, count = (two, one) if group.swapped else (one, two)
        at += group.dimensions.size
        if at + each * count > size or (count and not each):
            raise ValueError(f"group {group.name} of {count} times {each} bytes in {size - at}")
        parts.append(Part(each, count, message[at : at + each * count]))
        at += each * count
    return parts


class Whole(NamedTuple):
    """A message whose header counts what is in it."""

    parts: list[Part]
    """The root, and the groups."""
    texts: list[bytes]
    end: int
    """Where what follows it begins."""


def walk(data: bytes, at: int, length: int, groups: int, texts: int) -> Whole:
    """The message with a root of `length` bytes at `at`, of a feed whose dimensions are COUNTED_GROUP and
    whose variable texts have one byte of length.

    Messages of templates that are not known are passed over so. Raises ValueError if it does not end in
    `data`, or has groups inside groups, or entries without bytes.
    """
    size, end = len(data), at + length
    parts, found = [Part(length, 1, data[at:end])], []
    for _ in range(groups):
        if end + COUNTED_GROUP.size > size:
            raise ValueError(f"{size - at} bytes end inside its groups")
        each, count, inner, inner_texts = COUNTED_GROUP.unpack_from(data, end)
        if inner or inner_texts or (count and not each):
            raise ValueError(f"a group of {count} times {each} bytes and {inner} groups, {inner_texts} texts")
        end += COUNTED_GROUP.size
        parts.append(Part(each, count, data[end : end + each * count]))
        end += each * count
    for _ in range(texts):
        if end >= size:
            raise ValueError(f"{size - at} bytes end inside its texts")
        found.append(data[end + 1 : end + 1 + data[end]])
        end += 1 + data[end]
    if end > size:
        raise ValueError(f"it ends {end - size} bytes behind its packet")
    return Whole(parts, found, end)


class Schema:
    """The templates of a schema, by number. Raises CaptureError for XML that is no SBE schema."""

    def __init__(self, text: bytes) -> None:
        try:
            root = ET.fromstring(text)
        except ET.ParseError as e:
            raise CaptureError(f"not an SBE schema: {e}") from None
        if _tag(root) != "messageSchema":
            raise CaptureError(f"not an SBE schema: it is <{_tag(root)}>, must be <messageSchema>")
        if root.get("byteOrder", "littleEndian") != "littleEndian":
            raise CaptureError("an SBE schema in big-endian is not read")
        try:
            self.number = int(root.get("id", "0"))
            self._types = {e.attrib["name"]: e for part in root if _tag(part) == "types" for e in part}
            messages = [self._template(e) for e in root if _tag(e) == "message"]
        except (KeyError, ValueError, RecursionError) as e:
            raise CaptureError(f"an SBE schema that can't be read: {e!r}") from None
        self.templates = {t.number: t for t in messages}

    def _template(self, element: ET.Element) -> Template:
        groups = tuple(self._group(e) for e in element if _tag(e) == "group")
        return Template(int(element.attrib["id"]), element.attrib["name"], self._block(element), groups)

    def _group(self, element: ET.Element) -> Group:
        name = element.attrib["name"]
        if any(_tag(e) == "group" for e in element):
            raise ValueError(f"group {name} has groups, which are not read")
        composite = self._types[element.get("dimensionType", "groupSizeEncoding")]
        where = self._members(composite)
        length, count = where["blockLength"], where["numInGroup"]
        layout, at = "<", 0
        for member in sorted((length, count), key=lambda m: m.offset):
            layout += f"{member.offset - at}x" + np.dtype(member.encoding.code).char
            at = member.offset + member.encoding.size
        layout += f"{max(m.offset + m.encoding.size for m in where.values()) - at}x"
        return Group(name, self._block(element), struct.Struct(layout), count.offset < length.offset)

    def _block(self, element: ET.Element) -> Block:
        fields: list[Field] = []
        at = 0
        for e in element:
            if _tag(e) != "field":
                continue
            at = int(e.get("offset", at))
            found = self._encodings(e.attrib["name"], e.attrib["type"], at, e)
            fields += found
            at = max([at, *(f.offset + f.encoding.size for f in found)])
        return Block(tuple(fields), int(element.get("blockLength", at)))

    def _encodings(self, name: str, kind: str, at: int, use: ET.Element) -> list[Field]:
        """A field's encoding; a composite's that is no decimal with a constant exponent is several."""
        if kind in _PRIMITIVES:
            return [Field(name, at, _plain(_PRIMITIVES[kind], kind, use))]
        element = self._types[kind]
        tag = _tag(element)
        if tag == "composite":
            members = self._members(element)
            mantissa, exponent = members.get("mantissa"), members.get("exponent")
            if mantissa and exponent and exponent.encoding.constant is not None:
                power = int(exponent.encoding.constant)
                return [Field(name, at + mantissa.offset, mantissa.encoding._replace(exponent=power))]
            return [Field(f"{name}.{m.name}", at + m.offset, m.encoding) for m in members.values()]
        if tag in ("enum", "set"):
            (inner,) = self._encodings(name, element.attrib["encodingType"], at, use)
            if use.get("presence") == "constant":
                value = use.get("valueRef", "").rpartition(".")[2]
                texts = {v.attrib["name"]: (v.text or "").strip() for v in element}
                inner = inner._replace(encoding=inner.encoding._replace(constant=texts[value]))
            return [inner]
        code = _PRIMITIVES[element.attrib["primitiveType"]]
        length = int(element.get("length", 1))
        if length != 1:
            code = f"S{length}" if code == "S1" else f"V{length * np.dtype(code).itemsize}"
        return [Field(name, at, _plain(code, element.attrib["primitiveType"], element))]

    def _members(self, composite: ET.Element) -> dict[str, Field]:
        members: dict[str, Field] = {}
        at = 0
        for e in composite:
            name, code = e.attrib["name"], _PRIMITIVES[e.attrib["primitiveType"]]
            at = int(e.get("offset", at))
            length = int(e.get("length", 1))
            if length != 1:
                code = f"S{length}" if code == "S1" else f"V{length * np.dtype(code).itemsize}"
            members[name] = Field(name, at, _plain(code, e.attrib["primitiveType"], e))
            at += members[name].encoding.size
        return members


def _plain(code: str, primitive: str, element: ET.Element) -> Encoding:
    presence = element.get("presence")
    if presence == "constant":
        return Encoding(code, constant=(element.text or "").strip())
    null: int | None = None
    if (presence == "optional" or element.get("nullValue")) and primitive not in ("char", "float", "double"):
        default = 2 ** (8 * np.dtype(code).base.itemsize - (primitive[0] == "i"))
        null = int(element.get("nullValue") or (-default if primitive[0] == "i" else default - 1))
    return Encoding(code, null)


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def read_schema(path: Any) -> Schema:
    """The schema in a file. Raises CaptureError if it can't be read or is none."""
    try:
        with open(path, "rb") as file:
            return Schema(file.read())
    except OSError as e:
        raise CaptureError(f"can't read {path}: {e.strerror}") from None
