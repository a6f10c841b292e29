"""tickplant: a real-time market-data plant. README.md: what it does; docs/ARCHITECTURE.md: how."""

from tickplant.analytics.corrections import as_corrected
from tickplant.batch import Batch, Gap, Skipped
from tickplant.config import Config, load
from tickplant.errors import TickplantError
from tickplant.feed.handler import Feed
from tickplant.local import Plant, connect
from tickplant.schema import Flag
from tickplant.subscriber import Subscription, subscribe

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Config",
    "Feed",
    "Flag",
    "Gap",
    "Plant",
    "Skipped",
    "Subscription",
    "TickplantError",
    "as_corrected",
    "connect",
    "load",
    "subscribe",
]
