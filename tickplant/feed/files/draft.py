"""What to say of a file of columns that no mapping knows, and a first draft of one for it.

A draft is a guess from the names of the columns, or, without a header, from their values: it is there to be
edited.
"""

import codecs
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from tickplant.errors import CaptureError
from tickplant.feed.capture import Head
from tickplant.feed.files import columns_find, columns_read
from tickplant.feed.files import mapping as mappings

DELIMITERS = ",;\t|"
_TEXT = re.compile(rb"[\x20-\x7e\x80-\xff\t\r\n]*")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
ROLES = {
    "time": r"time|timestamp|ts|ts_event|date|datetime|time_exchange|(created|transact|open)_time|time_stamp",
    "recv": r"local_timestamp|ts_recv|received|receive_time|recv_time|time_coinapi",
    "symbol": r"symbol|sym|ticker|instrument|instrument_name|pair|market|code",
    "venue": r"exchange|venue|exch|mic",
    "trade_id": r"id|trade_?id|tid|trd_?match_?id",
    "price": r"price|px|trade_price|last|last_price|rate",
    "size": r"size|qty|quantity|amount|volume|vol|shares|base_amount|sz",
    "side": r"side|taker_side|direction|aggressor|is_buyer_maker|maker|buyer_maker|sell",
    "bid_price": r"bid|bid_?price|bid_?px|best_bid_price",
    "bid_size": r"bid_?(size|qty|amount|volume|sz|sx)|best_bid_qty",
    "ask_price": r"ask|ask_?price|ask_?px|offer|best_ask_price",
    "ask_size": r"ask_?(size|qty|amount|volume|sz|sx)|best_ask_qty",
    "open": r"open|o|open_?price|price_open", "high": r"high|h|high_?price|price_high",
    "low": r"low|l|low_?price|price_low", "close": r"close|c|close_?price|price_close",
}  # fmt: skip
"""What the name of a column, in small letters, says that it is."""
SIDES = {"True": "S", "False": "B", "true": "S", "false": "B"}, {
    "buy": "B", "sell": "S", "Buy": "B", "Sell": "S", "BUY": "B", "SELL": "S", "B": "B", "S": "S", "b": "B",
    "s": "S",
}  # fmt: skip
"""Of a column that says whether the buyer was the maker, or who the aggressor was."""


@dataclass
class Shape:
    """What can be seen of a file: its delimiter, its columns, and what these were taken for."""

    delimiter: str
    names: list[str]
    header: bool
    roles: dict[str, str] = field(default_factory=dict)


def unknown(head: Head) -> str:
    """Of a text that no mapping reads: its first line, which is nearest, what differs, and what to type."""
    if columns_find.is_archive(head) or not _is_text(head.plain):
        return ""
    line = columns_find.first_line(head, (head.path, ""))
    if not line.strip():
        return ""
    near, mapping = _nearest(line)
    names = columns_find.split(line, mapping.delimiter)
    return (
        f". Its first line is {line[:100]!r}. The nearest mapping is {near} ({mapping.what}): "
        f"{columns_find.difference([n.strip() for n in names], mapping)}. To declare what its columns mean: "
        f"tickplant mapping new {head.path} > mine.toml, edit that, and give --mapping mine.toml"
    )


