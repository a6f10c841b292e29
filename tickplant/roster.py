"""Which feed has which number, for as long as the plant has data: rows bear the number alone.

data_dir/feeds.json    {"1": "one", ...}, every feed that was ever in the plant's configuration
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from tickplant.errors import ConfigError

NAME = "feeds.json"


def read(data_dir: Path) -> dict[int, str]:
    """Names by number, also of feeds that were taken out of the configuration; empty if nothing is noted.

    Raises ConfigError if there is something that can't be read.
    """
    path = data_dir / NAME
    try:
        said = json.loads(path.read_text())
        return {int(number): str(name) for number, name in said.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as e:
        raise ConfigError(
            f"{path} can't be read ({e}); put it back, or delete it if no feed has changed its number since"
        ) from None


def conflicts(known: Mapping[int, str], feeds: Mapping[str, int]) -> list[str]:
    """What of a configuration (numbers by name) contradicts the numbers that feeds have had."""
    numbers = {name: number for number, name in known.items()}
    free = max([0, *known, *feeds.values()]) + 1
    found = []
    for name, number in feeds.items():
        if name in numbers and numbers[name] != number:
            found.append(
                f"feeds.{name}.id is {number}, but rows of feed {name} bear {numbers[name]}: "
                f"set feeds.{name}.id = {numbers[name]}"
            )
        elif known.get(number, name) != name:
            found.append(
                f"feeds.{name}.id is {number}, but rows of feed {known[number]} bear it: "
                f"set feeds.{name}.id = {free}"
            )
    return found


def note(data_dir: Path, feeds: Mapping[str, int]) -> dict[int, str]:
    """Note the feeds of a configuration; all that there ever were. Raises ConfigError if they contradict."""
    known = read(data_dir)
    if wrong := conflicts(known, feeds):
        raise ConfigError("; ".join(wrong))
    after = known | {number: name for name, number in feeds.items()}
    if after != known:
        draft = data_dir / f"{NAME}.draft"
        with draft.open("w") as file:
            json.dump({str(n): after[n] for n in sorted(after)}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(data_dir / NAME)
    return after
