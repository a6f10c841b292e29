"""What a case of the fault bench is made of."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from faults.site import Settings, Site

Fault = Callable[[Site, random.Random], bool]
"""Injects itself; whether it came to that."""


@dataclass(frozen=True)
class Case:
    """Faults of which one after the other is chosen by the seed."""

    faults: Sequence[Fault]
    mixed: bool = True
    """Its faults are part of the mixed case, too."""
    settings: Settings = lambda content, site: None
    """Changes the plant's configuration before it is written."""