def _is_text(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return bool(data) and _TEXT.fullmatch(data) is not None


def _nearest(line: str) -> tuple[str, mappings.Mapping]:
    """The mapping that has most columns in common with a first line."""

    def alike(entry: tuple[str, mappings.Mapping]) -> tuple[float, int, bool]:
        mapping = entry[1]
        names = {n.strip() for n in columns_find.split(line, mapping.delimiter)}
        best = max(len(names & {*h}) / len(names | {*h}) for h in (mapping.header, *mapping.headers))
        return best, -abs(len(names) - len(mapping.header)), not mapping.file_name

    return max(mappings.presets().items(), key=alike)


def draft(path: Path) -> str:
    """A first draft of a mapping, as TOML. Raises CaptureError for a file that is no text of columns."""
    head = Head.of(path)
    if head.raw.startswith(columns_find.PARQUET):
        shape = Shape(",", columns_read.parquet_names(path), True)
        line = ", ".join(shape.names)
    else:
        entry = _entry(head)
        line = columns_find.first_line(head, entry)
        if not line.strip() or (entry == (path, "") and not _is_text(head.plain)):
            raise CaptureError(f"{path} is no text with columns")
        shape = _shape(line)
    shape.roles = _roles(shape, line)
    return _toml(path, shape, line)


def _entry(head: Head) -> columns_find.Entry:
    if not columns_find.is_archive(head):
        return head.path, ""
    names = columns_read.members(head.path)
    if not names:
        raise CaptureError(f"{head.path} has no file in it that can be read")
    return head.path, next((n for n in names if n.lower().endswith(".csv")), names[0])


def _shape(line: str) -> Shape:
    delimiter = max(DELIMITERS, key=line.count)
    values = [v.strip() for v in columns_find.split(line, delimiter)]
    header = not any(_NUMBER.fullmatch(v) for v in values) and len({*values}) == len(values)
    return Shape(delimiter, values if header else [f"column_{i}" for i in range(1, len(values) + 1)], header)


def _roles(shape: Shape, line: str) -> dict[str, str]:
    """By role: the column that it was taken for."""
    if not shape.header:
        return _roles_by_value(shape, [v.strip() for v in columns_find.split(line, shape.delimiter)])
    found: dict[str, str] = {}
    for role, pattern in ROLES.items():
        for name in shape.names:
            if re.fullmatch(pattern, name.strip().lower()) and name not in found.values():
                found[role] = name
                break
    return found


def _roles_by_value(shape: Shape, values: list[str]) -> dict[str, str]:
    """Without names: a time is what has the size or the form of one; then comes the price, then the size."""
    times = [
        n
        for n, v in zip(shape.names, values, strict=True)
        if re.fullmatch(r"\d{10,19}(\.\d+)?|\d{4}-?\d\d-?\d\d.*", v)
    ]
    numbers = [n for n, v in zip(shape.names, values, strict=True) if _NUMBER.fullmatch(v) and n not in times]
    return dict(zip(("time", "price", "size"), (*times[:1], *numbers[:2]), strict=False))


def _toml(path: Path, shape: Shape, line: str) -> str:
    roles, out = shape.roles, [f"# A first draft for {path.name}: look at each line. All that it may say:"]
    out += ["# tickplant/feed/files/mapping.py. To try it: tickplant decode FILE --mapping THIS", ""]
    out += [f"# {line[:100]}"]
    out += [f"what = {_text(path.name)}", f"header = [{', '.join(_text(n) for n in shape.names)}]"]
    out += [] if shape.header else ["has_header = false"]
    out += [] if shape.delimiter == "," else [f"delimiter = {_text(shape.delimiter)}"]
    out += [
        f"venue = {{ column = {_text(roles['venue'])} }}"
        if "venue" in roles
        else 'venue = { value = "VENUE" }   # its name'
    ]
    if "symbol" in roles:
        out += [f"symbol = {{ column = {_text(roles['symbol'])} }}"]
    else:
        out += ['symbol = { value = "SYMBOL" }  # whose data it is; or a group `symbol` of file_name']
    out += ["", "[ts_event]", f"column = {_text(roles.get('time', shape.names[0]))}"]
    out += ['unit = "auto"                  # s, ms, us or ns by magnitude, or ISO 8601, in UTC']
    if "recv" in roles:
        out += ["[ts_recv]", f"column = {_text(roles['recv'])}", 'unit = "auto"']
    return "\n".join([*out, "", "[[rows]]", *_rows(shape), ""])


def _rows(shape: Shape) -> list[str]:
    roles = shape.roles
    if {"open", "high", "low", "close"} <= roles.keys():
        made = [
            'table = "bar"',
            "[rows.columns]",
            "interval_ns = { value = 60000000000 }   # how long a bar is",
        ]
        made += [f"{role} = {_text(roles[role])}" for role in ("open", "high", "low", "close")]
        return made + ([f"volume = {_text(roles['size'])}"] if "size" in roles else [])
    if {"bid_price", "ask_price"} <= roles.keys():
        sides = ("bid_price", "bid_size", "ask_price", "ask_size")
        return [
            'table = "quote"',
            "[rows.columns]",
            *(f"{r} = {_text(roles[r])}" for r in sides if r in roles),
        ]
    made = ['table = "trade"', "[rows.columns]"]
    made += [f"trade_id = {_text(roles['trade_id'])}      # a whole number"] if "trade_id" in roles else []
    made += [f"{r} = {_text(roles.get(r, shape.names[-1]))}" for r in ("price", "size")]
    if "side" in roles:
        known = SIDES["maker" not in roles["side"].lower() and roles["side"].lower() != "sell"]
        pairs = ", ".join(f"{k} = {_text(v)}" for k, v in known.items())
        made += [f"side = {{ column = {_text(roles['side'])}, map = {{ {pairs} }} }}   # the aggressor's"]
    return [*made, 'action = { value = "T" }']


def _text(value: str) -> str:
    """A text in TOML."""
    return json.dumps(value, ensure_ascii=False)
