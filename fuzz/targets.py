"""All targets, by name."""

from fuzz import control, files, frames, packets, publisher, venues
from fuzz.target import Target

TARGETS: dict[str, Target] = {
    **control.targets(), **files.targets(), **frames.targets(), **packets.targets(),
    **publisher.targets(), **venues.targets(),
}  # fmt: skip
