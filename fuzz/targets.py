"""All targets, by name."""

from fuzz import files, frames, packets, venues
from fuzz.target import Target

TARGETS: dict[str, Target] = {
    **files.targets(), **frames.targets(), **packets.targets(), **venues.targets(),
}  # fmt: skip
