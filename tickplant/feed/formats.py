"""The formats of captures that can be read, and which one a file is in, told by its content."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tickplant.clock import now_ns
from tickplant.errors import CaptureError, ConfigError
from tickplant.feed.capture import Capture, Head
from tickplant.feed.files import draft
from tickplant.feed.packets.capture import describe
from tickplant.feed.packets.declared import nearest


@dataclass(frozen=True)
class Format:
    """One format: its name for people, and its class as module:name below tickplant.feed."""

    what: str
    where: str

    def load(self) -> type[Capture]:
        """The class, imported when it is asked for."""
        module, _, name = self.where.partition(":")
        found: type[Capture] = getattr(importlib.import_module(f"tickplant.feed.{module}"), name)
        return found


FORMATS = (
    Format("Nasdaq ITCH 5.0", "itch50:Itch50"),
    Format("Nasdaq ITCH 5.0 over MoldUDP64 in pcap", "packets.mold_itch50:MoldItch50"),
    Format("CME MDP 3.0 in pcap", "packets.cme:CmeMdp3"),
    Format("Deribit multicast SBE in pcap", "packets.deribit_sbe:DeribitSbe"),
    Format("IEX TOPS and DEEP in pcap", "packets.iex:IexTp"),
    Format("HSVF of the Montréal Exchange in pcap", "packets.hsvf:Hsvf"),
    Format("protocols that are declared, in pcap", "packets.declared:Declared"),
    Format("recordings of venues over WebSocket", "recording:Recording"),
    Format("Databento DBN", "files.dbn:Dbn"),
    Format("CSV, fixed-width or Parquet with known columns", "files.columns:Columns"),
)
MAPPED = FORMATS[-1]
DECLARED = next(f for f in FORMATS if f.where.startswith("packets.declared:"))


def open_capture(path: Path, **options: Any) -> Capture:
    """A capture in whichever format it is. Raises CaptureError if it is none that we read."""
    head = Head.of(path)
    if isinstance(options.get("date"), str):
        options["date"] = _day(options["date"])
    chosen = MAPPED if options.get("mapping") else DECLARED if options.get("protocol") else None
    for known in FORMATS:
        kind: Any = known.load()
        if known is chosen if chosen else kind.sniff(head):
            return _opened(kind, path, options)
    reads = ", ".join(f.what for f in FORMATS)
    what = "; ".join(filter(None, (describe(head), nearest(head)))) or "not a capture that tickplant reads"
    raise CaptureError(f"{path} is {what} (it reads: {reads}){draft.unknown(head)}")


def dated(path: Path) -> bool:
    """Is a capture of a format that takes the option `date`? Raises CaptureError if it can't be read."""
    head = Head.of(path)
    kind: Any = next((k for f in FORMATS if (k := f.load()).sniff(head)), None)
    return kind is not None and "date" in inspect.signature(kind).parameters


def _opened(kind: Callable[..., Capture], path: Path, options: dict[str, Any]) -> Capture:
    signature = inspect.signature(kind)
    if "recv_clock" in signature.parameters:
        options = {"recv_clock": now_ns, **options}
    try:
        signature.bind(path, **options)
    except TypeError as e:
        raise ConfigError(f"options of the capture {path}: {e}") from None
    return kind(path, **options)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"date {text!r} is not of the form YYYY-MM-DD") from None
